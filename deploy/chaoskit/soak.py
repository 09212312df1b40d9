"""A soak has steady traffic without faults, samples everything that could grow, and judges how it grew."""

import json
import threading
import time

from . import verdict
from .processes import NeverHappened, eventually
from .report import say

# The rows of these tables come and go. They must not grow, whatever is counted.
PASSING = ("usage_pending", "usage_delta", "usage_appended", "consumer_offset", "partition_claim", "idempotency")
MIB = 1 << 20


def halves(values):
    """The means of the second and of the last fifth. The first fifth is for warming up."""
    fifth = max(1, len(values) // 5)
    early, late = values[fifth:2 * fifth], values[-fifth:]
    return sum(early) / len(early), sum(late) / len(late)


def slope(samples):
    """The growth per second by least squares, over all but the first fifth. Each sample: (seconds, value)."""
    samples = samples[len(samples) // 5:]
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread if spread else 0.0


class Soak:
    def __init__(self, pipeline, options):
        self.pipeline, self.options = pipeline, options
        self.samples = {}  # what -> [(seconds, value)]
        self.stopping = threading.Event()
        self.figures = {"seconds": options.duration}

    def carry_out(self):
        self.pipeline.start()
        rate = self.options.rate or self._half_of_the_maximum()
        self.figures["rate"] = rate
        self._set_load(rate)
        say(f"Soaking at {rate} events a second of meterctl load, for {self.options.duration} s")
        self.pipeline.clients.start()
        self.pipeline.load.start()
        begun = time.monotonic()
        while time.monotonic() - begun < self.options.duration:
            self.pipeline.check_broker()
            self._sample(time.monotonic() - begun)
            time.sleep(self.options.every)
        wrong = self._judge_growth() + self._judge_counts()
        self._tell(wrong)
        return 1 if wrong else 0

    # --- The rate

    def _set_load(self, rate):
        command = self.pipeline.load.command
        command[command.index("--rate") + 1] = str(rate)

    def _half_of_the_maximum(self):
        """Half of what is counted a second while producers send as fast as they can, over half a minute."""
        load = self.pipeline.load
        self._set_load(1_000_000)
        before = self._counted()
        load.start()
        time.sleep(10)
        first, begun = self._counted(), time.monotonic()
        time.sleep(20)
        found = (self._counted() - first) / (time.monotonic() - begun)
        load.stop(60)
        eventually("the records of the calibration are counted", 600, lambda: self.pipeline.lag() == 0, pause=1)
        say(f"At most {found:.0f} records a second are counted here (of {self._counted() - before} that were sent)")
        # Under the same name it would number its events from 1 again.
        load.command = ["load-soak" if word == "load" and load.command[n - 1] == "--producer" else word
                        for n, word in enumerate(load.command)]
        load.command[load.command.index("--seed") + 1] = str(self.pipeline.seed + 1)
        self.figures["maximum"] = round(found)
        return max(1, int(found / 2))

    def _counted(self):
        return int(self.pipeline.postgres.query(
            "select coalesce(sum(next_offset), 0) from consumer_offset where consumer_group = 'usage-aggregator'"))

    # --- Samples

    def _sample(self, seconds):
        def add(what, value):
            self.samples.setdefault(what, []).append((seconds, value))

        for name, service in self.pipeline.services.items():
            usage = service.usage()
            for key in ("memory", "descriptors", "threads", "cpu"):
                if usage:
                    add((key, name), usage[key])
        lag = self.pipeline.lag()
        if lag is not None:
            add(("lag", ""), lag)
        for table, data, index in self.pipeline.postgres.rows("""
                select c.relname, pg_table_size(c.oid), pg_indexes_size(c.oid) from pg_class c
                where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace"""):
            add(("table", table), int(data))
            add(("index", table), int(index))

    # --- Judgment

    def _judge_growth(self):
        wrong = []
        for (kind, name), samples in self.samples.items():
            if len(samples) < 10:
                continue
            early, late = halves([value for _, value in samples])
            hourly = slope(samples) * 3_600
            if kind == "memory" and late > early * 1.1 + 16 * MIB:
                wrong.append(f"{name}: memory grew from {early / MIB:.0f} to {late / MIB:.0f} MiB, {hourly / MIB:+.0f} an hour")
            if kind == "descriptors" and late > early + 5:
                wrong.append(f"{name}: descriptors grew from {early:.0f} to {late:.0f}")
            if kind == "threads" and late > early + 3:
                wrong.append(f"{name}: threads grew from {early:.0f} to {late:.0f}")
            if kind == "lag" and late > 2 * early + 5 * self.figures["rate"]:
                wrong.append(f"the lag grew from {early:.0f} to {late:.0f} records")
            if kind in ("table", "index") and name.startswith(PASSING) and late > 2 * early + 8 * MIB:
                wrong.append(f"{kind} of {name}: grew from {early / MIB:.1f} to {late / MIB:.1f} MiB")
        return wrong

    def _judge_counts(self):
        say("Ending the traffic and waiting until all is counted")
        pipeline, wrong = self.pipeline, []
        try:
            pipeline.clients.stop(120)
            pipeline.load.stop(60)
            for name in ("validation-service-1", "validation-service-2"):
                pipeline.services[name].stop(30)
            eventually("everything is counted", 600, lambda: pipeline.lag() == 0, pause=1)
            eventually("reports are judged", 180, lambda: pipeline.postgres.query(
                "select coalesce(sum(abs(in_flight)), 0) from producer_ledger") == "0", pause=1)
        except (NeverHappened, TimeoutError) as error:
            wrong.append(str(error))
        # The broker keeps the end of each partition, so that little or nothing can be recounted. The ledger proves the rest.
        wrong += verdict.ledger(pipeline) + verdict.reconcile(pipeline, 1_800, is_whole=False) + pipeline.clients.truth.errors
        wrong += [f"{name} ended by itself with {service.child.returncode}" for name, service in pipeline.services.items()
                  if service.is_meant_to_run and service.child.poll() is not None]
        return wrong

    # --- Words

    def _tell(self, wrong):
        counted = self._counted()
        self.figures["counted_records"], self.figures["wrong"] = counted, wrong
        for (kind, name), samples in sorted(self.samples.items()):
            if len(samples) < 5:
                continue
            early, late = halves([value for _, value in samples])
            hourly = slope(samples) * 3_600
            self.figures[f"{kind} {name}".strip()] = [round(early), round(late), round(hourly)]
            if kind == "cpu":
                say(f"{kind:12} {name:28} {slope(samples):9.3f} cores")
            elif kind in ("table", "index") and late > 256 * 1024 or kind not in ("table", "index"):
                unit, scale = ("MiB", MIB) if kind in ("memory", "table", "index") else ("", 1)
                say(f"{kind:12} {name:28} {early / scale:9.1f} -> {late / scale:9.1f} {unit:3} {hourly / scale:+10.1f} an hour")
        say(f"{counted} records counted")
        for sentence in wrong:
            say(f"WRONG: {sentence}")
        say("the soak found something" if wrong else "nothing grows that should not")
        if self.options.json:
            with open(self.options.json, "w", encoding="utf-8") as file:
                json.dump(self.figures, file, indent=1)
