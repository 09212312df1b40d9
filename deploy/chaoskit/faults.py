"""The faults, and their schedule: the same seed and duration make the same schedule."""

import collections
import random
import threading
import time
import traceback

# kind -> how often it is chosen, relative to the others
WEIGHTS = {
    "kill": 5, "terminate": 2, "stop": 3, "clock": 3,
    "kafka-delay": 2, "kafka-cut": 4, "kafka-refuse": 2, "kafka-blackhole": 3, "kafka-trickle": 2,
    "postgres-delay": 2, "postgres-cut": 4, "postgres-refuse": 2, "postgres-blackhole": 3, "postgres-trickle": 2,
    "postgres-crash": 2, "postgres-failover": 2, "spool-full": 2, "endpoint": 3,
}
CONSUMERS = ["usage-aggregator-1", "usage-aggregator-2", "anomaly-detector-1", "anomaly-detector-2"]
SENDERS = ["validation-service-1", "validation-service-2"]
DISPATCHERS = ["webhook-dispatcher-1", "webhook-dispatcher-2"]
SERVICES = CONSUMERS + SENDERS + DISPATCHERS
# These have a proxy before Kafka.
KAFKA_CLIENTS = CONSUMERS + SENDERS + ["load"]
# These run under libfaketime. The consumers cannot, because librdkafka waits by C11's cnd_timedwait, which libfaketime does
# not know, for deadlines that it computes by the faked clock.
CLOCKED = ["validation-service-2", "webhook-dispatcher-2"]


class Fault:
    """One entry of the schedule."""

    def __init__(self, at, kind, target, seconds, value):
        self.at, self.kind, self.target, self.seconds, self.value = at, kind, target, seconds, value

    def __str__(self):
        value = f" {self.value:+.0f} s" if self.kind == "clock" else ""
        return f"{self.kind} {self.target or ''}{value} for {self.seconds:.1f} s"


def schedule(seed, duration, kinds):
    """Takes each kind once, in any order, and then as their weights say. Some overlap."""
    rng = random.Random(seed)
    first = [kind for kind in WEIGHTS if kind in kinds]
    rng.shuffle(first)
    faults, at = [], 1.0
    # There is room at the end, so that the last ones act on traffic.
    while at < duration - 3 and kinds:
        kind = first.pop() if first else rng.choices(list(kinds), [WEIGHTS[k] for k in kinds])[0]
        seconds = rng.uniform(0.5, 6)
        target, value = None, 0.0
        if kind == "stop":
            # This is longer than the session of 6 s and than a dispatcher's lease.
            target, seconds = rng.choice(SERVICES), rng.uniform(7, 10)
        elif kind in ("kill", "terminate"):
            target, seconds = rng.choice(SERVICES), rng.uniform(0, 1.5)
        elif kind == "clock":
            target = rng.choice(CLOCKED)
            # The service's producer is librdkafka too. If its clock was far ahead, it would stand still for as long.
            value = rng.choice([-5, -120, -1_500, -3_000, 5] + ([120, 3_000] if target in DISPATCHERS else []))
        elif kind.startswith("kafka"):
            target = rng.choice(KAFKA_CLIENTS + ["all"])
        elif kind.startswith("postgres") and kind not in ("postgres-crash", "postgres-failover"):
            target = rng.choice(SERVICES + ["all"])
        elif kind == "spool-full":
            target, seconds = rng.choice(SENDERS), rng.uniform(8, 12)
        elif kind == "endpoint":
            target = rng.choice(["status", "hang", "cut"])
        faults.append(Fault(at, kind, target, seconds, value))
        at += rng.uniform(0.4, 2.6) * (1 if duration < 300 else 1.5)
    return faults


class Runner:
    """Carries out a schedule. Each fault has its own thread."""

    def __init__(self, pipeline, say):
        self.pipeline, self.say = pipeline, say
        self.survived = collections.Counter()
        self.skipped = collections.Counter()
        self.errors = []
        self.lock = threading.Lock()
        self.database_lock = threading.Lock()
        self.busy = collections.defaultdict(threading.Lock)
        self.threads = []

    def run(self, faults, started):
        """Returns once the last fault of the list has begun."""
        for fault in faults:
            time.sleep(max(0, started + fault.at - time.monotonic()))
            self.pipeline.revive()
            thread = threading.Thread(target=self._one, args=(fault, time.monotonic() - started), daemon=True)
            thread.start()
            self.threads.append(thread)

    def settle(self, seconds=120):
        """Waits until every fault is over."""
        end = time.monotonic() + seconds
        for thread in self.threads:
            thread.join(max(0.1, end - time.monotonic()))
            if thread.is_alive():
                self.errors.append("a fault did not end")
        self.threads = []

    def _one(self, fault, at):
        # A place has one fault of a kind at a time, so a process that is stopped is not killed by a second thread.
        family = fault.kind.split("-")[0] if fault.kind.startswith(("kafka", "postgres")) else "process"
        place = self.busy[("endpoint" if fault.kind == "endpoint" else family, fault.target)]
        if fault.kind in ("postgres-crash", "postgres-failover"):
            place = self.database_lock
        if not place.acquire(blocking=False):
            with self.lock:
                self.skipped[fault.kind] += 1
            return
        try:
            self.say(f"{at:7.1f} s  {fault}")
            done = getattr(self, "_" + fault.kind.replace("-", "_"))(fault)
            with self.lock:
                (self.skipped if done is False else self.survived)[fault.kind] += 1
        except Exception:  # pylint: disable=broad-except
            self.say(f"           {fault} failed: {traceback.format_exc()}")
            with self.lock:
                self.errors.append(f"{fault}: {traceback.format_exc(limit=-1)}")
        finally:
            place.release()

    # --- One method for each kind. It returns False if the fault could not be made now.

    def _kill(self, fault):
        process = self.pipeline.services[fault.target]
        process.kill()
        time.sleep(fault.seconds)
        process.start()

    def _terminate(self, fault):
        process = self.pipeline.services[fault.target]
        status = process.stop()
        # SIGTERM while it is still being loaded ends it by the signal.
        if status not in (0, -15):
            raise RuntimeError(f"{fault.target} ended with {status} after SIGTERM: {process.tail()}")
        time.sleep(fault.seconds)
        process.start()

    def _stop(self, fault):
        process = self.pipeline.services[fault.target]
        process.signal(19)
        time.sleep(fault.seconds)
        process.signal(18)

    def _clock(self, fault):
        if not self.pipeline.set_clock(fault.target, fault.value):
            return False
        time.sleep(fault.seconds)
        self.pipeline.set_clock(fault.target, 0)

    def _endpoint(self, fault):
        self.pipeline.receiver.failing = fault.target
        time.sleep(fault.seconds)
        self.pipeline.receiver.failing = None

    def _spool_full(self, fault):
        """Keeps Kafka away from one service until its spool has no room, on a disk that is smaller than the spool's limit."""
        kafka = self.pipeline.kafka[fault.target]
        kafka.fault("refuse")
        enough = threading.Event()
        timer = threading.Timer(fault.seconds, enough.set)
        timer.start()
        try:
            was_full = self.pipeline.clients.fill(
                int(fault.at * 1000), self.pipeline.http_ports[fault.target], enough)
            # The spool is full for a while, and validations go on.
            if was_full:
                time.sleep(2)
        finally:
            timer.cancel()
            kafka.fault("pass")
        return was_full

    def _network(self, proxies, fault, mode):
        for proxy in proxies:
            proxy.fault(mode, 0.3)
        if mode != "cut":
            time.sleep(fault.seconds)
            for proxy in proxies:
                proxy.fault("pass")

    def _kafka(self, fault):
        chosen = self.pipeline.kafka.values() if fault.target == "all" else [self.pipeline.kafka[fault.target]]
        self._network(list(chosen), fault, fault.kind.split("-")[1])

    _kafka_delay = _kafka_cut = _kafka_refuse = _kafka_blackhole = _kafka_trickle = _kafka

    def _postgres(self, fault):
        chosen = self.pipeline.database.values() if fault.target == "all" else [self.pipeline.database[fault.target]]
        self._network(list(chosen), fault, fault.kind.split("-")[1])

    _postgres_delay = _postgres_cut = _postgres_refuse = _postgres_blackhole = _postgres_trickle = _postgres

    def _postgres_crash(self, fault):
        del fault
        self.pipeline.postgres.crash_and_recover()

    def _postgres_failover(self, fault):
        del fault
        postgres = self.pipeline.postgres
        # Nobody may fail over to a standby that lags, because what it lacks was promised.
        if not postgres.is_synchronous():
            return False
        port = postgres.fail_over()
        for proxy in self.pipeline.database.values():
            proxy.retarget(port)
        postgres.tidy_after_fail_over()
        postgres.make_standby()
