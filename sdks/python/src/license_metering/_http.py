"""One bounded HTTPS request: no redirect is followed, no body exceeds its limit, no answer takes longer than its deadline."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
import threading
import time
import urllib.parse
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence

_PIN_PREFIX = "sha256/"


class NoAnswer(Exception):
    """The service gave no answer that can be believed.

    ``problem`` is ``timeout``, ``connection``, ``tls``, ``pin_mismatch``, ``too_large``, ``http_503`` (or another
    status) or ``untrusted``; ``is_temporary`` says whether asking again may help.
    """

    def __init__(self, problem: str, is_temporary: bool = False, retry_after: float = 0) -> None:
        super().__init__(problem)
        self.problem = problem
        self.is_temporary = is_temporary
        self.retry_after = retry_after


@dataclass
class Answer:
    """Status, headers in lower case, body."""

    status: int
    headers: Dict[str, str]
    body: bytes


class Transport:
    """Requests to one service."""

    def __init__(
        self,
        url: str,
        connect_timeout: float,
        pins: Sequence[str],
        pin_mode: str,
        ca_file: Optional[str],
        report: Callable[[str], None],
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError("url must be https://host[:port][/path]")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise ValueError("url must be https: license keys and tokens are secrets (http is for loopback addresses)")
        if pin_mode not in ("enforce", "report"):
            raise ValueError("pin_mode must be enforce or report")
        self._pins = _read_pins(pins)
        if self._pins and parts.scheme != "https":
            raise ValueError("pins need https")
        self._host, self._is_tls = parts.hostname, parts.scheme == "https"
        self._port = parts.port or (443 if self._is_tls else 80)
        self._path = parts.path.rstrip("/")
        self._connect_timeout, self._pin_mode, self._report = connect_timeout, pin_mode, report
        self._context = ssl.create_default_context(cafile=ca_file) if self._is_tls else None
        if self._context is not None:
            self._context.minimum_version = ssl.TLSVersion.TLSv1_2

    def request(
        self,
        method: str,
        path: str,
        headers: Dict[str, str],
        deadline: float,
        limit: int,
        body: Optional[bytes] = None,
    ) -> Answer:
        """Raises NoAnswer. ``deadline`` is a time of ``time.monotonic``."""
        connection: Optional[socket.socket] = None
        watch: Optional[threading.Timer] = None
        try:
            connection = self._connect(deadline)
            # A timeout of the socket counts from each byte; the deadline counts for the whole.
            watch = threading.Timer(max(deadline - time.monotonic(), 0.001), _shut, (connection,))
            watch.daemon = True
            watch.start()
            return self._exchange(connection, method, path, headers, limit, body)
        except NoAnswer:
            raise
        except ssl.SSLCertVerificationError:
            raise NoAnswer("tls") from None
        except (OSError, http.client.HTTPException, ValueError):
            is_late = time.monotonic() >= deadline
            raise NoAnswer("timeout" if is_late else "connection", is_temporary=True) from None
        finally:
            if watch is not None:
                watch.cancel()
            if connection is not None:
                connection.close()

    def _connect(self, deadline: float) -> socket.socket:
        left = deadline - time.monotonic()
        if left <= 0:
            raise NoAnswer("timeout", is_temporary=True)
        try:
            plain = socket.create_connection((self._host, self._port), min(self._connect_timeout, left))
            if self._context is None:
                plain.settimeout(max(deadline - time.monotonic(), 0.001))
                return plain
        except socket.timeout:
            raise NoAnswer("timeout", is_temporary=True) from None
        try:
            secure = self._context.wrap_socket(plain, server_hostname=self._host)
        except socket.timeout:
            plain.close()
            raise NoAnswer("timeout", is_temporary=True) from None
        except BaseException:
            plain.close()
            raise
        try:
            self._check_pins(secure)
            secure.settimeout(max(deadline - time.monotonic(), 0.001))
        except BaseException:
            secure.close()
            raise
        return secure

    def _check_pins(self, connection: ssl.SSLSocket) -> None:
        if not self._pins:
            return
        certificate = connection.getpeercert(binary_form=True)
        found = hashlib.sha256(_public_key(certificate or b"")).digest()
        if not any(hmac.compare_digest(found, pin) for pin in self._pins):
            self._report("pin_mismatch")
            if self._pin_mode == "enforce":
                raise NoAnswer("pin_mismatch")

    def _exchange(
        self,
        connection: socket.socket,
        method: str,
        path: str,
        headers: Dict[str, str],
        limit: int,
        body: Optional[bytes],
    ) -> Answer:
        client = http.client.HTTPConnection(self._host, self._port)
        client.sock = connection
        client.auto_open = 0
        client.request(method, self._path + path, body, {**headers, "Connection": "close"})
        response = client.getresponse()
        chunks: List[bytes] = []
        size = 0
        while True:
            chunk = response.read(min(16_384, limit + 1 - size))
            if not chunk:
                break
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise NoAnswer("too_large")
        if response.length:
            raise http.client.IncompleteRead(b"".join(chunks))
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, b"".join(chunks))


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # It has ended by itself.


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_pins(pins: Sequence[str]) -> List[bytes]:
    decoded = []
    for pin in pins:
        try:
            digest = base64.b64decode(pin[len(_PIN_PREFIX) :], validate=True) if pin.startswith(_PIN_PREFIX) else b""
        except ValueError:
            digest = b""
        if len(digest) != 32:
            raise ValueError("a pin must be sha256/ and the base64 of the SHA-256 of a public key (SPKI)")
        decoded.append(digest)
    if decoded and len(set(decoded)) < 2:
        raise ValueError("pins must be at least two: without a spare one, a new key of the service locks every client out")
    return decoded


def _public_key(certificate: bytes) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_der_x509_certificate(certificate).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
