//! One bounded request: no redirect is followed, no body exceeds its limit, no answer takes longer than its deadline.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use openssl::memcmp;
use openssl::sha::sha256;
use openssl::ssl::{HandshakeError, SslConnector, SslMethod, SslStream, SslVersion};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509VerifyResult, X509};

use crate::encoding::decode_base64;
use crate::options::{OptionsError, PinMode};

const MAXIMUM_HEAD_BYTES: usize = 1 << 16;

/// Why the service gave no answer that can be believed: timeout, connection, tls, pin_mismatch, too_large, http_503 (or
/// another status) or untrusted.
#[derive(Debug, Clone)]
pub(crate) struct NoAnswer {
    pub problem: String,
    pub is_temporary: bool,
    pub retry_after: Duration,
}

impl NoAnswer {
    pub fn new(problem: &str, is_temporary: bool) -> NoAnswer {
        NoAnswer {
            problem: problem.to_string(),
            is_temporary,
            retry_after: Duration::ZERO,
        }
    }

    pub fn untrusted() -> NoAnswer {
        NoAnswer::new("untrusted", false)
    }

    pub fn timeout() -> NoAnswer {
        NoAnswer::new("timeout", true)
    }

    fn of(error: &io::Error) -> NoAnswer {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => NoAnswer::timeout(),
            _ => NoAnswer::new("connection", true),
        }
    }
}

pub(crate) struct Answer {
    pub status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    /// What a status means that is none that was hoped for.
    pub fn refusal(&self) -> NoAnswer {
        let is_temporary = self.status == 408 || self.status == 429 || self.status >= 500;
        let mut failure = NoAnswer::new(&format!("http_{}", self.status), is_temporary);
        let seconds = self
            .header("retry-after")
            .and_then(|text| text.parse::<u32>().ok());
        if let Some(seconds) = seconds.filter(|seconds| is_temporary && *seconds < 1 << 20) {
            failure.retry_after = Duration::from_secs(u64::from(seconds));
        }
        failure
    }
}

pub(crate) struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
    pub deadline: Instant,
    pub limit: usize,
}

struct Url {
    host: String,
    /// As it stands in the Host header.
    authority: String,
    port: u16,
    path: String,
    is_tls: bool,
}

pub(crate) struct Transport {
    url: Url,
    connector: Option<SslConnector>,
    pins: Vec<[u8; 32]>,
    pin_mode: PinMode,
    connect_timeout: Duration,
}

impl Transport {
    pub fn new(
        url: &str,
        pins: &[String],
        pin_mode: PinMode,
        ca_file: Option<&Path>,
        connect_timeout: Duration,
    ) -> Result<Transport, OptionsError> {
        let url = read_url(url)?;
        let pins = read_pins(pins)?;
        if !pins.is_empty() && !url.is_tls {
            return Err(OptionsError::new("pins need https"));
        }
        let connector = if url.is_tls {
            Some(connector(ca_file)?)
        } else {
            None
        };
        Ok(Transport {
            url,
            connector,
            pins,
            pin_mode,
            connect_timeout,
        })
    }

    /// Makes one request. `report` hears of a pin that does not fit.
    pub fn send(&self, request: &Request, report: &dyn Fn(&str)) -> Result<Answer, NoAnswer> {
        let stream = self.connect(request.deadline)?;
        match &self.connector {
            None => self.exchange(stream, request),
            Some(connector) => {
                let secure = self.secure(connector, stream)?;
                self.check_pins(&secure, report)?;
                self.exchange(secure, request)
            }
        }
    }

    fn connect(&self, deadline: Instant) -> Result<Timed, NoAnswer> {
        let connected_by = deadline.min(Instant::now() + self.connect_timeout);
        let mut failure = NoAnswer::new("connection", true);
        for address in resolve(&self.url.host, self.url.port, left(connected_by)?)? {
            match TcpStream::connect_timeout(&address, left(connected_by)?) {
                Ok(stream) => {
                    // Without it the last packet waits; it is no matter of being right.
                    let _ = stream.set_nodelay(true);
                    return Ok(Timed { stream, deadline });
                }
                Err(error) => failure = NoAnswer::of(&error),
            }
        }
        Err(failure)
    }

    fn secure(
        &self,
        connector: &SslConnector,
        mut stream: Timed,
    ) -> Result<SslStream<Timed>, NoAnswer> {
        let deadline = stream.deadline;
        stream.deadline = deadline.min(Instant::now() + self.connect_timeout);
        match connector.connect(&self.url.host, stream) {
            Ok(mut secure) => {
                secure.get_mut().deadline = deadline;
                Ok(secure)
            }
            Err(HandshakeError::Failure(ended) | HandshakeError::WouldBlock(ended)) => {
                if ended.ssl().verify_result() != X509VerifyResult::OK {
                    return Err(NoAnswer::new("tls", false));
                }
                Err(match ended.error().io_error() {
                    Some(error) => NoAnswer::of(error),
                    None => NoAnswer::new("connection", true),
                })
            }
            Err(HandshakeError::SetupFailure(_)) => Err(NoAnswer::new("connection", false)),
        }
    }

    /// Beside the normal checks, never in their place.
    fn check_pins(&self, stream: &SslStream<Timed>, report: &dyn Fn(&str)) -> Result<(), NoAnswer> {
        if self.pins.is_empty() {
            return Ok(());
        }
        let certificate = stream
            .ssl()
            .peer_certificate()
            .and_then(|found| found.to_der().ok());
        let key = certificate
            .as_deref()
            .and_then(public_key)
            .unwrap_or_default();
        let found = sha256(key);
        if self.pins.iter().any(|pin| memcmp::eq(pin, &found)) {
            return Ok(());
        }
        report("pin_mismatch");
        match self.pin_mode {
            PinMode::Report => Ok(()),
            PinMode::Enforce => Err(NoAnswer::new("pin_mismatch", false)),
        }
    }

    fn exchange(
        &self,
        mut stream: impl Read + Write,
        request: &Request,
    ) -> Result<Answer, NoAnswer> {
        let mut head = format!(
            "{} {}{} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n",
            request.method,
            self.url.path,
            request.path,
            self.url.authority,
            request.body.len()
        );
        for (name, value) in request.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(request.body);
        let answer = stream
            .write_all(&bytes)
            .and_then(|()| stream.flush())
            .and_then(|()| {
                Reader {
                    stream,
                    buffer: Vec::new(),
                    at: 0,
                }
                .answer(request.limit)
            });
        match answer {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(NoAnswer::new("too_large", false)),
            Err(_) if Instant::now() >= request.deadline => Err(NoAnswer::timeout()),
            Err(error) => Err(NoAnswer::of(&error)),
        }
    }
}

fn connector(ca_file: Option<&Path>) -> Result<SslConnector, OptionsError> {
    let fails = |_| OptionsError::new("OpenSSL gives no TLS client");
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(fails)?;
    builder
        .set_min_proto_version(Some(SslVersion::TLS1_2))
        .map_err(fails)?;
    if let Some(file) = ca_file {
        let unreadable = || OptionsError::new("ca_file holds no certificate in PEM");
        let pem = std::fs::read(file).map_err(|_| unreadable())?;
        let authorities = X509::stack_from_pem(&pem).map_err(|_| unreadable())?;
        if authorities.is_empty() {
            return Err(unreadable());
        }
        let mut store = X509StoreBuilder::new().map_err(fails)?;
        for authority in authorities {
            store.add_cert(authority).map_err(fails)?;
        }
        builder.set_cert_store(store.build());
    }
    Ok(builder.build())
}

fn read_url(text: &str) -> Result<Url, OptionsError> {
    let invalid = || OptionsError::new("url must be https://host[:port][/path]");
    let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
    let is_tls = match scheme.to_ascii_lowercase().as_str() {
        "https" => true,
        "http" => false,
        _ => return Err(invalid()),
    };
    if !rest
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"?#@\\".contains(&byte))
    {
        return Err(invalid());
    }
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let (host, port) = match authority.strip_prefix('[') {
        Some(inner) => {
            let (host, port) = inner.split_once(']').ok_or_else(invalid)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| invalid())?;
            (host, port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(digits) => digits.parse().map_err(|_| invalid())?,
        None if !port.is_empty() => return Err(invalid()),
        None if is_tls => 443,
        None => 80,
    };
    if host.is_empty() {
        return Err(invalid());
    }
    let is_loopback = host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if !is_tls && !is_loopback {
        return Err(OptionsError::new(
            "url must be https: license keys and tokens are secrets (http is for loopback addresses)",
        ));
    }
    let path = path.trim_end_matches('/').to_string();
    Ok(Url {
        host: host.to_string(),
        authority: authority.to_string(),
        port,
        path,
        is_tls,
    })
}

fn read_pins(pins: &[String]) -> Result<Vec<[u8; 32]>, OptionsError> {
    let mut decoded: Vec<[u8; 32]> = Vec::new();
    for pin in pins {
        let digest = pin.strip_prefix("sha256/").and_then(decode_base64);
        let digest = digest
            .and_then(|digest| digest.try_into().ok())
            .ok_or_else(|| {
                OptionsError::new(
                    "a pin must be sha256/ and the base64 of the SHA-256 of a public key (SPKI)",
                )
            })?;
        if !decoded.contains(&digest) {
            decoded.push(digest);
        }
    }
    if decoded.len() == 1 {
        return Err(OptionsError::new(
            "pins must be at least two: without a spare one, a new key of the service locks every client out",
        ));
    }
    Ok(decoded)
}

fn left(deadline: Instant) -> Result<Duration, NoAnswer> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(NoAnswer::timeout());
    }
    Ok(left)
}

/// The system's resolver knows no time limit, so it works in a thread of its own.
fn resolve(host: &str, port: u16, limit: Duration) -> Result<Vec<SocketAddr>, NoAnswer> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (sender, receiver) = mpsc::channel();
    let host = host.to_string();
    let started = thread::Builder::new()
        .name("license-metering".into())
        .spawn(move || {
            let found = (host.as_str(), port)
                .to_socket_addrs()
                .map(Iterator::collect::<Vec<_>>);
            // Whoever asked may have given up.
            let _ = sender.send(found);
        });
    started.map_err(|_| NoAnswer::new("connection", true))?;
    match receiver.recv_timeout(limit) {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(_)) => Err(NoAnswer::new("connection", true)),
        Err(_) => Err(NoAnswer::timeout()),
    }
}

/// A connection whose deadline counts for the whole, and not from each byte.
#[derive(Debug)]
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        left(self.deadline).map_err(|_| io::ErrorKind::TimedOut.into())
    }
}

fn late(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer).map_err(late)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(buffer).map_err(late)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no HTTP")
}

struct Reader<S> {
    stream: S,
    buffer: Vec<u8>,
    at: usize,
}

impl<S: Read> Reader<S> {
    /// None where the body exceeds the limit.
    fn answer(mut self, limit: usize) -> io::Result<Option<Answer>> {
        let (mut status, mut headers) = self.head()?;
        // 100 Continue and its like come before the answer.
        while (100..200).contains(&status) {
            (status, headers) = self.head()?;
        }
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        if status == 204 || status == 304 {
            return Ok(Some(answer));
        }
        let body = if answer.header("transfer-encoding").is_some() {
            self.chunks(&answer, limit)?
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse::<usize>().map_err(|_| malformed())?;
            if length > limit {
                None
            } else {
                Some(self.take(length)?)
            }
        } else {
            self.rest(limit)?
        };
        Ok(body.map(|body| {
            answer.body = body;
            answer
        }))
    }

    fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let mut budget = MAXIMUM_HEAD_BYTES;
        let line = self.line(&mut budget)?;
        let status = line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split_once(' '))
            .and_then(|(_, rest)| rest.get(..3))
            .and_then(|digits| digits.parse().ok());
        let status = status
            .filter(|status| (100..600).contains(status))
            .ok_or_else(malformed)?;
        let mut headers = Vec::new();
        loop {
            let line = self.line(&mut budget)?;
            if line.is_empty() {
                return Ok((status, headers));
            }
            let (name, value) = line.split_once(':').ok_or_else(malformed)?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
        }
    }

    fn line(&mut self, budget: &mut usize) -> io::Result<String> {
        loop {
            let waiting = &self.buffer[self.at..];
            let end = waiting.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(waiting.len(), |end| end + 1);
            if length > *budget {
                return Err(malformed());
            }
            if let Some(end) = end {
                let line = String::from_utf8_lossy(&waiting[..end]);
                let line = line.strip_suffix('\r').unwrap_or(&line).to_string();
                self.at += length;
                *budget -= length;
                return Ok(line);
            }
            if self.more()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn more(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 8192];
        let count = self.stream.read(&mut chunk)?;
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() - self.at < length {
            if self.more()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let bytes = self.buffer[self.at..self.at + length].to_vec();
        self.at += length;
        Ok(bytes)
    }

    fn rest(&mut self, limit: usize) -> io::Result<Option<Vec<u8>>> {
        while self.buffer.len() - self.at <= limit {
            if self.more()? == 0 {
                return Ok(Some(self.buffer.split_off(self.at)));
            }
        }
        Ok(None)
    }

    fn chunks(&mut self, answer: &Answer, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let is_chunked = answer.header("transfer-encoding");
        if !is_chunked.is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return Err(malformed());
        }
        let mut body = Vec::new();
        loop {
            let line = self.line(&mut 1024)?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(malformed());
            }
            let length = usize::from_str_radix(digits, 16).map_err(|_| malformed())?;
            if length == 0 {
                return Ok(Some(body));
            }
            if length > limit - body.len() {
                return Ok(None);
            }
            body.extend(self.take(length)?);
            if self.take(2)? != b"\r\n" {
                return Err(malformed());
            }
        }
    }
}

/// The bytes of the public key (SubjectPublicKeyInfo) of a certificate in DER, as they stand there.
fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    let (_, whole, _) = element(certificate)?;
    let (_, mut rest, _) = element(whole)?;
    let (tag, _, after) = element(rest)?;
    if tag == 0xA0 {
        rest = after;
    }
    // The serial number, the algorithm, the issuer, the times, the subject.
    for _ in 0..5 {
        rest = element(rest)?.2;
    }
    let (_, _, after) = element(rest)?;
    Some(&rest[..rest.len() - after.len()])
}

/// The tag, the content and what comes after.
fn element(data: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, first) = (*data.first()?, usize::from(*data.get(1)?));
    let (start, length) = if first < 0x80 {
        (2, first)
    } else {
        let count = first & 0x7F;
        if count == 0 || count > 4 {
            return None;
        }
        let digits = data.get(2..2 + count)?;
        let length = digits
            .iter()
            .fold(0, |length, digit| length << 8 | usize::from(*digit));
        (2 + count, length)
    };
    let end = start.checked_add(length)?;
    Some((tag, data.get(start..end)?, data.get(end..)?))
}
