"""The validation-service of this repository with a database and an embedded broker, for the time of a run."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.request
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / ".build" / "debug"


class RealService:
    """What a test needs to know of it."""

    def __init__(self, url, token, license_token, keys):
        self.url, self.token, self.license_token, self.keys = url, token, license_token, keys
        self.license_id, self.suspended_id = "lic_sdk", "lic_sdk_suspended"


@contextlib.contextmanager
def started(folder, database_url):
    """None where there is no PostgreSQL or no build."""
    names = ("validation-service", "meterctl", "dev-broker")
    if not database_url or not all((PROGRAMS / name).exists() for name in names):
        yield None
        return
    processes = []
    database = "sdk_" + uuid.uuid4().hex[:12]
    own_url = database_url.rsplit("/", 1)[0] + "/" + database
    psql = pathlib.Path(os.environ.get("METER_TEST_PG_BIN", "/usr/lib/postgresql/15/bin")) / "psql"
    try:
        run([psql, database_url, "-qc", f"create database {database}"])
        yield start(folder, own_url, processes)
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in reversed(processes):
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
        run([psql, database_url, "-qc", f"drop database if exists {database} with (force)"])


def start(folder, database_url, processes):
    ready = folder / "brokers"
    processes.append(spawn(folder, "dev-broker", ["--ready-file", ready], {}))
    wait(lambda: ready.exists() and ready.read_text().strip(), "dev-broker")
    port, admin = free_port(), free_port()
    settings = {
        "METER_DATABASE_URL": database_url,
        "METER_KAFKA_BROKERS": ready.read_text().strip(),
        "METER_SIGNING_KEY_FILE": str(folder / "keys.json"),
        "METER_SPOOL_DIR": str(folder / "spool"),
        "METER_HTTP_BIND": f"127.0.0.1:{port}",
        "METER_ADMIN_BIND": f"127.0.0.1:{admin}",
        "METER_LOG_LEVEL": "error",
    }
    meterctl(settings, "migrate")
    meterctl({}, "key", "generate", "--out", folder / "keys.json")
    base = {
        "customer_id": "cus_sdk", "plan": "professional", "features": ["analytics"], "domains": ["*.example.com"],
        "limits": {}, "issued_at": "2025-01-01T00:00:00Z", "expires_at": "2999-01-01T00:00:00Z",
    }  # fmt: skip
    lines = [
        {**base, "license_id": "lic_sdk", "status": "active"},
        {**base, "license_id": "lic_sdk_suspended", "status": "suspended"},
    ]
    (folder / "licenses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    meterctl(settings, "license", "import", folder / "licenses.jsonl")
    token = json.loads(
        meterctl(settings, "token", "create", "--name", "sdk", "--scope", "usage:write", "--customer", "cus_sdk", "--json")
    )["token"]
    license_token = meterctl(settings, "license", "issue", "lic_sdk").strip()
    processes.append(spawn(folder, "validation-service", [], settings))
    url = f"http://127.0.0.1:{port}"
    wait(lambda: fetch(url + "/.well-known/jwks.json"), "validation-service")
    return RealService(url, token, license_token, fetch(url + "/.well-known/jwks.json").decode())


def spawn(folder, name, arguments, settings):
    log = open(folder / (name + ".log"), "wb")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("METER_")}
    command = [str(PROGRAMS / name), *map(str, arguments)]
    return subprocess.Popen(command, env={**environment, **settings}, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def meterctl(settings, *arguments):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("METER_")}
    return run([PROGRAMS / "meterctl", *arguments], {**environment, **settings})


def run(command, environment=None):
    done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} {command[1]}: {done.stdout}{done.stderr}")
    return done.stdout


def fetch(url):
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
        return answer.read()
    return b""


def wait(condition, name):
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"{name} does not start")
        time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
