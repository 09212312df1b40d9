//! Lets the conformance runner try this SDK: a JSON object a line in, one a line out.

use std::io::{self, BufRead, Write};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use license_metering as sdk;
use sdk::{Client, DomainName, FakeClient, KeySet, LicenseClaims, Options, Usage};
use serde_json::{json, Value};

type Failure = Box<dyn std::error::Error>;

#[derive(Default)]
struct Driver {
    client: Option<Client>,
    license_key: String,
    offset: Arc<AtomicI64>,
    problems: Arc<Mutex<Vec<String>>>,
}

fn main() -> Result<(), Failure> {
    let mut driver = Driver::default();
    for line in io::stdin().lock().lines() {
        let answer = driver.answer(&serde_json::from_str(&line?)?)?;
        let mut output = io::stdout().lock();
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

fn text<'a>(question: &'a Value, name: &str) -> &'a str {
    question[name].as_str().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    let elements = value.as_array().into_iter().flatten();
    elements
        .filter_map(|element| element.as_str().map(str::to_string))
        .collect()
}

fn seconds(value: &Value) -> Option<Duration> {
    value.as_f64().map(Duration::from_secs_f64)
}

fn refused(refusal: &sdk::TokenRefused) -> Value {
    match refusal.claim {
        Some(claim) => json!({"refusal": refusal.code, "claim": claim}),
        None => json!({"refusal": refusal.code}),
    }
}

fn frameworks() -> Vec<&'static str> {
    if cfg!(feature = "tower") {
        vec!["plain", "tower"]
    } else {
        vec!["plain"]
    }
}

impl Driver {
    fn answer(&mut self, q: &Value) -> Result<Value, Failure> {
        Ok(match text(q, "op") {
            "hello" => json!({
                "idna": cfg!(feature = "idna"), "closesAtExit": true, "frameworks": frameworks(),
            }),
            "keyset" => match KeySet::parse(text(q, "set")) {
                Err(_) => json!({"invalid": true}),
                Ok(set) => {
                    let names = set.keys.iter();
                    let names: Vec<String> = names
                        .map(|key| format!("{} {} {}", key.id, key.algorithm, key.purpose))
                        .collect();
                    json!({ "keys": names })
                }
            },
            "license" => {
                match LicenseClaims::verify(text(q, "token"), &KeySet::parse(text(q, "keys"))?) {
                    Err(refusal) => refused(&refusal),
                    Ok(claims) => json!({ "claims": shown_claims(&claims) }),
                }
            }
            "verdict" => {
                let name = DomainName::parse(text(q, "domain"));
                let question = sdk::Question {
                    license_key: text(q, "licenseKey"),
                    domain: name.as_ref(),
                    nonce: text(q, "nonce"),
                    now: q["now"].as_i64().unwrap_or_default(),
                };
                let keys = KeySet::parse(text(q, "keys"))?;
                match sdk::Verdict::verify(text(q, "token"), &keys, &question) {
                    Err(refusal) => refused(&refusal),
                    Ok(_) => json!({}),
                }
            }
            "domain" => match DomainName::parse(text(q, "text")) {
                None => json!({"name": null, "local": false}),
                Some(name) => json!({"name": name.as_str(), "local": name.is_local()}),
            },
            "covers" => {
                let name = DomainName::parse(text(q, "domain"));
                let bound = texts(&q["bound"]);
                json!({"covers": name.is_some_and(|name| sdk::covers(&bound, &name))})
            }
            "offline" => {
                let keys = KeySet::parse(text(q, "keys"))?;
                let now = Duration::from_millis(q["now"].as_u64().unwrap_or_default());
                let claims = LicenseClaims::verify(text(q, "token"), &keys);
                let code = claims.map(|claims| claims.judge(text(q, "domain"), UNIX_EPOCH + now));
                let code = code.unwrap_or("invalid_signature");
                json!({"code": code, "valid": code == "valid" || code == "grace"})
            }
            "middleware" => middleware::answer(q)?,
            op => self.client_answer(op, q),
        })
    }

    fn client_answer(&mut self, op: &str, q: &Value) -> Value {
        let timeout = seconds(&q["timeout"]).unwrap_or(Duration::from_secs(5));
        if op == "open" {
            return self
                .open(&q["options"])
                .unwrap_or_else(|error| json!({ "error": error }));
        }
        if op == "clock" {
            self.offset
                .store(q["offset"].as_i64().unwrap_or_default(), Ordering::SeqCst);
            return json!({});
        }
        if op == "problems" {
            let mut problems = self.problems.lock().unwrap();
            return json!({ "problems": std::mem::take(&mut *problems) });
        }
        let Some(client) = &self.client else {
            return json!({});
        };
        let key = q["licenseKey"].as_str().unwrap_or(&self.license_key);
        let statistics = || {
            let found = client.usage_statistics();
            json!({
                "accepted": found.accepted, "sent": found.sent, "rejected": found.rejected,
                "dropped": found.dropped, "pending": found.pending,
            })
        };
        let count = q["count"].as_u64().unwrap_or(1);
        match op {
            "validate" => shown(&client.validate_key(text(q, "domain"), key)),
            "validateOffline" => shown(&client.validate_offline(text(q, "domain"), key)),
            "validateMany" => {
                let results: Vec<Value> = std::thread::scope(|scope| {
                    let ask = || shown(&client.validate_key(text(q, "domain"), key));
                    let threads: Vec<_> = (0..count).map(|_| scope.spawn(ask)).collect();
                    threads
                        .into_iter()
                        .map(|thread| thread.join().unwrap())
                        .collect()
                });
                json!({ "results": results })
            }
            "record" => {
                // The SDK's type has no negative quantity; what stands for it here is as far from the contract.
                let quantity = q["quantity"]
                    .as_i64()
                    .unwrap_or(1)
                    .try_into()
                    .unwrap_or(u64::MAX);
                let usage = Usage::new(text(q, "meter"), quantity);
                let accepted = (0..count).filter(|_| client.record(usage.clone())).count();
                json!({ "accepted": accepted })
            }
            "flush" => json!({"flushed": client.flush(timeout), "statistics": statistics()}),
            "statistics" => json!({ "statistics": statistics() }),
            "close" => {
                client.close(timeout);
                json!({ "statistics": statistics() })
            }
            _ => json!({}),
        }
    }

    fn open(&mut self, o: &Value) -> Result<Value, String> {
        let text = |name: &str| o[name].as_str().map(str::to_string);
        self.offset.store(0, Ordering::SeqCst);
        self.license_key = text("licenseKey").unwrap_or_default();
        let (offset, problems) = (self.offset.clone(), self.problems.clone());
        let mut options = Options::new(text("url").unwrap_or_default(), self.license_key.clone());
        options.token = text("token");
        options.pins = texts(&o["pins"]);
        options.ca_file = text("caFile").map(Into::into);
        options.cache_dir = text("cacheDir").map(Into::into);
        options.offline_fallback = o["offlineFallback"].as_bool().unwrap_or(false);
        let durations = [
            ("freshFor", &mut options.fresh_for),
            ("graceFor", &mut options.grace_for),
            ("connectTimeout", &mut options.connect_timeout),
            ("totalTimeout", &mut options.total_timeout),
            ("pauseAfterFailure", &mut options.pause_after_failure),
        ];
        for (name, target) in durations {
            *target = seconds(&o[name]).unwrap_or(*target);
        }
        let maximum = o["maxUsageQueue"].as_u64();
        options.max_usage_queue =
            maximum.map_or(options.max_usage_queue, |maximum| maximum as usize);
        options.on_problem =
            Arc::new(move |problem| problems.lock().unwrap().push(problem.to_string()));
        options.clock = Arc::new(move || {
            let offset = offset.load(Ordering::SeqCst);
            let distance = Duration::from_millis(offset.unsigned_abs());
            let now = SystemTime::now();
            if offset < 0 {
                now - distance
            } else {
                now + distance
            }
        });
        if let Some(name) = text("pinMode") {
            options.pin_mode = name.parse().map_err(said)?;
        }
        if let Some(name) = text("onUnknown") {
            options.on_unknown = name.parse().map_err(said)?;
        }
        if let Some(keys) = text("keys") {
            options.keys = Some(KeySet::parse(&keys).map_err(said)?);
        }
        self.client = Some(Client::new(options).map_err(said)?);
        Ok(json!({}))
    }
}

fn said(error: impl std::error::Error) -> String {
    error.to_string()
}

fn shown(outcome: &sdk::Outcome) -> Value {
    json!({
        "valid": outcome.valid, "code": outcome.code, "source": outcome.source.as_str(),
        "age": outcome.age.as_secs(), "features": outcome.features.names().collect::<Vec<_>>(),
        "grace": outcome.grace, "problem": outcome.problem,
    })
}

fn shown_claims(claims: &LicenseClaims) -> Value {
    let mut members = json!({
        "licenseId": claims.license_id, "domains": claims.domains, "plan": claims.plan,
        "features": claims.features, "limits": claims.limits, "issuedAt": claims.issued_at,
        "expiresAt": claims.expires_at, "trial": claims.is_trial,
    });
    if let Some(begins) = claims.not_before {
        members["notBefore"] = json!(begins);
    }
    members
}

mod middleware {
    use super::*;
    use sdk::{Guard, Refusal, Validator};

    pub fn answer(q: &Value) -> Result<Value, Failure> {
        let fake = Arc::new(match q["valid"].as_bool() {
            Some(true) => FakeClient::valid(texts(&q["features"])),
            _ => FakeClient::denied(text(q, "code")),
        });
        let trusted: Result<Vec<_>, _> = texts(&q["trusted"])
            .iter()
            .map(|proxy| proxy.parse())
            .collect();
        let guard = Guard {
            domain: q["domain"].as_str().map(str::to_string),
            trusted_proxies: trusted?,
        };
        let (status, feature, body) = match text(q, "framework") {
            "plain" => plain(q, &fake, &guard)?,
            _ => tower(q, &fake, guard)?,
        };
        let members: Value = serde_json::from_str(&body).unwrap_or_default();
        let asked = fake.asked();
        Ok(
            json!({"status": status, "asked": asked[0], "feature": feature, "code": members["code"]}),
        )
    }

    type Found = (u16, Option<bool>, String);

    fn plain(q: &Value, fake: &Arc<FakeClient>, guard: &Guard) -> Result<Found, Failure> {
        let peer = text(q, "peer").parse()?;
        let domain = guard.domain(Some(peer), text(q, "host"), q["forwarded"].as_str());
        let outcome = Validator::validate(fake, domain);
        if outcome.valid {
            return Ok((200, Some(outcome.features.has("analytics")), String::new()));
        }
        let refusal = Refusal::of(&outcome);
        Ok((refusal.status, None, refusal.body))
    }

    #[cfg(not(feature = "tower"))]
    fn tower(_: &Value, _: &Arc<FakeClient>, _: Guard) -> Result<Found, Failure> {
        Err("built without tower".into())
    }

    #[cfg(feature = "tower")]
    fn tower(q: &Value, fake: &Arc<FakeClient>, guard: Guard) -> Result<Found, Failure> {
        use http::{Request, Response};
        use std::future::{ready, Ready};
        use std::task::{Context, Poll, Wake, Waker};
        use tower_layer::Layer;
        use tower_service::Service;

        #[derive(Clone)]
        struct Handler(Arc<Mutex<Option<bool>>>);

        impl Service<Request<()>> for Handler {
            type Response = Response<String>;
            type Error = std::convert::Infallible;
            type Future = Ready<Result<Response<String>, Self::Error>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: Request<()>) -> Self::Future {
                let outcome = request.extensions().get::<sdk::Outcome>();
                *self.0.lock().unwrap() = outcome.map(|found| found.features.has("analytics"));
                ready(Ok(Response::new(String::new())))
            }
        }

        struct Nobody;
        impl Wake for Nobody {
            fn wake(self: Arc<Self>) {}
        }

        let mut request = Request::builder().uri("/").header("host", text(q, "host"));
        if let Some(forwarded) = q["forwarded"].as_str() {
            request = request.header("x-forwarded-host", forwarded);
        }
        let request = request
            .extension(sdk::Peer(text(q, "peer").parse()?))
            .body(())?;
        let seen = Arc::new(Mutex::new(None));
        let layer = sdk::LicenseLayer::new(fake.clone(), guard);
        let mut service = layer.layer(Handler(seen.clone()));
        let mut future = service.call(request);
        let waker = Waker::from(Arc::new(Nobody));
        // The fake client knows its answer, so there is nothing to wait for.
        let Poll::Ready(Ok(response)) = future.as_mut().poll(&mut Context::from_waker(&waker))
        else {
            return Err("not ready".into());
        };
        let feature = *seen.lock().unwrap();
        Ok((response.status().as_u16(), feature, response.into_body()))
    }
}
