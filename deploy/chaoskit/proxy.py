"""TCP proxies that delay, cut, blackhole and trickle what passes through them.

All proxies run on one event loop in a separate thread. A fault can be set from any thread.
"""

import asyncio
import os
import random
import struct
import sys
import threading
import time

from . import kafka_wire

LOOPBACK = "127.0.0.1"
# The Kafka requests whose answers the broker holds back until the group has gathered.
JOIN_GROUP, SYNC_GROUP = 11, 14
HEARTBEAT = 12
GROUP_REQUESTS = {JOIN_GROUP: "join", HEARTBEAT: "heartbeat", 13: "leave", SYNC_GROUP: "sync"}
TRACES = os.environ.get("CHAOS_TRACE") == "1"


class Loop:
    """The event loop of the proxies."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def soon(self, function, *arguments):
        self.loop.call_soon_threadsafe(function, *arguments)


class Link:
    """One client's connection, and the connection to the server that stands for it."""

    def __init__(self, proxy, client, server):
        self.proxy = proxy
        self.client, self.server = client, server
        self.cut_next = False
        self.outstanding = {}  # Kafka: correlation id -> (api key, version)

    def is_joining(self):
        return any(key in (JOIN_GROUP, SYNC_GROUP) for key, _ in self.outstanding.values())

    def abort(self):
        for writer in (self.server, self.client):
            if writer and writer.transport:
                writer.transport.abort()

    async def send(self, writer, data, is_joining=False):
        """Forwards data as the current fault lets it."""
        proxy = self.proxy
        while proxy.mode == "blackhole" and not is_joining:
            await proxy.healed.wait()
        if self.cut_next and not is_joining and not self.is_joining():
            # The cut is in the middle of a message, so the receiver has a part of it.
            writer.write(data[: len(data) // 2])
            await writer.drain()
            self.abort()
            raise ConnectionError("cut")
        if proxy.mode == "delay":
            await asyncio.sleep(proxy.random.uniform(0, proxy.delay))
        while proxy.mode == "trickle" and len(data) > 64:
            writer.write(data[:64])
            data = data[64:]
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.write(data)
        await writer.drain()


class Proxy:
    """Forwards bytes of any protocol, here PostgreSQL's. `target` may change, and new connections go there."""

    holds_half_open = True
    pause = 0.0

    def __init__(self, loop, target, seed):
        self.loop = loop
        self.target = target
        self.random = random.Random(seed)
        self.mode, self.delay = "pass", 0.0
        self.links = set()
        self.healed = asyncio.Event()
        self.connections = 0
        self.port = loop.call(self._listen())

    async def _listen(self):
        server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        return server.sockets[0].getsockname()[1]

    # --- Faults, from any thread

    def fault(self, mode, delay=0.0):
        """Sets the mode: pass, delay, cut (all connections, once), refuse, blackhole or trickle."""
        self.loop.soon(self._fault, mode, delay)

    def _fault(self, mode, delay):
        if mode == "cut":
            return self._cut()
        self.mode, self.delay = mode, delay
        if mode == "pass":
            self.healed.set()
        else:
            self.healed.clear()
        if mode == "refuse":
            self.abort_all()

    def _cut(self):
        for link in self.links:
            link.cut_next = True

        def rest():
            for link in list(self.links):
                if link.cut_next and not link.is_joining():
                    link.abort()

        self.loop.loop.call_later(0.5, rest)

    def abort_all(self):
        for link in list(self.links):
            if not link.is_joining():
                link.abort()

    def retarget(self, port):
        """Sends new connections to the other server. The old ones end."""

        def change():
            self.target = port
            for link in list(self.links):
                link.abort()

        self.loop.soon(change)

    # --- Forwarding

    async def _serve(self, reader, writer):
        if self.mode == "refuse":
            return writer.transport.abort()
        # A blackhole swallows the client's SYN too. The connection is made when the blackhole heals.
        while self.mode == "blackhole":
            await self.healed.wait()
        try:
            server_reader, server_writer = await asyncio.open_connection(LOOPBACK, self.target)
        except OSError:
            return writer.transport.abort()
        await asyncio.sleep(self.pause)
        link = Link(self, writer, server_writer)
        self.links.add(link)
        self.connections += 1
        up = asyncio.ensure_future(self.pump_up(link, reader, server_writer))
        down = asyncio.ensure_future(self.pump_down(link, server_reader, writer))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            # The news that the client has gone does not pass a blackhole, so the server keeps its locks.
            while self.holds_half_open and self.mode == "blackhole" and up.done():
                await self.healed.wait()
            if link.is_joining():
                await self.drain(link, down)
        finally:
            self.links.discard(link)
            link.abort()
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def drain(self, link, down):
        """Does what is to be done before the server learns that the client has gone."""

    async def pump_up(self, link, reader, writer):
        while data := await reader.read(65536):
            await link.send(writer, data)

    async def pump_down(self, link, reader, writer):
        while data := await reader.read(65536):
            await link.send(writer, data)


class KafkaProxy(Proxy):
    """One broker's proxy. It puts the proxies' ports into the brokers' addresses, and hides partitions.

    librdkafka's mock broker ends with an assertion when a member asks to join again while an answer to it is
    held back. So connections are not cut while such an answer is due, and a client that leaves is told to the broker.
    """

    holds_half_open = False
    # The broker sees the end of an old connection before the requests of the next one.
    pause = 0.05

    def __init__(self, loop, target, seed, cluster, name=""):
        self.cluster, self.name = cluster, name
        self.siblings = {}  # broker's port -> its proxy's port
        self.draining = set()  # The process's proxies share it.
        super().__init__(loop, target, seed)

    async def pump_up(self, link, reader, writer):
        """Reads on while a fault holds back what was read, so that the client's end is seen immediately."""
        requests = asyncio.Queue()
        sender = asyncio.ensure_future(self._send_requests(link, requests, writer))
        try:
            while True:
                size = await reader.readexactly(4)
                requests.put_nowait(size + await reader.readexactly(struct.unpack(">i", size)[0]))
        finally:
            sender.cancel()

    async def drain(self, link, down):
        """Waits for an answer that is held back from a client that has gone. No other join may reach the broker before."""
        self.draining.add(link)
        self.trace(link, "drains", JOIN_GROUP, 0)
        try:
            end = asyncio.get_running_loop().time() + 30
            while link.is_joining() and not down.done() and asyncio.get_running_loop().time() < end:
                await asyncio.sleep(0.05)
        finally:
            self.draining.discard(link)

    def trace(self, link, verb, key, correlation, error=None):
        """Prints what a group asks and hears, with CHAOS_TRACE=1. Of the heartbeats, only refused ones are printed."""
        if not TRACES or key not in GROUP_REQUESTS or (key == HEARTBEAT and not error):
            return
        text = f"{GROUP_REQUESTS[key]} {correlation}" + ("" if error is None else f" error {error}")
        print(f"{time.strftime('%H:%M:%S')}.{int(time.time() * 1000) % 1000:03} {self.name}/{self.target} "
              f"link {id(link) % 100_000} {verb} {text} outstanding {sorted(key for key, _ in link.outstanding.values())} "
              f"draining {len(self.draining)}", file=sys.stderr, flush=True)

    async def _send_requests(self, link, requests, writer):
        while True:
            data = await requests.get()
            key, version, correlation = struct.unpack(">hhi", data[4:12])
            answer = self.cluster.answer(key, version, data[4:])
            if answer is not None:
                link.client.write(struct.pack(">ii", len(answer) + 4, correlation) + answer)
                continue
            while self.mode == "blackhole":
                await self.healed.wait()
            # It joins again because the group has moved on. The broker first answers what it holds back.
            if key == JOIN_GROUP and (link.is_joining() or self.draining):
                self.trace(link, "waits", key, correlation)
            while key == JOIN_GROUP and (link.is_joining() or self.draining):
                await asyncio.sleep(0.05)
            # Only Produce with acks=0 is not answered, and nobody here uses it.
            link.outstanding[correlation] = (key, version)
            self.trace(link, "asks", key, correlation)
            await link.send(writer, data, key in (JOIN_GROUP, SYNC_GROUP))

    async def pump_down(self, link, reader, writer):
        while True:
            size = struct.unpack(">i", await reader.readexactly(4))[0]
            frame = await reader.readexactly(size)
            correlation = struct.unpack(">i", frame[:4])[0]
            key, version = link.outstanding.pop(correlation, (-1, 0))
            if key in GROUP_REQUESTS:
                self.trace(link, "hears", key, correlation, kafka_wire.group_error(key, version, frame))
            frame = self.cluster.rewrite(key, version, frame, self.siblings)
            if link not in self.draining:
                data = struct.pack(">i", len(frame)) + frame
                await link.send(writer, data, key in (JOIN_GROUP, SYNC_GROUP))


class KafkaSide:
    """One process's proxies before all brokers, so that it alone can be cut off."""

    def __init__(self, loop, broker_ports, seed, cluster, name=""):
        self.proxies = [KafkaProxy(loop, port, seed + n, cluster, name) for n, port in enumerate(broker_ports)]
        siblings = {proxy.target: proxy.port for proxy in self.proxies}
        draining = set()
        for proxy in self.proxies:
            proxy.siblings, proxy.draining = siblings, draining

    @property
    def brokers(self):
        return ",".join(f"{LOOPBACK}:{proxy.port}" for proxy in self.proxies)

    def fault(self, mode, delay=0.0):
        for proxy in self.proxies:
            proxy.fault(mode, delay)


class Cluster:
    """Changes the broker's answers, and so decides how many partitions of a topic can be seen.

    The mock broker makes no partitions. It has them from the start, and they are hidden until CreatePartitions asks for them.
    """

    def __init__(self, hidden):
        self.visible = dict(hidden)
        self.grown = []

    def answer(self, key, version, frame):
        """The answer to a request that the broker does not know. None means that the request is for the broker."""
        if key != kafka_wire.CREATE_PARTITIONS:
            return None
        topics = kafka_wire.create_partitions_request(frame)
        for name, count, is_validation in topics:
            if not is_validation:
                self.visible[name] = count
                self.grown.append((name, count))
        return kafka_wire.create_partitions_answer([name for name, _, _ in topics])

    def rewrite(self, key, version, frame, ports):
        if key == kafka_wire.API_VERSIONS:
            return kafka_wire.with_create_partitions(frame)
        if key == kafka_wire.METADATA:
            frame = kafka_wire.with_ports(frame, ports)
            return kafka_wire.with_partitions(frame, version, self.visible)
        if key == kafka_wire.FIND_COORDINATOR:
            return kafka_wire.with_ports(frame, ports)
        return frame
