"""License tokens: what a license says of itself, and whether it holds, without the service."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Tuple, TypeVar

from . import _json, domains
from ._tokens import KeySet, TokenRefused, verify

GRACE_MILLISECONDS = 7 * 86_400_000
_MAXIMUM_MILLISECONDS = 253_402_300_799_999
_MAXIMUM_ITEMS = 100
_T = TypeVar("_T")


@dataclass(frozen=True)
class LicenseClaims:
    """What a verified token says. Times are milliseconds since 1970."""

    license_id: str
    domains: Tuple[str, ...]
    plan: str
    features: Tuple[str, ...]
    issued_at: int
    expires_at: int
    not_before: Optional[int] = None
    is_trial: bool = False
    limits: Dict[str, int] = field(default_factory=dict)


def verify_license(token: str, keys: KeySet) -> LicenseClaims:
    """The claims of a token that a license key of the set has signed. Raises TokenRefused; asks no clock."""
    payload = verify(token, keys.for_purpose("license"), (None, "jwt", "license+jwt"))
    try:
        members = _json.parse(payload)
    except ValueError:
        raise TokenRefused("bad_claims", "claims") from None
    if not isinstance(members, _json.Members):
        raise TokenRefused("bad_claims", "claims")
    if members.repeated:
        raise TokenRefused("bad_claims", "repeated claim")
    license_id = _json.plain_text(members.get("sub"), 512)
    if license_id is None:
        raise TokenRefused("bad_claims", "sub")
    plan = _read(members, "plan", lambda value: _json.plain_text(value, 256)) or ""
    features = _read(members, "features", _texts) or ()
    single = _read(members, "domain", lambda value: _json.plain_text(value, 256))
    several = _read(members, "domains", _texts) or ()
    limits = _read(members, "limits", _limits) or {}
    trial = _read(members, "trial", lambda value: value if isinstance(value, bool) else None) or False
    not_before = _read(members, "nbf", _time)
    issued_at = _read(members, "iat", _time)
    if issued_at is None:
        raise TokenRefused("bad_claims", "iat")
    expires_at = _read(members, "exp", _time)
    if expires_at is None or expires_at <= issued_at:
        raise TokenRefused("bad_claims", "exp")
    bound = tuple(dict.fromkeys(((single,) if single is not None else ()) + several))
    return LicenseClaims(
        license_id, bound, plan, features, issued_at, expires_at, not_before, trial, dict(sorted(limits.items()))
    )


def judge(claims: LicenseClaims, domain: str, now: Optional[int] = None) -> str:
    """``not_yet_valid``, ``expired``, ``domain_mismatch``, ``grace`` or ``valid``; the last two hold."""
    now = int(time.time() * 1000) if now is None else now
    if claims.not_before is not None and now < claims.not_before:
        return "not_yet_valid"
    is_expired = now >= claims.expires_at
    if is_expired and (claims.is_trial or now >= claims.expires_at + GRACE_MILLISECONDS):
        return "expired"
    if not domains.covers(claims.domains, domains.normalize(domain)):
        return "domain_mismatch"
    return "grace" if is_expired else "valid"


def _read(members: Dict[str, Any], claim: str, read: Callable[[Any], Optional[_T]]) -> Optional[_T]:
    if claim not in members:
        return None
    value = read(members[claim])
    if value is None:
        raise TokenRefused("bad_claims", claim)
    return value


def _texts(value: Any) -> Optional[Tuple[str, ...]]:
    if not isinstance(value, list) or len(value) > _MAXIMUM_ITEMS:
        return None
    texts: List[str] = []
    for element in value:
        text = _json.plain_text(element, 256)
        if text is None:
            return None
        texts.append(text)
    return tuple(texts)


def _limits(value: Any) -> Optional[Dict[str, int]]:
    if not isinstance(value, _json.Members) or value.repeated or len(value) > _MAXIMUM_ITEMS:
        return None
    limits: Dict[str, int] = {}
    for name, quantity in value.items():
        if quantity is None:
            continue
        number = quantity.integer if isinstance(quantity, _json.Number) else None
        if _json.plain_text(name, 64) is None or number is None or number < 0:
            return None
        limits[name] = number
    return limits


def _time(value: Any) -> Optional[int]:
    if not isinstance(value, _json.Number):
        return None
    milliseconds = value.scaled(3)
    if milliseconds is None or not 0 <= milliseconds <= _MAXIMUM_MILLISECONDS:
        return None
    return milliseconds
