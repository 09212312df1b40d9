#!/usr/bin/env python3
"""Tries SDKs with the vectors, with a service that misbehaves, and with the real validation-service.

    run.py NAME=COMMAND…

COMMAND starts an SDK's driver, a program that reads a JSON object a line and answers with one. The real service is
started where METER_TEST_DATABASE_URL names a PostgreSQL server and .build/debug holds the programs. Needs the package
cryptography. Exits with 1 when a case fails.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import queue
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import fake_service
import real_service
from fake_service import FakeService

HERE = pathlib.Path(__file__).parent
VECTORS = HERE / "vectors"
LICENSE = "lic_abc123"
DAY = 86_400_000


class Driver:
    """One SDK's driver."""

    def __init__(self, name: str, command: str) -> None:
        self.name, self.command = name, shlex.split(command)
        self.failures, self.cases = [], 0
        self.case = ""
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
        self.lines = queue.Queue()
        threading.Thread(target=self._read, args=(self.process, self.lines), daemon=True).start()

    @staticmethod
    def _read(process, lines) -> None:
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    def ask(self, op: str, **members):
        self.process.stdin.write(json.dumps({"op": op, **members}) + "\n")
        self.process.stdin.flush()
        line = self.lines.get(timeout=30)
        if line is None:
            raise RuntimeError(f"{self.name}: the driver ended during {op} ({self.case})")
        return json.loads(line)

    def stop(self) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def expect(self, what: str, found, wanted) -> None:
        self.cases += 1
        if found != wanted:
            self.failures.append(f"{self.name}: {self.case}: {what}: {found!r}, and not {wanted!r}")

    def expect_result(self, result, **wanted) -> None:
        found = {name: result.get(name) for name in wanted}
        self.expect("result", found, wanted)


# --- Vectors ----------------------------------------------------------------------------------------------------------


def load(name: str):
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def try_vectors(driver: Driver, has_idna: bool) -> None:
    for name in ("licenses", "verdicts", "offline"):
        file = load(name)
        sets = {key: json.dumps(value) for key, value in file["keySets"].items()}
        for case in file["cases"]:
            driver.case = f"{name}: {case['name']}"
            expected = {key: case[key] for key in ("claims", "refusal", "claim", "code", "valid") if key in case}
            question = {key: case[key] for key in ("token", "licenseKey", "domain", "nonce", "now") if key in case}
            op = {"licenses": "license", "verdicts": "verdict", "offline": "offline"}[name]
            driver.expect("answer", driver.ask(op, keys=sets[case.get("keys", "all")], **question), expected)
    for case in load("keysets")["cases"]:
        driver.case = f"keysets: {case['set'][:80]}"
        expected = {key: value for key, value in case.items() if key != "set"}
        driver.expect("answer", driver.ask("keyset", set=case["set"]), expected)
    for case in load("domains")["cases"]:
        if case.get("idna") and not has_idna:
            continue
        driver.case = f"domains: {case['text'][:80]!r}"
        expected = {"name": case.get("name"), "local": case["local"]}
        driver.expect("answer", driver.ask("domain", text=case["text"]), expected)
    for case in load("covers")["cases"]:
        if case.get("idna") and not has_idna:
            continue
        driver.case = f"covers: {case['bound']} {case['domain']!r}"
        answer = driver.ask("covers", bound=case["bound"], domain=case["domain"])
        driver.expect("answer", answer, {"covers": case["covers"]})


# --- A service that misbehaves ----------------------------------------------------------------------------------------


class Scenarios:
    """Each method that begins with ``case_`` is one scenario; its docstring says what holds."""

    def __init__(self, driver: Driver, service: FakeService, folder: pathlib.Path) -> None:
        self.driver, self.service, self.folder = driver, service, folder
        self.compiled = json.dumps({"keys": [fake_service.jwk(fake_service.VERDICT)] + license_keys()})

    def run(self) -> None:
        for name in [name for name in dir(self) if name.startswith("case_")]:
            method = getattr(self, name)
            self.driver.case = method.__doc__.strip()
            self.cache = self.folder / f"{self.driver.name}-{name}"
            self.service.keys = [fake_service.jwk(fake_service.VERDICT)]
            self.service.expires = time.time() + 90 * 86_400
            self.service.events.clear()
            self.service.do("good")
            method()
            self.driver.ask("close", timeout=0.2)

    def open(self, **options):
        options = {
            "url": self.service.url,
            "licenseKey": LICENSE,
            "keys": self.compiled,
            "totalTimeout": 5,
            "connectTimeout": 4,
            "pauseAfterFailure": 0,
            **options,
        }
        return self.driver.ask("open", options={name: value for name, value in options.items() if value is not None})

    def validate(self, domain="app.example.com", **wanted):
        result = self.driver.ask("validate", domain=domain)
        self.driver.expect_result(result, **wanted)
        return result

    def asked(self, count: int) -> None:
        requests = [request for request in self.service.requests if request[0].endswith("/validate")]
        self.driver.expect("requests", len(requests), count)

    def clock(self, offset: int) -> None:
        self.driver.ask("clock", offset=offset)

    # Online.

    def case_01(self):
        """A verified answer is online; its features are known; the second is from the cache"""
        self.open()
        self.validate(valid=True, code="valid", source="online", age=0, features=["analytics"], problem=None)
        self.validate(valid=True, code="valid", source="cache", features=["analytics"])
        self.asked(1)
        path, headers, body = self.service.requests[-1]
        question = json.loads(body)
        self.driver.expect("path", path, "/v1/licenses/validate")
        self.driver.expect("license key", question["licenseKey"], LICENSE)
        self.driver.expect("nonce of 128 bits", len(question["nonce"]) >= 22, True)
        lower = {name.lower(): value for name, value in headers.items()}
        self.driver.expect("idempotency key", len(lower.get("idempotency-key", "")) >= 16, True)

    def case_02(self):
        """A "no" is an answer and no exception, and is remembered"""
        for code in ("canceled", "suspended", "expired", "domain_mismatch", "limit_exceeded", "not_found"):
            self.service.do("good:" + code)
            self.open()
            self.validate(valid=False, code=code, source="online", features=[])
            self.validate(valid=False, code=code, source="cache")
            self.asked(1)

    def case_03(self):
        """An answer that cannot be believed is no answer, and never "invalid"; it is not asked for again"""
        for step in ("unsigned", "foreign", "typ", "other_domain", "other_license", "stale:-400", "stale:400", "text", "array"):
            self.service.do(step)
            self.open()
            self.validate(valid=False, code="unreachable", source="none", problem="untrusted")
            self.asked(1)

    def case_04(self):
        """A replayed answer is refused by its nonce"""
        self.service.do("capture", "replay")
        self.open()
        self.validate(source="online")
        self.open()
        self.validate(code="unreachable", problem="untrusted")

    def case_05(self):
        """What is signed is believed, and not what stands beside it"""
        self.service.do("lie")
        self.open()
        self.validate(valid=False, code="canceled", source="online")

    def case_06(self):
        """Two retries with the same Idempotency-Key, on 408, 429 and 5xx"""
        for step in ("500", "502", "503", "408", "429"):
            self.service.do(step, step, "good")
            self.open()
            self.validate(valid=True, source="online")
            self.asked(3)
            keys = {name_of(headers, "idempotency-key") for _, headers, _ in self.service.requests}
            self.driver.expect("idempotency keys", len(keys), 1)

    def case_07(self):
        """After three failures there is no answer"""
        self.service.do("503")
        self.open()
        self.validate(valid=False, code="unreachable", source="none", problem="http_503")
        self.asked(3)

    def case_08(self):
        """Other statuses are not retried, and a redirect is not followed"""
        for step in ("400", "401", "403", "404", "redirect"):
            self.service.do(step)
            self.open()
            self.validate(valid=False, code="unreachable", problem="http_" + step.replace("redirect", "307"))
            self.driver.expect("requests", len(self.service.requests), 1)

    def case_09(self):
        """Connections that are reset and bodies that are cut are tried again"""
        for step in ("reset", "cut"):
            self.service.do(step, step, "good")
            self.open()
            self.validate(valid=True, source="online")
            self.service.do(step)
            self.open()
            self.validate(valid=False, code="unreachable", problem="connection")
            self.asked(3)

    def case_10(self):
        """An answer that never comes, or comes a byte at a time, ends with the total time limit"""
        for step in ("hang", "drip"):
            self.service.do(step)
            self.open(totalTimeout=0.7)
            start = time.monotonic()
            self.validate(valid=False, code="unreachable", problem="timeout")
            self.driver.expect("in time", time.monotonic() - start < 3, True)

    def case_11(self):
        """A body that is too large is not read"""
        self.service.do("big")
        self.open()
        self.validate(valid=False, code="unreachable", problem="too_large")

    def case_12(self):
        """Retry-After is waited for where there is time, and ends the waiting where there is none"""
        self.service.do("429:1", "good")
        self.open(totalTimeout=4)
        start = time.monotonic()
        self.validate(valid=True, source="online")
        self.driver.expect("waited", time.monotonic() - start >= 0.95, True)
        self.service.do("429:30", "good")
        self.open()
        self.validate(valid=False, code="unreachable", problem="http_429")
        self.asked(1)

    def case_13(self):
        """Equal questions that are on their way are one"""
        self.open()
        results = self.driver.ask("validateMany", domain="app.example.com", count=8)["results"]
        self.driver.expect("valid", [result["valid"] for result in results], [True] * 8)
        self.asked(1)

    def case_14(self):
        """Names are one question in all their spellings, and what is no name is not asked about"""
        self.open()
        self.validate("App.Example.com.:443", source="online")
        self.validate("app.example.com", source="cache")
        self.asked(1)
        self.validate("https://app.example.com/", valid=False, code="domain_mismatch", source="offline")
        self.asked(1)

    def case_15(self):
        """After a failure the service is left alone for a while"""
        self.service.do("503")
        self.open(pauseAfterFailure=30)
        self.validate(code="unreachable", problem="http_503")
        self.validate(code="unreachable", problem="http_503")
        self.asked(3)

    def case_16(self):
        """Nobody listens"""
        self.open(url="http://127.0.0.1:9")
        self.validate(valid=False, code="unreachable", problem="connection")

    # Keys.

    def case_20(self):
        """Keys are fetched where none are compiled in, and again for a key that is not known"""
        self.open(keys=None)
        self.validate(valid=True, source="online")
        paths = [path for path, _, _ in self.service.requests]
        self.driver.expect("paths", sorted(paths), ["/.well-known/jwks.json", "/v1/licenses/validate"])

    def case_21(self):
        """Compiled keys are not replaced by what the service says"""
        self.service.keys = [fake_service.jwk(fake_service.NEXT)]
        self.service.do("next")
        self.open()
        self.validate(valid=False, code="unreachable", problem="untrusted")
        self.driver.expect("requests", len(self.service.requests), 1)

    def case_22(self):
        """A saved verdict is read back with the keys that were fetched for it"""
        self.open(keys=None, cacheDir=str(self.cache))
        self.validate(source="online")
        self.service.do("down")
        self.open(keys=None, cacheDir=str(self.cache))
        self.clock(2 * 3_600_000)
        self.validate(valid=True, source="grace", problem="http_500")

    # Cache and grace.

    def case_30(self):
        """Fresh, then refreshed behind the answer, then asked, then grace up to seven days"""
        self.open(freshFor=60)
        self.validate(source="online")
        self.clock(59_000)
        self.validate(source="cache")
        self.asked(1)
        self.clock(70_000)
        self.validate(source="cache", valid=True)
        end = time.monotonic() + 5
        while len(self.service.requests) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        self.asked(2)
        # Questions that were asked later have their answers: so has the one behind.
        for number in range(3):
            self.validate(f"later{number}.example.com", source="online")
        self.clock(200_000)
        self.service.do("good")
        self.validate(source="online")
        self.service.do("503")
        self.clock(4 * 3_600_000)
        self.validate(valid=True, source="grace", code="valid", features=["analytics"], problem="http_503")
        self.clock(7 * DAY - 60_000)
        self.validate(valid=True, source="grace")
        self.clock(7 * DAY + 60_000 + 200_000)
        self.validate(valid=False, code="unreachable", source="none", features=[])

    def case_31(self):
        """A "no" ends the grace, in memory and on disk"""
        self.open(cacheDir=str(self.cache))
        self.validate(source="online", valid=True)
        self.clock(200_000)
        self.open(cacheDir=str(self.cache), freshFor=60)
        self.clock(150_000)
        self.service.do("good:canceled")
        self.validate(valid=False, code="canceled", source="online")
        self.service.do("503")
        self.clock(280_000)
        self.validate(valid=False, code="canceled", source="cache")
        self.open(cacheDir=str(self.cache))
        self.clock(290_000)
        self.validate(valid=False, code="canceled", source="cache")
        self.open(cacheDir=str(self.cache), onUnknown="allow")
        self.clock(300_000)
        self.validate(valid=False, code="canceled", source="cache")

    def case_32(self):
        """A canceled license loses the grace for every domain"""
        self.open(cacheDir=str(self.cache))
        self.validate("a.example.com", valid=True)
        self.service.do("good:canceled")
        self.validate("b.example.com", valid=False, code="canceled")
        self.service.do("503")
        self.validate("a.example.com", valid=False, code="unreachable")
        self.open(cacheDir=str(self.cache))
        self.validate("a.example.com", valid=False, code="unreachable")

    def case_33(self):
        """There is no grace without a verified success"""
        self.service.do("foreign", "503")
        self.open()
        self.validate(valid=False, code="unreachable")
        self.validate(valid=False, code="unreachable")

    def case_34(self):
        """What happens when nothing is known is the application's choice"""
        self.service.do("503")
        self.open(onUnknown="allow")
        self.validate(valid=True, code="unreachable", source="none", features=[])
        self.open(onUnknown="deny")
        self.validate(valid=False, code="unreachable", source="none")
        self.service.do("good")
        self.validate(valid=True, source="online")
        self.service.do("503")
        self.clock(700_000)
        self.validate(valid=False, code="unreachable", source="none")

    def case_35(self):
        """The cache outlives the process as a signed verdict, and one that was changed is not believed"""
        self.open(cacheDir=str(self.cache))
        self.validate(source="online")
        self.service.do("503")
        self.open(cacheDir=str(self.cache))
        self.validate(valid=True, source="cache")
        self.asked(0)
        self.driver.stop()
        self.driver.start()
        self.open(cacheDir=str(self.cache))
        self.clock(3_600_000)
        self.validate(valid=True, source="grace")
        for file in self.cache.iterdir():
            self.driver.expect("the file is the owner's alone", file.stat().st_mode & 0o077, 0)
            self.driver.expect("no license key", LICENSE in file.read_text(), False)
            file.write_text(file.read_text().replace("eyJ2", "eyJ3", 1).replace('.eyJ', '.eyK', 1))
        self.open(cacheDir=str(self.cache))
        self.validate(valid=False, code="unreachable")

    def case_36(self):
        """A saved verdict holds for its license and domain alone"""
        self.open(cacheDir=str(self.cache))
        self.validate("a.example.com", source="online")
        self.service.do("good:domain_mismatch")
        self.validate("b.example.com", valid=False)
        self.service.do("503")
        files = [file for file in self.cache.iterdir() if file.name not in ("latest.json", "keys.json")]
        self.driver.expect("files", len(files), 1)
        self.open(cacheDir=str(self.cache), licenseKey="lic_other")
        self.validate("a.example.com", valid=False, code="unreachable")

    def case_37(self):
        """A clock that was turned back is noticed, also after a restart"""
        self.open(cacheDir=str(self.cache))
        self.validate(source="online")
        self.clock(-299_000)
        self.validate(valid=True, source="cache")
        self.clock(-310_000)
        self.validate(valid=False, code="clock_rolled_back")
        self.open(cacheDir=str(self.cache), onUnknown="allow")
        self.clock(-DAY)
        self.validate(valid=False, code="clock_rolled_back")
        self.clock(0)
        self.validate(valid=True)

    def case_38(self):
        """A license that ends while the service is away is in its grace, and then expired"""
        self.service.expires = time.time() + 3600
        self.open()
        self.validate(source="online", code="valid", grace=False)
        self.service.do("503")
        self.clock(2 * 3_600_000)
        self.validate(valid=True, code="grace", grace=True, source="grace")
        self.service.expires = time.time() - 6.5 * 86_400
        self.service.do("good:grace")
        self.open()
        self.validate(source="online", code="grace", valid=True, grace=True)
        self.service.do("503")
        self.clock(DAY)
        self.validate(valid=False, code="expired")

    # Offline.

    def case_40(self):
        """A license token is judged by itself where the application asks for it"""
        token = next(case["token"] for case in load("licenses")["cases"] if case["name"] == "EdDSA")
        self.open(licenseKey=token)
        self.clock(1_740_000_000_000 - int(time.time() * 1000))
        found = self.driver.ask("validateOffline", domain="example.com")
        self.driver.expect_result(found, valid=True, code="valid", source="offline", features=["analytics", "webhooks"])
        found = self.driver.ask("validateOffline", domain="notexample.com")
        self.driver.expect_result(found, valid=False, code="domain_mismatch", source="offline", features=[])
        self.asked(0)
        found = self.driver.ask("validateOffline", domain="example.com", licenseKey=token[:-2] + "AA")
        self.driver.expect_result(found, valid=False, code="invalid_signature", source="offline")
        self.service.do("503")
        self.validate("example.com", valid=False, code="unreachable", source="none")
        self.open(licenseKey=token, offlineFallback=True)
        self.clock(1_740_000_000_000 - int(time.time() * 1000))
        self.validate("example.com", valid=True, code="valid", source="offline")

    # TLS and pins.

    def case_50(self):
        """A certificate is checked, and so are its pins"""
        right, other = self.service.pin, self.service.other_pin
        third = "sha256/" + "A" * 43 + "="
        tls = {"url": self.service.tls_url, "caFile": self.service.ca_file}
        self.open(**tls)
        self.validate(valid=True, source="online")
        self.open(url=self.service.tls_url)
        self.validate(valid=False, code="unreachable", problem="tls")
        self.open(**tls, pins=[other, right])
        self.validate(valid=True, source="online")
        self.service.do("good")
        self.open(**tls, pins=[other, third])
        self.validate(valid=False, code="unreachable", problem="pin_mismatch")
        self.asked(0)
        self.open(**tls, pins=[other, third], pinMode="report")
        self.validate(valid=True, source="online")
        self.driver.expect("reported", "pin_mismatch" in self.driver.ask("problems")["problems"], True)
        self.open(url=self.service.tls_url, pins=[other, right])
        self.validate(valid=False, code="unreachable", problem="tls")
        self.open(url=self.service.tls_url.replace("localhost", "127.0.0.1"), caFile=self.service.ca_file)
        self.validate(valid=False, code="unreachable", problem="tls")

    def case_51(self):
        """Options that cannot be meant are refused"""
        pin = "sha256/" + "A" * 43 + "="
        for options in (
            {"pins": [pin]},
            {"pins": [pin, pin]},
            {"pins": ["sha256/AAAA", pin]},
            {"url": "http://licenses.example.com"},
            {"url": "ftp://127.0.0.1"},
            {"url": self.service.tls_url, "pins": [pin, self.service.pin], "pinMode": "maybe"},
            {"freshFor": 5},
            {"freshFor": 7200},
            {"graceFor": 8 * 86_400},
            {"onUnknown": "perhaps"},
            {"keys": "{}"},
        ):
            self.driver.expect(json.dumps(options), "error" in self.open(**options), True)
        self.open()

    # Usage.

    def case_60(self):
        """Usage goes out in batches with the token, each with an id of its own"""
        self.open(token="secret-token")
        self.driver.expect("accepted", self.driver.ask("record", meter="exports", quantity=3, count=20)["accepted"], 20)
        answer = self.driver.ask("flush")
        self.driver.expect("flushed", answer["flushed"], True)
        self.driver.expect("statistics", answer["statistics"], statistics(accepted=20, sent=20))
        self.driver.expect("events", len(self.service.events), 20)
        self.driver.expect("ids", len({event["id"] for event in self.service.events}), 20)
        event = self.service.events[0]
        self.driver.expect("subject", event["subject"], LICENSE)
        self.driver.expect("data", event["data"], {"meter": "exports", "quantity": 3})
        self.driver.expect("type", event["type"], "license.usage.recorded")
        path, headers, _ = self.service.requests[-1]
        self.driver.expect("path", path, "/v1/events")
        self.driver.expect("token", name_of(headers, "authorization"), "Bearer secret-token")
        self.driver.expect("content type", name_of(headers, "content-type"), "application/cloudevents-batch+json")

    def case_61(self):
        """A batch whose answer was lost is sent again with the same ids"""
        self.service.do("lose", "503", "202")
        self.open(token="t")
        self.driver.ask("record", meter="exports", count=3)
        answer = self.driver.ask("flush", timeout=10)
        self.driver.expect("flushed", answer["flushed"], True)
        self.driver.expect("statistics", answer["statistics"], statistics(accepted=3, sent=3))
        self.driver.expect("events", len(self.service.events), 6)
        self.driver.expect("ids", len({(event["id"], event["source"], event["subject"]) for event in self.service.events}), 3)

    def case_62(self):
        """What does not fit into the queue is dropped, counted and reported, without waiting"""
        self.service.do("503")
        self.open(token="t", maxUsageQueue=10)
        start = time.monotonic()
        self.driver.expect("accepted", self.driver.ask("record", meter="exports", count=15)["accepted"], 10)
        self.driver.expect("without waiting", time.monotonic() - start < 2, True)
        found = self.driver.ask("statistics")["statistics"]
        self.driver.expect("statistics", found, statistics(accepted=10, dropped=5, pending=10))
        self.driver.expect("reported", "usage_dropped" in self.driver.ask("problems")["problems"], True)
        found = self.driver.ask("close", timeout=0.3)["statistics"]
        self.driver.expect("at the end", found, statistics(accepted=10, dropped=15))

    def case_63(self):
        """What the service rejects is counted, and what it will never take is dropped"""
        self.service.do("reject")
        self.open(token="t")
        self.driver.ask("record", meter="exports", count=2)
        self.driver.expect("statistics", self.driver.ask("flush")["statistics"], statistics(accepted=2, sent=1, rejected=1))
        self.service.do("413")
        self.driver.ask("record", meter="exports", count=2)
        found = self.driver.ask("flush")["statistics"]
        self.driver.expect("statistics", found, statistics(accepted=4, sent=1, rejected=1, dropped=2))

    def case_64(self):
        """Usage that breaks the contract is refused where it is recorded"""
        self.open(token="t")
        for meter, quantity in (("Exports", 1), ("", 1), ("1x", 1), ("a-b", 1), ("a" * 65, 1), ("x", -1), ("x", 10**9 + 1)):
            found = self.driver.ask("record", meter=meter, quantity=quantity)["accepted"]
            self.driver.expect(f"{meter} {quantity}", found, 0)
        self.driver.expect("the last", self.driver.ask("record", meter="x", quantity=10**9)["accepted"], 1)

    def case_65(self):
        """The queue is sent when the application closes the client"""
        self.open(token="t")
        self.driver.ask("record", meter="exports", count=5)
        self.driver.expect("statistics", self.driver.ask("close")["statistics"], statistics(accepted=5, sent=5))

    def case_66(self):
        """The queue is sent when the process ends, where the language lets a library do that"""
        hello = self.driver.ask("hello")
        self.open(token="t")
        self.driver.ask("record", meter="exports", count=5)
        if hello.get("closesAtExit", True):
            self.driver.stop()
            self.driver.expect("events", len(self.service.events), 5)
            self.driver.start()
        self.open()


def try_middleware(driver: Driver, frameworks) -> None:
    """Host names only from trusted proxies; a license that does not hold is 403, one of which nothing is known 503."""
    base = {"peer": "192.0.2.7", "host": "app.example.com", "trusted": ["10.0.0.0/8"], "valid": True, "code": "valid"}
    for framework in frameworks:
        for change, wanted in (
            ({"features": ["analytics"]}, {"status": 200, "asked": "app.example.com", "feature": True}),
            ({}, {"status": 200, "feature": False}),
            ({"forwarded": "evil.example"}, {"asked": "app.example.com"}),
            ({"forwarded": "shop.example", "peer": "10.1.2.3"}, {"asked": "shop.example"}),
            ({"forwarded": "evil.example, shop.example", "peer": "10.1.2.3"}, {"asked": "shop.example"}),
            ({"peer": "10.1.2.3"}, {"asked": "app.example.com"}),
            ({"domain": "fixed.example", "forwarded": "evil.example"}, {"asked": "fixed.example"}),
            ({"valid": False, "code": "expired"}, {"status": 403, "code": "expired", "feature": None}),
            ({"valid": False, "code": "unreachable"}, {"status": 503, "code": "unreachable", "feature": None}),
        ):
            driver.case = f"{framework} {change}"
            driver.expect_result(driver.ask("middleware", framework=framework, **{**base, **change}), **wanted)


def license_keys():
    return load("licenses")["keySets"]["one"]["keys"]


def name_of(headers, name: str):
    return next((value for key, value in headers.items() if key.lower() == name), None)


def statistics(**counts):
    return {"accepted": 0, "sent": 0, "rejected": 0, "dropped": 0, "pending": 0, **counts}


# --- The real service -------------------------------------------------------------------------------------------------


def try_real_service(driver: Driver, service: "real_service.RealService") -> None:
    driver.case = "the real service"
    options = {"url": service.url, "licenseKey": service.license_id, "token": service.token, "totalTimeout": 5}
    driver.ask("open", options=options)

    def validate(domain, **wanted):
        driver.expect_result(driver.ask("validate", domain=domain), **wanted)

    validate("shop.example.com", valid=True, code="valid", source="online", features=["analytics"])
    validate("shop.example.com", valid=True, code="valid", source="cache")
    validate("evil.example", valid=False, code="domain_mismatch", source="online")
    validate("[2001:db8::1]:443", valid=False, code="domain_mismatch", source="online")
    if driver.ask("hello")["idna"]:
        validate("bücher.example", valid=False, code="domain_mismatch", source="online")
    driver.ask("record", meter="exports", quantity=3, count=7)
    answer = driver.ask("flush")
    driver.expect("usage", answer["statistics"], statistics(accepted=7, sent=7))
    driver.ask("close")
    driver.ask("open", options={**options, "licenseKey": service.suspended_id})
    validate("shop.example.com", valid=False, code="suspended", source="online")
    driver.ask("close")
    driver.ask("open", options={**options, "licenseKey": "lic_nobody"})
    validate("shop.example.com", valid=False, code="not_found", source="online")
    driver.ask("close")
    driver.ask("open", options={**options, "licenseKey": service.license_token, "keys": service.keys})
    validate("shop.example.com", valid=True, code="valid", source="online")
    found = driver.ask("validateOffline", domain="shop.example.com")
    driver.expect_result(found, valid=True, code="valid", source="offline", features=["analytics"])
    driver.ask("close")


def try_driver(argument: str, folder: pathlib.Path, real) -> Driver:
    """All that one SDK is tried with, and the line about it."""
    name, _, command = argument.partition("=")
    own = folder / name
    own.mkdir()
    start = time.monotonic()
    driver = Driver(name, command)
    notes = [] if real is not None else ["without the real service"]
    try:
        hello = driver.ask("hello")
        try_vectors(driver, hello["idna"])
        Scenarios(driver, FakeService(own), own).run()
        try_middleware(driver, hello["frameworks"])
        if real is not None:
            try_real_service(driver, real)
        notes += [] if hello["idna"] else ["without names of other scripts"]
        notes.append("middleware: " + ", ".join(hello["frameworks"]))
    except (RuntimeError, queue.Empty, OSError, ValueError) as error:
        driver.failures.append(f"{name}: {driver.case}: the driver gave no answer: {error!r}")
    driver.stop()
    counts = f"{driver.cases} checks, {len(driver.failures)} failed, {time.monotonic() - start:.0f} s"
    print(f"conformance: {name}: {counts} ({'; '.join(notes)})", flush=True)
    return driver


def main() -> None:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="conformance-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        real = stack.enter_context(real_service.started(folder, os.environ.get("METER_TEST_DATABASE_URL")))
        # They wait more than they work: three at a time.
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            drivers = list(pool.map(lambda argument: try_driver(argument, folder, real), sys.argv[1:]))
    failures = [failure for driver in drivers for failure in driver.failures]
    for failure in failures:
        print(failure, file=sys.stderr)
    # Threads of the fake services may still compute with OpenSSL. An ordinary exit frees its tables under them, and
    # ended in a segmentation fault once.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if failures else 0)


if __name__ == "__main__":
    main()
