"""What the writer keeps for clips, of points whose kernel rings are lists."""

import socket
import time
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any, cast

import pytest

from kernel_blocks import Sent, block
from podcam.capture import MappedRing, Statistics, geometry
from podcam.model.point import Interface, Point, Window
from podcam.recorder.channel import Message
from podcam.recorder.freezing import Freezing
from podcam.recorder.point_writer import PointWriter
from podcam.ring import Ring, Source, segments_in

SECOND = 1_000_000_000
SOURCE = Source(Point("p", "n"), "boot", block_bytes=4096, interfaces=(Interface(1, "lo", 772),))


class PaperRing:
    """A kernel ring with these blocks, each ready at once."""

    shape = geometry(1 << 20)

    def __init__(self) -> None:
        self.blocks: list[bytearray] = []

    def ready(self) -> list[bytearray]:
        return self.blocks

    def release(self, count: int) -> None:
        del self.blocks[:count]

    def statistics(self) -> Statistics:
        return Statistics(0, 0, 0)


class Desk:
    """Points, their clips, and what the supervisor hears of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.points: dict[str, PointWriter] = {}
        self.told: list[Message] = []
        self.freezing = Freezing(self.points, 0.0, self.told.append)
        self._sockets: list[socket.socket] = []
        self._requests = 0

    def add(self, point_id: str) -> PointWriter:
        sock = socket.socket()
        self._sockets.append(sock)
        ring = Ring(
            self.folder / "rings" / point_id,
            SOURCE,
            limit_bytes=1_000_000,
            segment_bytes=100_000,
            now_ns=time.time_ns(),
        )
        point = self.points[point_id] = PointWriter(point_id, sock, cast("MappedRing", PaperRing()), ring)
        return point

    def packet(self, point: PointWriter) -> None:
        point.ring.append([block([Sent(time.time_ns())])], now_ns=time.time_ns())

    def leave(self, point_id: str) -> None:
        point = self.points[point_id]
        self.freezing.leave(point)
        point.ring.close(time.time_ns())
        del self.points[point_id]

    def keep(self, seconds: float, *point_ids: str, goes_on: bool = True) -> None:
        """Ask for a clip from a minute ago to so many seconds from now, as far as it can be had now."""
        now_ns = time.time_ns()
        self._requests += 1
        window = Window(now_ns - 60 * SECOND, now_ns + int(seconds * SECOND))
        self.freezing.request(
            {
                "do": "freeze",
                "clip": "clip",
                "request": self._requests,
                "folder": str(self.folder / "clip"),
                "window": astuple(window),
                "goes_on": goes_on,
                "points": list(point_ids),
                "comparisons": {},
            }
        )
        self.freezing.keep_time(time.monotonic() + 1.0)

    def on_disk(self) -> int:
        folders = (self.folder / "clip").iterdir()
        return sum(path.stat().st_size for folder in folders for path in segments_in(folder))

    def heard(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.told if message["is"] == kind]

    def close(self) -> None:
        for point in self.points.values():
            point.ring.close(time.time_ns())
        for sock in self._sockets:
            sock.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def test_a_clip_is_begun_and_ends_when_its_window_does(desk: Desk) -> None:
    desk.packet(desk.add("a"))
    desk.keep(60, "a")
    assert [(frozen["request"], frozen["ended"]) for frozen in desk.heard("frozen")] == [(1, False)]
    assert next(iter(desk.freezing.due())) > time.monotonic() + 50
    desk.freezing.keep_time(time.monotonic() + 61)
    assert desk.heard("frozen")[-1]["ended"]
    assert list(desk.freezing.due()) == []
    assert [part["totals"]["packets"] for part in desk.heard("part")] == [1, 1]


def test_what_came_after_the_first_freeze_is_kept_when_the_window_ends(desk: Desk) -> None:
    point = desk.add("a")
    desk.packet(point)
    desk.keep(60, "a")
    cast("Any", point)._kernel.blocks.append(block([Sent(time.time_ns())]))
    desk.freezing.finish()
    assert desk.heard("part")[-1]["totals"]["packets"] == 2


def test_a_window_that_has_ended_ends_the_clip_wherever_the_clock_is(desk: Desk) -> None:
    """It was set back: the end of the window is an hour away."""
    desk.packet(desk.add("a"))
    desk.keep(3600, "a")
    desk.keep(3600, "a", goes_on=False)
    assert desk.heard("frozen")[-1] == {"is": "frozen", "clip": "clip", "request": 2, "ended": True}


def test_of_a_point_that_leaves_the_last_is_kept(desk: Desk) -> None:
    desk.packet(desk.add("a"))
    desk.keep(60, "a")
    desk.packet(desk.points["a"])
    desk.leave("a")
    assert desk.heard("part")[-1]["totals"]["packets"] == 2
    assert desk.freezing.kept_bytes() == {"clip": desk.on_disk()}


def test_a_point_that_comes_again_counts_once(desk: Desk) -> None:
    """A pod that is restarted goes on in its ring: what the clip has of it is not there twice."""
    for _ in range(5):
        desk.packet(desk.add("a"))
        desk.keep(60, "a")
        desk.leave("a")
    assert desk.freezing.kept_bytes() == {"clip": desk.on_disk()}
    desk.packet(desk.add("a"))
    assert desk.freezing.kept_bytes() == {"clip": desk.on_disk()}
    desk.keep(60, "a")
    assert desk.freezing.kept_bytes() == {"clip": desk.on_disk()}


def test_only_the_points_of_a_clip_are_asked_what_it_takes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is done every second, and a node may have many of both."""
    for point_id in "abc":
        desk.packet(desk.add(point_id))
    desk.keep(60, "b")
    asked: list[str] = []

    def frozen_bytes(ring: Ring, _into: Path) -> int:
        asked.append(ring.folder.name)
        return 7

    monkeypatch.setattr(Ring, "frozen_bytes", frozen_bytes)
    assert desk.freezing.kept_bytes() == {"clip": 7}
    assert asked == ["b"]


def test_of_a_clip_that_is_dropped_nothing_more_is_kept(desk: Desk) -> None:
    point = desk.add("a")
    desk.packet(point)
    desk.keep(60, "a")
    desk.freezing.drop("clip")
    assert desk.heard("dropped") == [{"is": "dropped", "clip": "clip"}]
    before = desk.on_disk()
    desk.packet(point)
    point.ring.roll(time.time_ns())
    desk.freezing.finish()
    assert desk.on_disk() == before


def test_what_cannot_be_kept_is_told_and_the_clip_ends_all_the_same(desk: Desk, tmp_path: Path) -> None:
    desk.packet(desk.add("a"))
    (tmp_path / "clip").touch()
    desk.keep(0, "a")
    (warning,) = desk.heard("warning")
    assert warning["point"] == "a"
    assert desk.heard("frozen")[-1]["ended"]
