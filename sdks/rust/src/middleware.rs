//! What every middleware needs, without any framework: whose domain a request is about, and what a refusal says.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;

use crate::client::Client;
use crate::json;
use crate::options::OptionsError;
use crate::outcome::Outcome;

/// An outcome that comes.
pub type Answering = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What middleware needs of a client; [`Client`] and [`FakeClient`](crate::FakeClient) have it.
pub trait Validator: Send + Sync {
    /// Waits for the outcome.
    fn validate(&self, domain: &str) -> Outcome;

    /// The outcome comes later; no thread waits.
    fn validate_async(&self, domain: &str) -> Answering;
}

impl Validator for Client {
    fn validate(&self, domain: &str) -> Outcome {
        Client::validate(self, domain)
    }

    fn validate_async(&self, domain: &str) -> Answering {
        Box::pin(Client::validate_async(self, domain))
    }
}

impl<V: Validator + ?Sized> Validator for Arc<V> {
    fn validate(&self, domain: &str) -> Outcome {
        (**self).validate(domain)
    }

    fn validate_async(&self, domain: &str) -> Answering {
        (**self).validate_async(domain)
    }
}

/// An address, or a range such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// An IPv4 address that is written as one of IPv6 (`::ffff:10.1.2.3`) counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address.to_canonical() {
            IpAddr::V4(address) => (32, u128::from(u32::from(address)) << 96),
            IpAddr::V6(address) => (128, u128::from(address)),
        };
        let ((own_width, own), (width, other)) = (bits(self.address), bits(address));
        own_width == width && (self.prefix == 0 || (own ^ other) >> (128 - self.prefix) == 0)
    }
}

impl FromStr for Network {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Network, OptionsError> {
        let invalid = |_| OptionsError::new("a network must be an address or address/prefix");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address = address.parse::<IpAddr>().map_err(|_| invalid(()))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) => digits.parse::<u32>().map_err(|_| invalid(()))?,
            None => width,
        };
        if prefix > width {
            return Err(invalid(()));
        }
        Ok(Network { address, prefix })
    }
}

/// Which domain a request is about. Any framework can use it; [`LicenseLayer`](crate::LicenseLayer) does.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// What to ask about; none: the request's host.
    pub domain: Option<String>,
    /// Addresses and ranges whose `X-Forwarded-Host` is believed.
    pub trusted_proxies: Vec<Network>,
}

impl Guard {
    /// The domain to ask about. `peer` is the connection's other end, `forwarded` the values of `X-Forwarded-Host`.
    pub fn domain<'a>(
        &'a self,
        peer: Option<IpAddr>,
        host: &'a str,
        forwarded: impl IntoIterator<Item = &'a str>,
    ) -> &'a str {
        if let Some(domain) = &self.domain {
            return domain;
        }
        let is_trusted = |peer| {
            self.trusted_proxies
                .iter()
                .any(|proxy| proxy.contains(peer))
        };
        // The last is the trusted proxy's own; what stands before may be the client's.
        match forwarded.into_iter().last() {
            Some(value) if peer.is_some_and(is_trusted) => {
                value.rsplit(',').next().unwrap_or(value).trim()
            }
            _ => host,
        }
    }
}

/// The answer of a request whose license does not hold: 403, and 503 where nothing is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// Of the type [`Refusal::CONTENT_TYPE`].
    pub body: String,
}

impl Refusal {
    pub const CONTENT_TYPE: &'static str = "application/problem+json";

    pub fn of(outcome: &Outcome) -> Refusal {
        let (status, title) = match outcome.code.as_str() {
            "unreachable" => (503, "Service Unavailable"),
            _ => (403, "Forbidden"),
        };
        let detail = match outcome.explanation.as_str() {
            "" => "The license is not valid.",
            explanation => explanation,
        };
        let texts = [
            ("type", "about:blank"),
            ("title", title),
            ("code", outcome.code.as_str()),
            ("detail", detail),
        ];
        let object = json::object(&texts);
        let open = object.strip_suffix('}').unwrap_or(&object);
        Refusal {
            status,
            body: format!("{open},\"status\":{status}}}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.body)
    }
}
