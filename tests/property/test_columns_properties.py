"""Compiled and plain kernels say the same, and no bytes can make them say anything but the declared error."""

import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_blocks import Sent, block
from podcam.columns import CaptureColumns, open_captures
from podcam.columns.sets import KernelSet, compiled, plain
from podcam.errors import CaptureFileError
from podcam.model.point import Point
from podcam.ring import SegmentWriter, Source
from traces import START_NS, enhanced, interface, pcapng_block, section, wild, write_pcap

LINK_TYPES = [0, 1, 9, 101, 108, 113, 228, 276]


def read(path: Path, kernels: KernelSet) -> CaptureColumns:
    return open_captures([path], kernels=kernels)[0]


def assert_same(path: Path) -> CaptureColumns | None:
    """All tables of both sets, byte by byte."""
    try:
        slow = read(path, plain())
    except CaptureFileError:
        with pytest.raises(CaptureFileError):
            read(path, compiled())
        return None
    fast = read(path, compiled())
    assert slow.summary == fast.summary
    for name in slow.packets.dtype.names or ():
        np.testing.assert_array_equal(slow.packets[name], fast.packets[name], err_msg=name)
    for table in ("table", "client", "server"):
        ours, theirs = getattr(slow.connections, table), getattr(fast.connections, table)
        for name in ours.dtype.names:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    for row in range(len(slow.connections)):
        assert slow.conversation(row) == fast.conversation(row)
    return slow


@pytest.mark.parametrize("seed", range(4))
def test_wild_packets(tmp_path: Path, seed: int) -> None:
    capture = assert_same(write_pcap(tmp_path / "a.pcap", wild(seed, 300)))
    assert capture is not None
    assert len(capture.connections) > 3


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from(LINK_TYPES))
def test_damaged_packets(seed: int, link_type: int) -> None:
    """Packets with bytes changed and cut off at random, behind every link layer."""
    dice = random.Random(seed)
    links = {
        0: b"\2\0\0\0",
        1: bytes(12) + b"\x08\0",
        9: b"\xff\3\0\x21",
        108: bytes(4),
        113: bytes(14) + b"\x08\0",
    }
    link = links.get(link_type, b"\x08\0" + bytes(18) if link_type == 276 else b"")
    packets = []
    for time_ns, data in wild(seed, 40):
        damaged = bytearray(link + data)
        for _ in range(dice.choice([0, 0, 1, 3, 10])):
            damaged[dice.randrange(len(damaged))] = dice.choice([0, 1, 4, 6, 0x45, 0x60, 0x80, 0xFF])
        packets.append((time_ns, bytes(damaged[: dice.choice([len(damaged)] * 3 + [dice.randrange(80)])])))
    with tempfile.TemporaryDirectory() as folder:
        assert_same(write_pcap(Path(folder) / "a.pcap", packets, link_type=link_type))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files(data: st.DataObject) -> None:
    """Files of every kind, cut and overwritten anywhere."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        content = bytearray(
            data.draw(st.sampled_from(["pcap", "pcapng", "segment"]).map(CONTENTS.__getitem__))
        )
        for _ in range(data.draw(st.integers(0, 4))):
            at = data.draw(st.integers(0, len(content) - 1))
            patch = data.draw(st.binary(min_size=1, max_size=8))
            content[at : at + len(patch)] = patch
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        assert_same(path)


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=400), st.sampled_from([b"", b"\xd4\xc3\xb2\xa1", section(), section() + interface()])
)
def test_arbitrary_bytes(content: bytes, start: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        path.write_bytes(start + content)
        assert_same(path)


def _contents() -> dict[str, bytes]:
    packets = wild(1, 30)
    with tempfile.TemporaryDirectory() as folder:
        pcap = write_pcap(Path(folder) / "a.pcap", packets).read_bytes()
        writer = SegmentWriter(Path(folder), Source(Point("web", "node"), "boot", 1 << 17), 1, START_NS)
        sent = [Sent(t, data, link_bytes=0, hardware_type=65534) for t, data in packets]
        writer.append([block(sent[:10]), block(sent[10:])], written_ns=START_NS)
        writer.close(START_NS)
        segment = writer.path.read_bytes()
    blocks = [enhanced(0, time_ns // 1000, data) for time_ns, data in packets]
    pcapng = (
        section() + interface() + b"".join(blocks[:20]) + pcapng_block(5, bytes(12)) + b"".join(blocks[20:])
    )
    return {"pcap": pcap, "pcapng": pcapng, "segment": segment}


CONTENTS = _contents()
