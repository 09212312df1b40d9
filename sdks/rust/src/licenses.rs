//! License tokens.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::domains::{covers, DomainName};
use crate::json::{self, is_plain, Object, Value};
use crate::time::milliseconds;
use crate::tokens::{bad_claim, verify_token, KeySet, TokenRefused};

pub(crate) const GRACE_MILLISECONDS: i64 = 7 * 86_400_000;
const MAXIMUM_MILLISECONDS: i64 = 253_402_300_799_999;
const MAXIMUM_ITEMS: usize = 100;

/// What a verified license token says. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LicenseClaims {
    pub license_id: String,
    pub domains: Vec<String>,
    /// Empty where the token names none.
    pub plan: String,
    pub features: Vec<String>,
    pub limits: BTreeMap<String, i64>,
    pub issued_at: i64,
    pub expires_at: i64,
    pub not_before: Option<i64>,
    pub is_trial: bool,
}

impl LicenseClaims {
    /// The claims of a token that a license key of the set has signed. It asks no clock.
    pub fn verify(token: &str, keys: &KeySet) -> Result<LicenseClaims, TokenRefused> {
        let types = [None, Some("jwt"), Some("license+jwt")];
        let payload = verify_token(token, keys, "license", &types)?;
        let Some(object) = json::parse_object(&payload) else {
            return bad_claim("claims");
        };
        if object.is_repeated {
            return bad_claim("repeated claim");
        }
        let license_id = required(&object, "sub", |value| text(value, 512))?;
        let plan = allowed(&object, "plan", |value| text(value, 256))?.unwrap_or_default();
        let features = allowed(&object, "features", texts)?.unwrap_or_default();
        let single = allowed(&object, "domain", |value| text(value, 256))?;
        let several = allowed(&object, "domains", texts)?.unwrap_or_default();
        let limits = allowed(&object, "limits", limits)?.unwrap_or_default();
        let is_trial = allowed(&object, "trial", |value| match value {
            Value::Bool(is_trial) => Some(*is_trial),
            _ => None,
        })?;
        let not_before = allowed(&object, "nbf", time)?;
        let issued_at = required(&object, "iat", time)?;
        let expires_at = required(&object, "exp", |value| {
            time(value).filter(|ends| *ends > issued_at)
        })?;
        let mut domains: Vec<String> = Vec::new();
        for domain in single.into_iter().chain(several) {
            if !domains.contains(&domain) {
                domains.push(domain);
            }
        }
        let is_trial = is_trial.unwrap_or(false);
        Ok(LicenseClaims {
            license_id,
            domains,
            plan,
            features,
            limits,
            issued_at,
            expires_at,
            not_before,
            is_trial,
        })
    }

    /// `not_yet_valid`, `expired`, `domain_mismatch`, `grace` or `valid`; the last two hold.
    pub fn judge(&self, domain: &str, now: SystemTime) -> &'static str {
        let now = milliseconds(now);
        if self.not_before.is_some_and(|begins| now < begins) {
            return "not_yet_valid";
        }
        let is_expired = now >= self.expires_at;
        if is_expired && (self.is_trial || now >= self.expires_at + GRACE_MILLISECONDS) {
            return "expired";
        }
        match DomainName::parse(domain) {
            Some(name) if covers(&self.domains, &name) && is_expired => "grace",
            Some(name) if covers(&self.domains, &name) => "valid",
            _ => "domain_mismatch",
        }
    }
}

fn allowed<T>(
    object: &Object,
    claim: &'static str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Option<T>, TokenRefused> {
    match object.get(claim) {
        None => Ok(None),
        Some(value) => read(value).map_or_else(|| bad_claim(claim), |value| Ok(Some(value))),
    }
}

fn required<T>(
    object: &Object,
    claim: &'static str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<T, TokenRefused> {
    allowed(object, claim, read)?.map_or_else(|| bad_claim(claim), Ok)
}

fn text(value: &Value, maximum: usize) -> Option<String> {
    value.plain_text(maximum).map(str::to_string)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(elements) if elements.len() <= MAXIMUM_ITEMS => {
            elements.iter().map(|element| text(element, 256)).collect()
        }
        _ => None,
    }
}

fn limits(value: &Value) -> Option<BTreeMap<String, i64>> {
    let Value::Object(object) = value else {
        return None;
    };
    if object.is_repeated || object.names.len() > MAXIMUM_ITEMS {
        return None;
    }
    let mut limits = BTreeMap::new();
    for name in &object.names {
        match object.get(name) {
            None | Some(Value::Null) => {}
            Some(value) => {
                let quantity = value.integer().filter(|quantity| *quantity >= 0)?;
                if !is_plain(name, 64) {
                    return None;
                }
                limits.insert(name.clone(), quantity);
            }
        }
    }
    Some(limits)
}

fn time(value: &Value) -> Option<i64> {
    value
        .thousandths()
        .filter(|time| (0..=MAXIMUM_MILLISECONDS).contains(time))
}
