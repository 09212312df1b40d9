"""The whole pipeline as processes, each behind its own proxies."""

import collections
import datetime
import glob
import json
import os
import subprocess

from . import proxy
from .faults import CLOCKED, CONSUMERS, SENDERS
from .processes import (BrokerEnded, PostgreSQL, Process, Service, eventually, free_port, outer_environment,
                        postgres_binaries, postgres_prefix)
from .traffic import Clients, Receiver, get_label, get_metric

USAGE, VALIDATIONS, DEAD_LETTERS = "license.usage.v1", "license.validations.v1", "license.dead-letter.v1"
# A fetch from the mock broker brings one batch of each partition, so more of them let a slow machine keep up.
PARTITIONS = 16
# The disk of a spool, smaller than the spool's limit of 4 MiB.
DISK_BYTES = 2_600 * 1024
LICENSES = [f"lic_chaos_{n:02}" for n in range(24)]
LOAD_LICENSES = 20


class Pipeline:
    """Starts everything, and ends everything that it started."""

    def __init__(self, programs, folder, seed, rate, duration, kinds, say, older=None):
        self.newer, self.older = programs, older
        # These are run now. An upgrade begins with the older programs.
        programs = older or programs
        self.programs, self.folder, self.say = programs, folder, say
        self.seed, self.rate, self.duration = seed, rate, duration
        self.logs = folder + "/log"
        os.makedirs(self.logs)
        self.loop = proxy.Loop()
        self.services, self.kafka, self.database, self.http_ports = {}, {}, {}, {}
        self.today = datetime.datetime.now(datetime.timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
        # It is only used where clocks are to jump, because it makes every look at the clock slower.
        self.faketime = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None) if "clock" in kinds else None
        self.has_small_disks = False
        self.postgres = self.broker = self.load = None

    # --- Start

    def start(self):
        self.say("Starting PostgreSQL with a synchronous standby")
        self.postgres = PostgreSQL(self.folder + "/postgres", postgres_binaries(), postgres_prefix())
        self.postgres.query("create database metering", database="postgres")
        self._start_broker()
        self.environment = {
            "METER_ENCRYPTION_KEY": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "METER_WEBHOOK_ALLOW_HTTP": "true", "METER_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8"}
        self.meterctl("migrate")
        self._make_licenses()
        self.receiver = Receiver(self.seed)
        made = self.meterctl_json("endpoint", "add", "--all-customers", "--url",
                                  f"http://127.0.0.1:{self.receiver.port}/hooks")
        self.receiver.secret, self.endpoint = made["secret"], made["endpoint_id"]
        token = self.meterctl_json("token", "create", "--name", "chaos", "--scope", "usage:write",
                                   "--customer", "cus_chaos")["token"]
        self._start_services()
        self.clients = Clients(self.seed, list(self.http_ports.values()), LICENSES, token, self.rate)
        self.clients.late_until = self.today.timestamp()

    def _start_broker(self):
        topics = self.folder + "/topics"
        os.makedirs(topics)
        # The usage topic has twice the partitions that are shown at first: see proxy.Cluster.
        for name, partitions in ((USAGE, 2 * PARTITIONS), (VALIDATIONS, PARTITIONS), (DEAD_LETTERS, 2)):
            with open(f"{topics}/{name}.yaml", "w", encoding="utf-8") as file:
                file.write(f"name: {name}\npartitions: {partitions}\n")
        ready = self.folder + "/broker.ready"
        self.broker = Process("dev-broker", [f"{self.programs}/dev-broker", "--brokers", "3", "--topics-dir", topics,
                                             "--ready-file", ready], {}, self.logs)
        self.broker.start()
        eventually("the broker listens", 30, lambda: os.path.exists(ready))
        with open(ready, encoding="utf-8") as file:
            self.ports = [int(address.rsplit(":", 1)[1]) for address in file.read().strip().split(",")]
        self.cluster = proxy.Cluster({USAGE: PARTITIONS})
        self.operator_kafka = self._kafka_side(0)

    def _kafka_side(self, number, name=""):
        return proxy.KafkaSide(self.loop, self.ports, self.seed + 100 * number, self.cluster, name)

    def _make_licenses(self):
        lines = []
        previous_anchor = self.today.day
        for n, license_id in enumerate(LICENSES):
            # A third crosses its limits; all thresholds of a third lie beyond the run.
            scale = [0.3, 0.8, 50][n % 3] * self.rate * self.duration / len(LICENSES)
            lines.append(self._license(license_id, "cus_chaos", previous_anchor, {
                "apiCalls": max(10, int(scale / 3)), "exports": max(10, int(scale * 3)), "seats": max(10, int(scale * 3))}))
        for n in range(LOAD_LICENSES):
            lines.append(self._license(f"lic_{n:08}", "cus_load", 1, {"apiCalls": [500, 20_000, 10**9][n % 3]}))
        file = self.folder + "/licenses.jsonl"
        with open(file, "w", encoding="utf-8") as output:
            output.write("\n".join(lines) + "\n")
        self.meterctl("license", "import", file)

    def _license(self, license_id, customer, anchor, limits):
        return json.dumps({
            "license_id": license_id, "customer_id": customer, "plan": "professional", "features": ["analytics"],
            "domains": [license_id.replace("_", "-") + ".example.com"], "limits": limits, "status": "active",
            "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2036-01-01T00:00:00Z",
            "billing_anchor_day": anchor, "overage_policy": "allow"})

    def _start_services(self):
        properties = self.folder + "/kafka.properties"
        with open(properties, "w", encoding="utf-8") as file:
            file.write("session.timeout.ms=6000\nheartbeat.interval.ms=500\nreconnect.backoff.max.ms=1000\n"
                       "topic.metadata.refresh.interval.ms=3000\nallow.auto.create.topics=false\n")
        consumer = {"METER_KAFKA_CONFIG_FILE": properties, "METER_DATABASE_PATIENCE": "5s",
                    "METER_CHECKPOINT_INTERVAL": "1s", "METER_MERGE_INTERVAL": "500ms"}
        for name in CONSUMERS:
            keep = ("METER_CHECKPOINT_INTERVAL",) if name.startswith("anomaly") else ("METER_MERGE_INTERVAL",)
            drop = {"METER_CHECKPOINT_INTERVAL", "METER_MERGE_INTERVAL"} - set(keep)
            self._service(name, {k: v for k, v in consumer.items() if k not in drop}, kafka=True)
        keys, online = self.folder + "/keys.json", self.folder + "/online.json"
        self.meterctl("key", "generate", "--out", keys)
        self.meterctl("key", "export", keys, "--for", "validation-service", "--out", online)
        for name in SENDERS:
            self.http_ports[name] = free_port()
            self._service(name, {
                "METER_HTTP_BIND": f"127.0.0.1:{self.http_ports[name]}", "METER_INSTANCE": name,
                "METER_SIGNING_KEY_FILE": online, "METER_SPOOL_DIR": self._disk(name) + "/spool",
                "METER_SPOOL_MAX_BYTES": str(4 << 20)}, kafka=True)
        for number in (1, 2):
            self._service(f"webhook-dispatcher-{number}", {
                **self.environment, "METER_WEBHOOK_TIMEOUT": "2s", "METER_WEBHOOK_LEASE": "5s"})
        for service in self.services.values():
            service.wait_ready()
        self._start_load()

    # --- An upgrade migrates while the older services run, and replaces one of each pair and then the other

    def migrate_to_newer(self):
        """Migrates to the newer schema, under the older services and their traffic."""
        self.programs = self.newer
        self.meterctl("migrate")

    def replace(self, number, folder):
        """Restarts the services of this number (1 or 2) with the programs of a folder, one after the other."""
        for name, service in self.services.items():
            if not name.endswith(f"-{number}"):
                continue
            service.stop(30)
            service.command = [f"{folder}/{name.rsplit('-', 1)[0]}"]
            service.start()
            service.wait_ready(90)

    def versions(self):
        """How many services run each version: the folder of their programs, and what their own metrics say."""
        return dict(collections.Counter(
            f"{service.command[0].rsplit('/', 1)[0]} ({get_label(service.admin, 'meter_build_info', 'version')})"
            for service in self.services.values()))

    def _disk(self, name):
        """A small disk for a spool, where this process may mount one."""
        folder = f"{self.folder}/disk-{name}"
        os.makedirs(folder)
        if os.environ.get("CHAOS_MAY_MOUNT") == "1":
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "chaos", folder],
                                  check=False, capture_output=True)
            self.has_small_disks = done.returncode == 0
        return folder

    def _service(self, name, environment, kafka=False):
        product = name.rsplit("-", 1)[0]
        number = len(self.services) + 1
        self.database[name] = proxy.Proxy(self.loop, self.postgres.port, self.seed + 7 * number)
        environment = {**environment, "METER_DATABASE_URL": self.postgres.url(self.database[name].port),
                       "METER_LOG_FORMAT": "json"}
        if kafka:
            self.kafka[name] = self._kafka_side(number, name)
            environment["METER_KAFKA_BROKERS"] = self.kafka[name].brokers
        if name in CLOCKED and self.faketime:
            self.set_clock(name, 0)
            # The last setting is needed because Debian's build takes deadlines of the monotonic clock for those of the faked
            # one. Every wait for them ended immediately, and the process did nothing but wait (a quarter of a core and more).
            environment.update({
                "LD_PRELOAD": self.faketime, "FAKETIME_TIMESTAMP_FILE": f"{self.folder}/{name}.clock",
                "FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_FORCE_MONOTONIC_FIX": "0"})
        service = Service(name, [f"{self.programs}/{product}"], environment, self.logs)
        service.start()
        self.services[name] = service

    def _start_load(self):
        """A third producer: numbered events with duplicates and garbage between them."""
        self.kafka["load"] = self._kafka_side(50)
        batches = self.folder + "/load.properties"
        with open(batches, "w", encoding="utf-8") as file:
            file.write("linger.ms=200\n")
        self.load = Process("load", [
            f"{self.programs}/meterctl", "load", "--events", "1000000000", "--licenses", str(LOAD_LICENSES), "--rate",
            str(self.rate), "--duplicates", "5", "--invalid", "1", "--seed", str(self.seed), "--producer", "load",
            "--json"], {"METER_KAFKA_BROKERS": self.kafka["load"].brokers, "METER_KAFKA_CONFIG_FILE": batches}, self.logs)

    # --- While it runs

    def set_clock(self, name, seconds):
        if not self.faketime:
            return False
        path = f"{self.folder}/{name}.clock"
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(f"{seconds:+.0f}s\n" if seconds else "+0s\n")
        os.replace(path + ".new", path)
        return True

    def check_broker(self):
        if self.broker.child.poll() is not None:
            raise BrokerEnded(f"the broker has ended: {self.broker.child.returncode}")

    def revive(self):
        self.check_broker()
        for service in self.services.values():
            if service.child.poll() is not None and service.is_meant_to_run:
                self.say(f"           {service.name} has ended by itself with {service.child.returncode}: started again")
            service.revive()

    def heal(self):
        for side in [*self.kafka.values(), *self.database.values()]:
            side.fault("pass")
        self.receiver.failing = None

    # --- Commands

    def run_meterctl(self, *arguments, timeout=300):
        return subprocess.run(
            [f"{self.programs}/meterctl", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL,
            timeout=timeout, check=False, env={
                **outer_environment(), **self.environment, "METER_DATABASE_URL": self.postgres.url(),
                "METER_KAFKA_BROKERS": self.operator_kafka.brokers})

    def meterctl(self, *arguments, timeout=300):
        done = self.run_meterctl(*arguments, timeout=timeout)
        if done.returncode != 0:
            raise RuntimeError(f"meterctl {' '.join(arguments)}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def meterctl_json(self, *arguments):
        return json.loads(self.meterctl(*arguments, "--json"))

    def lag(self):
        """Records that are not counted yet, over all groups. None means unknown."""
        self.check_broker()
        done = self.run_meterctl("status", "--json")
        try:
            topics = json.loads(done.stdout)["topics"]
        except (ValueError, KeyError):
            return None
        if any(topic["lag"] is None for topic in topics):
            return None
        return sum(topic["lag"] for topic in topics)

    def diagnosis(self):
        """What every part says about itself, for a report of something that did not happen in time."""
        lines = [f"{name}: {service.health()}" for name, service in self.services.items() if not service.is_ready()]
        return "\n".join(["PostgreSQL: " + self.postgres.replication(), "Endpoints: " + self._endpoints(), *lines])

    def _endpoints(self):
        try:
            return "; ".join(" ".join(row) for row in self.postgres.rows("""
                select e.endpoint_id, e.status, e.consecutive_failures || ' failures in a row',
                  'open for ' || coalesce(e.open_until - clock_timestamp(), '0'),
                  count(*) filter (where d.status = 'pending') || ' pending',
                  'the next in ' || coalesce(min(d.next_attempt_at) filter (where d.status = 'pending') - clock_timestamp(), '0')
                from webhook_endpoint e left join webhook_delivery d using (endpoint_id) group by e.endpoint_id"""))
        except RuntimeError as error:
            return str(error)

    def metric(self, name, metric):
        return get_metric(self.services[name].admin, metric)

    # --- End

    def end(self):
        for process in [self.load, *self.services.values(), self.broker]:
            if process and process.child and process.child.poll() is None:
                process.signal(18)
                process.kill()
        if self.postgres:
            self.postgres.stop()
            self.postgres.keep_logs(self.logs)
            self.postgres.remove()
        for name in SENDERS:
            subprocess.run(["umount", f"{self.folder}/disk-{name}"], check=False, capture_output=True)
