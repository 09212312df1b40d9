"""Usage on its way to the service: a bounded queue that never makes its caller wait."""

from __future__ import annotations

import atexit
import datetime
import re
import secrets
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Deque, Dict, Iterable, List, Optional, Sequence

from . import _fork, _json
from ._http import NoAnswer

_BATCH = 500
_INTERVAL = 1.0
_MAXIMUM_DELAY = 60.0
_METER = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
# The service will never take such a batch, however often it comes.
_FOR_GOOD = ("http_400", "http_404", "http_413", "http_415", "http_422")
Send = Callable[[Sequence[Dict[str, Any]], float], Iterable[int]]


@dataclass
class UsageStatistics:
    """``accepted`` = ``sent`` + ``rejected`` + ``dropped`` + ``pending``, but for what was refused when it was recorded."""

    accepted: int = 0
    sent: int = 0
    rejected: int = 0
    dropped: int = 0
    pending: int = 0


class UsageQueue:
    """Sends events in batches; a retry has the same ids, so that each counts once."""

    def __init__(self, send: Send, maximum: int, report: Callable[[str], None]) -> None:
        self._send, self._maximum, self._report = send, maximum, report
        self._source = "sdk/python/" + secrets.token_hex(8)
        self._events: Deque[Dict[str, Any]] = deque()
        self._statistics = UsageStatistics()
        self._condition = threading.Condition()
        self._thread: Optional[threading.Thread] = None
        self._is_closed = False
        self._flushes = 0
        self._failures = 0
        self._end = float("inf")
        _fork.register(self)

    def after_fork(self) -> None:
        """What is queued is the parent's to send."""
        self._source = "sdk/python/" + secrets.token_hex(8)
        self._events = deque()
        self._statistics = UsageStatistics()
        self._condition = threading.Condition()
        self._thread = None
        self._flushes = self._failures = 0

    @property
    def statistics(self) -> UsageStatistics:
        """What became of the events so far."""
        with self._condition:
            return UsageStatistics(**{**vars(self._statistics), "pending": len(self._events)})

    def record(
        self, subject: Optional[str], meter: str, quantity: int, now: int, domain: Optional[str], feature: Optional[str]
    ) -> bool:
        """Queues an event. False: it was dropped, and counted."""
        is_good = (
            subject is not None
            and _json.plain_text(subject, 512) is not None
            and isinstance(meter, str)
            and _METER.match(meter) is not None
            and type(quantity) is int
            and 0 <= quantity <= 10**9
            and all(text is None or (_json.text(text, 1024) is not None and "\0" not in text) for text in (domain, feature))
        )
        with self._condition:
            if not is_good or self._is_closed or len(self._events) >= self._maximum:
                self._statistics.dropped += 1
                self._report("usage_invalid" if not is_good else "usage_dropped")
                return False
            self._events.append(self._event(subject, meter, quantity, now, domain, feature))
            self._statistics.accepted += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="license-metering-usage")
                self._thread.start()
                atexit.register(self.close)
            if len(self._events) == _BATCH:
                self._condition.notify_all()
        return True

    def flush(self, timeout: float = 5) -> bool:
        """Sends what is queued now. Whether all of it went out in time."""
        end = time.monotonic() + timeout
        with self._condition:
            self._flushes += 1
            self._condition.notify_all()
            while self._events and self._thread is not None and (left := end - time.monotonic()) > 0:
                self._condition.wait(left)
            self._flushes -= 1
            return not self._events

    def close(self, timeout: float = 5) -> None:
        """Flushes, and takes nothing more. What is left is dropped, counted and reported."""
        with self._condition:
            if self._is_closed:
                return
            self._end = time.monotonic() + timeout
        self.flush(timeout)
        with self._condition:
            self._is_closed = True
            if self._events:
                self._statistics.dropped += len(self._events)
                self._events.clear()
                self._report("usage_dropped")
            self._condition.notify_all()
        atexit.unregister(self.close)

    def _event(
        self, subject: Any, meter: str, quantity: int, now: int, domain: Optional[str], feature: Optional[str]
    ) -> Dict[str, Any]:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=now)
        data: Dict[str, Any] = {"meter": meter, "quantity": quantity}
        data.update({name: text for name, text in (("domain", domain), ("feature", feature)) if text is not None})
        return {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": self._source,
            "type": "license.usage.recorded",
            "subject": subject,
            "time": moment.isoformat(timespec="milliseconds") + "Z",
            "data": data,
        }

    def _run(self) -> None:
        while True:
            with self._condition:
                wait = _INTERVAL if self._failures == 0 else min(_INTERVAL * 2**self._failures, _MAXIMUM_DELAY)
                end = time.monotonic() + wait
                while not self._is_closed and (left := end - time.monotonic()) > 0:
                    if self._events and self._failures == 0 and (self._flushes or len(self._events) >= _BATCH):
                        break
                    self._condition.wait(min(left, 0.2) if self._flushes else left)
                    if self._flushes and self._failures:
                        end = min(end, time.monotonic() + 0.2)
                if self._is_closed:
                    return
                batch = list(self._events)[:_BATCH]
            if batch:
                self._deliver(batch)

    def _deliver(self, batch: List[Dict[str, Any]]) -> None:
        """The batch stays in the queue until it is known what became of it."""
        rejected = 0
        problem: Optional[str] = None
        try:
            rejected = len(set(self._send(batch, max(self._end - time.monotonic(), 0.1))))
        except NoAnswer as error:
            problem = error.problem
        except Exception:
            problem = "usage_failed"
        with self._condition:
            if problem is not None and problem not in _FOR_GOOD:
                self._failures = min(self._failures + 1, 6)
                self._report(problem)
                self._condition.notify_all()
                return
            self._failures = 0
            if self._is_closed:
                return  # It was counted as dropped, and may count all the same.
            for _ in batch:
                self._events.popleft()
            if problem is not None:
                self._statistics.dropped += len(batch)
                self._report("usage_dropped")
            else:
                self._statistics.sent += len(batch) - rejected
                self._statistics.rejected += rejected
                if rejected:
                    self._report("usage_rejected")
            self._condition.notify_all()
