"""ASGI middleware, for Starlette, FastAPI, Quart and others."""

from __future__ import annotations

import asyncio
from typing import Any, Awaitable, Callable, Optional, Sequence

from ._middleware import HostReader, refusal
from .client import Client, Result

KEY = "license"
App = Callable[[Any, Any, Any], Awaitable[None]]


class LicenseMiddleware:
    """Lets requests through where the license holds, and puts the ``Result`` into ``scope["state"]["license"]``.

    With Starlette that is ``request.state.license``. The arguments are those of the WSGI middleware; ``on_denied`` is
    called with (scope, receive, send, result).
    """

    def __init__(
        self,
        app: App,
        client: Client,
        domain: Optional[str] = None,
        trusted_proxies: Sequence[str] = (),
        on_denied: Optional[Callable[[Any, Any, Any, Result], Awaitable[None]]] = None,
    ) -> None:
        self._app, self._client, self._on_denied = app, client, on_denied
        self._reader = HostReader(domain, trusted_proxies)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handles one request; a WebSocket whose license does not hold is closed with 1008."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        peer = scope.get("client")
        host = self._reader.host(
            peer[0] if peer else None, _header(scope, b"host"), _header(scope, b"x-forwarded-host")
        )
        # In a thread, because the service may have to be asked.
        result = await asyncio.get_running_loop().run_in_executor(None, self._client.validate, host)
        scope.setdefault("state", {})[KEY] = result
        if result.valid:
            await self._app(scope, receive, send)
        elif self._on_denied is not None:
            await self._on_denied(scope, receive, send, result)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": result.code})
        else:
            await _refuse(send, result)


async def _refuse(send: Any, result: Result) -> None:
    status, body = refusal(result)
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _header(scope: Any, name: bytes) -> Optional[str]:
    values = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]
    return ",".join(values) if values else None
