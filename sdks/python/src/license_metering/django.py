"""Django middleware: ``request.license`` is the ``Result``.

In settings.py::

    MIDDLEWARE = [..., "license_metering.django.LicenseMiddleware"]
    LICENSE_METERING = {"url": "https://licenses.example.com", "license_key": "lic_..."}

``LICENSE_METERING`` takes the arguments of ``Client``, and ``domain``, ``trusted_proxies`` and ``on_denied`` (called with
the request and the result, it returns the response). ``LICENSE_METERING["client"]`` is used as it stands.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Callable, Optional

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

from ._middleware import HostReader, refusal
from .client import Client, Result

_lock = threading.Lock()
_client: Optional[Client] = None
_client_settings: Any = None


def client() -> Client:
    """The client of ``settings.LICENSE_METERING``, one for the process."""
    global _client, _client_settings
    options = settings.LICENSE_METERING
    with _lock:
        if _client is None or _client_settings is not options:
            own = ("domain", "trusted_proxies", "on_denied", "client")
            _client = options.get("client") or Client(**{k: v for k, v in options.items() if k not in own})
            _client_settings = options
        return _client


@sync_and_async_middleware  # type: ignore[untyped-decorator,unused-ignore]
def LicenseMiddleware(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:  # noqa: N802
    """Lets requests through where the license holds."""
    options = settings.LICENSE_METERING
    reader = HostReader(options.get("domain"), options.get("trusted_proxies", ()))

    def host(request: HttpRequest) -> str:
        meta = request.META
        return reader.host(
            meta.get("REMOTE_ADDR"),
            meta.get("HTTP_HOST") or meta.get("SERVER_NAME"),
            meta.get("HTTP_X_FORWARDED_HOST"),
        )

    def denied(request: HttpRequest, result: Result) -> Any:
        if options.get("on_denied") is not None:
            return options["on_denied"](request, result)
        status, body = refusal(result)
        return HttpResponse(body, status=status, content_type="application/problem+json")

    if asyncio.iscoroutinefunction(get_response):

        async def handle(request: HttpRequest) -> Any:
            loop = asyncio.get_running_loop()
            result = await loop.run_in_executor(None, client().validate, host(request))
            request.license = result  # type: ignore[attr-defined,unused-ignore]
            return await get_response(request) if result.valid else denied(request, result)

        return handle

    def handle_now(request: HttpRequest) -> Any:
        result = client().validate(host(request))
        request.license = result  # type: ignore[attr-defined,unused-ignore]
        return get_response(request) if result.valid else denied(request, result)

    return handle_now
