"""Clients that keep the truth of what they were promised, and an endpoint that webhooks are sent to."""

import base64
import collections
import datetime
import hashlib
import hmac
import http.client
import http.server
import json
import random
import re
import threading
import time
import urllib.request


class Truth:
    """What the service answered for. Counts must agree with it in the end."""

    def __init__(self):
        self.lock = threading.Lock()
        self.events = collections.Counter()  # (license, meter) -> events answered 202
        self.quantity = collections.Counter()  # (license, meter) -> their quantity
        self.valid = collections.Counter()  # license -> validations answered as valid
        self.unanswered = collections.Counter()  # license -> attempts of which no answer came
        self.mismatches = set()  # (license, domain) answered domain_mismatch
        self.refusals = collections.Counter()  # reason -> events that were rejected
        self.attempts, self.failures = 0, 0
        self.errors = []  # No client expects these.

    def count(self, events):
        with self.lock:
            for event in events:
                key = (event["subject"], event["data"]["meter"])
                self.events[key] += 1
                self.quantity[key] += event["data"]["quantity"]


class Clients:
    """Threads that report usage and validate licenses, each until it is answered."""

    def __init__(self, seed, ports, licenses, token, rate, threads=8):
        self.ports, self.licenses, self.token = ports, licenses, token
        self.truth = Truth()
        self.stopping, self.paused = threading.Event(), threading.Event()
        self.late_until = None  # Events from before this time are sent too.
        self.idle = [threading.Event() for _ in range(threads)]
        self.threads = [
            threading.Thread(target=self._run, args=(n, random.Random(seed * 1000 + n), threads / rate), daemon=True)
            for n in range(threads)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def pause(self, seconds=90):
        """Waits until what is under way is answered."""
        self.paused.set()
        for event in self.idle:
            if not event.wait(seconds):
                raise TimeoutError("a client's request is not answered")

    def resume(self):
        self.paused.clear()

    def stop(self, seconds=90):
        self.stopping.set()
        for thread in self.threads:
            thread.join(seconds)
            if thread.is_alive():
                raise TimeoutError("a client's request is not answered")

    def _run(self, number, rng, period):
        try:
            self._work(number, rng, period)
        except Exception as error:  # pylint: disable=broad-except
            self.truth.errors.append(f"client {number}: {error!r}")
            self.idle[number].set()

    def _work(self, number, rng, period):
        serial = 0
        due = time.monotonic()
        while not self.stopping.is_set():
            if self.paused.is_set():
                self.idle[number].set()
                time.sleep(0.05)
                continue
            self.idle[number].clear()
            serial += 1
            if rng.random() < 0.5:
                self._report(rng, f"c{number}-{serial}", rng.randint(1, 6))
            else:
                self._validate(rng)
            due = max(due + period, time.monotonic() - 1)
            time.sleep(max(0, due - time.monotonic()))

    def _report(self, rng, name, count, padding=0, ports=None):
        now = time.time()
        events = []
        for n in range(count):
            at = now - rng.random() * 60
            if self.late_until and rng.random() < 0.1:
                at = self.late_until - rng.random() * 36_000
            events.append({
                "specversion": "1.0", "id": f"{name}-{n}" + "x" * padding, "source": "/chaos",
                "type": "license.usage.recorded", "subject": rng.choice(self.licenses),
                "time": datetime.datetime.fromtimestamp(at, datetime.timezone.utc).isoformat().replace("+00:00", "Z"),
                "data": {"meter": rng.choice(["exports", "seats"]), "quantity": rng.randint(0, 9)},
            })
        answer = self._until_answered(
            rng, "/v1/events", events, 202, ports or self.ports, "application/cloudevents-batch+json")
        if answer:
            refused = {one["index"] for one in answer["rejected"]}
            self.truth.count(event for n, event in enumerate(events) if n not in refused)
            for one in answer["rejected"]:
                self.truth.refusals[one["reason"]] += 1

    def _validate(self, rng):
        license_id = rng.choice(self.licenses)
        domain = f"{license_id.replace('_', '-')}.example.com"
        if rng.random() < 0.03:
            domain = f"{rng.choice(['copy', 'mirror', 'pirate'])}.example.net"
        body = {"licenseKey": license_id, "domain": domain}
        answer = self._until_answered(rng, "/v1/licenses/validate", body, 200, self.ports, of=license_id)
        if not answer:
            return
        with self.truth.lock:
            if answer["code"] == "domain_mismatch":
                self.truth.mismatches.add((license_id, domain))
            elif answer["code"] == "valid":
                self.truth.valid[license_id] += 1
            else:
                self.truth.refusals["validation: " + answer["code"]] += 1

    def fill(self, seed, port, enough):
        """Sends large events to one service until its spool is full. What it refuses is sent later, to any service."""
        rng, batches = random.Random(seed), 0
        while not enough.is_set():
            batches += 1
            events = [{
                "specversion": "1.0", "id": f"f{seed}-{batches}-{n}" + "x" * 900, "source": "/chaos/fill",
                "type": "license.usage.recorded", "subject": rng.choice(self.licenses),
                "time": datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z"),
                "data": {"meter": "exports", "quantity": 1}} for n in range(100)]
            try:
                status, _ = self._post(port, "/v1/events", json.dumps(events), "application/cloudevents-batch+json")
            except (OSError, http.client.HTTPException, ValueError):
                status = 0
            if status == 202:
                self.truth.count(events)
                continue
            # It was refused as a whole, or not answered. A separate thread sends it with the same ids until it is answered.
            thread = threading.Thread(target=self._send_later, args=(rng, events), daemon=True)
            self.threads.append(thread)
            thread.start()
            return status == 503
        return False

    def _send_later(self, rng, events):
        if self._until_answered(rng, "/v1/events", events, 202, self.ports, "application/cloudevents-batch+json"):
            self.truth.count(events)

    def _until_answered(self, rng, path, body, expected, ports, kind="application/json", of=None):
        text = json.dumps(body)
        pause = 0.05
        port = rng.choice(ports)
        while True:
            self.truth.attempts += 1
            try:
                status, answer = self._post(port, path, text, kind)
                if status == expected:
                    return answer
                if status not in (429, 500, 502, 503, 504):
                    raise AssertionError(f"{path}: {status} {answer}")
            except (OSError, http.client.HTTPException, ValueError):
                if of:
                    with self.truth.lock:
                        self.truth.unanswered[of] += 1
            self.truth.failures += 1
            # The next try goes to another service, if there is one.
            port = rng.choice([p for p in ports if p != port] or ports)
            time.sleep(pause)
            pause = min(pause * 2, 1)

    def _post(self, port, path, text, kind):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=4)
        try:
            headers = {"Content-Type": kind}
            if path == "/v1/events":
                headers["Authorization"] = "Bearer " + self.token
            connection.request("POST", path, text, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()


class Receiver:
    """An endpoint that verifies signatures. It fails when it is told to, at most once for each webhook-id."""

    def __init__(self, seed):
        self.lock = threading.Lock()
        self.random = random.Random(seed)
        self.secret = None
        self.failing = None  # status, hang, cut
        self.failed, self.delivered = set(), collections.Counter()
        self.forged = 0
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.take(self, body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                pass  # A dispatcher was killed or cut off, which is what this program is for.

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, handler, body):
        name = handler.headers["webhook-id"]
        signed = f"{name}.{handler.headers['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        signature = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        with self.lock:
            if signature not in handler.headers["webhook-signature"].split(" "):
                self.forged += 1
            failing = self.failing if name not in self.failed else None
            if failing:
                self.failed.add(name)
            else:
                self.delivered[name] += 1
        if failing == "hang":
            time.sleep(3)
        if failing in ("hang", "cut"):
            handler.close_connection = True
            return
        handler.send_response(500 if failing else 204)
        handler.send_header("Content-Length", "0")
        handler.end_headers()


def get_label(port, name, label):
    """A label's value of a metric's first series. None while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=3) as answer:
            found = re.search(rf'^{name}\{{[^}}]*\b{label}="([^"]*)"', answer.read().decode(), re.MULTILINE)
    except OSError:
        return None
    return found.group(1) if found else None


def get_metric(port, name):
    """The sum of a metric over its labels. None while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=3) as answer:
            text = answer.read().decode()
    except OSError:
        return None
    return sum(
        float(line.rsplit(" ", 1)[1]) for line in text.split("\n")
        if line.startswith((name + " ", name + "{")))
