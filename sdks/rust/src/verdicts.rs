//! The service's signed verdicts.

use std::collections::BTreeMap;

use openssl::sha::sha256;

use crate::domains::DomainName;
use crate::encoding::base64url;
use crate::json::{self, Object, Value};
use crate::time;
use crate::tokens::{bad_claim, refused, verify_token, KeySet, TokenRefused};

pub(crate) const TOLERANCE_MILLISECONDS: i64 = 300_000;

/// What the service has signed. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub valid: bool,
    pub code: String,
    pub timestamp: i64,
    pub license_id: String,
    pub plan: String,
    pub features: Vec<String>,
    pub limits: BTreeMap<String, i64>,
    pub expires_at: Option<i64>,
    pub grace: bool,
    pub over_limit: bool,
    pub error: String,
}

/// What was asked. An answer is believed only where it repeats all of it.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    pub license_key: &'a str,
    /// None where what was sent is no name.
    pub domain: Option<&'a DomainName>,
    pub nonce: &'a str,
    /// In milliseconds since 1970.
    pub now: i64,
}

impl Verdict {
    /// The verdict of a signature, where it answers this very question.
    pub fn verify(
        signature: &str,
        keys: &KeySet,
        question: &Question,
    ) -> Result<Verdict, TokenRefused> {
        let nonce = Some(question.nonce);
        let (object, timestamp) = read(
            signature,
            keys,
            question.license_key,
            question.domain,
            nonce,
        )?;
        if timestamp.abs_diff(question.now) > TOLERANCE_MILLISECONDS as u64 {
            return refused("stale");
        }
        Verdict::new(&object, timestamp)
    }

    /// For an answer that was verified when it came and is read back from a cache.
    pub(crate) fn verify_saved(
        signature: &str,
        keys: &KeySet,
        license_key: &str,
        domain: &DomainName,
    ) -> Result<Verdict, TokenRefused> {
        let (object, timestamp) = read(signature, keys, license_key, Some(domain), None)?;
        Verdict::new(&object, timestamp)
    }

    fn new(object: &Object, timestamp: i64) -> Result<Verdict, TokenRefused> {
        let (Some(Value::Bool(valid)), Some(code)) = (object.get("valid"), object.any_text("code"))
        else {
            return bad_claim("verdict");
        };
        let text = |name: &str| object.any_text(name).unwrap_or_default().to_string();
        let features = object.array("features").unwrap_or_default().iter();
        let mut limits = BTreeMap::new();
        if let Some(Value::Object(found)) = object.get("limits") {
            for name in &found.names {
                if let Some(quantity) = found.get(name).and_then(Value::integer) {
                    limits.insert(name.clone(), quantity);
                }
            }
        }
        Ok(Verdict {
            valid: *valid,
            code: code.to_string(),
            timestamp,
            license_id: text("licenseId"),
            plan: text("plan"),
            features: features
                .filter_map(|feature| feature.text(0, usize::MAX).map(str::to_string))
                .collect(),
            limits,
            expires_at: object.any_text("expiresAt").and_then(time::parse),
            grace: object.is_true("grace"),
            over_limit: object.is_true("overLimit"),
            error: text("error"),
        })
    }
}

/// When the service signed a verdict, whatever it answers; none where it is not the service's.
pub(crate) fn signed_time(signature: &str, keys: &KeySet) -> Option<i64> {
    let payload = verify_token(signature, keys, "verdict", &[Some("verdict+jwt")]).ok()?;
    json::parse_object(&payload)?
        .any_text("timestamp")
        .and_then(time::parse)
}

fn read(
    signature: &str,
    keys: &KeySet,
    license_key: &str,
    domain: Option<&DomainName>,
    nonce: Option<&str>,
) -> Result<(Object, i64), TokenRefused> {
    let payload = verify_token(signature, keys, "verdict", &[Some("verdict+jwt")])?;
    let object = json::parse_object(&payload).filter(|object| !object.is_repeated);
    let Some(object) = object else {
        return refused("other_nonce");
    };
    if nonce.is_some() && object.any_text("nonce") != nonce {
        return refused("other_nonce");
    }
    let hash = base64url(&sha256(license_key.as_bytes()));
    if object.any_text("licenseKeyHash") != Some(&hash) {
        return refused("other_question");
    }
    let is_same_domain = match domain {
        Some(name) => object.any_text("domain") == Some(name.as_str()),
        None => matches!(object.get("domain"), Some(Value::Null)),
    };
    if !is_same_domain {
        return refused("other_question");
    }
    match object.any_text("timestamp").and_then(time::parse) {
        Some(timestamp) => Ok((object, timestamp)),
        None => refused("stale"),
    }
}
