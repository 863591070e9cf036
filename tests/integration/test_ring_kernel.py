"""Blocks of the real kernel on their way to disk and to pcapng, with tcpdump beside."""

import shutil
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import network_lab as lab
from kernel_blocks import Sent, block
from podcam.capture import (
    Geometry,
    MappedRing,
    Namespace,
    Traffic,
    list_interfaces,
    open_ring_socket,
    recording_program,
)
from podcam.clip import export, open_packets
from podcam.model.point import Point
from podcam.pcap import BlockType, read_blocks, read_pcap
from podcam.ring import RecordedPacket, Ring, SegmentReader, Source, segments_in

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))

SHAPE = Geometry(block_bytes=1 << 17, blocks=64, retire_ms=50)
PATIENCE_SECONDS = 60


class Recording:
    """A namespace that is recorded into a ring."""

    def __init__(self, where: Namespace, folder: Path) -> None:
        self.socket = open_ring_socket(where, SHAPE, recording_program(Traffic()))
        self.kernel = MappedRing(self.socket, SHAPE)
        source = Source(Point("lab", "here"), "boot", SHAPE.block_bytes, tuple(list_interfaces(where)))
        self.blocks: list[bytes] = []
        self.ring = Ring(
            folder, source, limit_bytes=10_000_000, segment_bytes=1_000_000, now_ns=time.time_ns()
        )

    def record(self, packets: int) -> None:
        """Until so many packets have come."""
        self.until(lambda: self.ring.packets >= packets)

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            assert time.monotonic() < deadline, (
                f"{self.ring.packets} packets came, {self.ring.dropped} were lost"
            )
            self.drain()

    def drain(self) -> None:
        blocks = self.kernel.ready()
        self.ring.append(blocks, now_ns=time.time_ns(), dropped=self.kernel.statistics().dropped)
        self.blocks += map(bytes, blocks)
        self.kernel.release(len(blocks))

    def close(self) -> None:
        self.ring.close(time.time_ns())
        self.kernel.close()
        self.socket.close()


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[tuple[Namespace, Recording]]:
    with lab.namespace() as where:
        recorded = Recording(where, tmp_path / "lab")
        yield where, recorded
        recorded.close()


def test_blocks_of_the_tests_are_laid_out_as_the_kernels(recording: tuple[Namespace, Recording]) -> None:
    where, recorded = recording
    for size in (1, 7, 100):
        lab.exchange(where, where, "127.0.0.1", 5432, payload=b"x" * size)
    recorded.record(20)
    (path,) = segments_in(recorded.ring.folder)
    reader = SegmentReader(path)
    packets = list(reader.packets())
    real = recorded.blocks[0]
    count = struct.unpack_from("=I", real, 12)[0]
    built = block([as_sent(packet) for packet in packets[:count]])
    assert fields(built) == fields(real)
    assert reader.problems == []


def as_sent(packet: RecordedPacket) -> Sent:
    time_ns, interface, hardware_type, packet_type, status, length, link_bytes, data = packet
    return Sent(time_ns, bytes(data), link_bytes, interface, hardware_type, packet_type, status, length)


def fields(content: bytes | bytearray) -> list[tuple[int, ...]]:
    """What the kernel says of each packet and where it lies, from the first packet of the block on."""
    version, private, _, count, first, length = struct.unpack_from("=6I", content)
    told: list[tuple[int, ...]] = [(version, private, count, length - first)]
    at = first
    for _ in range(count):
        packet = struct.unpack_from("=6I2H", content, at)
        address = struct.unpack_from("=H2xiHB", content, at + 48)
        told.append((at - first, *packet, *address))
        at += packet[0]
    return told


def test_export_holds_what_tcpdump_recorded_beside(tmp_path: Path) -> None:
    if shutil.which("tcpdump") is None:
        pytest.skip("tcpdump is not installed: apt-get install tcpdump")
    folder, beside, target = tmp_path / "left", tmp_path / "beside.pcap", tmp_path / "out.pcapng"
    with lab.namespace() as left, lab.namespace() as right:
        lab.join(left, right)
        with closing(Recording(left, folder)) as recording, tcpdump(left, beside):
            for number in range(20):
                lab.exchange(left, right, "10.9.0.2", 5432, payload=bytes(number * 100))
                lab.exchange(left, right, "fd09::2", 5433, payload=bytes(number * 100))
                recording.drain()
            with lab.udp_socket(left, "10.9.0.1") as last:
                last.sendto(b"the last packet", ("10.9.0.2", 9))
            recording.until(lambda: b"the last packet" in beside.read_bytes())
            recording.until(lambda: any(b"the last packet" in block for block in recording.blocks))
    exported = export(open_packets(folder), target)
    assert (exported.dropped, exported.warnings) == (0, ())
    with target.open("rb") as file:
        bodies = [block.body for block in read_blocks(file) if block.is_packet]
    with beside.open("rb") as file:
        theirs = Counter(packet.data for packet in read_pcap(file)[1] if is_tcp(packet.data))
    frames = (body[20 : 20 + struct.unpack_from("<I", body, 12)[0]] for body in bodies)
    # Counted and not compared in order: of packets that two processors handle at once, either may come first.
    assert Counter(frame for frame in frames if is_tcp(frame)) == theirs
    assert theirs.total() > 200


def is_tcp(frame: bytes) -> bool:
    return frame[12:14] + frame[23:24] == b"\x08\x00\x06" or frame[12:14] + frame[20:21] == b"\x86\xdd\x06"


@contextmanager
def tcpdump(where: Namespace, target: Path) -> Iterator[None]:
    # In immediate mode its ring has a slot of the largest size for each packet: the default holds a handful.
    command = ["ip", "netns", "exec", where.name, "tcpdump", "-i", "eth0", "-U", "--immediate-mode"]
    command += ["-B", "65536"]
    with subprocess.Popen([*command, "-w", target], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "listening on" not in process.stderr.readline():
            assert process.poll() is None
        try:
            yield
        finally:
            process.terminate()


def test_directions_and_interfaces_reach_the_file(
    recording: tuple[Namespace, Recording], tmp_path: Path
) -> None:
    where, recorded = recording
    lab.exchange(where, where, "::1", 5432)
    recorded.record(8)
    export(open_packets(recorded.ring.folder), tmp_path / "out.pcapng")
    with (tmp_path / "out.pcapng").open("rb") as file:
        blocks = list(read_blocks(file))
    (interface,) = [dict(b.options()) for b in blocks if b.kind == BlockType.INTERFACE_DESCRIPTION]
    assert interface[2] == b"lab/lo"
    flags = {struct.unpack("<I", dict(b.options())[2])[0] & 3 for b in blocks if b.is_packet}
    assert len(flags) == 1, "each packet of the loopback once, in one direction"
