"""A long run as rounds. Each has its own seed and pipeline, and is judged for itself.

The mock broker keeps its log in memory and ends by one of its assertions after some ten minutes of faults. A broker
that has ended takes the log with it, so that nothing can be proved any more. A round is shorter than that. If its broker
ends nevertheless, the round proves nothing, and its faults are not added up.
"""

import collections
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from .report import say

HOLDS, WRONG, PROVES_NOTHING = 0, 1, 3
# Figures that are added up over the rounds that were judged.
SUMS = ["events_answered_for", "validations_answered", "load_accepted", "requests", "requests_failed", "counted",
        "duplicates", "dead_lettered", "dropped", "missing", "alerts", "closed_periods", "late_adjustments"]


class Rounds:
    def __init__(self, program, options):
        self.program, self.options = program, options
        self.results = collections.Counter()
        self.faults, self.sums, self.ended = collections.Counter(), collections.Counter(), collections.Counter()
        self.fault_seconds, self.wrong, self.seeds = 0, [], []

    def carry_out(self):
        """The exit status: 1 if any round found something wrong, 3 if no round was judged."""
        started = time.monotonic()
        end = started + self.options.minutes * 60
        number = 0
        while number == 0 or time.monotonic() + self.options.duration < end:
            seed = self.options.seed + number
            number += 1
            say(f"--- Round {number}, --seed {seed} --duration {self.options.duration}")
            self._take(seed, *self._one(seed))
            self._tell(time.monotonic() - started)
        if self.options.json:
            with open(self.options.json, "w", encoding="utf-8") as file:
                json.dump(self._figures(time.monotonic() - started), file, indent=1)
        if self.results[WRONG]:
            return WRONG
        return HOLDS if self.results[HOLDS] else PROVES_NOTHING

    def _one(self, seed):
        """Runs one round in a separate process. Returns its exit status and its figures."""
        with tempfile.NamedTemporaryFile(suffix=".json") as figures:
            command = [sys.executable, self.program, "--duration", str(self.options.duration), "--seed", str(seed),
                       "--rate", str(self.options.rate), "--faults", self.options.faults, "--json", figures.name]
            if self.options.upgrade_from:
                command += ["--upgrade-from", os.path.abspath(self.options.upgrade_from)]
            if self.options.programs:
                command += ["--programs", os.path.abspath(self.options.programs)]
            round_process = subprocess.Popen(command)
            try:
                status = round_process.wait()
            except (SystemExit, KeyboardInterrupt):
                # The round ends what it has started.
                round_process.send_signal(signal.SIGTERM)
                round_process.wait()
                raise
            try:
                with open(figures.name, encoding="utf-8") as file:
                    return status, json.load(file)
            except ValueError:
                return status, {}

    def _take(self, seed, status, figures):
        result = status if status in (HOLDS, PROVES_NOTHING) else WRONG
        self.results[result] += 1
        if result == PROVES_NOTHING:
            return
        self.seeds.append(seed)
        self.fault_seconds += figures.get("duration", 0)
        self.faults.update(figures.get("faults", {}))
        for name in SUMS:
            self.sums[name] += figures.get(name, 0)
        for name, statuses in figures.get("ended_by_themselves", {}).items():
            self.ended[name] += len(statuses)
        if result == WRONG:
            self.wrong += [f"--seed {seed}: {sentence}" for sentence in figures.get("wrong") or [f"exit {status}"]]

    def _figures(self, seconds):
        return {
            "rounds_that_hold": self.results[HOLDS], "rounds_that_do_not": self.results[WRONG],
            "rounds_that_prove_nothing": self.results[PROVES_NOTHING], "seconds": round(seconds),
            "seconds_of_faults": self.fault_seconds, "seeds": self.seeds, "faults": dict(sorted(self.faults.items())),
            "ended_by_themselves": dict(self.ended), **self.sums, "wrong": self.wrong}

    def _tell(self, seconds):
        say("")
        for name, value in self._figures(seconds).items():
            if name != "wrong":
                say(f"total {name}: {value}")
        for sentence in self.wrong:
            say(f"WRONG: {sentence}")
        say(f"{sum(self.faults.values())} faults of {len(self.faults)} kinds in {self.results[HOLDS]} rounds that hold, "
            f"{self.results[WRONG]} that do not, and {self.results[PROVES_NOTHING]} that prove nothing")
