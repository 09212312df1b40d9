"""Processes that deploy/chaos starts, and PostgreSQL with a synchronous standby."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request


class NeverHappened(Exception):
    """Something that must happen did not happen in the time that it was given."""


class BrokerEnded(Exception):
    """The mock broker has ended by itself: the log is lost, and the run proves nothing."""


def eventually(what, seconds, condition, pause=0.1):
    """Waits until the condition gives something that is true, and returns it."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise NeverHappened(f"not within {seconds:.0f} s: {what() if callable(what) else what}")
        time.sleep(pause)


def outer_environment():
    """The caller's environment without settings of the programs, which would change what is run."""
    return {name: value for name, value in os.environ.items() if not name.startswith("METER_")}


# The schedule of faults has other generators, which a busy port must not disturb.
_port_generator = random.SystemRandom()
_given_ports = set()


def free_port():
    """A port that nobody listens on, and that was not given before.

    It lies below those that the system gives to outgoing connections, which could take it before its service listens.
    """
    while True:
        port = _port_generator.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given_ports:
            _given_ports.add(port)
            return port


class Process:
    """A program with its environment. It can be ended in any way and started again."""

    def __init__(self, name, command, environment, log_folder):
        self.name, self.command = name, command
        self.environment = environment
        self.log = os.path.join(log_folder, name + ".log")
        self.child = None
        self.starts = 0
        self.unexpected_ends = []
        self.is_meant_to_run = False

    def start(self):
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                self.command, env={**outer_environment(), **self.environment}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True)
        self.starts += 1
        self.is_meant_to_run = True

    def revive(self):
        """Starts it again if it has ended by itself, as its supervisor would, and remembers how it ended."""
        if self.is_meant_to_run and self.child.poll() is not None:
            self.unexpected_ends.append(self.child.returncode)
            self.start()

    def signal(self, number):
        try:
            self.child.send_signal(number)
        except ProcessLookupError:
            pass

    def kill(self):
        self.is_meant_to_run = False
        self.signal(signal.SIGKILL)
        self.child.wait()

    def stop(self, seconds=15):
        """Sends SIGTERM and returns the exit status."""
        self.is_meant_to_run = False
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise NeverHappened(f"{self.name} did not end within {seconds} s of SIGTERM: {self.tail()}") from None

    def tail(self, lines=5):
        with open(self.log, errors="replace") as file:
            return "".join(file.readlines()[-lines:]).strip()

    # --- Its cost
    def usage(self):
        """Resident bytes, open descriptors, threads, seconds of CPU. None if it does not run."""
        try:
            pid = self.child.pid
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            ticks = os.sysconf("SC_CLK_TCK")
            return {
                "memory": int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
                "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
                "threads": int(fields[17]),
                "cpu": (int(fields[11]) + int(fields[12])) / ticks,
            }
        except (OSError, IndexError):
            return None


class Service(Process):
    """A program with an admin address."""

    def __init__(self, name, command, environment, log_folder):
        self.admin = free_port()
        super().__init__(
            name, command, {"METER_ADMIN_BIND": f"127.0.0.1:{self.admin}", **environment}, log_folder)

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/health/ready", timeout=2) as answer:
                return answer.status == 200
        except (OSError, ValueError):
            return False

    def health(self):
        """What it says about itself."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/health/ready", timeout=2) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except OSError as error:
            return str(error)

    def wait_ready(self, seconds=60):
        eventually(lambda: f"{self.name} is ready: {self.health()}; its log ends: {self.tail()}", seconds, self.is_ready)


class PostgreSQL:
    """A primary, and its synchronous standby if it is to have one, each in its own folder."""

    def __init__(self, folder, binaries, prefix, settings=(), has_standby=True):
        self.folder, self.binaries, self.prefix = folder, binaries, prefix
        self.port = free_port()
        self.generation = 1
        self.standbys_remade = 0
        self.run("mkdir", "-p", folder)
        self._pg("initdb", "-D", self.data(1), "-U", "metering", "-A", "trust", "--no-locale", "-E", "UTF8",
                 "--no-instructions", "--no-sync")
        self._append(self.data(1), [
            "listen_addresses = '127.0.0.1'", "unix_socket_directories = ''", "max_connections = 200",
            "shared_buffers = 64MB", "timezone = 'UTC'", "log_min_messages = log", "log_min_error_statement = fatal",
            "log_line_prefix = '%m [%p] '", "wal_keep_size = 256MB", "max_wal_senders = 5", "tcp_user_timeout = 10s",
            "cluster_name = 'standby'", *settings])
        self.start_server(1, self.port)
        if has_standby:
            self.make_standby()

    def data(self, generation):
        return f"{self.folder}/data{generation}"

    def run(self, *command, timeout=120):
        return subprocess.run([*self.prefix, *command], cwd="/", check=True, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=timeout)

    def _pg(self, program, *arguments):
        # There are files instead of pipes, because pg_ctl's server would hold a pipe open.
        subprocess.run([*self.prefix, f"{self.binaries}/{program}", *arguments], cwd="/", check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)

    def _append(self, data, lines):
        subprocess.run([*self.prefix, "tee", "-a", f"{data}/postgresql.conf"], cwd="/", check=True,
                       input="\n".join(["", *lines, ""]), text=True, stdout=subprocess.DEVNULL)

    def start_server(self, generation, port):
        self._pg("pg_ctl", "start", "-w", "-t", "60", "-D", self.data(generation), "-l",
                 f"{self.folder}/log{generation}", "-o", f"-p {port}")

    def crash_and_recover(self):
        """Ends the primary without a checkpoint. It comes back by its WAL."""
        self._pg("pg_ctl", "stop", "-m", "immediate", "-D", self.data(self.generation))
        self.start_server(self.generation, self.port)
        self.await_standby()

    def await_standby(self):
        """Waits for the standby, because every commit does, without any time limit. A standby that does not come back is
        made again, as a cluster's operator would do."""
        try:
            eventually("the standby is synchronous again", 30, self.is_synchronous)
        except NeverHappened:
            self.remake_standby()

    def remake_standby(self):
        """Replaces a standby that does not come back. Until then the primary commits alone."""
        self.standbys_remade += 1
        print(f"           the standby is away and is made again; {self.replication()}", flush=True)
        self.commit_alone()
        try:
            self._pg("pg_ctl", "stop", "-m", "immediate", "-D", self.data(self.generation + 1))
        except subprocess.SubprocessError:
            pass  # It was not running.
        self.run("rm", "-rf", self.data(self.generation + 1))
        self.make_standby()

    def is_synchronous(self):
        """Whether commits are answered, because the standby that they wait for is there."""
        try:
            return self.query("select count(*) from pg_stat_replication where sync_state = 'sync'",
                              database="postgres") == "1"
        except RuntimeError:
            return False  # It is starting.

    def replication(self):
        """What the primary knows of its standby, and which sessions have waited for long. It helps to find a cause."""
        def said(sql):
            try:
                return self.query(sql, database="postgres").replace("\n", "; ") or "none"
            except RuntimeError as error:
                return str(error)

        return "standbys: " + said(
            "select application_name, state, sync_state, sent_lsn, flush_lsn, reply_time from pg_stat_replication"
        ) + ". Waiting sessions: " + said("""
            select backend_type, state, wait_event_type, wait_event, now() - state_change, left(query, 60)
            from pg_stat_activity where wait_event_type in ('IPC', 'Lock') or state = 'active'
              and now() - state_change > interval '2 s'""")

    def commit_alone(self):
        """Lets commits wait for nobody. Those that wait for a standby are answered."""
        def is_alone():
            try:
                self.query("alter system reset synchronous_standby_names", database="postgres")
                self.query("select pg_reload_conf()", database="postgres")
                return True
            except RuntimeError:
                return False

        eventually("the primary takes settings", 60, is_alone)

    def make_standby(self):
        """Makes a new standby of the primary. Commits wait for it from then on."""
        self.standby_port = free_port()
        data = self.data(self.generation + 1)
        self._pg("pg_basebackup", "-d", f"host=127.0.0.1 port={self.port} user=metering", "-D", data, "-R",
                 "--checkpoint=fast", "--no-sync")
        self.start_server(self.generation + 1, self.standby_port)
        self.query("alter system set synchronous_standby_names = '*'", database="postgres")
        self.query("select pg_reload_conf()", database="postgres")
        try:
            eventually("the standby is synchronous", 60, self.is_synchronous)
        except NeverHappened as error:
            # Otherwise every commit would wait for it for ever.
            told = self.replication()
            self.commit_alone()
            raise NeverHappened(f"{error}; {told}") from None

    def fail_over(self):
        """Loses the primary, so that its standby takes over. Returns the new primary's port."""
        self._pg("pg_ctl", "stop", "-m", "immediate", "-D", self.data(self.generation))
        self._pg("pg_ctl", "promote", "-w", "-D", self.data(self.generation + 1))
        self.generation += 1
        self.port = self.standby_port
        return self.port

    def tidy_after_fail_over(self):
        """Lets the new primary commit alone until it has a standby, and removes the lost server's data."""
        self.commit_alone()
        self.run("rm", "-rf", self.data(self.generation - 1))

    def keep_logs(self, folder):
        """Copies the servers' logs to the folder of the services' logs."""
        for generation in range(1, self.generation + 2):
            try:
                log = self.run("cat", f"{self.folder}/log{generation}").stdout
            except subprocess.SubprocessError:
                continue
            with open(f"{folder}/postgres-{generation}.log", "w", encoding="utf-8") as file:
                file.write(log)

    def stop(self):
        for generation in (self.generation + 1, self.generation):
            try:
                self._pg("pg_ctl", "stop", "-m", "immediate", "-D", self.data(generation))
            except subprocess.SubprocessError:
                pass  # It was not running.

    def remove(self):
        self.run("rm", "-rf", self.folder)

    def url(self, port=None, database="metering"):
        return f"postgresql://metering@127.0.0.1:{port or self.port}/{database}"

    def query(self, sql, database="metering"):
        done = subprocess.run(
            [f"{self.binaries}/psql", "--no-psqlrc", "-qAtX", "-v", "ON_ERROR_STOP=1", "-F", "\t",
             "-d", self.url(database=database), "-c", sql],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
        if done.returncode != 0:
            raise RuntimeError(f"{sql.strip()[:60]}: {done.stderr.strip()}")
        return done.stdout.strip("\n")

    def rows(self, sql):
        text = self.query(sql)
        return [line.split("\t") for line in text.split("\n")] if text else []


def postgres_binaries():
    given = os.environ.get("METER_TEST_PG_BIN")
    if given:
        return given
    root = "/usr/lib/postgresql"
    versions = sorted((int(v) for v in os.listdir(root) if v.isdigit()), reverse=True)
    for version in versions:
        if os.access(f"{root}/{version}/bin/initdb", os.X_OK):
            return f"{root}/{version}/bin"
    raise SystemExit("error: PostgreSQL's server programs are not installed")


def postgres_prefix():
    """The words that make a program run as a user whom PostgreSQL accepts."""
    if "METER_TEST_PG_RUN" in os.environ:
        return os.environ["METER_TEST_PG_RUN"].split()
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []

