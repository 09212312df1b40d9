//! What a client says about a license.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, SystemTime};

/// What a license unlocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features(BTreeSet<String>);

impl Features {
    /// Whether the license unlocks it.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// In their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl<T: Into<String>> FromIterator<T> for Features {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Features {
        Features(names.into_iter().map(Into::into).collect())
    }
}

/// How an outcome is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The service has just said it.
    Online,
    /// Remembered.
    Cache,
    /// Remembered, while the service gives no answer.
    Grace,
    /// Judged from the license token itself.
    Offline,
    /// Nothing is known.
    None,
}

impl Source {
    /// `online`, `cache`, `grace`, `offline` or `none`.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Online => "online",
            Source::Cache => "cache",
            Source::Grace => "grace",
            Source::Offline => "offline",
            Source::None => "none",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Whether the application may run, why, and how this is known.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Outcome {
    pub valid: bool,
    /// One of the service's, or `clock_rolled_back` or `unreachable`.
    pub code: String,
    pub source: Source,
    /// How long ago the service signed it.
    pub age: Duration,
    /// Empty where it is not known, as is the plan.
    pub license_id: String,
    pub plan: String,
    pub features: Features,
    pub limits: BTreeMap<String, i64>,
    pub expires_at: Option<SystemTime>,
    /// The license has expired and holds for up to seven days more.
    pub grace: bool,
    pub over_limit: bool,
    /// One sentence for a developer; empty where the license holds.
    pub explanation: String,
    /// Why the service gave no answer: `timeout`, `connection`, `tls`, `pin_mismatch`, `too_large`, `untrusted`,
    /// `http_503`…
    pub problem: Option<String>,
}

impl Outcome {
    pub(crate) fn denied(code: &str, source: Source, problem: Option<String>) -> Outcome {
        Outcome {
            valid: false,
            code: code.to_string(),
            source,
            age: Duration::ZERO,
            license_id: String::new(),
            plan: String::new(),
            features: Features::default(),
            limits: BTreeMap::new(),
            expires_at: None,
            grace: false,
            over_limit: false,
            explanation: explanation(code).to_string(),
            problem,
        }
    }
}

fn explanation(code: &str) -> &'static str {
    match code {
        "domain_mismatch" => "The license is not valid for this domain.",
        "expired" => "The license has expired.",
        "not_yet_valid" => "The license is not valid yet.",
        "invalid_signature" => {
            "The license key is not accepted: it was not signed by its vendor, or was changed since."
        }
        "clock_rolled_back" => "The clock is behind a time that the license service has signed.",
        "unreachable" => {
            "The license service gave no valid answer, and nothing is known about the license."
        }
        _ => "",
    }
}
