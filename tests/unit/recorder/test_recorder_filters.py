"""What becomes of filters while recording, at points whose kernel is made of paper."""

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from podcam.errors import CaptureError
from podcam.recorder.emitter import EventEmitter
from podcam.recorder.events import Event
from podcam.recorder.filters import Filters
from podcam.recorder.folder import RecorderFolder
from podcam.recorder.memory import KernelMemory
from podcam.recorder.points import WatchedPoint
from podcam.recorder.recorded import RecordedPoint, RecordedPoints
from podcam.recorder.write_budget import WriteBudget

MB = 1_000_000


class PaperPoint:
    """As much of a `WatchedPoint` as has to do with its filter."""

    def __init__(self, name: str) -> None:
        self.id = self.name = name
        self.recording = ""
        self.cut = False
        self.refuses = False
        self.links_change = True
        self.refiltered = 0
        self.links = SimpleNamespace(update=lambda: self.links_change)

    def filter(self) -> dict[str, Any]:
        return {"cut_by_write_budget": self.cut}

    def refilter(self) -> None:
        if self.refuses:
            raise CaptureError("the filter is too long")
        self.refiltered += 1

    def cut_payload(self, *, cut: bool) -> None:
        self.refilter()
        self.cut = cut


class Paper:
    """Filters of two points, what was told of them, and a clock."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[Event] = []
        self.noted: list[str] = []
        self.a, self.b = PaperPoint("a"), PaperPoint("b")
        self._seconds = itertools.count(1)
        self._now = 0
        monkeypatch.setattr(time, "monotonic", lambda: float(self._now))
        monkeypatch.setattr(time, "monotonic_ns", lambda: self._now * 1_000_000_000)
        points = RecordedPoints(RecorderFolder(folder), KernelMemory(128 * MB))
        for point in (self.a, self.b):
            points.by_id[point.id] = RecordedPoint(cast("WatchedPoint", point))
        self.filters = Filters(
            points,
            WriteBudget(20 * MB),
            lambda point: self.noted.append(point.id),
            EventEmitter(self._observe, points),
        )

    def wrote(self, **megabytes: int) -> None:
        """In one second."""
        self._now = next(self._seconds)
        self.filters.wrote({name: count * MB for name, count in megabytes.items()})

    def warnings(self) -> list[str]:
        return [event["text"] for event in self.told if event["event"] == "warning"]

    def _observe(self, events: Sequence[Event]) -> None:
        self.told.extend(events)


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paper:
    return Paper(tmp_path, monkeypatch)


def test_over_the_write_budget_the_loudest_keep_headers_until_it_is_calm(paper: Paper) -> None:
    paper.wrote(a=30, b=5)
    assert (paper.a.cut, paper.b.cut) == (True, False)
    assert paper.noted == ["a"]
    assert paper.warnings() == ["over the write budget: only headers are kept of a"]
    for _ in range(11):
        paper.wrote(a=1, b=1)
    assert not paper.a.cut
    assert paper.warnings()[1:] == ["within the write budget again: whole packets of a"]
    assert [e["cut_by_write_budget"] for e in paper.told if e["event"] == "filter"] == [True, False]


def test_of_a_point_that_could_not_be_cut_nothing_else_is_claimed(paper: Paper) -> None:
    paper.a.refuses = True
    paper.wrote(a=40, b=30)
    assert (paper.a.cut, paper.b.cut) == (False, True)
    assert sorted(paper.warnings()) == [
        "over the write budget: only headers are kept of b",
        "the filter is too long: the filter stays as it was",
    ]


def test_a_point_that_is_recorded_no_longer_is_not_restored(paper: Paper) -> None:
    paper.wrote(a=30, b=5)
    paper.filters.forget("a")
    for _ in range(15):
        paper.wrote(b=1)
    assert paper.noted == ["a"]


def test_another_interface_is_another_filter(paper: Paper) -> None:
    point = cast("WatchedPoint", paper.a)
    paper.a.links_change = False
    paper.filters.links_changed(point)
    assert paper.told == []
    paper.a.links_change = True
    paper.filters.links_changed(point)
    assert paper.a.refiltered == 1
    assert paper.noted == ["a"]
    paper.a.refuses = True
    paper.filters.links_changed(point)
    assert paper.warnings() == ["the filter is too long: the filter stays as it was"]
