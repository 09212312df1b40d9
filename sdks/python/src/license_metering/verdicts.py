"""Signed answers of the validation service."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple

from . import _json
from ._tokens import KeySet, TokenRefused, encode, verify
from .domains import DomainName

TOLERANCE_MILLISECONDS = 300_000
_TIMESTAMP = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{3})Z\Z")


@dataclass(frozen=True)
class Verdict:
    """What the service has signed. Times are milliseconds since 1970."""

    valid: bool
    code: str
    timestamp: int
    license_id: Optional[str] = None
    plan: Optional[str] = None
    features: Tuple[str, ...] = ()
    limits: Dict[str, int] = field(default_factory=dict)
    expires_at: Optional[int] = None
    grace: bool = False
    over_limit: bool = False
    error: Optional[str] = None


def license_key_hash(license_key: str) -> str:
    """SHA-256 of the key's bytes, in base64url without padding."""
    return encode(hashlib.sha256(license_key.encode("utf-8")).digest())


def verify_verdict(
    signature: str,
    keys: KeySet,
    license_key: str,
    domain: Optional[DomainName],
    nonce: Optional[str],
    now: Optional[int],
) -> Verdict:
    """The verdict of a signature, where it answers this very question. Raises TokenRefused.

    ``nonce`` and ``now`` are None for an answer that was verified when it came and is read back from a cache.
    """
    payload = verify(signature, keys.for_purpose("verdict"), ("verdict+jwt",))
    try:
        members = _json.parse(payload)
    except ValueError:
        members = None
    if not isinstance(members, _json.Members) or members.repeated:
        raise TokenRefused("other_nonce")
    if nonce is not None and not _equals(members.get("nonce"), nonce):
        raise TokenRefused("other_nonce")
    if not _equals(members.get("licenseKeyHash"), license_key_hash(license_key)):
        raise TokenRefused("other_question")
    if "domain" not in members or members["domain"] != (None if domain is None else domain.text):
        raise TokenRefused("other_question")
    timestamp = milliseconds(members.get("timestamp"))
    if timestamp is None or (now is not None and abs(now - timestamp) > TOLERANCE_MILLISECONDS):
        raise TokenRefused("stale")
    return _verdict(members, timestamp)


def signed_time(signature: str, keys: KeySet) -> int:
    """When the service signed a verdict, whatever it answers; 0 where it is none of the service's."""
    try:
        members = _json.parse(verify(signature, keys.for_purpose("verdict"), ("verdict+jwt",)))
    except (TokenRefused, ValueError):
        return 0
    return milliseconds(members.get("timestamp")) or 0 if isinstance(members, _json.Members) else 0


def milliseconds(value: Any) -> Optional[int]:
    """Of ``2026-11-23T18:40:00.123Z``; None for any other spelling."""
    match = _TIMESTAMP.match(_json.text(value) or "")
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction = (int(part) for part in match.groups())
    try:
        date = datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.timezone.utc)
    except ValueError:
        return None
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return (date - epoch) // datetime.timedelta(milliseconds=1) + fraction


def _equals(value: Any, expected: str) -> bool:
    text = _json.text(value)
    return text is not None and hmac.compare_digest(text.encode("utf-8"), expected.encode("utf-8"))


def _verdict(members: Dict[str, Any], timestamp: int) -> Verdict:
    valid, code, features = members.get("valid"), _json.text(members.get("code")), members.get("features", [])
    if not isinstance(valid, bool) or code is None or not isinstance(features, list):
        raise TokenRefused("bad_claims", "verdict")
    limits = members.get("limits")
    numbers = limits.items() if isinstance(limits, dict) else ()
    quantities = {name: value.integer for name, value in numbers if isinstance(value, _json.Number)}
    return Verdict(
        valid=valid,
        code=code,
        timestamp=timestamp,
        license_id=_json.text(members.get("licenseId")),
        plan=_json.text(members.get("plan")),
        features=tuple(feature for feature in features if _json.text(feature) is not None),
        limits={name: quantity for name, quantity in quantities.items() if quantity is not None},
        expires_at=milliseconds(members.get("expiresAt")),
        grace=members.get("grace") is True,
        over_limit=members.get("overLimit") is True,
        error=_json.text(members.get("error")),
    )
