"""A small stateful server that behaves as Stripe documents its usage-based billing.

What it keeps to:
- an identifier is known for 24 hours; a repeated one is a 400, and after that it counts again;
- a timestamp is at most 35 days old and at most 5 minutes ahead; a value is a whole number of at most 15 digits;
- customers and meters are looked up after the answer: what is wrong with them is an error report, and the event counts nowhere;
- one call at a time for each customer and meter, others are 429; an Idempotency-Key that is in use is 409;
- sums appear after `delay` seconds, by the formula and the event time window of the meter.

Time is the clock's, unless a test sets it. Paths below /_test belong to tests:
  POST /_test/clock   {"now": seconds} or {"advance": seconds}
  POST /_test/set     {"delay": seconds, "latency": seconds, "key": text}
  POST /_test/faults  [{"fault": "status|before|after", "status", "code", "message", "headers", "count", "path", "skip"}]
                      before: the connection ends before the request is carried out; after: behind it, without an answer
  POST /_test/wait    {"requests": n, "seconds": s}: answers when so many meter events have been asked for
  GET  /_test/state   {"requests", "events", "errors", "now"}

Usage: fake_stripe.py [--port N]; prints the port as its first line.
"""

import argparse
import base64
import hashlib
import json
import ssl
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DAY = 86_400


class Refused(Exception):
    def __init__(self, status, message, code=None, param=None, kind="invalid_request_error", headers=None):
        super().__init__(message)
        self.status, self.headers = status, headers or {}
        self.body = {"error": {k: v for k, v in
                               {"code": code, "message": message, "param": param, "type": kind}.items() if v}}


class Dropped(Exception):
    pass


class World:
    """Everything that Stripe would know. Its lock is held by whoever reads or changes it."""

    def __init__(self):
        self.lock = threading.Condition()
        self.offset = 0.0
        self.fixed = None
        self.key = "sk_test_fake"
        self.delay = 0.0
        self.latency = 0.0
        self.customers, self.meters = {}, {}
        self.identifiers = {}  # identifier: when it was taken
        self.events, self.errors, self.faults = [], [], []
        self.idempotent = {}  # key: (fingerprint, answer or None, at)
        self.busy = set()
        self.requests = 0
        self.number = 0

    def now(self):
        return (self.fixed if self.fixed is not None else time.time()) + self.offset

    def new_id(self, prefix):
        self.number += 1
        return f"{prefix}_{self.number:08d}"


WORLD = World()


def parse_form(text):
    """Stripe's forms: payload[value]=1 is {"payload": {"value": "1"}}."""
    result = {}
    for name, value in urllib.parse.parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text)):
        parts = name.replace("]", "").split("[")
        place = result
        for part in parts[:-1]:
            place = place.setdefault(part, {})
        place[parts[-1]] = value
    return result


def whole(text, param):
    try:
        return int(text)
    except (TypeError, ValueError):
        raise Refused(400, f"Invalid integer: {text}", "parameter_invalid_integer", param) from None


def required(form, name):
    if not form.get(name):
        raise Refused(400, f"Missing required param: {name}.", "parameter_missing", name)
    return form[name]


# --- Operations ---


def create_customer(form):
    customer = {"id": WORLD.new_id("cus"), "object": "customer", "name": form.get("name"),
                "created": int(WORLD.now()), "livemode": False}
    WORLD.customers[customer["id"]] = customer
    return customer


def delete_customer(_, customer):
    if customer not in WORLD.customers:
        raise Refused(404, f"No such customer: '{customer}'", "resource_missing", "id")
    del WORLD.customers[customer]
    return {"id": customer, "object": "customer", "deleted": True}


def create_meter(form):
    name = required(form, "event_name")
    required(form, "display_name")
    formula = required(required(form, "default_aggregation"), "formula")
    if formula not in ("sum", "count", "last"):
        raise Refused(400, "Invalid formula", "parameter_invalid", "default_aggregation[formula]")
    if any(m["event_name"] == name and m["status"] == "active" for m in WORLD.meters.values()):
        raise Refused(400, "An active meter with this event name exists.", None, "event_name")
    window = form.get("event_time_window")
    if window not in (None, "hour", "day"):
        raise Refused(400, "Invalid event_time_window", "parameter_invalid", "event_time_window")
    meter = {
        "id": WORLD.new_id("mtr"), "object": "billing.meter", "created": int(WORLD.now()),
        "customer_mapping": form.get("customer_mapping")
        or {"event_payload_key": "stripe_customer_id", "type": "by_id"},
        "default_aggregation": {"formula": formula}, "display_name": form["display_name"],
        "event_name": name, "event_time_window": window, "livemode": False, "status": "active",
        "status_transitions": {"deactivated_at": None}, "updated": int(WORLD.now()),
        "value_settings": form.get("value_settings") or {"event_payload_key": "value"},
    }
    WORLD.meters[meter["id"]] = meter
    return meter


def meter_of(meter):
    if meter not in WORLD.meters:
        raise Refused(404, f"No such billing meter: '{meter}'", "resource_missing", "id")
    return WORLD.meters[meter]


def deactivate_meter(_, meter):
    found = meter_of(meter)
    found["status"] = "inactive"
    return found


def page(items, form, url):
    limit = whole(form.get("limit", "10"), "limit")
    if not 1 <= limit <= 100:
        raise Refused(400, "limit must be from 1 to 100", "parameter_invalid", "limit")
    if "starting_after" in form:
        ids = [item["id"] for item in items]
        if form["starting_after"] not in ids:
            raise Refused(400, "No such object", "resource_missing", "starting_after")
        items = items[ids.index(form["starting_after"]) + 1:]
    return {"object": "list", "data": items[:limit], "has_more": len(items) > limit, "url": url}


def list_meters(form):
    meters = sorted(WORLD.meters.values(), key=lambda m: m["id"], reverse=True)
    return page([m for m in meters if form.get("status") in (None, m["status"])], form, "/v1/billing/meters")


def create_event(form):
    name = required(form, "event_name")
    payload = required(form, "payload")
    now = WORLD.now()
    identifier = form.get("identifier") or WORLD.new_id("idmp")
    if len(identifier) > 100 or len(name) > 100:
        raise Refused(400, "At most 100 characters.", "parameter_invalid_string", "identifier")
    timestamp = whole(form["timestamp"], "timestamp") if "timestamp" in form else int(now)
    if timestamp < now - 35 * DAY:
        raise Refused(400, "The timestamp must be within the past 35 calendar days.", "timestamp_too_far_in_past", "timestamp")
    if timestamp > now + 300:
        raise Refused(400, "The timestamp must be at most 5 minutes in the future.", "timestamp_in_future", "timestamp")
    value = payload.get("value")
    if value is not None:
        digits = value.lstrip("-")
        if not digits.isdigit():
            raise Refused(400, "The value must be a whole number.", "meter_event_invalid_value", "payload")
        if len(digits) > 15:
            raise Refused(400, "The value has too many digits.", "meter_event_value_too_many_digits", "payload")
    taken = WORLD.identifiers.get(identifier)
    if taken is not None and now - taken < DAY:
        raise Refused(400, f"An event already exists with identifier {identifier}.", "duplicate_meter_event")
    WORLD.identifiers[identifier] = now
    event = {"object": "billing.meter_event", "created": int(now), "event_name": name, "identifier": identifier,
             "livemode": False, "payload": payload, "timestamp": timestamp}
    check_later(event, now)
    return event


def check_later(event, now):
    """What Stripe does behind its answer: an event that fits nothing is reported and thrown away."""
    meters = [m for m in WORLD.meters.values() if m["event_name"] == event["event_name"]]
    active = [m for m in meters if m["status"] == "active"]
    code = None
    if not active:
        code = "archived_meter" if meters else "no_meter"
    else:
        meter = active[0]
        customer = event["payload"].get(meter["customer_mapping"]["event_payload_key"])
        value = event["payload"].get(meter["value_settings"]["event_payload_key"])
        if not customer:
            code = "meter_event_no_customer_defined"
        elif customer not in WORLD.customers:
            code = "meter_event_customer_not_found"
        elif value is None and meter["default_aggregation"]["formula"] != "count":
            code = "meter_event_invalid_value"
    if code:
        WORLD.errors.append({"code": code, "identifier": event["identifier"], "event_name": event["event_name"], "at": int(now)})
        return
    WORLD.events.append({"meter": meter["id"], "customer": customer, "value": int(value or 0), "taken": now,
                         "timestamp": event["timestamp"], "identifier": event["identifier"]})


def aggregate(meter, events):
    """Events of one window, in the order in which they were taken."""
    if meter["event_time_window"]:
        length = 3_600 if meter["event_time_window"] == "hour" else DAY
        latest = {}
        for event in events:
            latest[event["timestamp"] // length] = event
        events = list(latest.values())
    formula = meter["default_aggregation"]["formula"]
    if formula == "count":
        return len(events)
    if formula == "last":
        return max(events, key=lambda e: e["timestamp"])["value"] if events else 0
    return sum(e["value"] for e in events)


def list_summaries(form, meter):
    found = meter_of(meter)
    customer = required(form, "customer")
    if customer not in WORLD.customers:
        raise Refused(404, f"No such customer: '{customer}'", "resource_missing", "customer")
    start, end = whole(required(form, "start_time"), "start_time"), whole(required(form, "end_time"), "end_time")
    window = form.get("value_grouping_window")
    step = {"hour": 3_600, "day": DAY, None: 60}.get(window)
    if step is None or start % step or end % step or start >= end:
        raise Refused(400, "start_time and end_time must be aligned with the window.", "parameter_invalid", "start_time")
    length = step if window else end - start
    seen = WORLD.now() - WORLD.delay
    events = [e for e in WORLD.events if e["meter"] == meter and e["customer"] == customer
              and start <= e["timestamp"] < end and e["taken"] <= seen]
    by_window = {}
    for event in events:
        by_window.setdefault(start + (event["timestamp"] - start) // length * length, []).append(event)
    summaries = [
        {"id": f"mtrusg_{hashlib.sha256(f'{meter}{customer}{first}{length}'.encode()).hexdigest()[:16]}",
         "object": "billing.meter_event_summary", "aggregated_value": float(aggregate(found, inside)),
         "start_time": first, "end_time": first + length, "livemode": False, "meter": meter}
        for first, inside in sorted(by_window.items(), reverse=True)]
    return page(summaries, form, f"/v1/billing/meters/{meter}/event_summaries")


# --- HTTP ---


def operation(method, path):
    parts = path.strip("/").split("/")
    match (method, parts):
        case ("POST", ["v1", "customers"]): return create_customer, []
        case ("DELETE", ["v1", "customers", one]): return delete_customer, [one]
        case ("POST", ["v1", "billing", "meters"]): return create_meter, []
        case ("GET", ["v1", "billing", "meters"]): return list_meters, []
        case ("GET", ["v1", "billing", "meters", one]): return lambda _, m: meter_of(m), [one]
        case ("POST", ["v1", "billing", "meters", one, "deactivate"]): return deactivate_meter, [one]
        case ("GET", ["v1", "billing", "meters", one, "event_summaries"]): return list_summaries, [one]
        case ("POST", ["v1", "billing", "meter_events"]): return create_event, []
    raise Refused(404, f"Unrecognized request URL ({method}: {path}).")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One segment an answer, or the other side's delayed acknowledgement costs 40 ms.
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.serve("GET")

    def do_POST(self):
        self.serve("POST")

    def do_DELETE(self):
        self.serve("DELETE")

    def serve(self, method):
        address = urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        try:
            if address.path.startswith("/_test/"):
                return self.answer(200, control(address.path[7:], json.loads(body or "{}")))
            text = address.query if method == "GET" else body
            answer, headers = self.carry_out(method, address.path, text)
            self.answer(200, answer, headers)
        except Refused as refused:
            self.answer(refused.status, refused.body, refused.headers)
        except Dropped:
            self.close_connection = True
            self.connection.close()

    def carry_out(self, method, path, text):
        is_event = path == "/v1/billing/meter_events"
        with WORLD.lock:
            if is_event:
                WORLD.requests += 1
                WORLD.lock.notify_all()
            fault = next((f for f in WORLD.faults if f["path"] in path and self.is_due(f)), None)
            latency = WORLD.latency
        self.authorize()
        if fault and fault["fault"] == "before":
            raise Dropped()
        if fault and fault["fault"] == "status":
            raise Refused(fault["status"], fault.get("message", "Injected.").replace("(key)", WORLD.key),
                          fault.get("code"), kind=fault.get("type", "api_error"), headers=fault.get("headers"))
        form = parse_form(text)
        place = (form.get("event_name"), form.get("payload", {}).get("stripe_customer_id")) if is_event else None
        if place:
            with WORLD.lock:
                if place in WORLD.busy:
                    raise Refused(429, "One call at a time for each customer and meter.", "lock_timeout",
                                  kind="invalid_request_error", headers={"Stripe-Should-Retry": "true"})
                WORLD.busy.add(place)
        try:
            if latency:
                time.sleep(latency)
            result = self.once(method, path, text, form)
        except Refused:
            if fault and fault["fault"] == "after":
                raise Dropped() from None
            raise
        finally:
            if place:
                with WORLD.lock:
                    WORLD.busy.discard(place)
        if fault and fault["fault"] == "after":
            raise Dropped()
        return result

    @staticmethod
    def is_due(fault):
        if fault["skip"] > 0:
            fault["skip"] -= 1
            return False
        if fault["count"] <= 0:
            return False
        fault["count"] -= 1
        return True

    def authorize(self):
        given = self.headers.get("Authorization") or ""
        kind, _, value = given.partition(" ")
        if kind == "Basic":
            value = base64.b64decode(value).decode().split(":")[0]
        if not value:
            raise Refused(401, "You did not provide an API key.")
        if value != WORLD.key:
            raise Refused(401, f"Invalid API Key provided: {value[:8]}****{value[-4:]}")

    def once(self, method, path, text, form):
        """Carries an operation out; with an Idempotency-Key once in 24 hours."""
        function, arguments = operation(method, path)
        key = self.headers.get("Idempotency-Key") if method == "POST" else None
        fingerprint = (path, text)
        with WORLD.lock:
            if key:
                known = WORLD.idempotent.get(key)
                if known and WORLD.now() - known[2] < DAY:
                    if known[0] != fingerprint:
                        raise Refused(400, "Keys for idempotent requests can only be used with the same parameters.",
                                      kind="idempotency_error")
                    if known[1] is None:
                        raise Refused(409, "Another request with this key is in progress.", "idempotency_key_in_use",
                                      kind="idempotency_error")
                    return known[1], {"Idempotent-Replayed": "true"}
            answer = function(form, *arguments)
            if key:
                WORLD.idempotent[key] = (fingerprint, answer, WORLD.now())
            return answer, {}

    def answer(self, status, body, headers=None):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Request-Id", f"req_{WORLD.requests}")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()


def control(name, body):
    with WORLD.lock:
        match name:
            case "clock":
                if "now" in body:
                    WORLD.fixed, WORLD.offset = body["now"], 0.0
                WORLD.offset += body.get("advance", 0)
            case "set":
                for field, value in body.items():
                    setattr(WORLD, field, value)
            case "faults":
                WORLD.faults = [{"count": 1, "skip": 0, "path": "/v1/billing/meter_events", **f} for f in body]
            case "wait":
                end = time.monotonic() + body.get("seconds", 30)
                while WORLD.requests < body["requests"] and time.monotonic() < end:
                    WORLD.lock.wait(timeout=1)
            case "state":
                pass
            case _:
                raise Refused(404, "No such control.")
        return {"now": WORLD.now(), "requests": WORLD.requests, "errors": WORLD.errors, "events": WORLD.events,
                "total": sum(e["value"] for e in WORLD.events)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--certificate", help="A file; with it and --key, TLS is spoken on a second port.")
    parser.add_argument("--key")
    arguments = parser.parse_args()
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler)
    server.daemon_threads = True
    ports = [server.server_address[1]]
    if arguments.certificate:
        secured = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        secured.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(arguments.certificate, arguments.key)
        # The handshake is the thread's own that serves the connection.
        secured.socket = context.wrap_socket(secured.socket, server_side=True, do_handshake_on_connect=False)
        ports.append(secured.server_address[1])
        threading.Thread(target=secured.serve_forever, daemon=True).start()
    print(*ports, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
