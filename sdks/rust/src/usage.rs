//! Usage: events in batches; a retry has the same ids, so that each counts once.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::encoding::{random_hex, uuid};
use crate::json::{self, is_plain};
use crate::transport::NoAnswer;
use crate::{locked, time, wait};

const BATCH: usize = 500;
const INTERVAL: Duration = Duration::from_secs(1);
const MAXIMUM_DELAY: Duration = Duration::from_secs(60);
const MAXIMUM_QUANTITY: u64 = 1_000_000_000;
/// The service will never take such a batch, however often it comes.
const REFUSED_FOR_GOOD: [&str; 5] = ["http_400", "http_404", "http_413", "http_415", "http_422"];

/// What was used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    pub meter: String,
    pub quantity: u64,
    /// Whose it is; none: the client's, where its license key is an id.
    pub license_id: Option<String>,
    pub domain: Option<String>,
    pub feature: Option<String>,
}

impl Usage {
    /// Usage of the client's own license.
    pub fn new(meter: &str, quantity: u64) -> Usage {
        Usage {
            meter: meter.to_string(),
            quantity,
            ..Usage::default()
        }
    }

    fn is_good(&self, license_id: &str) -> bool {
        let mut letters = self.meter.bytes();
        let is_letter =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let mut texts = [&self.domain, &self.feature].into_iter().flatten();
        is_plain(license_id, 512)
            && self.meter.len() <= 64
            && letters
                .next()
                .is_some_and(|first| first.is_ascii_lowercase())
            && letters.all(is_letter)
            && self.quantity <= MAXIMUM_QUANTITY
            && texts.all(|text| text.len() <= 1024 && !text.contains('\0'))
    }

    fn event(&self, license_id: &str, source: &str, now: i64) -> String {
        let mut text = String::from("{\"specversion\":\"1.0\"");
        let time = time::format(now);
        for (name, value) in [
            ("id", uuid().as_str()),
            ("source", source),
            ("type", "license.usage.recorded"),
            ("subject", license_id),
            ("time", &time),
        ] {
            text.push_str(&format!(",\"{name}\":"));
            json::quote(value, &mut text);
        }
        text.push_str(",\"data\":{\"meter\":");
        json::quote(&self.meter, &mut text);
        text.push_str(&format!(",\"quantity\":{}", self.quantity));
        for (name, value) in [("domain", &self.domain), ("feature", &self.feature)] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                text.push_str(&format!(",\"{name}\":"));
                json::quote(value, &mut text);
            }
        }
        text + "}}"
    }
}

/// What became of the usage that was recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageStatistics {
    pub accepted: u64,
    pub sent: u64,
    pub rejected: u64,
    pub dropped: u64,
    pub pending: u64,
}

#[derive(Default)]
struct State {
    events: Vec<String>,
    statistics: UsageStatistics,
    failures: u32,
    is_running: bool,
    is_closed: bool,
    is_sending: bool,
}

/// Sends a batch until a deadline; how many of it were rejected.
pub(crate) type SendBatch<'a> = dyn Fn(&[String], Instant) -> Result<usize, NoAnswer> + 'a;

pub(crate) struct UsageQueue {
    maximum: usize,
    source: String,
    report: Arc<dyn Fn(&str) + Send + Sync>,
    state: Mutex<State>,
    /// Something has changed: a whole batch waits, a delivery has ended, the queue is closed.
    changed: Condvar,
}

impl UsageQueue {
    pub fn new(maximum: usize, report: Arc<dyn Fn(&str) + Send + Sync>) -> UsageQueue {
        UsageQueue {
            maximum,
            source: format!("sdk/rust/{}", random_hex()),
            report,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Whether it was taken, and whether a thread that runs `run` is needed now.
    pub fn record(&self, usage: &Usage, license_id: &str, now: i64) -> (bool, bool) {
        let is_good = usage.is_good(license_id);
        let mut state = locked(&self.state);
        if !is_good || state.is_closed || state.events.len() >= self.maximum {
            state.statistics.dropped += 1;
            drop(state);
            (self.report)(if is_good {
                "usage_dropped"
            } else {
                "usage_invalid"
            });
            return (false, false);
        }
        state
            .events
            .push(usage.event(license_id, &self.source, now));
        state.statistics.accepted += 1;
        let needs_thread = !state.is_running;
        state.is_running = true;
        if state.events.len() == BATCH {
            self.changed.notify_all();
        }
        (true, needs_thread)
    }

    /// There is no thread, though one was asked for: the next event asks again.
    pub fn has_no_thread(&self) {
        locked(&self.state).is_running = false;
    }

    pub fn statistics(&self) -> UsageStatistics {
        let state = locked(&self.state);
        UsageStatistics {
            pending: state.events.len() as u64,
            ..state.statistics
        }
    }

    /// Sends what is queued every second, until the queue is closed.
    pub fn run(&self, timeout: Duration, send: &SendBatch<'_>) {
        loop {
            let mut state = locked(&self.state);
            let end = Instant::now() + (INTERVAL * (1 << state.failures)).min(MAXIMUM_DELAY);
            while !state.is_closed && Instant::now() < end {
                if state.failures == 0 && state.events.len() >= BATCH {
                    break;
                }
                state = wait(&self.changed, state, end);
            }
            if state.is_closed {
                return;
            }
            drop(state);
            self.deliver(Instant::now() + timeout, send);
        }
    }

    /// Sends what is queued now; whether all of it went out by the deadline.
    pub fn flush(&self, deadline: Instant, send: &SendBatch<'_>) -> bool {
        while Instant::now() < deadline && self.statistics().pending > 0 {
            if !self.deliver(deadline, send) {
                let left = deadline.saturating_duration_since(Instant::now());
                thread::sleep(left.min(Duration::from_millis(200)));
            }
        }
        self.statistics().pending == 0
    }

    /// As `flush`, and takes no usage any more. What is left is dropped and counted.
    pub fn close(&self, deadline: Instant, send: &SendBatch<'_>) {
        self.flush(deadline, send);
        let mut state = locked(&self.state);
        let left = std::mem::take(&mut state.events).len();
        state.is_closed = true;
        state.statistics.dropped += left as u64;
        drop(state);
        self.changed.notify_all();
        if left > 0 {
            (self.report)("usage_dropped");
        }
    }

    /// Sends one batch, whose events stay in the queue until it is known what became of them. One at a time; whether that is
    /// known.
    fn deliver(&self, deadline: Instant, send: &SendBatch<'_>) -> bool {
        let mut state = locked(&self.state);
        if state.is_sending {
            while state.is_sending && Instant::now() < deadline {
                state = wait(&self.changed, state, deadline);
            }
            return true;
        }
        let batch = state.events[..state.events.len().min(BATCH)].to_vec();
        if batch.is_empty() {
            return true;
        }
        state.is_sending = true;
        drop(state);
        let sent = send(&batch, deadline);
        let (is_known, problem) = self.settle(batch.len(), &sent);
        self.changed.notify_all();
        if let Some(problem) = problem {
            (self.report)(&problem);
        }
        is_known
    }

    fn settle(&self, count: usize, sent: &Result<usize, NoAnswer>) -> (bool, Option<String>) {
        let mut state = locked(&self.state);
        state.is_sending = false;
        match sent {
            Err(failure) if !REFUSED_FOR_GOOD.contains(&failure.problem.as_str()) => {
                state.failures = (state.failures + 1).min(6);
                return (false, Some(failure.problem.clone()));
            }
            _ => state.failures = 0,
        }
        if state.is_closed {
            return (true, None); // It was counted as dropped, and may count all the same.
        }
        state.events.drain(..count);
        match sent {
            Err(_) => {
                state.statistics.dropped += count as u64;
                (true, Some("usage_dropped".into()))
            }
            Ok(rejected) => {
                state.statistics.sent += (count - rejected) as u64;
                state.statistics.rejected += *rejected as u64;
                (true, (*rejected > 0).then(|| "usage_rejected".into()))
            }
        }
    }
}
