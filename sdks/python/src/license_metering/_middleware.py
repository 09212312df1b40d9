"""What WSGI, ASGI and Django have in common."""

from __future__ import annotations

import ipaddress
import json
from typing import List, Optional, Sequence, Tuple, Union

from .client import Result

_Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


class HostReader:
    """The host that a request was meant for: what a proxy says counts only where the proxy is trusted."""

    def __init__(self, domain: Optional[str], trusted_proxies: Sequence[str]) -> None:
        self._domain = domain
        self._proxies: List[_Network] = [ipaddress.ip_network(proxy, strict=False) for proxy in trusted_proxies]

    def host(self, peer: Optional[str], host: Optional[str], forwarded: Optional[str]) -> str:
        """Of the peer's address, the ``Host`` header and the ``X-Forwarded-Host`` header."""
        if self._domain is not None:
            return self._domain
        if forwarded and self._is_trusted(peer):
            # The last is the trusted proxy's own; what stands before may be the client's.
            return forwarded.rsplit(",", 1)[-1].strip()
        return host or ""

    def _is_trusted(self, peer: Optional[str]) -> bool:
        try:
            address = ipaddress.ip_address(peer or "")
        except ValueError:
            return False
        return any(address.version == proxy.version and address in proxy for proxy in self._proxies)


def refusal(result: Result) -> Tuple[int, bytes]:
    """Status and body (application/problem+json) for a license that does not hold."""
    status = 503 if result.code == "unreachable" else 403
    problem = {
        "type": "about:blank",
        "title": "Service Unavailable" if status == 503 else "Forbidden",
        "status": status,
        "code": result.code,
        "detail": result.explanation or "The license is not valid.",
    }
    return status, json.dumps(problem).encode()
