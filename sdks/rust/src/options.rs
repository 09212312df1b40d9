//! The options of a client.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::json::is_plain;
use crate::tokens::KeySet;

pub(crate) const MAXIMUM_KEY_BYTES: usize = 8192;
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// Options that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionsError(&'static str);

impl OptionsError {
    pub(crate) fn new(text: &'static str) -> OptionsError {
        OptionsError(text)
    }
}

impl fmt::Display for OptionsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl std::error::Error for OptionsError {}

/// What happens when nothing is known and the service gives no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnUnknown {
    /// A verified "yes" holds for `grace_for`; then "no".
    #[default]
    GraceThenDeny,
    /// As before; then "yes".
    Allow,
    /// "No" as soon as the verdict is not fresh.
    Deny,
}

impl FromStr for OnUnknown {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<OnUnknown, OptionsError> {
        match text {
            "graceThenDeny" => Ok(OnUnknown::GraceThenDeny),
            "allow" => Ok(OnUnknown::Allow),
            "deny" => Ok(OnUnknown::Deny),
            _ => Err(OptionsError(
                "on_unknown must be graceThenDeny, allow or deny",
            )),
        }
    }
}

/// What happens when the service's public key is none of the pins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PinMode {
    /// The connection is refused.
    #[default]
    Enforce,
    /// `on_problem` hears of it.
    Report,
}

impl FromStr for PinMode {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<PinMode, OptionsError> {
        match text {
            "enforce" => Ok(PinMode::Enforce),
            "report" => Ok(PinMode::Report),
            _ => Err(OptionsError("pin_mode must be enforce or report")),
        }
    }
}

/// Options of a [`Client`](crate::Client).
#[derive(Clone)]
pub struct Options {
    /// `https://licenses.example.com`; plain http is for loopback addresses.
    pub url: String,
    /// A license's id or its token.
    pub license_key: String,
    /// An API token, needed for `record` (scope `usage:write`).
    pub token: Option<String>,
    /// The service's key set, compiled in. Without it, it is fetched from the service over TLS.
    pub keys: Option<KeySet>,
    /// `sha256/…` of the service's public key (SPKI), at least two.
    pub pins: Vec<String>,
    pub pin_mode: PinMode,
    /// The authorities to trust in PEM, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Keeps verdicts over a restart.
    pub cache_dir: Option<PathBuf>,
    /// How long a verdict is used without asking: 1 minute to 1 hour; 5 minutes unless you say so.
    pub fresh_for: Duration,
    /// How long a verified "yes" is used while the service gives no answer: at most seven days.
    pub grace_for: Duration,
    pub on_unknown: OnUnknown,
    /// Judges a license token itself where nothing is known and the service gives no answer.
    pub offline_fallback: bool,
    /// 2 s unless you say so.
    pub connect_timeout: Duration,
    /// 5 s unless you say so, retries included.
    pub total_timeout: Duration,
    /// How long the service is left alone after a failure: 10 s unless you say so.
    pub pause_after_failure: Duration,
    /// 10,000 events unless you say so.
    pub max_usage_queue: usize,
    /// Called with the name of each problem, from any thread.
    pub on_problem: Arc<dyn Fn(&str) + Send + Sync>,
    /// For tests.
    pub clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Options {
    /// The options that everybody needs; the others have their defaults.
    pub fn new(url: impl Into<String>, license_key: impl Into<String>) -> Options {
        Options {
            url: url.into(),
            license_key: license_key.into(),
            ..Options::default()
        }
    }

    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        let fresh = Duration::from_secs(60)..=Duration::from_secs(3600);
        if !fresh.contains(&self.fresh_for) {
            return Err(OptionsError("fresh_for must be 1 minute to 1 hour"));
        }
        if self.grace_for > WEEK {
            return Err(OptionsError("grace_for must be at most seven days"));
        }
        if !self.license_key.is_empty() && !is_plain(&self.license_key, MAXIMUM_KEY_BYTES) {
            return Err(OptionsError(
                "license_key must be a text of 1 to 8,192 bytes without control characters",
            ));
        }
        if self
            .token
            .as_ref()
            .is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(OptionsError("token must be ASCII without blanks"));
        }
        Ok(())
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            url: String::new(),
            license_key: String::new(),
            token: None,
            keys: None,
            pins: Vec::new(),
            pin_mode: PinMode::Enforce,
            ca_file: None,
            cache_dir: None,
            fresh_for: Duration::from_secs(300),
            grace_for: WEEK,
            on_unknown: OnUnknown::GraceThenDeny,
            offline_fallback: false,
            connect_timeout: Duration::from_secs(2),
            total_timeout: Duration::from_secs(5),
            pause_after_failure: Duration::from_secs(10),
            max_usage_queue: 10_000,
            on_problem: Arc::new(|_| {}),
            clock: Arc::new(SystemTime::now),
        }
    }
}

/// Without the license key and the token, which are secrets.
impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Options")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}
