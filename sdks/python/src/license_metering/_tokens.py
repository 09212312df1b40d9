"""Key sets (RFC 7517) and compact JWS (RFC 7515), by the rules of docs/verification.md."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Union

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from . import _json

MAXIMUM_TOKEN_BYTES = 8192
_MAXIMUM_SET_BYTES = 1 << 20
_MAXIMUM_KEYS = 100
_BASE64URL = re.compile(rb"[A-Za-z0-9_-]*\Z")
_ALGORITHMS = {"EdDSA": "EdDSA", "Ed25519": "EdDSA", "ES256": "ES256", "RS256": "RS256"}
_Material = Union[Ed25519PublicKey, ec.EllipticCurvePublicKey, rsa.RSAPublicKey]


class TokenRefused(Exception):
    """A token that is not believed.

    ``code`` names the rule: ``too_large``, ``not_compact``, ``bad_header``, ``unsupported_algorithm``, ``critical``,
    ``wrong_type``, ``unknown_key``, ``algorithm_mismatch``, ``bad_signature``, ``bad_claims`` (with ``claim``); of a
    verdict also ``other_nonce``, ``other_question`` and ``stale``.
    """

    def __init__(self, code: str, claim: Optional[str] = None) -> None:
        super().__init__(code if claim is None else code + ": " + claim)
        self.code = code
        self.claim = claim


class InvalidKeySet(ValueError):
    """A key set that is malformed. The message names the key and the member, never a value."""


@dataclass(frozen=True)
class Key:
    """A public key of a set. The algorithm is the key's, never the token's."""

    key_id: str
    algorithm: str
    purpose: str
    material: _Material
    thumbprint: str

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether the signature fits."""
        try:
            if isinstance(self.material, Ed25519PublicKey):
                if len(signature) != 64:
                    return False
                self.material.verify(signature, data)
            elif isinstance(self.material, rsa.RSAPublicKey):
                if len(signature) != (self.material.key_size + 7) // 8:
                    return False
                self.material.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
            else:
                if len(signature) != 64:
                    return False
                r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
                self.material.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


class KeySet:
    """The keys of ``GET /.well-known/jwks.json``.

    ``KeySet(text)`` reads a JSON Web Key Set from a string, bytes or a dict. Keys of kinds that are not known are left
    out; a malformed key raises ``InvalidKeySet``.
    """

    def __init__(self, source: Union[str, bytes, Dict[str, Any]]) -> None:
        if isinstance(source, dict):
            source = json.dumps(source)
        data = source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source
        self.source = data
        self.keys: List[Key] = []
        if len(data) > _MAXIMUM_SET_BYTES:
            raise InvalidKeySet("more than 1 MiB")
        try:
            members = _json.parse(data)
        except ValueError:
            raise InvalidKeySet("not a JSON Web Key Set") from None
        if not isinstance(members, _json.Members) or members.repeated or not isinstance(members.get("keys"), list):
            raise InvalidKeySet("not a JSON Web Key Set")
        elements = members["keys"]
        if len(elements) > _MAXIMUM_KEYS:
            raise InvalidKeySet("more than 100 keys")
        for number, element in enumerate(elements, 1):
            if not isinstance(element, _json.Members):
                raise InvalidKeySet(f"key {number}: not an object")
            if not _is_of_use(element):
                continue
            try:
                self._add(_key(element))
            except InvalidKeySet as error:
                raise InvalidKeySet(f"key {number}: {error}") from None

    def _add(self, key: Key) -> None:
        for other in self.keys:
            if (other.key_id, other.purpose, other.algorithm) == (key.key_id, key.purpose, key.algorithm):
                if other.thumbprint == key.thumbprint:
                    return
                raise InvalidKeySet("kid stands twice")
        self.keys.append(key)

    def for_purpose(self, purpose: str) -> List[Key]:
        """The keys of a purpose: ``license`` or ``verdict``."""
        return [key for key in self.keys if key.purpose == purpose]


def decode(data: Any, maximum: int = 1 << 20) -> Optional[bytes]:
    """Base64url without padding, in its one spelling; None for all else."""
    if isinstance(data, str):
        data = data.encode("utf-8", "replace")
    if len(data) > maximum or len(data) % 4 == 1 or not _BASE64URL.match(data):
        return None
    decoded = base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))
    return decoded if encode(decoded).encode() == data else None


def encode(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def verify(token: str, keys: Sequence[Key], types: Sequence[Optional[str]]) -> bytes:
    """The payload of a compact JWS that one of the keys signed. Raises TokenRefused.

    ``types`` is what ``typ`` may be, in lower case and without ``application/``; None stands for an absent one.
    """
    data = token.encode("utf-8", "replace")
    if len(data) > MAXIMUM_TOKEN_BYTES:
        raise TokenRefused("too_large")
    parts = data.split(b".")
    decoded = [decode(part) for part in parts] if len(parts) == 3 else [None]
    if None in decoded:
        raise TokenRefused("not_compact")
    header_bytes, payload, signature = decoded
    assert header_bytes is not None and payload is not None and signature is not None
    algorithm, key_id, kind = _header(header_bytes)
    if kind not in types:
        raise TokenRefused("wrong_type")
    named = [key for key in keys if key_id is None or key.key_id == key_id]
    if not named:
        raise TokenRefused("unknown_key")
    fitting = [key for key in named if key.algorithm == algorithm]
    if not fitting:
        raise TokenRefused("algorithm_mismatch")
    if len(fitting) != 1:
        raise TokenRefused("unknown_key")
    if not fitting[0].verifies(signature, parts[0] + b"." + parts[1]):
        raise TokenRefused("bad_signature")
    return payload


def _header(data: bytes) -> Any:
    try:
        members = _json.parse(data)
    except ValueError:
        raise TokenRefused("bad_header") from None
    name = _json.text(members.get("alg")) if isinstance(members, _json.Members) else None
    if name is None or members.repeated:
        raise TokenRefused("bad_header")
    algorithm = _ALGORITHMS.get(name)
    if algorithm is None:
        raise TokenRefused("unsupported_algorithm")
    if "crit" in members or "b64" in members:
        raise TokenRefused("critical")
    key_id = kind = None
    if "kid" in members:
        key_id = _json.text(members["kid"], 256)
        if key_id is None:
            raise TokenRefused("bad_header")
    if "typ" in members:
        kind = _json.text(members["typ"])
        if kind is None:
            raise TokenRefused("bad_header")
        kind = kind.lower()
        kind = kind[12:] if kind.startswith("application/") else kind
    return algorithm, key_id, kind


def _is_of_use(members: Dict[str, Any]) -> bool:
    """Keys of other kinds, curves, uses and algorithms are left out, as RFC 7517 asks; what is malformed stays."""
    kind, curve = _json.text(members.get("kty")), _json.text(members.get("crv"))
    if kind is None:
        return True
    if kind not in ("OKP", "EC", "RSA"):
        return False
    if curve is not None and curve != {"OKP": "Ed25519", "EC": "P-256"}.get(kind, curve):
        return False
    use, name = _json.text(members.get("use")), _json.text(members.get("alg"))
    purpose, operations = _json.text(members.get("purpose")), members.get("key_ops")
    if use is not None and use != "sig":
        return False
    if isinstance(operations, list) and not any(operation in ("verify", "sign") for operation in operations):
        return False
    if name is not None and name not in _ALGORITHMS:
        return False
    return purpose is None or purpose in ("license", "verdict")


def _key(members: _json.Members) -> Key:
    if members.repeated:
        raise InvalidKeySet("a member stands twice")
    if "use" in members and members["use"] != "sig":
        raise InvalidKeySet("use must be sig")
    operations = members.get("key_ops", [])
    if not isinstance(operations, list) or any(_json.text(operation) is None for operation in operations):
        raise InvalidKeySet("key_ops must be an array of texts")
    purpose = members.get("purpose", "license")
    if purpose not in ("license", "verdict"):
        raise InvalidKeySet("purpose must be license or verdict")
    key_id = _json.text(members["kid"], 256, 1) if "kid" in members else None
    if "kid" in members and key_id is None:
        raise InvalidKeySet("kid must be a text of 1 to 256 bytes")
    algorithm, material, required = _material(members)
    thumbprint = encode(hashlib.sha256(json.dumps(required, separators=(",", ":")).encode()).digest())
    if "alg" in members and _ALGORITHMS.get(members["alg"]) != algorithm:
        raise InvalidKeySet("alg does not fit the key")
    return Key(key_id or thumbprint, algorithm, purpose, material, thumbprint)


def _material(members: Dict[str, Any]) -> Any:
    kind, curve = members.get("kty"), members.get("crv")
    if kind == "OKP" and curve == "Ed25519":
        x = _bytes(members, "x", 32)
        required = {"crv": "Ed25519", "kty": "OKP", "x": encode(x)}
        return "EdDSA", Ed25519PublicKey.from_public_bytes(x), required
    if kind == "EC" and curve == "P-256":
        x, y = _bytes(members, "x", 32), _bytes(members, "y", 32)
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + x + y)
        except ValueError:
            raise InvalidKeySet("x and y are no point of P-256") from None
        return "ES256", point, {"crv": "P-256", "kty": "EC", "x": encode(x), "y": encode(y)}
    if kind == "RSA":
        n, e = _bytes(members, "n"), _bytes(members, "e")
        number = int.from_bytes(n, "big")
        if not 2048 <= number.bit_length() <= 8192 or n[0] == 0 or not 1 <= len(e) <= 8:
            raise InvalidKeySet("n and e are no RSA key of 2,048 to 8,192 bits")
        try:
            key = rsa.RSAPublicNumbers(int.from_bytes(e, "big"), number).public_key()
        except ValueError:
            raise InvalidKeySet("n and e are no RSA key of 2,048 to 8,192 bits") from None
        return "RS256", key, {"e": encode(e), "kty": "RSA", "n": encode(n)}
    raise InvalidKeySet("kty and crv must be OKP with Ed25519, EC with P-256, or RSA")


def _bytes(members: Dict[str, Any], name: str, count: Optional[int] = None) -> bytes:
    value = _json.text(members.get(name), 2048)
    data = None if value is None else decode(value)
    if data is None or (count is not None and len(data) != count):
        raise InvalidKeySet(f"{name} must be base64url" + (f" of {count} bytes" if count else ""))
    return data
