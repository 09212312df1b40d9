//! Validates licenses of License Metering, online and offline, and reports usage. Start with [`Client::new`].
//!
//! ```no_run
//! use license_metering::{Client, Options};
//! let client = Client::new(Options::new("https://licenses.example.com", "lic_abc123"))?;
//! let outcome = client.validate("app.example.com");
//! println!("{} {} {}", outcome.valid, outcome.code, outcome.features.has("analytics"));
//! # Ok::<(), license_metering::OptionsError>(())
//! ```

#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

mod cache;
mod client;
mod domains;
mod encoding;
mod flights;
mod json;
mod licenses;
mod middleware;
mod options;
mod outcome;
mod testing;
mod time;
mod tokens;
#[cfg(feature = "tower")]
mod tower;
mod transport;
mod usage;
mod verdicts;

pub use client::{Client, Validating};
pub use domains::{covers, is_public_suffix, DomainName};
pub use licenses::LicenseClaims;
pub use middleware::{Guard, Network, Refusal, Validator};
pub use options::{OnUnknown, Options, OptionsError, PinMode};
pub use outcome::{Features, Outcome, Source};
pub use testing::FakeClient;
pub use tokens::{InvalidKeySet, Key, KeySet, TokenRefused};
#[cfg(feature = "tower")]
pub use tower::{LicenseLayer, LicenseService, Peer};
pub use usage::{Usage, UsageStatistics};
pub use verdicts::{Question, Verdict};

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What a lock guards here is whole even where a caller's function panicked while it was held.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(changed: &Condvar, guard: MutexGuard<'a, T>, end: Instant) -> MutexGuard<'a, T> {
    let left = end.saturating_duration_since(Instant::now());
    changed
        .wait_timeout(guard, left)
        .unwrap_or_else(PoisonError::into_inner)
        .0
}
