//! Key sets (RFC 7517) and compact JWS (RFC 7515).

use std::fmt;

use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::rsa::Rsa;
use openssl::sha::sha256;
use openssl::sign::Verifier;

use crate::encoding::{base64url, decode_base64url};
use crate::json::{self, Object, Value};

pub(crate) const MAXIMUM_TOKEN_BYTES: usize = 8192;
pub(crate) const MAXIMUM_SET_BYTES: usize = 1 << 20;
const MAXIMUM_KEYS: usize = 100;

/// Why a token is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRefused {
    /// The rule: `too_large`, `not_compact`, `bad_header`, `unsupported_algorithm`, `critical`, `wrong_type`,
    /// `unknown_key`, `algorithm_mismatch`, `bad_signature`, `bad_claims`; of a verdict also `other_nonce`,
    /// `other_question` and `stale`.
    pub code: &'static str,
    /// The claim of `bad_claims`.
    pub claim: Option<&'static str>,
}

impl fmt::Display for TokenRefused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "token refused: {}", self.code)?;
        match self.claim {
            Some(claim) => write!(formatter, ": {claim}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for TokenRefused {}

pub(crate) fn refused<T>(code: &'static str) -> Result<T, TokenRefused> {
    Err(TokenRefused { code, claim: None })
}

pub(crate) fn bad_claim<T>(claim: &'static str) -> Result<T, TokenRefused> {
    Err(TokenRefused {
        code: "bad_claims",
        claim: Some(claim),
    })
}

/// Why a text is no key set. It names the key and the member, and never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidKeySet(String);

impl fmt::Display for InvalidKeySet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for InvalidKeySet {}

#[derive(Clone)]
enum Material {
    Ed25519(PKey<Public>),
    P256(EcKey<Public>),
    Rsa(PKey<Public>),
}

/// A public key of a set. The algorithm is the key's, never the token's.
#[derive(Clone)]
pub struct Key {
    /// Its `kid`, or its thumbprint (RFC 7638).
    pub id: String,
    /// `EdDSA`, `ES256` or `RS256`.
    pub algorithm: &'static str,
    /// `license` or `verdict`.
    pub purpose: &'static str,
    material: Material,
    thumbprint: String,
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Key({} {} {})",
            self.id, self.algorithm, self.purpose
        )
    }
}

/// The keys of `GET /.well-known/jwks.json`.
#[derive(Debug, Clone)]
pub struct KeySet {
    pub keys: Vec<Key>,
}

impl KeySet {
    /// Reads a JSON Web Key Set. Keys of kinds that are not known are left out; a malformed key is an error.
    pub fn parse(source: &str) -> Result<KeySet, InvalidKeySet> {
        let invalid = |text: &str| InvalidKeySet(text.to_string());
        if source.len() > MAXIMUM_SET_BYTES {
            return Err(invalid("key set: more than 1 MiB"));
        }
        let object = json::parse_object(source.as_bytes()).filter(|object| !object.is_repeated);
        let elements = object.as_ref().and_then(|object| object.array("keys"));
        let elements = elements.ok_or_else(|| invalid("not a JSON Web Key Set"))?;
        if elements.len() > MAXIMUM_KEYS {
            return Err(invalid("key set: more than 100 keys"));
        }
        let mut set = KeySet { keys: Vec::new() };
        for (place, element) in elements.iter().enumerate() {
            let fails = |why: &str| InvalidKeySet(format!("key {}: {why}", place + 1));
            let Value::Object(object) = element else {
                return Err(fails("not an object"));
            };
            if is_of_use(object) {
                set.add(read_key(object).map_err(fails)?).map_err(fails)?;
            }
        }
        Ok(set)
    }

    fn add(&mut self, key: Key) -> Result<(), &'static str> {
        let same = self.keys.iter().find(|other| {
            other.id == key.id && other.purpose == key.purpose && other.algorithm == key.algorithm
        });
        match same {
            Some(other) if other.thumbprint == key.thumbprint => {}
            Some(_) => return Err("kid stands twice"),
            None => self.keys.push(key),
        }
        Ok(())
    }
}

/// The payload of a compact JWS that a key of that purpose signed. `types` is what `typ` may be, in lower case and without
/// `application/`; `None` stands for an absent one.
pub(crate) fn verify_token(
    token: &str,
    keys: &KeySet,
    purpose: &str,
    types: &[Option<&str>],
) -> Result<Vec<u8>, TokenRefused> {
    if token.len() > MAXIMUM_TOKEN_BYTES {
        return refused("too_large");
    }
    let parts: Vec<&str> = token.split('.').collect();
    let decoded: Option<Vec<Vec<u8>>> = parts.iter().map(|part| decode_base64url(part)).collect();
    let Some([head, payload, signature]) =
        decoded.and_then(|parts| <[Vec<u8>; 3]>::try_from(parts).ok())
    else {
        return refused("not_compact");
    };
    let header = Header::read(&head)?;
    if !types.contains(&header.kind.as_deref()) {
        return refused("wrong_type");
    }
    let key = header.key(keys, purpose)?;
    let signed = &token[..parts[0].len() + 1 + parts[1].len()];
    if !key.verifies(&signature, signed.as_bytes()) {
        return refused("bad_signature");
    }
    Ok(payload)
}

struct Header {
    algorithm: &'static str,
    key_id: Option<String>,
    kind: Option<String>,
}

impl Header {
    fn read(data: &[u8]) -> Result<Header, TokenRefused> {
        let object = json::parse_object(data).filter(|object| !object.is_repeated);
        let Some(object) = object else {
            return refused("bad_header");
        };
        let Some(name) = object.any_text("alg") else {
            return refused("bad_header");
        };
        let Some(algorithm) = algorithm(name) else {
            return refused("unsupported_algorithm");
        };
        if object.has("crit") || object.has("b64") {
            return refused("critical");
        }
        let text = |name: &str, maximum: usize| match object.text(name, 0, maximum) {
            None if object.has(name) => refused("bad_header"),
            text => Ok(text.map(str::to_string)),
        };
        let key_id = text("kid", 256)?;
        let kind = text("typ", usize::MAX)?.map(|kind| {
            let lower = kind.to_lowercase();
            lower
                .strip_prefix("application/")
                .map(str::to_string)
                .unwrap_or(lower)
        });
        Ok(Header {
            algorithm,
            key_id,
            kind,
        })
    }

    fn key<'a>(&self, keys: &'a KeySet, purpose: &str) -> Result<&'a Key, TokenRefused> {
        let is_named = |key: &&Key| {
            self.key_id
                .as_ref()
                .map_or(true, |key_id| *key_id == key.id)
        };
        let named: Vec<&Key> = keys
            .keys
            .iter()
            .filter(|key| key.purpose == purpose)
            .filter(is_named)
            .collect();
        let mut fitting = named.iter().filter(|key| key.algorithm == self.algorithm);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (None, _) if !named.is_empty() => refused("algorithm_mismatch"),
            _ => refused("unknown_key"),
        }
    }
}

impl Key {
    /// Judges by the key's own algorithm, whatever the token says. What OpenSSL calls an error is no signature.
    fn verifies(&self, signature: &[u8], data: &[u8]) -> bool {
        let verified = match &self.material {
            Material::Ed25519(key) if signature.len() == 64 => Verifier::new_without_digest(key)
                .and_then(|mut verifier| verifier.verify_oneshot(signature, data)),
            Material::P256(key) if signature.len() == 64 => BigNum::from_slice(&signature[..32])
                .and_then(|r| {
                    let s = BigNum::from_slice(&signature[32..])?;
                    EcdsaSig::from_private_components(r, s)?.verify(&sha256(data), key)
                }),
            Material::Rsa(key) if signature.len() == key.size() => {
                Verifier::new(MessageDigest::sha256(), key)
                    .and_then(|mut verifier| verifier.verify_oneshot(signature, data))
            }
            _ => Ok(false),
        };
        verified.unwrap_or(false)
    }
}

fn algorithm(name: &str) -> Option<&'static str> {
    match name {
        "EdDSA" | "Ed25519" => Some("EdDSA"),
        "ES256" => Some("ES256"),
        "RS256" => Some("RS256"),
        _ => None,
    }
}

/// Leaves out keys of other kinds, curves, uses and algorithms, as RFC 7517 asks; what is malformed stays.
fn is_of_use(object: &Object) -> bool {
    let is = |name: &str, known: &[&str]| {
        object
            .any_text(name)
            .map_or(true, |text| known.contains(&text))
    };
    let fits = match object.any_text("kty") {
        None => return true,
        Some("OKP") => is("crv", &["Ed25519"]),
        Some("EC") => is("crv", &["P-256"]),
        Some("RSA") => true,
        Some(_) => return false,
    };
    let signs = object.array("key_ops").map_or(true, |operations| {
        let mut names = operations
            .iter()
            .map(|operation| operation.text(0, usize::MAX));
        names.any(|name| name == Some("verify") || name == Some("sign"))
    });
    fits && signs
        && is("use", &["sig"])
        && is("alg", &["EdDSA", "Ed25519", "ES256", "RS256"])
        && is("purpose", &["license", "verdict"])
}

fn read_key(object: &Object) -> Result<Key, &'static str> {
    if object.is_repeated {
        return Err("a member stands twice");
    }
    if object.has("use") && object.any_text("use") != Some("sig") {
        return Err("use must be sig");
    }
    if object.has("key_ops") {
        let operations = object.array("key_ops");
        let is_good =
            operations.is_some_and(|all| all.iter().all(|one| one.text(0, usize::MAX).is_some()));
        if !is_good {
            return Err("key_ops must be an array of texts");
        }
    }
    let purpose = match object.any_text("purpose") {
        None if !object.has("purpose") => "license",
        Some("license") => "license",
        Some("verdict") => "verdict",
        _ => return Err("purpose must be license or verdict"),
    };
    let (kind, material, required) = read_material(object)?;
    let thumbprint = base64url(&sha256(required.as_bytes()));
    let id = match object.text("kid", 1, 256) {
        None if object.has("kid") => return Err("kid must be a text of 1 to 256 bytes"),
        None => thumbprint.clone(),
        Some(id) => id.to_string(),
    };
    if object.has("alg") && object.any_text("alg").and_then(algorithm) != Some(kind) {
        return Err("alg does not fit the key");
    }
    Ok(Key {
        id,
        algorithm: kind,
        purpose,
        material,
        thumbprint,
    })
}

/// Also gives the members that RFC 7638 hashes.
fn read_material(object: &Object) -> Result<(&'static str, Material, String), &'static str> {
    match (object.any_text("kty"), object.any_text("crv")) {
        (Some("OKP"), Some("Ed25519")) => {
            let x = read_bytes(object, "x", Some(32))?;
            let key =
                PKey::public_key_from_raw_bytes(&x, Id::ED25519).map_err(|_| "x is no key")?;
            let required = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, base64url(&x));
            Ok(("EdDSA", Material::Ed25519(key), required))
        }
        (Some("EC"), Some("P-256")) => {
            let (x, y) = (
                read_bytes(object, "x", Some(32))?,
                read_bytes(object, "y", Some(32))?,
            );
            let key = p256(&x, &y).map_err(|_| "x and y are no point of P-256")?;
            let (x, y) = (base64url(&x), base64url(&y));
            let required = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
            Ok(("ES256", Material::P256(key), required))
        }
        (Some("RSA"), _) => {
            let (n, e) = (
                read_bytes(object, "n", None)?,
                read_bytes(object, "e", None)?,
            );
            let key = rsa(&n, &e).ok_or("n and e are no RSA key of 2,048 to 8,192 bits")?;
            let (n, e) = (base64url(&n), base64url(&e));
            let required = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
            Ok(("RS256", Material::Rsa(key), required))
        }
        _ => Err("kty and crv must be OKP with Ed25519, EC with P-256, or RSA"),
    }
}

fn p256(x: &[u8], y: &[u8]) -> Result<EcKey<Public>, openssl::error::ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let (x, y) = (BigNum::from_slice(x)?, BigNum::from_slice(y)?);
    let key = EcKey::from_public_key_affine_coordinates(&group, &x, &y)?;
    key.check_key()?;
    Ok(key)
}

fn rsa(n: &[u8], e: &[u8]) -> Option<PKey<Public>> {
    let (modulus, exponent) = (BigNum::from_slice(n).ok()?, BigNum::from_slice(e).ok()?);
    let is_good = (2048..=8192).contains(&modulus.num_bits())
        && n[0] != 0
        && (2..=31).contains(&exponent.num_bits())
        && exponent.is_bit_set(0);
    if !is_good {
        return None;
    }
    PKey::from_rsa(Rsa::from_public_components(modulus, exponent).ok()?).ok()
}

fn read_bytes(object: &Object, name: &str, count: Option<usize>) -> Result<Vec<u8>, &'static str> {
    object
        .text(name, 0, 2048)
        .and_then(decode_base64url)
        .filter(|bytes| !bytes.is_empty() && count.map_or(true, |count| bytes.len() == count))
        .ok_or("a coordinate or number must be base64url of the right length")
}
