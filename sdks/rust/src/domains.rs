//! Host names and addresses, and which of them a license covers.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

static PUBLIC_SUFFIXES: &str = include_str!("public_suffixes.txt");

/// A name in lower case and ASCII without port and trailing dot, or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DomainName {
    text: String,
    is_address: bool,
}

impl DomainName {
    /// The name or address that a Host header means; none where it is neither.
    pub fn parse(text: &str) -> Option<DomainName> {
        if text.is_empty() || text.len() > 1024 {
            return None;
        }
        if let Some(address) = read_address(text) {
            return Some(DomainName {
                text: address,
                is_address: true,
            });
        }
        let name = without_port(text);
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let name = if !name.is_ascii() || name.starts_with("xn--") || name.contains(".xn--") {
            to_ascii(name)?
        } else {
            name
        };
        is_name(&name).then_some(DomainName {
            text: name,
            is_address: false,
        })
    }

    /// The name in lower case and ASCII, or the address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn is_address(&self) -> bool {
        self.is_address
    }

    /// True of localhost, names below .localhost and .test, and loopback addresses: no license holds there.
    pub fn is_local(&self) -> bool {
        if !self.is_address {
            return matches!(self.text.rsplit('.').next(), Some("localhost" | "test"));
        }
        match self.text.parse() {
            Ok(IpAddr::V4(address)) => address.is_loopback(),
            Ok(IpAddr::V6(address)) => {
                let mapped = address.to_ipv4_mapped();
                address.is_loopback() || mapped.is_some_and(|address| address.is_loopback())
            }
            Err(_) => false,
        }
    }
}

/// Whether a license that is bound to these domains holds there: `example.com` covers itself, `*.example.com` every name
/// below it. Public suffixes and local names are never covered.
pub fn covers(bound: &[String], domain: &DomainName) -> bool {
    if domain.is_local() {
        return false;
    }
    bound.iter().any(|pattern| {
        let (rest, is_wildcard) = match pattern.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (pattern.as_str(), false),
        };
        let Some(name) = DomainName::parse(rest) else {
            return false;
        };
        if name.is_address {
            return !is_wildcard && name == *domain;
        }
        if is_public_suffix(&name.text) {
            return false;
        }
        if !is_wildcard {
            return name == *domain;
        }
        let above = domain
            .text
            .strip_suffix(&name.text)
            .and_then(|rest| rest.strip_suffix('.'));
        !domain.is_address && above.is_some_and(|below| !below.is_empty())
    })
}

/// Whether anybody may register below the name, by the Public Suffix List that the crate brings.
pub fn is_public_suffix(name: &str) -> bool {
    static RULES: OnceLock<HashSet<&str>> = OnceLock::new();
    let rules = RULES.get_or_init(|| {
        let lines = PUBLIC_SUFFIXES.lines();
        lines
            .filter(|line| !line.is_empty() && !line.starts_with("//"))
            .collect()
    });
    let Some((_, parent)) = name.split_once('.') else {
        return true;
    };
    let has = |rule: String| rules.contains(rule.as_str());
    if has(format!("!{name}")) {
        return false;
    }
    // Where anybody may have any name below a name, that name is nobody's own either.
    rules.contains(name) || has(format!("*.{name}")) || has(format!("*.{parent}"))
}

/// By UTS #46, non-transitional. These two functions are the same in all versions of the crate that the manifest allows.
#[cfg(feature = "idna")]
fn to_ascii(name: String) -> Option<String> {
    let ascii = idna::domain_to_ascii(&name).ok()?;
    let ascii = ascii.strip_suffix('.').map(str::to_string).unwrap_or(ascii);
    let (unicode, _) = idna::domain_to_unicode(&ascii);
    if unicode
        .split('.')
        .any(|label| label.starts_with('-') || label.ends_with('-'))
    {
        return None;
    }
    // A label that says that it is of another script and is not has a second spelling.
    let is_encoded = |name: &str| {
        name.split('.')
            .filter(|one| one.starts_with("xn--"))
            .count()
    };
    (is_encoded(&ascii) >= is_encoded(&name)).then_some(ascii)
}

#[cfg(not(feature = "idna"))]
fn to_ascii(name: String) -> Option<String> {
    Some(name)
}

fn without_port(text: &str) -> &str {
    match text.find(':') {
        Some(colon) if is_port(&text[colon..]) => &text[..colon],
        _ => text,
    }
}

/// Nothing, or a colon and a port's digits, or none.
fn is_port(text: &str) -> bool {
    if text.is_empty() {
        return true;
    }
    let Some(digits) = text.strip_prefix(':') else {
        return false;
    };
    digits.bytes().all(|digit| digit.is_ascii_digit())
        && format!("0{digits}").parse::<u16>().is_ok()
}

fn read_address(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[') {
        let (inner, port) = inner.split_once(']')?;
        return if is_port(port) { read_v6(inner) } else { None };
    }
    read_v6(text)
        .or_else(|| read_v4(text))
        .or_else(|| read_v4(without_port(text)))
}

fn read_v4(text: &str) -> Option<String> {
    let address: Ipv4Addr = text.parse().ok()?;
    (address.to_string() == text).then(|| text.to_string())
}

fn read_v6(text: &str) -> Option<String> {
    if !text.contains(':') || text.len() > 45 {
        return None;
    }
    let address: Ipv6Addr = text.parse().ok()?;
    let groups: Vec<String> = address
        .segments()
        .iter()
        .map(|group| format!("{group:x}"))
        .collect();
    Some(groups.join(":"))
}

fn is_name(name: &str) -> bool {
    if name.is_empty() || name.len() > 253 || !name.split('.').all(is_label) {
        return false;
    }
    // Some readers would take a name that ends in a number for an address.
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_hexadecimal = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    !last.bytes().all(|digit| digit.is_ascii_digit())
        && !last.strip_prefix("0x").is_some_and(is_hexadecimal)
}

fn is_label(label: &str) -> bool {
    let is_letter = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    (1..=63).contains(&label.len())
        && label
            .bytes()
            .all(|letter| is_letter(letter) || letter == b'_' || letter == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}
