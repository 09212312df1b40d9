//! The client: what is remembered, what is asked, and what is said when nothing is known.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use crate::cache::{Asked, Cache, Entry};
use crate::domains::DomainName;
use crate::encoding::{random_fraction, random_hex};
use crate::flights::{Ended, Flight};
use crate::json::{self, is_plain, Value};
use crate::licenses::{LicenseClaims, GRACE_MILLISECONDS};
use crate::locked;
use crate::options::{OnUnknown, Options, OptionsError, MAXIMUM_KEY_BYTES};
use crate::outcome::{Outcome, Source};
use crate::time::{duration, milliseconds, moment};
use crate::tokens::{KeySet, MAXIMUM_SET_BYTES, MAXIMUM_TOKEN_BYTES};
use crate::transport::{NoAnswer, Request, Transport};
use crate::usage::{Usage, UsageQueue, UsageStatistics};
use crate::verdicts::{Question, Verdict, TOLERANCE_MILLISECONDS};

const MAXIMUM_ANSWER_BYTES: usize = 65_536;
const TRIES: u32 = 3;
const KEYS_PAUSE: Duration = Duration::from_secs(60);
const MAXIMUM_PAUSE: Duration = Duration::from_secs(300);
const NO_IS_FRESH: i64 = 60_000;
const CLOSING: Duration = Duration::from_secs(5);
/// So many questions are on their way, and so many wait for their turn: whoever asks about many names must not fill the memory.
const WORKERS: usize = 16;
const WAITING: usize = 1000;
const USER_AGENT: &str = concat!("license-metering-rust/", env!("CARGO_PKG_VERSION"));

/// A client of one validation service, for all threads of a process. Clones are the same client; when the last is dropped, the
/// queued usage is sent for up to 5 s, unless [`Client::close`] has done that.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

struct Handle {
    core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.close(CLOSING);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Client")
            .field("options", &self.handle.core.options)
            .finish()
    }
}

impl Client {
    /// Asks nothing yet; the error is about the options.
    pub fn new(options: Options) -> Result<Client, OptionsError> {
        Ok(Client {
            handle: Arc::new(Handle {
                core: Arc::new(Core::new(options)?),
            }),
        })
    }

    /// Says whether the license holds for a domain, and waits for the service where it is asked. A "no" is no error.
    pub fn validate(&self, domain: &str) -> Outcome {
        self.validate_key(domain, &self.handle.core.options.license_key)
    }

    /// As `validate`, for another license key than the client's.
    pub fn validate_key(&self, domain: &str, license_key: &str) -> Outcome {
        let core = &self.handle.core;
        match core.begin(domain, license_key) {
            Begun::Known(outcome) => *outcome,
            Begun::Asked(asked, flight) => {
                let ended = flight.wait(core.options.total_timeout + Duration::from_secs(1));
                core.end(&asked, ended)
            }
        }
    }

    /// As `validate`, for asynchronous code of any runtime: no thread waits.
    pub fn validate_async(&self, domain: &str) -> Validating {
        self.validate_key_async(domain, &self.handle.core.options.license_key)
    }

    /// As `validate_key`, for asynchronous code of any runtime.
    pub fn validate_key_async(&self, domain: &str, license_key: &str) -> Validating {
        let core = self.handle.core.clone();
        let begun = core.begin(domain, license_key);
        Validating { core, begun }
    }

    /// The verdict on a license token, by its signature alone. It needs keys, compiled in or fetched before.
    pub fn validate_offline(&self, domain: &str, license_token: &str) -> Outcome {
        self.handle.core.validate_offline(domain, license_token)
    }

    /// Queues usage, without waiting. False where it was dropped: the queue is full, or the usage breaks a rule.
    pub fn record(&self, usage: Usage) -> bool {
        self.handle.core.record(&usage)
    }

    /// Sends the usage that is queued now; whether all of it went out in that time.
    pub fn flush(&self, timeout: Duration) -> bool {
        let core = &self.handle.core;
        core.usage
            .flush(Instant::now() + timeout, &|events, deadline| {
                core.send(events, deadline)
            })
    }

    /// What became of the usage so far.
    pub fn usage_statistics(&self) -> UsageStatistics {
        self.handle.core.usage.statistics()
    }

    /// Sends what is queued for up to that time, and takes no usage any more. What is left is dropped and counted.
    pub fn close(&self, timeout: Duration) {
        self.handle.core.close(timeout);
    }
}

/// An outcome that comes.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Validating {
    core: Arc<Core>,
    begun: Begun,
}

impl fmt::Debug for Validating {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Validating")
    }
}

impl Future for Validating {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        match &self.begun {
            Begun::Known(outcome) => Poll::Ready((**outcome).clone()),
            Begun::Asked(asked, flight) => match flight.poll(context.waker()) {
                Some(ended) => Poll::Ready(self.core.end(asked, ended)),
                None => Poll::Pending,
            },
        }
    }
}

/// An outcome that is known, or a question that is on its way.
enum Begun {
    Known(Box<Outcome>),
    Asked(Asked, Arc<Flight>),
}

struct Job {
    asked: Asked,
    flight: Arc<Flight>,
    deadline: Instant,
}

/// What is asked now, and what is known of the service.
struct Asking {
    keys: Option<Arc<KeySet>>,
    keys_asked: Option<Instant>,
    flights: HashMap<Asked, Arc<Flight>>,
    jobs: VecDeque<Job>,
    workers: usize,
    paused_until: Option<Instant>,
    problem: String,
}

struct Core {
    options: Options,
    transport: Transport,
    cache: Cache,
    usage: UsageQueue,
    asking: Mutex<Asking>,
}

impl Core {
    fn new(mut options: Options) -> Result<Core, OptionsError> {
        options.check()?;
        // The application's function may panic; the thread that found the problem goes on.
        let heard = options.on_problem;
        options.on_problem = Arc::new(move |problem| {
            let _ = catch_unwind(AssertUnwindSafe(|| heard(problem)));
        });
        let transport = Transport::new(
            &options.url,
            &options.pins,
            options.pin_mode,
            options.ca_file.as_deref(),
            options.connect_timeout,
        )?;
        let cache = Cache::new(options.cache_dir.clone());
        // Keys that cannot be read are fetched.
        let saved = || {
            cache
                .saved_keys()
                .and_then(|saved| KeySet::parse(&saved).ok())
        };
        let keys = options.keys.clone().or_else(saved).map(Arc::new);
        let asking = Asking {
            keys,
            keys_asked: None,
            flights: HashMap::new(),
            jobs: VecDeque::new(),
            workers: 0,
            paused_until: None,
            problem: "connection".into(),
        };
        let usage = UsageQueue::new(options.max_usage_queue, options.on_problem.clone());
        Ok(Core {
            options,
            transport,
            cache,
            usage,
            asking: Mutex::new(asking),
        })
    }

    fn now(&self) -> i64 {
        milliseconds((self.options.clock)())
    }

    fn keys(&self) -> Option<Arc<KeySet>> {
        locked(&self.asking).keys.clone()
    }

    fn begin(self: &Arc<Self>, domain: &str, license_key: &str) -> Begun {
        let known = |outcome| Begun::Known(Box::new(outcome));
        if !is_plain(license_key, MAXIMUM_KEY_BYTES) {
            let problem = Some("bad_license_key".to_string());
            return known(Outcome::denied("not_found", Source::None, problem));
        }
        let Some(domain) = DomainName::parse(domain) else {
            return known(Outcome::denied("domain_mismatch", Source::Offline, None));
        };
        let asked = Asked {
            license_key: license_key.to_string(),
            domain,
        };
        if let Some(outcome) = self.remembered(&asked) {
            return known(outcome);
        }
        match self.pause() {
            Some(problem) => known(self.without_answer(&asked, problem)),
            None => {
                let flight = self.ask(&asked);
                Begun::Asked(asked, flight)
            }
        }
    }

    fn end(&self, asked: &Asked, ended: Ended) -> Outcome {
        match ended {
            Ok(entry) => self.outcome(&entry, Source::Online, None),
            Err(failure) => self.without_answer(asked, failure.problem),
        }
    }

    fn validate_offline(&self, domain: &str, license_token: &str) -> Outcome {
        if self.is_rolled_back() {
            return Outcome::denied("clock_rolled_back", Source::Offline, None);
        }
        let Some(keys) = self.keys() else {
            return Outcome::denied("unreachable", Source::Offline, Some("no_keys".into()));
        };
        let claims = match LicenseClaims::verify(license_token, &keys) {
            Ok(claims) => claims,
            Err(refusal) => {
                let problem = Some(refusal.code.to_string());
                return Outcome::denied("invalid_signature", Source::Offline, problem);
            }
        };
        let code = claims.judge(domain, (self.options.clock)());
        let mut outcome = Outcome::denied(code, Source::Offline, None);
        outcome.grace = code == "grace";
        outcome.valid = outcome.grace || code == "valid";
        outcome.license_id = claims.license_id;
        outcome.plan = claims.plan;
        outcome.limits = claims.limits;
        outcome.expires_at = Some(moment(claims.expires_at));
        if outcome.valid {
            outcome.features = claims.features.into_iter().collect();
        }
        outcome
    }

    // --- What is remembered ---

    fn remembered(self: &Arc<Self>, asked: &Asked) -> Option<Outcome> {
        if self.is_rolled_back() {
            return Some(Outcome::denied("clock_rolled_back", Source::None, None));
        }
        let known = match self.cache.get(asked) {
            Some(known) if self.age(&known) < self.freshness(&known) => Some(known),
            _ => self.cache.load(asked, self.keys().as_deref()),
        };
        let known = known.filter(|known| !self.is_over(known))?;
        let age = self.age(&known);
        if age < self.freshness(&known) {
            return Some(self.outcome(&known, Source::Cache, None));
        }
        if !known.verdict.valid || age >= 2 * self.options.fresh_for.as_millis() as i64 {
            return None;
        }
        if self.pause().is_none() {
            self.ask(asked);
        }
        Some(self.outcome(&known, Source::Cache, None))
    }

    fn without_answer(&self, asked: &Asked, problem: String) -> Outcome {
        let problem = Some(problem);
        if self.is_rolled_back() {
            return Outcome::denied("clock_rolled_back", Source::None, problem);
        }
        let now = self.now();
        if let Some(known) = self.cache.load(asked, self.keys().as_deref()) {
            if !known.verdict.valid {
                return self.outcome(&known, Source::Cache, problem);
            }
            if self.options.on_unknown != OnUnknown::Deny {
                let ends = known.verdict.expires_at;
                if ends.is_some_and(|ends| now >= ends + GRACE_MILLISECONDS) {
                    return Outcome::denied("expired", Source::Cache, problem);
                }
                let grace = self.options.grace_for.as_millis() as i64;
                if now - known.verdict.timestamp <= grace {
                    return self.outcome(&known, Source::Grace, problem);
                }
            }
        }
        if self.options.offline_fallback {
            let offline = self.validate_offline(asked.domain.as_str(), &asked.license_key);
            if offline.problem.is_none() {
                return offline;
            }
        }
        let denied = Outcome::denied("unreachable", Source::None, problem);
        Outcome {
            valid: self.options.on_unknown == OnUnknown::Allow,
            ..denied
        }
    }

    fn is_rolled_back(&self) -> bool {
        let highest = self.cache.highest_time(self.keys().as_deref());
        self.now() < highest - TOLERANCE_MILLISECONDS
    }

    fn age(&self, entry: &Entry) -> i64 {
        (self.now() - entry.received).max(0)
    }

    fn freshness(&self, entry: &Entry) -> i64 {
        let fresh = self.options.fresh_for.as_millis() as i64;
        if entry.verdict.valid {
            fresh
        } else {
            fresh.min(NO_IS_FRESH)
        }
    }

    /// Whether the license has reached an end since: it is asked about then.
    fn is_over(&self, entry: &Entry) -> bool {
        let grace = if entry.verdict.grace {
            GRACE_MILLISECONDS
        } else {
            0
        };
        let ends = entry.verdict.expires_at.map(|ends| ends + grace);
        entry.verdict.valid && ends.is_some_and(|ends| self.now() >= ends)
    }

    fn outcome(&self, entry: &Entry, source: Source, problem: Option<String>) -> Outcome {
        let (verdict, now) = (&entry.verdict, self.now());
        let has_ended = verdict.valid && verdict.expires_at.is_some_and(|ends| now >= ends);
        let grace = verdict.grace || has_ended;
        let code = if grace && verdict.code == "valid" {
            "grace"
        } else {
            &verdict.code
        };
        let age = if source == Source::Online {
            0
        } else {
            now - verdict.timestamp
        };
        let features = if verdict.valid {
            &verdict.features[..]
        } else {
            &[]
        };
        Outcome {
            valid: verdict.valid,
            code: code.to_string(),
            source,
            age: duration(age),
            license_id: verdict.license_id.clone(),
            plan: verdict.plan.clone(),
            features: features.iter().cloned().collect(),
            limits: verdict.limits.clone(),
            expires_at: verdict.expires_at.map(moment),
            grace,
            over_limit: verdict.over_limit,
            explanation: verdict.error.clone(),
            problem,
        }
    }

    // --- Asking ---

    /// Why the service is left alone for now.
    fn pause(&self) -> Option<String> {
        let asking = locked(&self.asking);
        let is_paused = asking
            .paused_until
            .is_some_and(|until| Instant::now() < until);
        is_paused.then(|| asking.problem.clone())
    }

    /// Joins equal questions that are on their way.
    fn ask(self: &Arc<Self>, asked: &Asked) -> Arc<Flight> {
        let mut asking = locked(&self.asking);
        if let Some(known) = asking.flights.get(asked) {
            return known.clone();
        }
        let flight = Arc::new(Flight::default());
        if asking.jobs.len() >= WAITING {
            flight.finish(Err(NoAnswer::timeout()));
            return flight;
        }
        asking.flights.insert(asked.clone(), flight.clone());
        let deadline = Instant::now() + self.options.total_timeout;
        asking.jobs.push_back(Job {
            asked: asked.clone(),
            flight: flight.clone(),
            deadline,
        });
        if asking.workers < WORKERS {
            let core = self.clone();
            let thread = thread::Builder::new().name("license-metering".into());
            if thread.spawn(move || core.work()).is_ok() {
                asking.workers += 1;
            } else if asking.workers == 0 {
                // Nobody will take the job.
                asking.jobs.pop_back();
                asking.flights.remove(asked);
                flight.finish(Err(NoAnswer::new("connection", true)));
            }
        }
        flight
    }

    /// Asks until no question waits.
    fn work(&self) {
        loop {
            let mut asking = locked(&self.asking);
            let Some(job) = asking.jobs.pop_front() else {
                asking.workers -= 1;
                return;
            };
            drop(asking);
            self.fly(&job);
        }
    }

    fn fly(&self, job: &Job) {
        // The clock is the application's own function: what it does must not keep others waiting for ever.
        let answered = catch_unwind(AssertUnwindSafe(|| {
            let entry = Arc::new(self.answer(job)?);
            self.cache.put(&job.asked, &entry, self.keys().as_deref());
            Ok(entry)
        }));
        let ended = answered.unwrap_or_else(|_| Err(NoAnswer::new("connection", false)));
        let mut asking = locked(&self.asking);
        asking.flights.remove(&job.asked);
        if let Err(failure) = &ended {
            let pause = failure.retry_after.min(MAXIMUM_PAUSE);
            asking.problem = failure.problem.clone();
            asking.paused_until =
                Some(Instant::now() + pause.max(self.options.pause_after_failure));
        }
        drop(asking);
        let problem = ended.as_ref().err().map(|failure| failure.problem.clone());
        if let Some(problem) = problem {
            self.report(&problem);
        }
        job.flight.finish(ended);
    }

    fn report(&self, problem: &str) {
        (self.options.on_problem)(problem);
    }

    fn answer(&self, job: &Job) -> Result<Entry, NoAnswer> {
        let nonce = random_hex();
        let body = json::object(&[
            ("licenseKey", &job.asked.license_key),
            ("domain", job.asked.domain.as_str()),
            ("nonce", &nonce),
        ]);
        let idempotency = random_hex();
        let authorization = self.authorization();
        let mut headers = headers(Some("application/json"), authorization.as_deref());
        headers.push(("Idempotency-Key", &idempotency));
        let data = self.retrying(&Request {
            method: "POST",
            path: "/v1/licenses/validate",
            headers: &headers,
            body: body.as_bytes(),
            deadline: job.deadline,
            limit: MAXIMUM_ANSWER_BYTES,
        })?;
        let object = json::parse_object(&data).ok_or_else(NoAnswer::untrusted)?;
        let signature = object.text("signature", 1, MAXIMUM_TOKEN_BYTES);
        let signature = signature.ok_or_else(NoAnswer::untrusted)?.to_string();
        let verdict = self.verified(&signature, job, &nonce)?;
        Ok(Entry {
            verdict,
            signature,
            received: self.now(),
        })
    }

    fn verified(&self, signature: &str, job: &Job, nonce: &str) -> Result<Verdict, NoAnswer> {
        let question = Question {
            license_key: &job.asked.license_key,
            domain: Some(&job.asked.domain),
            nonce,
            now: self.now(),
        };
        let keys = match self.keys() {
            Some(keys) => keys,
            None => self.fetch_keys(job.deadline)?,
        };
        match Verdict::verify(signature, &keys, &question) {
            // The service may have a new key; it is asked at most once a minute.
            Err(refusal) if refusal.code == "unknown_key" && self.may_fetch_keys() => {
                let keys = self.fetch_keys(job.deadline)?;
                Verdict::verify(signature, &keys, &question).map_err(|_| NoAnswer::untrusted())
            }
            verdict => verdict.map_err(|_| NoAnswer::untrusted()),
        }
    }

    fn may_fetch_keys(&self) -> bool {
        let asked = locked(&self.asking).keys_asked;
        self.options.keys.is_none() && asked.map_or(true, |asked| asked.elapsed() >= KEYS_PAUSE)
    }

    fn fetch_keys(&self, deadline: Instant) -> Result<Arc<KeySet>, NoAnswer> {
        locked(&self.asking).keys_asked = Some(Instant::now());
        let authorization = self.authorization();
        let data = self.retrying(&Request {
            method: "GET",
            path: "/.well-known/jwks.json",
            headers: &headers(None, authorization.as_deref()),
            body: &[],
            deadline,
            limit: MAXIMUM_SET_BYTES,
        })?;
        let text = String::from_utf8(data).map_err(|_| NoAnswer::untrusted())?;
        let keys = Arc::new(KeySet::parse(&text).map_err(|_| NoAnswer::untrusted())?);
        locked(&self.asking).keys = Some(keys.clone());
        self.cache.save_keys(&text);
        Ok(keys)
    }

    fn retrying(&self, request: &Request) -> Result<Vec<u8>, NoAnswer> {
        let mut retry = 0;
        loop {
            let failure = match self
                .transport
                .send(request, &|problem| self.report(problem))
            {
                Ok(answer) if answer.status == 200 => return Ok(answer.body),
                Ok(answer) => answer.refusal(),
                Err(failure) => failure,
            };
            if !failure.is_temporary || retry + 1 == TRIES {
                return Err(failure);
            }
            let jitter = Duration::from_millis(100 << retry).mul_f64(0.5 + random_fraction() / 2.0);
            let delay = jitter.max(failure.retry_after);
            if request.deadline.saturating_duration_since(Instant::now()) <= delay {
                return Err(failure);
            }
            thread::sleep(delay);
            retry += 1;
        }
    }

    fn authorization(&self) -> Option<String> {
        self.options
            .token
            .as_ref()
            .map(|token| format!("Bearer {token}"))
    }

    // --- Usage ---

    fn record(self: &Arc<Self>, usage: &Usage) -> bool {
        let own = &self.options.license_key;
        let own = if own.contains('.') { "" } else { own.as_str() };
        let license_id = usage.license_id.as_deref().unwrap_or(own);
        let (is_taken, needs_thread) = self.usage.record(usage, license_id, self.now());
        if needs_thread {
            let core = self.clone();
            let thread = thread::Builder::new().name("license-metering-usage".into());
            let started = thread.spawn(move || {
                let timeout = core.options.total_timeout;
                core.usage
                    .run(timeout, &|events, deadline| core.send(events, deadline));
            });
            if started.is_err() {
                self.usage.has_no_thread();
            }
        }
        is_taken
    }

    fn close(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        self.usage
            .close(deadline, &|events, deadline| self.send(events, deadline));
    }

    fn send(&self, events: &[String], deadline: Instant) -> Result<usize, NoAnswer> {
        let body = format!("[{}]", events.join(","));
        let authorization = self.authorization();
        let kind = Some("application/cloudevents-batch+json");
        let request = Request {
            method: "POST",
            path: "/v1/events",
            headers: &headers(kind, authorization.as_deref()),
            body: body.as_bytes(),
            deadline: deadline.min(Instant::now() + self.options.total_timeout),
            limit: MAXIMUM_SET_BYTES,
        };
        let answer = self
            .transport
            .send(&request, &|problem| self.report(problem))?;
        if answer.status != 202 {
            return Err(answer.refusal());
        }
        let rejected = match json::parse(&answer.body) {
            Some(Value::Object(object)) => object.array("rejected").map_or(0, <[Value]>::len),
            _ => usize::MAX,
        };
        if rejected > events.len() {
            return Err(NoAnswer::new("untrusted", true));
        }
        Ok(rejected)
    }
}

fn headers<'a>(kind: Option<&'a str>, authorization: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let mut headers = vec![("Accept", "application/json"), ("User-Agent", USER_AGENT)];
    headers.extend(kind.map(|kind| ("Content-Type", kind)));
    headers.extend(authorization.map(|token| ("Authorization", token)));
    headers
}
