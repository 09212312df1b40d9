#!/usr/bin/env python3
"""Lets the conformance runner try this SDK: a JSON object a line in, one a line out."""

import concurrent.futures
import io
import json
import sys
import time

from license_metering import Client, InvalidKeySet, KeySet, TokenRefused, covers, judge, normalize, verify_license, verify_verdict
from license_metering.testing import FakeClient

state = {"client": None, "offset": 0, "problems": []}


def clock():
    return int(time.time() * 1000) + state["offset"]


def answer(request):
    return globals()["op_" + request["op"]](request)


def op_hello(request):
    frameworks = ["wsgi", "asgi"]
    try:
        import django  # noqa: F401

        frameworks.append("django")
    except ImportError:
        pass
    return {"idna": normalize("bücher.example") is not None, "frameworks": frameworks}


def op_keyset(request):
    try:
        keys = KeySet(request["set"])
    except InvalidKeySet:
        return {"invalid": True}
    return {"keys": [f"{key.key_id} {key.algorithm} {key.purpose}" for key in keys.keys]}


def op_license(request):
    try:
        claims = verify_license(request["token"], KeySet(request["keys"]))
    except TokenRefused as error:
        return {"refusal": error.code, **({"claim": error.claim} if error.claim else {})}
    members = {
        "licenseId": claims.license_id,
        "domains": list(claims.domains),
        "plan": claims.plan,
        "features": list(claims.features),
        "limits": claims.limits,
        "issuedAt": claims.issued_at,
        "expiresAt": claims.expires_at,
        "trial": claims.is_trial,
    }
    if claims.not_before is not None:
        members["notBefore"] = claims.not_before
    return {"claims": members}


def op_verdict(request):
    try:
        verify_verdict(
            request["token"],
            KeySet(request["keys"]),
            request["licenseKey"],
            normalize(request["domain"]),
            request["nonce"],
            request["now"],
        )
    except TokenRefused as error:
        return {"refusal": error.code}
    return {}


def op_domain(request):
    name = normalize(request["text"])
    return {"name": name and name.text, "local": bool(name and name.is_local)}


def op_covers(request):
    return {"covers": covers(request["bound"], normalize(request["domain"]))}


def op_offline(request):
    try:
        code = judge(verify_license(request["token"], KeySet(request["keys"])), request["domain"], request["now"])
    except TokenRefused:
        code = "invalid_signature"
    return {"code": code, "valid": code in ("valid", "grace")}


def op_open(request):
    state["offset"], state["problems"] = 0, []
    names = {
        "url": "url",
        "licenseKey": "license_key",
        "token": "token",
        "keys": "keys",
        "pins": "pins",
        "pinMode": "pin_mode",
        "caFile": "ca_file",
        "cacheDir": "cache_dir",
        "freshFor": "fresh_for",
        "graceFor": "grace_for",
        "onUnknown": "on_unknown",
        "offlineFallback": "offline_fallback",
        "connectTimeout": "connect_timeout",
        "totalTimeout": "total_timeout",
        "pauseAfterFailure": "pause_after_failure",
        "maxUsageQueue": "max_usage_queue",
    }
    try:
        options = {names[name]: value for name, value in request["options"].items()}
        state["client"] = Client(**options, clock=clock, on_problem=state["problems"].append)
    except ValueError as error:
        return {"error": str(error)}
    return {}


def op_validate(request):
    return shown(state["client"].validate(request["domain"], request.get("licenseKey")))


def op_validateOffline(request):
    return shown(state["client"].validate_offline(request["domain"], request.get("licenseKey")))


def op_validateMany(request):
    with concurrent.futures.ThreadPoolExecutor(request["count"]) as pool:
        futures = [pool.submit(state["client"].validate, request["domain"]) for _ in range(request["count"])]
        return {"results": [shown(future.result()) for future in futures]}


def op_clock(request):
    state["offset"] = request["offset"]
    return {}


def op_record(request):
    count = request.get("count", 1)
    results = [state["client"].record(request["meter"], request.get("quantity", 1)) for _ in range(count)]
    return {"accepted": results.count(True)}


def op_flush(request):
    return {"flushed": state["client"].usage.flush(request.get("timeout", 5)), **op_statistics(request)}


def op_statistics(request):
    return {"statistics": vars(state["client"].usage.statistics)}


def op_problems(request):
    problems, state["problems"][:] = list(state["problems"]), []
    return {"problems": problems}


def op_close(request):
    state["client"].close(request.get("timeout", 5))
    return op_statistics(request)


def op_middleware(request):
    fake = FakeClient(request["valid"], request["code"], request.get("features", ()))
    seen = {"status": None, "body": b"", "feature": None}
    globals()["try_" + request["framework"]](request, fake, seen)
    body = json.loads(seen["body"]) if seen["body"] else {}
    return {
        "status": seen["status"],
        "asked": fake.asked[0],
        "feature": seen["feature"],
        "code": body.get("code"),
    }


def try_wsgi(request, fake, seen):
    from license_metering.wsgi import KEY, LicenseMiddleware

    def app(environ, start_response):
        seen["feature"] = environ[KEY].features.has("analytics")
        start_response("200 OK", [])
        return []

    def start_response(status, headers):
        seen["status"] = int(status[:3])

    environ = {"REMOTE_ADDR": request["peer"], "HTTP_HOST": request["host"], "wsgi.input": io.BytesIO()}
    if request.get("forwarded") is not None:
        environ["HTTP_X_FORWARDED_HOST"] = request["forwarded"]
    middleware = LicenseMiddleware(app, fake, request.get("domain"), request["trusted"])
    seen["body"] = b"".join(middleware(environ, start_response))


def try_asgi(request, fake, seen):
    import asyncio

    from license_metering.asgi import LicenseMiddleware

    async def app(scope, receive, send):
        seen["feature"] = scope["state"]["license"].features.has("analytics")
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        seen["status"] = message.get("status", seen["status"])
        seen["body"] += message.get("body", b"")

    headers = [(b"host", request["host"].encode())]
    if request.get("forwarded") is not None:
        headers.append((b"x-forwarded-host", request["forwarded"].encode()))
    scope = {"type": "http", "client": (request["peer"], 1), "headers": headers}
    asyncio.run(LicenseMiddleware(app, fake, request.get("domain"), request["trusted"])(scope, None, send))


def try_django(request, fake, seen):
    import django
    from django.conf import settings

    options = {"client": fake, "domain": request.get("domain"), "trusted_proxies": request["trusted"]}
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"])
        django.setup()
    settings.LICENSE_METERING = options
    from django.http import HttpResponse
    from django.test import RequestFactory

    from license_metering.django import LicenseMiddleware

    def view(http_request):
        seen["feature"] = http_request.license.features.has("analytics")
        return HttpResponse()

    extra = {"REMOTE_ADDR": request["peer"], "HTTP_HOST": request["host"]}
    if request.get("forwarded") is not None:
        extra["HTTP_X_FORWARDED_HOST"] = request["forwarded"]
    response = LicenseMiddleware(view)(RequestFactory().get("/", **extra))
    seen["status"], seen["body"] = response.status_code, response.content


def shown(result):
    return {
        "valid": result.valid,
        "code": result.code,
        "source": result.source,
        "age": int(result.age),
        "features": sorted(result.features),
        "grace": result.grace,
        "problem": result.problem,
    }


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
