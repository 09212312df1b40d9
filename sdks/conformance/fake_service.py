"""A validation service that misbehaves as it is told, with the published keys of the vectors."""

import base64
import datetime
import hashlib
import http.server
import json
import pathlib
import ssl
import threading
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VERDICT = ("v-1", Ed25519PrivateKey.from_private_bytes(bytes([4]) * 32))
STRANGER = ("v-1", Ed25519PrivateKey.from_private_bytes(bytes([3]) * 32))
NEXT = ("v-2", Ed25519PrivateKey.from_private_bytes(bytes([9]) * 32))


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk(key, purpose="verdict"):
    key_id, private = key
    raw = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {"kty": "OKP", "crv": "Ed25519", "kid": key_id, "alg": "EdDSA", "use": "sig", "purpose": purpose, "x": b64(raw)}


def sign(payload: bytes, key=VERDICT, kind="verdict+jwt") -> str:
    head = b64(json.dumps({"alg": "EdDSA", "kid": key[0], "typ": kind}).encode())
    text = head + "." + b64(payload)
    return text + "." + b64(key[1].sign(text.encode()))


def rfc3339(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


class FakeService:
    """``plan`` holds what is done to the next requests for a verdict; the last of it is done from then on."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.plan = ["good"]
        self.requests = []
        self.events = []
        self.keys = [jwk(VERDICT)]
        self.expires = time.time() + 90 * 86_400
        self.captured = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        certificate, self.ca_file, self.pin, self.other_pin = make_certificate(folder)
        self.http = self._serve(None)
        self.https = self._serve(certificate)

    def _serve(self, certificate):
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                service.handle(self, b"")

            def do_POST(self):
                service.handle(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_):
                pass  # Clients hang up on it all the time.

        server = Server(("127.0.0.1", 0), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    @property
    def tls_url(self) -> str:
        return f"https://localhost:{self.https.server_address[1]}"

    def do(self, *plan: str) -> None:
        with self._lock:
            self.plan = list(plan)
            self.requests.clear()

    def _next(self) -> str:
        with self._lock:
            return self.plan.pop(0) if len(self.plan) > 1 else self.plan[0]

    def handle(self, handler, body: bytes) -> None:
        with self._lock:
            self.requests.append((handler.path, dict(handler.headers), body))
        if handler.path == "/.well-known/jwks.json":
            if self.plan[0] == "down":
                return self._send(handler, 500, b"")
            return self._send(handler, 200, json.dumps({"keys": self.keys}).encode())
        step = self._next()
        if handler.path == "/v1/events":
            return self._events(handler, step, body)
        if handler.path == "/elsewhere":
            return self._send(handler, 200, self.verdict(json.loads(self.captured)))
        self._verdict(handler, step, body)

    def _events(self, handler, step: str, body: bytes) -> None:
        if step.isdigit() and step != "202":
            return self._send(handler, int(step), b"{}")
        batch = json.loads(body)
        rejected = []
        if step == "reject":
            rejected = [{"index": 0, "id": batch[0]["id"], "reason": "bad_quantity"}]
        with self._lock:
            self.events.extend(batch)
        if step == "lose":
            # It was taken, and nobody hears of it.
            handler.close_connection = True
            return handler.connection.close()
        answer = {"accepted": len(batch) - len(rejected), "rejected": rejected}
        self._send(handler, 202, json.dumps(answer).encode())

    def _verdict(self, handler, step: str, body: bytes) -> None:
        name, _, argument = step.partition(":")
        if name == "hang":
            self._stop.wait(20)
            handler.close_connection = True
        elif name == "drip":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(100):
                handler.wfile.write(b"x")
                handler.wfile.flush()
                time.sleep(0.1)
        elif name == "down":
            self._send(handler, 500, b"")
        elif name == "reset":
            handler.close_connection = True
            handler.connection.close()
        elif name == "cut":
            answer = self.verdict(json.loads(body))
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(answer) + 100) + answer)
            handler.close_connection = True
        elif name == "redirect":
            self.captured = body
            handler.send_response(307)
            handler.send_header("Location", "/elsewhere")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        elif name.isdigit():
            self._send(handler, int(name), b'{"code":"x"}', {"Retry-After": argument} if argument else {})
        else:
            self._send(handler, 200, self.answer(name, argument, json.loads(body)))

    def answer(self, name: str, argument: str, question) -> bytes:
        if name == "big":
            return self.verdict(question)[:-1] + b"," + b'"x":"' + b"x" * 200_000 + b'"}'
        if name == "text":
            return b"<html>"
        if name == "array":
            return b"[]"
        if name == "unsigned":
            members = json.loads(self.verdict(question))
            del members["signature"]
            return json.dumps(members).encode()
        if name == "foreign":
            return self.verdict(question, key=STRANGER)
        if name == "typ":
            return self.verdict(question, kind="license+jwt")
        if name == "next":
            return self.verdict(question, key=NEXT)
        if name == "capture":
            self.captured = self.verdict(question)
            return self.captured
        if name == "replay":
            return self.captured
        if name == "other_domain":
            return self.verdict({**question, "domain": "evil.example"})
        if name == "other_license":
            return self.verdict({**question, "licenseKey": "lic_evil"})
        if name == "stale":
            return self.verdict(question, at=time.time() + float(argument))
        if name == "lie":
            # The signature says no, and the members beside it say yes.
            members = json.loads(self.verdict(question, code="canceled"))
            return json.dumps({**members, "valid": True, "code": "valid"}).encode()
        return self.verdict(question, code=argument or "valid")

    def verdict(self, question, key=VERDICT, kind="verdict+jwt", at=None, code="valid") -> bytes:
        valid = code in ("valid", "grace")
        members = {
            "valid": valid,
            "code": code,
            "licenseId": "lic_abc123",
            "plan": "professional",
            "features": ["analytics"] if valid else [],
            "limits": {"apiCalls": 50000},
            "expiresAt": rfc3339(self.expires),
            "grace": code == "grace",
            "overLimit": False,
            "domain": question["domain"],
            "licenseKeyHash": b64(hashlib.sha256(question["licenseKey"].encode()).digest()),
            "nonce": question["nonce"],
            "timestamp": rfc3339(at or time.time()),
        }
        if not valid:
            members["error"] = "No."
        signature = sign(json.dumps(members).encode(), key, kind)
        return json.dumps({**members, "signature": signature}).encode()

    def _send(self, handler, status: int, body: bytes, headers=None) -> None:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


def make_certificate(folder: pathlib.Path):
    """A certificate for localhost by an authority of its own. Returns the chain with its key, the authority's file, two pins."""
    now = datetime.datetime.now(datetime.timezone.utc)
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Conformance")])

    def build(subject, public_key, is_authority):
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        )
        if is_authority:
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            return builder.add_extension(usage, critical=True)
        names = [x509.DNSName("localhost")]
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        return builder.add_extension(x509.SubjectAlternativeName(names), critical=False).add_extension(usage, False)

    root = build(issuer, authority.public_key(), True).sign(authority, hashes.SHA256())
    leaf_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    leaf = build(leaf_name, key.public_key(), False).sign(authority, hashes.SHA256())
    pem = serialization.Encoding.PEM
    chain = folder / "server.pem"
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain.write_bytes(secret + leaf.public_bytes(pem) + root.public_bytes(pem))
    ca_file = folder / "ca.pem"
    ca_file.write_bytes(root.public_bytes(pem))

    def pin(public_key):
        der = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return "sha256/" + base64.b64encode(hashlib.sha256(der).digest()).decode()

    spare = pin(ec.generate_private_key(ec.SECP256R1()).public_key())
    return str(chain), str(ca_file), pin(key.public_key()), spare
