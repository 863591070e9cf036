"""A process that writes a ring is killed at any moment: what it had written is there."""

import os
import random
import signal
import struct
import time
from pathlib import Path

from kernel_blocks import Sent, block
from podcam.model.point import Point
from podcam.ring import Ring, SegmentReader, Source, segments_in

SOURCE = Source(Point("p", "n"), "boot", block_bytes=1 << 17)
LIMIT_BYTES, SEGMENT_BYTES = 4_000_000, 700_000
ROUNDS = 30
NUMBER = struct.Struct("=Q")


def test_kill_loses_nothing_that_was_written(tmp_path: Path) -> None:
    chance = random.Random(5)
    number = 0
    for round_number in range(ROUNDS):
        # Every third time while it begins.
        after_blocks = chance.randrange(1, 400) if round_number % 3 == 0 else 0
        written = write_until_killed(tmp_path, number, after_blocks)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= LIMIT_BYTES
        kept = numbers(tmp_path)
        assert kept == list(range(kept[0], kept[-1] + 1)), "a hole"
        assert kept[-1] >= written
        number = kept[-1] + 1
    assert number > ROUNDS


def write_until_killed(folder: Path, number: int, after_blocks: int) -> int:
    """The number of the last packet of which the writer said, before it was killed, that it is written."""
    told, tell = os.pipe()
    writer = os.fork()
    if writer == 0:
        write(folder, number, tell)
    os.close(tell)
    last = number - 1
    for _ in range(after_blocks):
        last = NUMBER.unpack(os.read(told, NUMBER.size))[0]
    os.kill(writer, signal.SIGKILL)
    while report := os.read(told, NUMBER.size):
        last = NUMBER.unpack(report)[0]
    os.close(told)
    os.waitpid(writer, 0)
    return last


def write(folder: Path, number: int, tell: int) -> None:
    ring = Ring(folder, SOURCE, limit_bytes=LIMIT_BYTES, segment_bytes=SEGMENT_BYTES, now_ns=time.time_ns())
    while True:
        batch = []
        for _ in range(3):
            sizes = range(500, 20_000, 4_000)
            batch.append(
                block([Sent(n, n.to_bytes(8, "big") + bytes(s)) for n, s in enumerate(sizes, number)])
            )
            number += len(sizes)
        ring.append(batch, now_ns=time.time_ns())
        os.write(tell, NUMBER.pack(number - 1))


def numbers(folder: Path) -> list[int]:
    return [
        int.from_bytes(packet.data[:8], "big")
        for path in segments_in(folder)
        for packet in SegmentReader(path).packets()
    ]
