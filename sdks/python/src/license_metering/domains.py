"""Domain names in the one spelling that is compared, and which names a license covers."""

from __future__ import annotations

import functools
import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from importlib import resources
from typing import FrozenSet, List, Optional, Sequence, Tuple

try:
    import idna as _idna
except ImportError:  # pragma: no cover - names that are not ASCII are refused then
    _idna = None  # type: ignore[assignment]

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_PORT = re.compile(r":(?:[0-9]*)\Z")
_QUAD = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}\Z")
_GROUPS = re.compile(r"[0-9A-Fa-f:.]{2,45}\Z")
_SYMBOLS = ("Sm", "Sc", "Sk", "So", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po")
_LOOPBACK = [ipaddress.ip_network(range_) for range_ in ("127.0.0.0/8", "::1/128", "::ffff:127.0.0.0/104")]


@dataclass(frozen=True)
class DomainName:
    """A name in lower case and ASCII without port and trailing dot, or an address."""

    text: str
    is_address: bool = False

    @property
    def is_local(self) -> bool:
        """``localhost``, names below ``.localhost`` and ``.test``, loopback addresses: no license holds there."""
        if self.is_address:
            address = ipaddress.ip_address(self.text)
            return any(address.version == range_.version and address in range_ for range_ in _LOOPBACK)
        return self.text.rpartition(".")[2] in ("localhost", "test")


def normalize(text: str) -> Optional[DomainName]:
    """The name or address that a ``Host`` header means; None where it is neither. Never raises."""
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return None
    if not 1 <= size <= 1024:
        return None
    address = _address(text)
    if address is not None:
        return DomainName(address, True)
    name = _without_port(text)
    name = name[:-1] if name.endswith(".") else name
    name = "".join(chr(ord(letter) | 0x20) if "A" <= letter <= "Z" else letter for letter in name)
    if not name.isascii() or any(label.startswith("xn--") for label in name.split(".")):
        ascii_name = _ascii(name)
        if ascii_name is None:
            return None
        name = ascii_name[:-1] if ascii_name.endswith(".") else ascii_name
    return DomainName(name) if _is_name(name) else None


def covers(bound: Sequence[str], domain: Optional[DomainName]) -> bool:
    """Whether a license that is bound to these domains holds there.

    ``example.com`` covers itself, ``*.example.com`` every name below it. Public suffixes and local names are never
    covered.
    """
    if domain is None or domain.is_local:
        return False
    for pattern in bound:
        is_wildcard = pattern.startswith("*.")
        name = normalize(pattern[2:] if is_wildcard else pattern)
        if name is None or (name.is_address and is_wildcard):
            continue
        if not name.is_address and is_public_suffix(name.text):
            continue
        if is_wildcard:
            suffix = "." + name.text
            if not domain.is_address and len(domain.text) > len(suffix) and domain.text.endswith(suffix):
                return True
        elif domain.text == name.text:
            return True
    return False


def is_public_suffix(name: str) -> bool:
    """Whether anybody may register below the name, by the Public Suffix List that the package brings."""
    rules = _rules()
    if "." not in name:
        return True
    if "!" + name in rules:
        return False
    # Where anybody may have any name below a name, that name is nobody's own either.
    return name in rules or "*." + name in rules or "*." + name.partition(".")[2] in rules


@functools.lru_cache(maxsize=1)
def _rules() -> FrozenSet[str]:
    text = (resources.files(__package__) / "data" / "public_suffixes.txt").read_text(encoding="ascii")
    return frozenset(line for line in text.split("\n") if line and not line.startswith("//"))


def _without_port(text: str) -> str:
    match = _PORT.search(text)
    if match is None or text.count(":") != 1 or not _is_port(match.group()):
        return text
    return text[: match.start()]


def _is_port(text: str) -> bool:
    """Nothing, or ``:`` and a port's digits, or none."""
    if text == "":
        return True
    digits = text[1:]
    return bool(_PORT.match(text)) and (digits == "" or (len(digits.lstrip("0")) <= 5 and int(digits) <= 65535))


def _address(text: str) -> Optional[str]:
    if text.startswith("["):
        inner, bracket, port = text[1:].partition("]")
        return _v6(inner) if bracket and _is_port(port) else None
    return _v6(text) or _v4(text) or _v4(_without_port(text))


def _v4(text: str) -> Optional[str]:
    if not _QUAD.match(text) or any(int(part) > 255 for part in text.split(".")):
        return None
    return text


def _v6(text: str) -> Optional[str]:
    if ":" not in text or not _GROUPS.match(text):
        return None
    if "." in text and _v4(text.rpartition(":")[2]) is None:
        return None
    try:
        number = int(ipaddress.IPv6Address(text))
    except ValueError:
        return None
    return ":".join(f"{number >> shift & 0xFFFF:x}" for shift in range(112, -1, -16))


def _is_name(name: str) -> bool:
    if not 1 <= len(name) <= 253:
        return False
    labels = name.split(".")
    if not all(_LABEL.match(label) for label in labels):
        return False
    # Some readers would take such a name for an address.
    return not re.match(r"(?:[0-9]+|0x[0-9a-f]*)\Z", labels[-1])


def _ascii(name: str) -> Optional[str]:
    """By UTS #46, non-transitional. Symbols are taken, which IDNA 2008 refuses and browsers send."""
    if _idna is None:
        return None if not name.isascii() else name
    try:
        mapped = name if name.isascii() else _idna.uts46_remap(name, std3_rules=False, transitional=False)
        labels = [_label(label) for label in re.split("[.\u3002\uff0e\uff61]", mapped)]
    except (_idna.IDNAError, UnicodeError):
        return None
    return ".".join(labels)


def _label(label: str) -> str:
    if label.isascii() and not label.startswith("xn--"):
        return label
    if label.startswith("xn--"):
        if not label.isascii():
            raise UnicodeError("a prefix before letters that are not ASCII")
        decoded = label[4:].encode("ascii").decode("punycode")
        if decoded.isascii() or _idna.uts46_remap(decoded, std3_rules=False, transitional=False) != decoded:
            raise UnicodeError("not the one spelling")
        if _label(decoded) != label:
            raise UnicodeError("not the one spelling")
        return label
    if label.startswith("-") or label.endswith("-"):
        raise UnicodeError("a hyphen at an end")
    plain, symbols = _parts(label)
    if plain and not plain.isascii():
        _idna.alabel(plain.strip("-"))
    if not plain.isascii() or symbols:
        return "xn--" + label.encode("punycode").decode("ascii")
    raise UnicodeError("no label")


def _parts(label: str) -> Tuple[str, List[str]]:
    symbols = [letter for letter in label if not letter.isascii() and unicodedata.category(letter) in _SYMBOLS]
    return "".join(letter for letter in label if letter not in symbols), symbols
