"""Clips made by hand, and what tshark says of their export."""

import shutil
import subprocess
from pathlib import Path

import pytest

from kernel_blocks import NONE, Sent, block
from podcam.clip import ClipPart, Manifest, write_manifest
from podcam.model.failure import Failure
from podcam.model.point import Endpoint, Interface, Point, Window
from podcam.model.verdict import FailureClass
from podcam.ring import Ring, Source

SECOND = 10**9
NOW = 1_700_000_000 * SECOND
INTERFACES = (Interface(1, "lo", 772), Interface(2, "eth0", 1), Interface(3, "tun0", NONE))

EVER = Window(0, 2**62)
IPV4_UDP = bytes.fromhex("4500001f0000400040110000c0000201c0000202" + "30391234000b0000") + b"abc"
ETHERNET_UDP = bytes.fromhex("020000000002" + "020000000001" + "0800") + IPV4_UDP


def recorded(folder: Path, point: str, *packets: Sent, dropped: int = 0) -> ClipPart:
    """A part of a clip in `folder`, one block per packet."""
    source = Source(Point(point, "node-a"), "boot", 4096, INTERFACES)
    ring = Ring(folder / point, source, limit_bytes=1_000_000, segment_bytes=10_000, now_ns=NOW)
    ring.append([block([packet]) for packet in packets], now_ns=NOW, dropped=dropped)
    ring.close(NOW)
    part = ring.freeze(folder / "x" / point, [EVER], NOW)
    return ClipPart(ring.source.point, point, tuple(part.segments), part.totals, interfaces=INTERFACES)


def clip_of(folder: Path, *parts: ClipPart, window: Window = EVER) -> Path:
    failure = Failure(
        time_ns=NOW,
        failure_class=FailureClass.REFUSED,
        client=Endpoint("192.0.2.1", 12345),
        server=Endpoint("192.0.2.2", 4660, "db.example"),
        by="server",
        start_ns=NOW,
    )
    write_manifest(
        folder,
        Manifest("c-1", "it broke", NOW, window, "complete", (failure,), parts, ("mind this",)),
    )
    return folder


def at(*seconds: float) -> list[Sent]:
    return [Sent(NOW + int(second * SECOND), ETHERNET_UDP) for second in seconds]


def tshark(path: Path, *fields: str) -> list[list[str]]:
    arguments = [argument for field in fields for argument in ("-e", field)]
    lines = run("tshark", "-n", "-r", str(path), "-T", "fields", *arguments).splitlines()
    return [line.split("\t") for line in lines]


def run(program: str, *arguments: str) -> str:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: apt-get install tshark tcpdump")
    ended = subprocess.run([program, *arguments], check=False, capture_output=True, text=True)
    told = [
        line
        for line in ended.stderr.splitlines()
        if "Running as user" not in line and "reading from file" not in line
    ]
    assert (ended.returncode, told) == (0, [])
    return ended.stdout
