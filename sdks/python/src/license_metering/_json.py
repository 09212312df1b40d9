"""JSON by RFC 8259, strictly, with numbers as they are spelled."""

from __future__ import annotations

import json
import re
from typing import Any, Optional

_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?\Z")
_MAXIMUM_EXPONENT = 1_000_000
_MAXIMUM_INTEGER = 2**63 - 1


class Number(str):
    """A number's own characters, such as ``1.9e9``."""

    __slots__ = ()

    def scaled(self, decimals: int) -> Optional[int]:
        """The number times ``10**decimals``, rounded down; None beyond 64 bits."""
        match = _NUMBER.match(self)
        if match is None:
            return None
        sign, whole, fraction, power = match.groups(default="")
        exponent = 0
        if power:
            digits = power.lstrip("+-")
            exponent = _MAXIMUM_EXPONENT if len(digits.lstrip("0")) > 7 else min(int(digits), _MAXIMUM_EXPONENT)
            exponent = -exponent if power.startswith("-") else exponent
        digits = (whole + fraction).lstrip("0")
        exponent -= len(fraction)
        stripped = digits.rstrip("0")
        exponent = exponent + len(digits) - len(stripped) if stripped else 0
        shift = exponent + decimals
        kept = stripped if shift >= 0 else stripped[: max(0, len(stripped) + shift)]
        zeros = max(shift, 0) if kept else 0
        if len(kept) + zeros > 19:
            return None
        value = int(kept + "0" * zeros or "0")
        if value > _MAXIMUM_INTEGER:
            return None
        if sign:
            return -value if shift >= 0 or not stripped else -value - 1
        return value

    @property
    def integer(self) -> Optional[int]:
        """The number where it is whole, however it is spelled."""
        value, finer = self.scaled(0), self.scaled(3)
        if value is None or not self._is_whole():
            return None
        return value if finer is None or finer == value * 1000 else None

    def _is_whole(self) -> bool:
        match = _NUMBER.match(self)
        if match is None:
            return False
        _, whole, fraction, power = match.groups(default="")
        digits = (whole + fraction).lstrip("0")
        if not digits:
            return True
        zeros = len(digits) - len(digits.rstrip("0"))
        sign = -1 if power.startswith("-") else 1
        magnitude = power.lstrip("+-").lstrip("0")[:8]
        return sign * int(magnitude or "0") - len(fraction) + zeros >= 0


class Members(dict):  # type: ignore[type-arg]
    """An object; ``repeated`` where a name stands more than once."""

    repeated = False


def parse(data: bytes) -> Any:
    """One JSON text. Raises ValueError."""
    text = data.decode("utf-8")
    if text.startswith("\ufeff"):
        raise ValueError("a byte order mark")
    try:
        return json.loads(
            text, object_pairs_hook=_members, parse_int=Number, parse_float=Number, parse_constant=_refuse
        )
    except RecursionError:
        raise ValueError("nested too deep") from None


def text(value: Any, maximum: int = 1 << 20, minimum: int = 0) -> Optional[str]:
    """A string without lone surrogates, of so many bytes of UTF-8; else None."""
    if not isinstance(value, str) or isinstance(value, Number):
        return None
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        return None
    return value if minimum <= size <= maximum else None


def plain_text(value: Any, maximum: int) -> Optional[str]:
    """As ``text``, not empty and without control characters."""
    plain = text(value, maximum, 1)
    if plain is None or any(ord(letter) < 0x20 or letter == "\x7f" for letter in plain):
        return None
    return plain


def _members(pairs: Any) -> Members:
    members = Members(pairs)
    members.repeated = len(members) != len(pairs)
    return members


def _refuse(name: str) -> Any:
    raise ValueError(name + " is no JSON number")
