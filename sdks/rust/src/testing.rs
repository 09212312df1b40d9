//! A client for tests.

use std::sync::Mutex;

use crate::locked;
use crate::middleware::{Answering, Validator};
use crate::outcome::{Features, Outcome, Source};
use crate::usage::Usage;

/// Stands in for [`Client`](crate::Client): no network, no clock. It answers `outcome` and remembers what it was asked.
#[derive(Debug)]
pub struct FakeClient {
    pub outcome: Outcome,
    asked: Mutex<Vec<String>>,
    recorded: Mutex<Vec<Usage>>,
}

impl FakeClient {
    /// A client that says yes.
    pub fn valid<T: Into<String>>(features: impl IntoIterator<Item = T>) -> FakeClient {
        let denied = Outcome::denied("valid", Source::Online, None);
        let features = features.into_iter().collect::<Features>();
        FakeClient::answering(Outcome {
            valid: true,
            features,
            ..denied
        })
    }

    /// A client that says no.
    pub fn denied(code: &str) -> FakeClient {
        FakeClient::answering(Outcome::denied(code, Source::Online, None))
    }

    pub fn answering(outcome: Outcome) -> FakeClient {
        FakeClient {
            outcome,
            asked: Mutex::default(),
            recorded: Mutex::default(),
        }
    }

    pub fn validate(&self, domain: &str) -> Outcome {
        locked(&self.asked).push(domain.to_string());
        self.outcome.clone()
    }

    /// Is kept.
    pub fn record(&self, usage: Usage) -> bool {
        locked(&self.recorded).push(usage);
        true
    }

    /// The domains so far.
    pub fn asked(&self) -> Vec<String> {
        locked(&self.asked).clone()
    }

    /// The usage so far.
    pub fn recorded(&self) -> Vec<Usage> {
        locked(&self.recorded).clone()
    }
}

impl Validator for FakeClient {
    fn validate(&self, domain: &str) -> Outcome {
        FakeClient::validate(self, domain)
    }

    fn validate_async(&self, domain: &str) -> Answering {
        Box::pin(std::future::ready(FakeClient::validate(self, domain)))
    }
}
