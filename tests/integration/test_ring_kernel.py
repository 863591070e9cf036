"""Blocks of the real kernel on their way to disk and to pcapng, with tcpdump beside."""

import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
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

SHAPE = Geometry(block_bytes=1 << 17, blocks=8, retire_ms=10)
PATIENCE_SECONDS = 10


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
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.ring.packets < packets:
            assert time.monotonic() < deadline, f"{self.ring.packets} of {packets} packets came"
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
    built = block(
        [
            Sent(
                p.time_ns, bytes(p.data), p.link_bytes, p.interface, p.hardware_type, p.packet_type, p.status
            )
            for p in packets[:count]
        ]
    )
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
    with lab.namespace() as left, lab.namespace() as right:
        lab.join(left, right)
        recorded = Recording(left, tmp_path / "left")
        with tcpdump(left, "eth0", tmp_path / "beside.pcap") as beside:
            for number in range(20):
                lab.exchange(left, right, "10.9.0.2", 5432, payload=bytes(number * 100))
                lab.exchange(left, right, "fd09::2", 5433, payload=bytes(number * 100))
            recorded.record(20 * 2 * 7)
        last = beside[-1]
        while not any(last == bytes(p.packet.data) for p in open_packets(recorded.ring.folder).packets()):
            recorded.record(recorded.ring.packets + 1)
        recorded.close()
    target = tmp_path / "out.pcapng"
    exported = export(open_packets(tmp_path / "left"), target)
    assert exported.warnings == ()
    with target.open("rb") as file:
        ours = [
            b.body[20 : 20 + struct.unpack_from("<I", b.body, 12)[0]]
            for b in read_blocks(file)
            if b.is_packet
        ]
    assert len(beside) > 200
    assert [frame for frame in ours if frame in set(beside)] == beside


@contextmanager
def tcpdump(where: Namespace, interface: str, target: Path) -> Iterator[list[bytes]]:
    """Runs tcpdump; the frames that it recorded are in the list afterwards."""
    frames: list[bytes] = []
    command = ["ip", "netns", "exec", where.name, "tcpdump", "-i", interface, "-U", "--immediate-mode"]
    process = subprocess.Popen([*command, "-w", target], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "listening on" not in process.stderr.readline():
        assert process.poll() is None
    yield frames
    process.terminate()
    process.communicate()
    with target.open("rb") as file:
        frames += [packet.data for packet in read_pcap(file)[1]]


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
