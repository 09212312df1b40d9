"""What a run prints, and what it measures on the side."""

import threading
import time


def say(text):
    print(text, flush=True)


class Sampler:
    """Memory, descriptors and CPU of each process, every few seconds."""

    def __init__(self, pipeline, seconds=5):
        self.pipeline, self.seconds = pipeline, seconds
        self.samples = {}
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopping.wait(self.seconds):
            for name, service in self.pipeline.services.items():
                usage = service.usage()
                if usage:
                    usage["at"], usage["pid"] = time.monotonic(), service.child.pid
                    self.samples.setdefault(name, []).append(usage)

    def stop(self):
        self.stopping.set()
        self.thread.join()

    def trend(self, name, key):
        """The mean of the second fifth of the samples and that of the last fifth. What grows shows in them."""
        values = [sample[key] for sample in self.samples.get(name, [])]
        fifth = max(1, len(values) // 5)
        if len(values) < 5:
            return None
        early, late = values[fifth : 2 * fifth], values[-fifth:]
        return sum(early) / len(early), sum(late) / len(late)


def cpu_share(pipeline, seconds):
    """The share of a core that each process uses while nothing is to be done."""
    before = {name: service.usage() for name, service in pipeline.services.items()}
    started = time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - started
    after = {name: service.usage() for name, service in pipeline.services.items()}
    return {name: (after[name]["cpu"] - before[name]["cpu"]) / elapsed
            for name in before if before[name] and after[name]}


def tables(pipeline):
    """Bytes of each table with its indexes, the largest first."""
    rows = pipeline.postgres.rows("""
        select relname, pg_table_size(oid), pg_indexes_size(oid) from pg_class
        where relkind = 'r' and relnamespace = 'public'::regnamespace
        order by pg_total_relation_size(oid) desc limit 12""")
    return [(name, int(table), int(index)) for name, table, index in rows]
