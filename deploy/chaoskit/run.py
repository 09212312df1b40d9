"""One run: it starts, breaks, settles, judges and reports."""

import json
import time

from . import verdict
from .faults import SENDERS, Runner
from .pipeline import PARTITIONS, USAGE
from .processes import NeverHappened, eventually
from .report import Sampler, cpu_share, say, tables


class Run:
    def __init__(self, pipeline, schedule, options):
        self.pipeline, self.schedule, self.options = pipeline, schedule, options
        self.runner = Runner(pipeline, say)
        self.closed = []
        self.figures = {"seed": options.seed, "duration": options.duration, "rate": options.rate}

    def carry_out(self):
        started = time.monotonic()
        self.pipeline.start()
        say(f"Started in {time.monotonic() - started:.0f} s. Clocks: {'libfaketime' if self.pipeline.faketime else 'not faked'}. "
            f"Small disks: {'yes' if self.pipeline.has_small_disks else 'no'}.")
        sampler = Sampler(self.pipeline)
        sizes = tables(self.pipeline)
        self.pipeline.clients.start()
        self.pipeline.load.start()
        self._break()
        wrong = self._judge()
        self._measure(sampler, sizes)
        self._tell(wrong, time.monotonic() - started)
        if self.options.json:
            with open(self.options.json, "w", encoding="utf-8") as file:
                json.dump(self.figures, file, indent=1)
        return 1 if wrong else 0

    # --- Faults

    def _break(self):
        """Carries out the schedule in two halves. Between them, with no fault, a topic grows. Periods are closed in both."""
        begun = time.monotonic()
        if self.options.upgrade_from:
            self._upgrade_one_of_each()
            begun = time.monotonic()
        half = len(self.schedule) // 2
        middle = self.options.duration / 2
        self.runner.run(self.schedule[:half], begun)
        time.sleep(max(0, begun + middle - time.monotonic()))
        self._close()
        paused = time.monotonic()
        try:
            if self.options.upgrade_from:
                self._finish_upgrade()
            self._grow()
        except (NeverHappened, RuntimeError, TimeoutError) as error:
            # The failure is reported immediately, and judged at the end.
            say(f"           the growth failed: {error}\n{self.pipeline.diagnosis()}")
            self.runner.errors.append(f"the growth failed: {error}")
            self._settle()
            self.pipeline.clients.resume()
        begun += time.monotonic() - paused
        self.runner.run(self.schedule[half:], begun)
        self._close()
        time.sleep(max(0, begun + self.options.duration - time.monotonic()))

    def _upgrade_one_of_each(self):
        """Migrates to the newer schema under the older services, then replaces one of each pair, while traffic flows."""
        pipeline = self.pipeline
        say(f"           the older programs run: {pipeline.versions()}")
        time.sleep(3)
        pipeline.migrate_to_newer()
        say("           migrated, while the older services run")
        time.sleep(3)
        pipeline.replace(1, pipeline.newer)
        self.figures["versions"] = pipeline.versions()
        say(f"           one of each pair is newer: {self.figures['versions']}")

    def _finish_upgrade(self):
        """Goes back and forth once: a release is taken back while the schema stays, and then it is finished."""
        pipeline = self.pipeline
        self._settle()
        pipeline.replace(1, pipeline.older)
        say("           taken back: every service is of the older version, on the newer schema")
        time.sleep(3)
        pipeline.replace(2, pipeline.newer)
        pipeline.replace(1, pipeline.newer)
        self.runner.survived["upgrade and rollback"] += 1
        say(f"           all are newer: {pipeline.versions()}")

    def _close(self):
        """Closes what has ended, while everything goes on. What is closed must stay as it is."""
        day = self.pipeline.today.strftime("%Y-%m-%d")
        try:
            done = self.pipeline.meterctl(
                "periods", "close", "--ending-before", day, "--force", "--reason", "chaos")
        except RuntimeError as error:
            # PostgreSQL may be failing over at this moment. Then the close comes later.
            say(f"           no close now: {str(error)[-120:]}")
            return
        say(f"           {done.strip()}")
        # Each is kept as it was when it was first seen closed.
        known = {row[0] for row in self.closed}
        rows = self._while_database(lambda: self.pipeline.postgres.rows(verdict.CLOSED))
        self.closed += [row for row in rows if row[0] not in known]

    def _while_database(self, query):
        def attempt():
            try:
                return [query()]
            except RuntimeError:
                return None

        return eventually("PostgreSQL answers", 60, attempt)[0]

    def _settle(self):
        self.runner.settle()
        self.pipeline.heal()
        # If a fault has left the standby away, commits would wait for it, which proves nothing about the services.
        self.pipeline.postgres.await_standby()
        self.pipeline.revive()
        for service in self.pipeline.services.values():
            if service.child.poll() is not None:
                service.start()

    def _wait_until_counted(self, what, seconds=120):
        """Waits for as long as the lag falls. A busy machine takes its time, and that is no fault."""
        least, since = None, time.monotonic()
        while (lag := self.pipeline.lag()) != 0:
            self.pipeline.revive()
            if lag is not None and (least is None or lag < least):
                least, since = lag, time.monotonic()
            if time.monotonic() - since > seconds:
                raise NeverHappened(f"{what}: the lag stays at {lag} for {seconds} s")
            time.sleep(0.5)

    def _grow(self):
        """Follows the drained procedure of docs/operations.md: producers stop, everything is counted, the topic grows."""
        if self.options.faults == "none":
            return
        self._settle()
        begun = time.monotonic()
        self.pipeline.clients.pause()
        for service in self.pipeline.services.values():
            service.wait_ready(90)
        for name in SENDERS:
            self.pipeline.services[name].stop(30)
        load = self.pipeline.load
        load.stop(60)
        self.load_accepted = self._load_accepted()
        self._wait_until_counted("drained before the growth")
        eventually("nothing is in flight", 180, lambda: self.pipeline.postgres.query(
            "select coalesce(sum(in_flight), 0) from producer_ledger") == "0")
        self.pipeline.meterctl("topics", "grow", USAGE, "--to", str(2 * PARTITIONS), "--quiet", "1s", "--yes")
        for name in SENDERS:
            self.pipeline.services[name].start()
        # Under the same name it would number its events from 1 again.
        load.command = ["load-2" if word == "load" and load.command[n - 1] == "--producer" else word
                        for n, word in enumerate(load.command)]
        load.command[load.command.index("--seed") + 1] = str(self.pipeline.seed + 1)
        load.start()
        self.pipeline.clients.resume()
        self.runner.survived["topic growth"] += 1
        say(f"           {USAGE} has grown to {2 * PARTITIONS} partitions, in {time.monotonic() - begun:.0f} s")

    load_accepted = 0

    def _load_accepted(self):
        """The events that all loads say they accepted, up to the one that ended last."""
        with open(self.pipeline.load.log, encoding="utf-8", errors="replace") as file:
            text = file.read()
        found, decoder = 0, json.JSONDecoder()
        at = text.find("{")
        while at >= 0:
            try:
                document, end = decoder.raw_decode(text, at)
                found += document.get("accepted", 0) if isinstance(document, dict) else 0
            except ValueError:
                end = at + 1
            at = text.find("{", end)
        return found

    # --- Judgment

    def _judge(self):
        """Ends the producers, waits until all is counted and delivered, and compares."""
        say("Ending the traffic and waiting until all is counted and delivered")
        wrong = []
        pipeline = self.pipeline
        self._settle()
        for service in pipeline.services.values():
            try:
                service.wait_ready(60)
            except NeverHappened as error:
                wrong.append(f"{error}; {pipeline.diagnosis()}")
        try:
            pipeline.clients.stop(120)
            status = pipeline.load.stop(60)
            if status != 0:
                wrong.append(f"meterctl load ended with {status}")
            # The last reports of these services say that nothing is left in the spools.
            for name in SENDERS:
                pipeline.services[name].stop(30)
            self._wait_until_counted("everything is counted")
            self._wait_until_judged()
            for name in SENDERS:
                pipeline.services[name].start()
            self._eventually(lambda: f"{verdict.pending_deliveries(pipeline)} deliveries are left", 120,
                             lambda: verdict.pending_deliveries(pipeline) == 0)
        except (NeverHappened, TimeoutError) as error:
            wrong.append(f"{error}; {pipeline.diagnosis()}")
        self.load_accepted = self._load_accepted()
        wrong += verdict.counts(pipeline, self.load_accepted)
        for check in (verdict.ledger, verdict.reconcile, verdict.limits, verdict.mismatches, verdict.deliveries):
            wrong += check(pipeline)
        wrong += verdict.periods(pipeline, self.closed)
        wrong += self.runner.errors + pipeline.clients.truth.errors
        for name, service in pipeline.services.items():
            if service.unexpected_ends:
                self.figures.setdefault("ended_by_themselves", {})[name] = service.unexpected_ends
            # A status of 1 is for the supervisor: a Kafka client hangs. A trap of the language is a bug.
            wrong += [f"{name} crashed with {status}" for status in service.unexpected_ends if status not in (0, 1)]
        return wrong

    def _eventually(self, what, seconds, condition):
        """Waits like `eventually`. Meanwhile a service that ends by itself is started again, as a supervisor would."""
        def attempt():
            self.pipeline.revive()
            return condition()

        eventually(what, seconds, attempt, pause=0.5)

    def _wait_until_judged(self):
        self._eventually("the ledger has judged the last reports, and rows are merged", 180, lambda: self.pipeline.postgres.query(
            """select (select count(*) from producer_report where judged_at is null)
                 + (select count(*) from usage_pending)
                 + (select coalesce(sum(abs(in_flight)), 0) from producer_ledger)""") == "0")

    # --- Words

    def _measure(self, sampler, before):
        sampler.stop()
        pipeline, figures = self.pipeline, self.figures
        time.sleep(2)
        figures["idle_cpu"] = {
            name: round(share, 4)
            for name, share in cpu_share(pipeline, 20 if self.options.faults == "none" else 5).items()}
        figures["memory"] = {name: sampler.trend(name, "memory") for name in pipeline.services}
        figures["descriptors"] = {name: sampler.trend(name, "descriptors") for name in pipeline.services}
        figures["tables_before"], figures["tables_after"] = before, tables(pipeline)

    def _tell(self, wrong, seconds):
        truth, figures = self.pipeline.clients.truth, self.figures
        rows = self.pipeline.postgres.rows(verdict.LEDGER)
        usage = [row for row in rows if row[0] == "usage-aggregator"]
        figures["faults"] = dict(sorted(self.runner.survived.items()))
        figures["skipped"] = dict(self.runner.skipped)
        figures["standbys_remade"] = self.pipeline.postgres.standbys_remade
        figures["events_answered_for"] = sum(truth.events.values())
        figures["validations_answered"] = sum(truth.valid.values())
        figures["load_accepted"] = self.load_accepted
        figures["requests"], figures["requests_failed"] = truth.attempts, truth.failures
        for column, name in ((5, "counted"), (6, "duplicates"), (7, "dead_lettered"), (4, "dropped"), (9, "missing")):
            figures[name] = sum(int(row[column]) for row in usage)
        figures["alerts"] = int(self.pipeline.postgres.query("select count(*) from alert"))
        figures["webhooks_heard"] = sum(self.pipeline.receiver.delivered.values())
        figures["closed_periods"] = len(self.closed)
        figures["late_adjustments"] = int(self.pipeline.postgres.query("select count(*) from usage_adjustment"))
        figures["refusals"] = dict(truth.refusals)
        figures["seconds"], figures["wrong"] = round(seconds), wrong
        say("")
        for name, value in figures.items():
            if name not in ("memory", "descriptors", "tables_before", "tables_after", "wrong"):
                say(f"{name}: {value}")
        if self.options.faults == "none":
            for name in ("memory", "descriptors", "tables_before", "tables_after"):
                say(f"{name}: {figures[name]}")
        say("")
        for sentence in wrong:
            say(f"WRONG: {sentence}")
        total = sum(self.runner.survived.values())
        say(f"{total} faults of {len(self.runner.survived)} kinds: "
            + ("something does not hold" if wrong else "everything holds"))
