//! JSON by RFC 8259, strictly. Repeated names and lone surrogates are remembered, and numbers keep their own characters.

use std::collections::HashMap;

const MAXIMUM_DEPTH: usize = 512;
const MAXIMUM_EXPONENT: i64 = 1_000_000;

#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// A number's own characters, such as 1.9e9.
    Number(String),
    Text(Text),
    Array(Vec<Value>),
    Object(Object),
}

/// A string; `is_broken` where an escape named a lone surrogate.
#[derive(Debug)]
pub(crate) struct Text {
    pub text: String,
    pub is_broken: bool,
}

/// The members in their order; `is_repeated` where a name stands more than once.
#[derive(Debug, Default)]
pub(crate) struct Object {
    values: HashMap<String, Value>,
    pub names: Vec<String>,
    pub is_repeated: bool,
}

impl Object {
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// A text of at most so many bytes, without lone surrogates.
    pub fn text(&self, name: &str, minimum: usize, maximum: usize) -> Option<&str> {
        self.get(name)?.text(minimum, maximum)
    }

    pub fn any_text(&self, name: &str) -> Option<&str> {
        self.text(name, 0, usize::MAX)
    }

    pub fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Bool(true)))
    }

    pub fn array(&self, name: &str) -> Option<&[Value]> {
        match self.get(name) {
            Some(Value::Array(elements)) => Some(elements),
            _ => None,
        }
    }
}

impl Value {
    pub fn text(&self, minimum: usize, maximum: usize) -> Option<&str> {
        match self {
            Value::Text(text)
                if !text.is_broken && (minimum..=maximum).contains(&text.text.len()) =>
            {
                Some(&text.text)
            }
            _ => None,
        }
    }

    /// As `text`, not empty and without control characters.
    pub fn plain_text(&self, maximum: usize) -> Option<&str> {
        self.text(1, maximum).filter(|text| is_plain(text, maximum))
    }

    /// A number where it is whole, however it is spelled.
    pub fn integer(&self) -> Option<i64> {
        let Value::Number(number) = self else {
            return None;
        };
        let exact = Decimal::of(number);
        if !exact.digits.is_empty() && exact.exponent < 0 {
            return None;
        }
        exact.scaled(0)
    }

    /// A number times 1,000, rounded down.
    pub fn thousandths(&self) -> Option<i64> {
        match self {
            Value::Number(number) => Decimal::of(number).scaled(3),
            _ => None,
        }
    }
}

/// Neither empty nor too long, and without control characters.
pub(crate) fn is_plain(text: &str, maximum: usize) -> bool {
    !text.is_empty()
        && text.len() <= maximum
        && !text.bytes().any(|byte| byte < 0x20 || byte == 0x7F)
}

pub(crate) fn parse(data: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(data).ok()?;
    let mut reader = Reader {
        data: text.as_bytes(),
        at: 0,
    };
    let value = reader.value(1)?;
    reader.skip_blanks();
    (reader.at == data.len()).then_some(value)
}

pub(crate) fn parse_object(data: &[u8]) -> Option<Object> {
    match parse(data)? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// Adds a text with its quotes.
pub(crate) fn quote(text: &str, target: &mut String) {
    target.push('"');
    for letter in text.chars() {
        match letter {
            '"' => target.push_str("\\\""),
            '\\' => target.push_str("\\\\"),
            '\u{0}'..='\u{1F}' => target.push_str(&format!("\\u{:04x}", letter as u32)),
            _ => target.push(letter),
        }
    }
    target.push('"');
}

/// An object of texts.
pub(crate) fn object(members: &[(&str, &str)]) -> String {
    let mut text = String::from("{");
    for (place, (name, value)) in members.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        quote(name, &mut text);
        text.push(':');
        quote(value, &mut text);
    }
    text.push('}');
    text
}

struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> u8 {
        self.data.get(self.at).copied().unwrap_or(0)
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    fn skip(&mut self, letter: u8) -> bool {
        self.skip_blanks();
        let found = self.peek() == letter;
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAXIMUM_DEPTH {
            return None;
        }
        self.skip_blanks();
        match self.peek() {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(Value::Text),
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::Null),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Option<Value> {
        if !self.data[self.at..].starts_with(word.as_bytes()) {
            return None;
        }
        self.at += word.len();
        Some(value)
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        let mut object = Object::default();
        self.at += 1;
        if self.skip(b'}') {
            return Some(Value::Object(object));
        }
        loop {
            self.skip_blanks();
            if self.peek() != b'"' {
                return None;
            }
            let name = self.string()?.text;
            if !self.skip(b':') {
                return None;
            }
            let value = self.value(depth + 1)?;
            if object.values.insert(name.clone(), value).is_some() {
                object.is_repeated = true;
            } else {
                object.names.push(name);
            }
            if self.skip(b',') {
                continue;
            }
            return self.skip(b'}').then_some(Value::Object(object));
        }
    }

    fn array(&mut self, depth: usize) -> Option<Value> {
        let mut elements = Vec::new();
        self.at += 1;
        if self.skip(b']') {
            return Some(Value::Array(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            if self.skip(b',') {
                continue;
            }
            return self.skip(b']').then_some(Value::Array(elements));
        }
    }

    fn string(&mut self) -> Option<Text> {
        let mut bytes = Vec::new();
        let mut is_broken = false;
        self.at += 1;
        while self.at < self.data.len() {
            match self.data[self.at] {
                b'"' => {
                    self.at += 1;
                    let text = String::from_utf8(bytes).ok()?;
                    return Some(Text { text, is_broken });
                }
                0..=0x1F => return None,
                b'\\' => is_broken |= self.escape(&mut bytes)?,
                letter => {
                    bytes.push(letter);
                    self.at += 1;
                }
            }
        }
        None
    }

    /// Whether the escape is a lone surrogate.
    fn escape(&mut self, bytes: &mut Vec<u8>) -> Option<bool> {
        self.at += 1;
        let letter = self.peek();
        self.at += 1;
        let meaning = match letter {
            b'"' | b'\\' | b'/' => letter,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.code_point(bytes),
            _ => return None,
        };
        bytes.push(meaning);
        Some(false)
    }

    fn code_point(&mut self, bytes: &mut Vec<u8>) -> Option<bool> {
        let first = self.hex()?;
        let mut units = vec![first];
        if (0xD800..0xDC00).contains(&first) && self.data[self.at..].starts_with(b"\\u") {
            let before = self.at;
            self.at += 2;
            let second = self.hex()?;
            if (0xDC00..0xE000).contains(&second) {
                units.push(second);
            } else {
                self.at = before;
            }
        }
        match String::from_utf16(&units) {
            Ok(text) => {
                bytes.extend_from_slice(text.as_bytes());
                Some(false)
            }
            Err(_) => {
                bytes.extend_from_slice(format!("\\u{first:x}").as_bytes());
                Some(true)
            }
        }
    }

    fn hex(&mut self) -> Option<u16> {
        let digits = self.data.get(self.at..self.at + 4)?;
        let mut value = 0;
        for digit in digits {
            value = value * 16 + char::from(*digit).to_digit(16)? as u16;
        }
        self.at += 4;
        Some(value)
    }

    fn number(&mut self) -> Option<Value> {
        let start = self.at;
        if self.peek() == b'-' {
            self.at += 1;
        }
        let whole = self.at;
        let digits = self.digits();
        if digits == 0 || (digits > 1 && self.data[whole] == b'0') {
            return None;
        }
        if self.peek() == b'.' {
            self.at += 1;
            if self.digits() == 0 {
                return None;
            }
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            if self.digits() == 0 {
                return None;
            }
        }
        Some(Value::Number(
            String::from_utf8_lossy(&self.data[start..self.at]).into_owned(),
        ))
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        self.at - start
    }
}

/// A number as digits and a power of ten, whatever its size and however it is spelled.
struct Decimal {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn of(number: &str) -> Decimal {
        let (is_negative, text) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number),
        };
        let (text, power) = match text.split_once(['e', 'E']) {
            Some((text, power)) => (text, Decimal::power(power)),
            None => (text, 0),
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_start_matches('0');
        let kept = digits.trim_end_matches('0');
        if kept.is_empty() {
            return Decimal {
                is_negative,
                digits: String::new(),
                exponent: 0,
            };
        }
        let exponent = power - fraction.len() as i64 + (digits.len() - kept.len()) as i64;
        Decimal {
            is_negative,
            digits: kept.to_string(),
            exponent,
        }
    }

    /// Larger exponents are beyond every use, and stand for it.
    fn power(text: &str) -> i64 {
        let largest = if text.starts_with('-') {
            -MAXIMUM_EXPONENT
        } else {
            MAXIMUM_EXPONENT
        };
        match text.parse::<i64>() {
            Ok(power) => power.clamp(-MAXIMUM_EXPONENT, MAXIMUM_EXPONENT),
            Err(_) => largest,
        }
    }

    /// The number times 10^decimals, rounded down; none beyond 64 bits.
    fn scaled(&self, decimals: i64) -> Option<i64> {
        let shift = self.exponent + decimals;
        let count = self.digits.len() as i64;
        let kept = &self.digits[..(count + shift.min(0)).max(0) as usize];
        let zeros = if kept.is_empty() { 0 } else { shift.max(0) };
        if kept.len() as i64 + zeros > 19 {
            return None;
        }
        let value: i64 = format!("0{kept}{}", "0".repeat(zeros as usize))
            .parse()
            .ok()?;
        if !self.is_negative {
            Some(value)
        } else if shift >= 0 || self.digits.is_empty() {
            Some(-value)
        } else {
            Some(-value - 1)
        }
    }
}
