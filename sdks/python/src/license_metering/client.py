"""Asks the validation service whether a license holds, and remembers what it said."""

from __future__ import annotations

import json
import os
import random
import secrets
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, NoReturn, Optional, Sequence, Tuple, Union

from . import _fork, _json, verdicts
from ._cache import Cache, Entry
from ._http import NoAnswer, Transport
from ._tokens import KeySet, TokenRefused
from .domains import DomainName, normalize
from .licenses import GRACE_MILLISECONDS, LicenseClaims, judge, verify_license
from .usage import UsageQueue

VERSION = "0.1.0"
_MAXIMUM_ANSWER_BYTES = 65_536
_MAXIMUM_KEYS_BYTES = 1 << 20
_TRIES = 3
_KEYS_PAUSE = 60
_NO_IS_FRESH_MILLISECONDS = 60_000
_EXPLANATIONS = {
    "domain_mismatch": "The license is not valid for this domain.",
    "expired": "The license has expired.",
    "not_yet_valid": "The license is not valid yet.",
    "invalid_signature": "The license key is not accepted: it was not signed by its vendor, or was changed since.",
    "clock_rolled_back": "The clock is behind a time that the license service has signed.",
    "unreachable": "The license service gave no valid answer, and nothing is known about the license.",
}


class Features(frozenset):  # type: ignore[type-arg]
    """What a license unlocks: ``features.has("analytics")``."""

    def has(self, name: str) -> bool:
        """Whether the license unlocks it."""
        return name in self


@dataclass(frozen=True)
class Result:
    """Whether the application may run, why, and how this is known.

    ``source`` is ``online``, ``cache``, ``grace`` (remembered while the service gives no answer), ``offline`` (judged
    from the license token itself) or ``none``. ``age`` is in seconds. ``problem`` says why the service gave no answer.
    ``code`` is one of the service's, or ``clock_rolled_back`` or ``unreachable``.
    """

    valid: bool
    code: str
    source: str
    age: float = 0
    license_id: Optional[str] = None
    plan: Optional[str] = None
    features: Features = field(default_factory=Features)
    limits: Dict[str, int] = field(default_factory=dict)
    expires_at: Optional[int] = None
    grace: bool = False
    over_limit: bool = False
    explanation: Optional[str] = None
    problem: Optional[str] = None


class Client:
    """A client of one validation service, for all threads of a process.

    url            ``https://licenses.example.com``; plain http is for loopback addresses.
    license_key    what ``validate`` asks about unless it is told another; a license's id or its token.
    token          an API token, needed for ``record`` (scope ``usage:write``).
    keys           the service's key set, compiled in. Without it, it is fetched from the service over TLS.
    pins           ``sha256/…`` of the service's public key (SPKI), at least two; ``pin_mode`` ``enforce`` or ``report``.
    cache_dir      keeps verdicts over a restart.
    fresh_for      seconds for which a verdict is used without asking: 60 to 3,600.
    grace_for      seconds for which a verified "yes" is used while the service gives no answer, at most seven days.
    on_unknown     ``graceThenDeny``, ``allow`` or ``deny`` (which uses no grace).
    offline_fallback  judge a license token itself where nothing is known and the service gives no answer.
    on_problem     called with the name of each problem; must not raise.
    """

    def __init__(
        self,
        url: str,
        license_key: Optional[str] = None,
        *,
        token: Optional[str] = None,
        keys: Union[KeySet, str, bytes, Dict[str, Any], None] = None,
        pins: Sequence[str] = (),
        pin_mode: str = "enforce",
        ca_file: Optional[str] = None,
        cache_dir: Union[str, "os.PathLike[str]", None] = None,
        fresh_for: float = 300,
        grace_for: float = GRACE_MILLISECONDS / 1000,
        on_unknown: str = "graceThenDeny",
        offline_fallback: bool = False,
        connect_timeout: float = 2,
        total_timeout: float = 5,
        pause_after_failure: float = 10,
        on_problem: Optional[Callable[[str], None]] = None,
        clock: Optional[Callable[[], int]] = None,
        max_usage_queue: int = 10_000,
    ) -> None:
        if not 60 <= fresh_for <= 3600:
            raise ValueError("fresh_for must be 60 to 3,600 seconds")
        if not 0 <= grace_for <= GRACE_MILLISECONDS / 1000:
            raise ValueError("grace_for must be 0 to 604,800 seconds: seven days")
        if on_unknown not in ("graceThenDeny", "allow", "deny"):
            raise ValueError("on_unknown must be graceThenDeny, allow or deny")
        self._license_key, self._token = license_key, token
        self._fresh, self._grace = int(fresh_for * 1000), int(grace_for * 1000)
        self._on_unknown, self._offline_fallback = on_unknown, offline_fallback
        self._total_timeout, self._pause = total_timeout, pause_after_failure
        self._report = on_problem or (lambda problem: None)
        self._clock = clock or (lambda: int(time.time() * 1000))
        self._transport = Transport(url, connect_timeout, pins, pin_mode, ca_file, self._report)
        self._compiled = keys is not None
        self._keys = keys if isinstance(keys, KeySet) or keys is None else KeySet(keys)
        self._keys_asked = float("-inf")
        self._cache = Cache(None if cache_dir is None else os.fspath(cache_dir), self._saved, self._saved_time)
        self._lock = threading.Lock()
        self._flights: Dict[Tuple[str, str], "Future[Entry]"] = {}
        self._paused_until = float("-inf")
        self._problem = "connection"
        _fork.register(self)
        self.usage = UsageQueue(self._send_usage, max_usage_queue, self._report)
        if self._keys is None:
            saved = self._cache.saved_keys()
            if saved is not None:
                try:
                    self._keys = KeySet(saved)
                except ValueError:
                    pass  # Keys that cannot be read are fetched.

    def after_fork(self) -> None:
        """Threads do not outlive a fork, nor do the questions that they were asking."""
        self._lock = threading.Lock()
        self._flights = {}

    # --- Validation ---------------------------------------------------------------------------------------------------

    def validate(self, domain: str, license_key: Optional[str] = None) -> Result:
        """Whether the license holds for a domain. Raises for wrong arguments alone, never for a "no"."""
        key = self._key(license_key)
        name = normalize(domain)
        if name is None:
            return _denied("domain_mismatch", "offline")
        result = self._remembered(key, name)
        if result is not None:
            return result
        problem = self._problem
        if time.monotonic() >= self._paused_until:
            try:
                flight = self._ask(key, name)
                entry = flight.result(self._total_timeout + 1)
                return self._result(entry, "online")
            except NoAnswer as error:
                problem = error.problem
            except FutureTimeout:
                problem = "timeout"
        return self._without_answer(key, name, problem)

    def validate_offline(self, domain: str, license_key: Optional[str] = None) -> Result:
        """The verdict on a license token, by its signature alone. Needs keys, compiled in or fetched before."""
        key = self._key(license_key)
        if self._is_rolled_back():
            return _denied("clock_rolled_back", "offline")
        if self._keys is None:
            return _denied("unreachable", "offline", problem="no_keys")
        try:
            claims = verify_license(key, self._keys)
        except TokenRefused as error:
            return _denied("invalid_signature", "offline", problem=error.code)
        return _offline(claims, judge(claims, domain, self._clock()))

    def record(
        self,
        meter: str,
        quantity: int = 1,
        license_id: Optional[str] = None,
        domain: Optional[str] = None,
        feature: Optional[str] = None,
    ) -> bool:
        """Queues usage, without waiting. False where it was dropped: the queue is full, or an argument is wrong."""
        subject = license_id or (self._license_key if self._license_key and "." not in self._license_key else None)
        return self.usage.record(subject, meter, quantity, self._clock(), domain, feature)

    def close(self, timeout: float = 5) -> None:
        """Sends what is queued, for at most so many seconds."""
        self.usage.close(timeout)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- What is remembered -------------------------------------------------------------------------------------------

    def _remembered(self, key: str, name: DomainName) -> Optional[Result]:
        if self._is_rolled_back():
            return _denied("clock_rolled_back", "none")
        entry = self._cache.get(key, name)
        if entry is None or self._age(entry) >= self._freshness(entry):
            entry = self._cache.load(key, name)
        if entry is None or self._is_over(entry):
            return None
        age = self._age(entry)
        if age < self._freshness(entry):
            return self._result(entry, "cache")
        if entry.verdict.valid and age < 2 * self._fresh:
            if time.monotonic() >= self._paused_until:
                self._ask(key, name)
            return self._result(entry, "cache")
        return None

    def _without_answer(self, key: str, name: DomainName, problem: str) -> Result:
        if self._is_rolled_back():
            return _denied("clock_rolled_back", "none", problem=problem)
        entry, now = self._cache.load(key, name), self._clock()
        if entry is not None and not entry.verdict.valid:
            return self._result(entry, "cache", problem)
        if entry is not None and self._on_unknown != "deny":
            ends = entry.verdict.expires_at
            if ends is not None and now >= ends + GRACE_MILLISECONDS:
                return _denied("expired", "cache", problem=problem)
            if now - entry.verdict.timestamp <= self._grace:
                return self._result(entry, "grace", problem)
        if self._offline_fallback and self._keys is not None:
            offline = self.validate_offline(name.text, key)
            if offline.problem is None:
                return offline
        return Result(
            valid=self._on_unknown == "allow",
            code="unreachable",
            source="none",
            explanation=_EXPLANATIONS["unreachable"],
            problem=problem,
        )

    def _is_rolled_back(self) -> bool:
        return self._clock() < self._cache.highest() - verdicts.TOLERANCE_MILLISECONDS

    def _age(self, entry: Entry) -> int:
        return max(0, self._clock() - entry.received)

    def _freshness(self, entry: Entry) -> int:
        return self._fresh if entry.verdict.valid else min(self._fresh, _NO_IS_FRESH_MILLISECONDS)

    def _is_over(self, entry: Entry) -> bool:
        """Whether the license has reached an end since: it is asked about then."""
        ends = entry.verdict.expires_at
        if ends is None or not entry.verdict.valid:
            return False
        return self._clock() >= (ends + GRACE_MILLISECONDS if entry.verdict.grace else ends)

    def _result(self, entry: Entry, source: str, problem: Optional[str] = None) -> Result:
        verdict, now = entry.verdict, self._clock()
        grace = verdict.grace or (verdict.valid and verdict.expires_at is not None and now >= verdict.expires_at)
        return Result(
            valid=verdict.valid,
            code="grace" if grace and verdict.code == "valid" else verdict.code,
            source=source,
            age=0 if source == "online" else max(0, now - verdict.timestamp) / 1000,
            license_id=verdict.license_id,
            plan=verdict.plan,
            features=Features(verdict.features if verdict.valid else ()),
            limits=dict(verdict.limits),
            expires_at=verdict.expires_at,
            grace=grace,
            over_limit=verdict.over_limit,
            explanation=verdict.error,
            problem=problem,
        )

    # --- Asking -------------------------------------------------------------------------------------------------------

    def _ask(self, key: str, name: DomainName) -> "Future[Entry]":
        """Equal questions that are on their way are one."""
        with self._lock:
            flight = self._flights.get((key, name.text))
            if flight is not None:
                return flight
            flight = self._flights[key, name.text] = Future()
        threading.Thread(target=self._fly, args=(flight, key, name), daemon=True, name="license-metering").start()
        return flight

    def _fly(self, flight: "Future[Entry]", key: str, name: DomainName) -> None:
        entry: Optional[Entry] = None
        error: BaseException = NoAnswer("connection")
        try:
            entry = self._answer(key, name)
            self._cache.put(key, name, entry)
        except NoAnswer as failure:
            error = failure
            self._problem = failure.problem
            self._paused_until = time.monotonic() + max(self._pause, min(failure.retry_after, 300))
            self._report(failure.problem)
        except BaseException as failure:
            error = failure
        with self._lock:
            self._flights.pop((key, name.text), None)
        if entry is not None:
            flight.set_result(entry)
        else:
            flight.set_exception(error)

    def _answer(self, key: str, name: DomainName) -> Entry:
        deadline = time.monotonic() + self._total_timeout
        nonce = secrets.token_hex(16)
        body = json.dumps({"licenseKey": key, "domain": name.text, "nonce": nonce}).encode()
        headers = self._headers("application/json")
        headers["Idempotency-Key"] = secrets.token_hex(16)
        answer = self._retrying("POST", "/v1/licenses/validate", headers, deadline, _MAXIMUM_ANSWER_BYTES, body)
        try:
            members = _json.parse(answer)
        except ValueError:
            members = None
        signature = _json.text(members.get("signature")) if isinstance(members, dict) else None
        if signature is None:
            raise NoAnswer("untrusted")
        return Entry(self._verified(signature, key, name, nonce, deadline), signature, self._clock())

    def _verified(
        self, signature: str, key: str, name: DomainName, nonce: str, deadline: float
    ) -> verdicts.Verdict:
        keys = self._keys or self._fetch_keys(deadline)
        for is_last in (self._compiled, True):
            try:
                return verdicts.verify_verdict(signature, keys, key, name, nonce, self._clock())
            except TokenRefused as error:
                # The service may have a new key; it is asked at most once a minute.
                if error.code != "unknown_key" or is_last or time.monotonic() < self._keys_asked + _KEYS_PAUSE:
                    raise NoAnswer("untrusted") from error
                keys = self._fetch_keys(deadline)
        raise NoAnswer("untrusted")

    def _fetch_keys(self, deadline: float) -> KeySet:
        self._keys_asked = time.monotonic()
        body = self._retrying("GET", "/.well-known/jwks.json", self._headers(), deadline, _MAXIMUM_KEYS_BYTES)
        try:
            keys = KeySet(body)
        except ValueError:
            raise NoAnswer("untrusted") from None
        self._keys = keys
        self._cache.save_keys(body)
        return keys

    def _retrying(
        self, method: str, path: str, headers: Dict[str, str], deadline: float, limit: int, body: Optional[bytes] = None
    ) -> bytes:
        for retry in range(_TRIES):
            try:
                answer = self._transport.request(method, path, headers, deadline, limit, body)
                if answer.status == 200:
                    return answer.body
                _refuse(answer.status, answer.headers)
            except NoAnswer as error:
                delay = max(random.uniform(0.5, 1) * 0.1 * 2**retry, error.retry_after)
                if not error.is_temporary or retry == _TRIES - 1 or time.monotonic() + delay >= deadline:
                    raise
                time.sleep(delay)
        raise NoAnswer("connection")

    def _headers(self, content_type: Optional[str] = None) -> Dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "license-metering-python/" + VERSION}
        if content_type is not None:
            headers["Content-Type"] = content_type
        if self._token is not None:
            headers["Authorization"] = "Bearer " + self._token
        return headers

    def _send_usage(self, events: Sequence[Dict[str, Any]], timeout: float) -> Iterable[int]:
        """Sends a batch. Returns the places of those that the service refused for good; raises NoAnswer."""
        body = json.dumps(list(events)).encode()
        headers = self._headers("application/cloudevents-batch+json")
        deadline = time.monotonic() + min(timeout, self._total_timeout)
        answer = self._transport.request("POST", "/v1/events", headers, deadline, _MAXIMUM_KEYS_BYTES, body)
        if answer.status != 202:
            _refuse(answer.status, answer.headers)
        try:
            rejected = json.loads(answer.body)["rejected"]
            return [int(event["index"]) for event in rejected]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise NoAnswer("untrusted", is_temporary=True) from None

    def _key(self, license_key: Optional[str]) -> str:
        key = license_key if license_key is not None else self._license_key
        if not isinstance(key, str) or _json.plain_text(key, 8192) is None:
            raise ValueError("license_key must be a text of 1 to 8,192 bytes without control characters")
        return key

    def _saved(self, signature: Any, key: str, name: DomainName) -> Optional[verdicts.Verdict]:
        if self._keys is None or not isinstance(signature, str):
            return None
        try:
            return verdicts.verify_verdict(signature, self._keys, key, name, None, None)
        except TokenRefused:
            return None

    def _saved_time(self, signature: Any) -> int:
        if self._keys is None or not isinstance(signature, str):
            return 0
        return verdicts.signed_time(signature, self._keys)


def _refuse(status: int, headers: Dict[str, str]) -> NoReturn:
    is_temporary = status in (408, 429) or status >= 500
    seconds = headers.get("retry-after", "")
    retry_after = float(seconds) if seconds.isdigit() and len(seconds) <= 6 else 0
    raise NoAnswer(f"http_{status}", is_temporary, retry_after if is_temporary else 0)


def _denied(code: str, source: str, problem: Optional[str] = None) -> Result:
    return Result(valid=False, code=code, source=source, explanation=_EXPLANATIONS.get(code), problem=problem)


def _offline(claims: LicenseClaims, code: str) -> Result:
    valid = code in ("valid", "grace")
    return Result(
        valid=valid,
        code=code,
        source="offline",
        license_id=claims.license_id,
        plan=claims.plan,
        features=Features(claims.features if valid else ()),
        limits=dict(claims.limits),
        expires_at=claims.expires_at,
        grace=code == "grace",
        explanation=None if valid else _EXPLANATIONS.get(code),
    )
