"""Verdicts in memory and on disk. What lies on disk is the signed verdict itself, and is verified again when it is read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

from . import _fork
from .domains import DomainName
from .verdicts import Verdict

MAXIMUM_ENTRIES = 1000
_MAXIMUM_FILE_BYTES = 65_536
_LATEST = "latest.json"
_KEYS = "keys.json"
# These are about the license and not about the domain that was asked for.
_LICENSE_WIDE = ("invalid_signature", "not_found", "canceled", "suspended", "expired")
Verify = Callable[[Any, str, DomainName], Optional[Verdict]]


@dataclass
class Entry:
    """A verdict, its signature, and when it came by the local clock, in milliseconds."""

    verdict: Verdict
    signature: str
    received: int


class Cache:
    """At most 1,000 verdicts; the oldest leave first."""

    def __init__(self, folder: Optional[str], verify: Verify, signed_time: Callable[[Any], int]) -> None:
        self._entries: "OrderedDict[Tuple[str, str], Entry]" = OrderedDict()
        self._folder = None if folder is None else Path(folder)
        self._verify, self._signed_time = verify, signed_time
        self._lock = threading.RLock()
        self._highest = 0
        self._is_latest_read = False
        _fork.register(self)

    def after_fork(self) -> None:
        """The lock may have been held by a thread that the child has not."""
        self._lock = threading.RLock()

    def highest(self) -> int:
        """The latest time that the service has signed, in milliseconds; 0 where none is known."""
        with self._lock:
            if not self._is_latest_read:
                self._is_latest_read = True
                saved = self._read(_LATEST)
                if saved is not None:
                    self._highest = max(self._highest, self._signed_time(saved.get("signature")))
            return self._highest

    def get(self, license_key: str, domain: DomainName) -> Optional[Entry]:
        """What memory holds."""
        with self._lock:
            entry = self._entries.get((license_key, domain.text))
            if entry is not None:
                self._entries.move_to_end((license_key, domain.text))
            return entry

    def load(self, license_key: str, domain: DomainName) -> Optional[Entry]:
        """The newer of what memory and disk hold; another process may have written it."""
        entry, saved = self.get(license_key, domain), self._read(_file(license_key, domain))
        if saved is None or (entry is not None and saved.get("signature") == entry.signature):
            return entry
        verdict = self._verify(saved.get("signature"), license_key, domain)
        if verdict is None or (entry is not None and entry.verdict.timestamp >= verdict.timestamp):
            return entry
        loaded = Entry(verdict, saved["signature"], verdict.timestamp)
        with self._lock:
            self._keep(license_key, domain, loaded)
        return loaded

    def put(self, license_key: str, domain: DomainName, entry: Entry) -> None:
        """Keeps a verdict. A "no" replaces what was kept for the domain, and for the whole license where it is about that."""
        with self._lock:
            verdict = entry.verdict
            if not verdict.valid and verdict.code in _LICENSE_WIDE:
                for key in [key for key in self._entries if key[0] == license_key]:
                    del self._entries[key]
            is_latest = verdict.timestamp >= self.highest()
            self._keep(license_key, domain, entry)
            if self._folder is None:
                return
            # A full or forbidden disk takes the cache's survival of a restart away, and nothing else.
            with contextlib.suppress(OSError):
                self._save(license_key, domain, entry, is_latest)

    def save_keys(self, source: bytes) -> None:
        """Keeps a fetched key set, without which saved verdicts cannot be verified."""
        if self._folder is not None:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                self._write(_KEYS, {"keys": source.decode("utf-8")})

    def saved_keys(self) -> Optional[str]:
        """The key set that was kept."""
        saved = self._read(_KEYS)
        keys = None if saved is None else saved.get("keys")
        return keys if isinstance(keys, str) else None

    def _keep(self, license_key: str, domain: DomainName, entry: Entry) -> None:
        self._entries[(license_key, domain.text)] = entry
        self._entries.move_to_end((license_key, domain.text))
        self._highest = max(self._highest, entry.verdict.timestamp)
        while len(self._entries) > MAXIMUM_ENTRIES:
            self._entries.popitem(last=False)

    def _save(self, license_key: str, domain: DomainName, entry: Entry, is_latest: bool) -> None:
        assert self._folder is not None
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = _file(license_key, domain)
        saved = {"signature": entry.signature}
        if entry.verdict.valid:
            self._write(name, saved)
            self._trim(name)
        else:
            if entry.verdict.code in _LICENSE_WIDE:
                for other in self._folder.glob(_prefix(license_key) + "-*.json"):
                    if other.name != name:
                        other.unlink(missing_ok=True)
            # Names that were never valid leave no file: whoever asks for them must not fill the disk.
            if (self._folder / name).exists():
                self._write(name, saved)
        if is_latest:
            self._write(_LATEST, saved)

    def _trim(self, kept: str) -> None:
        assert self._folder is not None
        files = list(self._folder.glob("*-*.json"))
        if len(files) > MAXIMUM_ENTRIES:
            for file in sorted(files, key=lambda file: file.stat().st_mtime)[: len(files) - MAXIMUM_ENTRIES]:
                if file.name != kept:
                    file.unlink(missing_ok=True)

    def _write(self, name: str, value: object) -> None:
        """A file of the owner's alone, whole or not at all."""
        assert self._folder is not None
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self._folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(value, file)
            os.replace(temporary, self._folder / name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _read(self, name: str) -> Optional[Dict[str, Any]]:
        if self._folder is None:
            return None
        try:
            with open(self._folder / name, encoding="utf-8") as file:
                value = json.loads(file.read(1 << 21 if name == _KEYS else _MAXIMUM_FILE_BYTES))
        except (OSError, ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


def _prefix(license_key: str) -> str:
    return hashlib.sha256(license_key.encode("utf-8")).hexdigest()[:32]


def _file(license_key: str, domain: DomainName) -> str:
    return _prefix(license_key) + "-" + hashlib.sha256(domain.text.encode("utf-8")).hexdigest()[:32] + ".json"
