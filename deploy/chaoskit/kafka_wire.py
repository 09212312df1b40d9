"""Just enough of Kafka's protocol to stand between a client and librdkafka's mock broker."""

import struct

METADATA, FIND_COORDINATOR, API_VERSIONS, CREATE_PARTITIONS = 3, 10, 18, 37
# An answer's header is the correlation id.
HEADER = 4


class Reader:
    """Reads values of the protocol's old, inflexible encoding."""

    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def _unpack(self, form, size):
        value = struct.unpack_from(form, self.data, self.at)[0]
        self.at += size
        return value

    def int8(self):
        return self._unpack(">b", 1)

    def int16(self):
        return self._unpack(">h", 2)

    def int32(self):
        return self._unpack(">i", 4)

    def string(self):
        size = self.int16()
        if size < 0:
            return None
        self.at += size
        return self.data[self.at - size : self.at]

    def int32s(self):
        return [self.int32() for _ in range(self.int32())]


def with_ports(frame, ports):
    """The same answer with other ports behind the loopback address, and another cluster id. No length changes.

    meterctl recognizes the mock cluster by its id, and sends it no admin requests.
    """
    frame = frame.replace(b"mockCluster", b"chaosProxie")
    for old, new in ports.items():
        for host in (b"127.0.0.1", b"localhost"):
            frame = frame.replace(host + struct.pack(">i", old), host + struct.pack(">i", new))
    return frame


def with_create_partitions(frame):
    """An answer to ApiVersions that has CreatePartitions version 0 too."""
    reader = Reader(frame, HEADER)
    if reader.int16() != 0:
        # The version is not supported, and the client asks again with an older one.
        return frame
    at = reader.at
    count = reader.int32()
    # A flexible answer has a short count here. None is expected from this broker.
    if not 0 < count < 200:
        raise ValueError("an ApiVersions answer of an unknown version")
    end = at + 4 + 6 * count
    return frame[:at] + struct.pack(">i", count + 1) + frame[at + 4 : end] \
        + struct.pack(">hhh", CREATE_PARTITIONS, 0, 0) + frame[end:]


def with_partitions(frame, version, visible):
    """A Metadata answer (versions 0 to 2) with the first partitions of each topic in `visible` only."""
    if version > 2:
        raise ValueError(f"a Metadata answer of version {version}")
    reader = Reader(frame, HEADER)
    for _ in range(reader.int32()):
        reader.int32(), reader.string(), reader.int32()
        if version >= 1:
            reader.string()
    if version >= 2:
        reader.string()
    if version >= 1:
        reader.int32()
    out = bytearray(frame[: reader.at])
    if version >= 1:
        # The mock cluster names no controller, but CreatePartitions goes to one.
        out[-4:] = struct.pack(">i", 1)
    topics = reader.int32()
    out += struct.pack(">i", topics)
    for _ in range(topics):
        start = reader.at
        reader.int16()
        name = reader.string().decode()
        if version >= 1:
            reader.int8()
        out += frame[start : reader.at]
        kept = []
        for _ in range(reader.int32()):
            start = reader.at
            reader.int16()
            index = reader.int32()
            reader.int32(), reader.int32s(), reader.int32s()
            if index < visible.get(name, 1 << 30):
                kept.append(frame[start : reader.at])
        out += struct.pack(">i", len(kept)) + b"".join(kept)
    return bytes(out) + frame[reader.at :]


def create_partitions_request(frame):
    """The topics of a CreatePartitions request of version 0: (name, count, only asks whether it would work)."""
    reader = Reader(frame, 8)
    reader.string()
    topics = []
    for _ in range(reader.int32()):
        name, count = reader.string().decode(), reader.int32()
        for _ in range(max(0, reader.int32())):
            reader.int32s()
        topics.append((name, count))
    reader.int32()
    is_validation = reader.int8() != 0
    return [(name, count, is_validation) for name, count in topics]


def create_partitions_answer(names):
    out = struct.pack(">ii", 0, len(names))
    for name in names:
        out += struct.pack(">h", len(name)) + name.encode() + struct.pack(">hh", 0, -1)
    return out


def group_error(key, version, frame):
    """The error code of an answer to a join, heartbeat, leave or sync."""
    reader = Reader(frame, HEADER)
    if version >= (2 if key == 11 else 1):
        reader.int32()  # The time of throttling.
    return reader.int16()
