"""WSGI middleware."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Optional, Sequence

from ._middleware import HostReader, refusal
from .client import Client, Result

KEY = "license_metering.license"
_REASONS = {403: "403 Forbidden", 503: "503 Service Unavailable"}


class LicenseMiddleware:
    """Lets requests through where the license holds, and puts the ``Result`` into ``environ["license_metering.license"]``.

    domain           what to ask about; else it is the request's host.
    trusted_proxies  addresses and ranges whose ``X-Forwarded-Host`` is believed.
    on_denied        called with (environ, start_response, result) in place of the answer 403 or 503.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        client: Client,
        domain: Optional[str] = None,
        trusted_proxies: Sequence[str] = (),
        on_denied: Optional[Callable[[Any, Any, Result], Iterable[bytes]]] = None,
    ) -> None:
        self._app, self._client, self._on_denied = app, client, on_denied
        self._reader = HostReader(domain, trusted_proxies)

    def __call__(self, environ: "dict[str, Any]", start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Handles one request."""
        host = self._reader.host(
            environ.get("REMOTE_ADDR"),
            environ.get("HTTP_HOST") or environ.get("SERVER_NAME"),
            environ.get("HTTP_X_FORWARDED_HOST"),
        )
        result = self._client.validate(host)
        environ[KEY] = result
        if result.valid:
            return self._app(environ, start_response)
        if self._on_denied is not None:
            return self._on_denied(environ, start_response, result)
        status, body = refusal(result)
        start_response(
            _REASONS[status], [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body)))]
        )
        return [body]
