//! Base64, hexadecimal, hashes and random numbers.

use openssl::sha::sha256;

const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(crate) fn base64url(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for place in 0..=chunk.len() {
            text.push(char::from(URL[(bits >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text
}

/// Base64url without padding, in its one spelling.
pub(crate) fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    decode(text, URL)
}

/// Base64 with its padding, in its one spelling.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let bare = text.trim_end_matches('=');
    let padding = text.len() - bare.len();
    if padding > 2 || text.len() % 4 != 0 {
        return None;
    }
    decode(bare, STANDARD)
}

fn decode(text: &str, alphabet: &[u8; 64]) -> Option<Vec<u8>> {
    if text.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for letter in text.bytes() {
        let value = alphabet.iter().position(|known| *known == letter)? as u32;
        bits = (bits << 6 | value) & 0xFFFF;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    (bits & ((1 << count) - 1) == 0).then_some(bytes)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first half of the SHA-256, in hexadecimal.
pub(crate) fn short_hash(text: &str) -> String {
    hex(&sha256(text.as_bytes())[..16])
}

/// 128 bits. The system's randomness has no error that could be handled.
pub(crate) fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    openssl::rand::rand_bytes(&mut bytes).expect("the system gives no random numbers");
    bytes
}

pub(crate) fn random_hex() -> String {
    hex(&random())
}

/// From 0 up to 1, for jitter.
pub(crate) fn random_fraction() -> f64 {
    let bytes = random();
    f64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])) / f64::from(u32::MAX)
}

pub(crate) fn uuid() -> String {
    let mut bytes = random();
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let text = hex(&bytes);
    [
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..],
    ]
    .join("-")
}
