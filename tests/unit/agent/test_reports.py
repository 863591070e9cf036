"""What people are told: once by an Event, and for a while in the status of a recording."""

from pathlib import Path
from typing import Any

import pytest

from agents import NOON, PaperApi, PaperClock, PaperWrites, paper_log
from podcam.agent.announcements import Announcements
from podcam.agent.budget import Cause
from podcam.agent.clip_status import PartState
from podcam.agent.guard import Guard
from podcam.agent.memory import Memory
from podcam.agent.objects import ClusterObjects
from podcam.agent.parts import NodePart
from podcam.agent.points import NodePoint
from podcam.agent.reports import Reports
from podcam.agent.tallies import Tallies
from podcam.kube import Changed, ClipObject, Deleted, format_time
from podcam.model.point import Window

KEY = "shop/checkout"
RECORDING: dict[str, Any] = {
    "metadata": {
        "namespace": "shop",
        "name": "checkout",
        "uid": "uid-1",
        "creationTimestamp": format_time(NOON),
    },
    "spec": {"pods": ["web-1"]},
}


class Told:
    """A node of one recording, and what its people are told."""

    def __init__(self, folder: Path) -> None:
        log, self.lines = paper_log()
        self.clock = PaperClock()
        self.objects = ClusterObjects(Memory(folder), Guard(log), log)
        self.tallies = Tallies(self.clock.now_ns)
        self.changed: list[str] = []
        self.tallies.subscribe(self.changed.append)
        self.writes = PaperWrites(PaperApi())
        announcements = Announcements(self.writes, "node-1", "agent-x", self.clock.now_ns)
        self.reports = Reports(self.objects, self.tallies, announcements, "node-1")
        self.objects.recordings.take(Changed(RECORDING))

    @property
    def events(self) -> list[tuple[str, str]]:
        self.writes.send()
        return [(body["reason"], body["message"]) for _, _, body in self.writes.api.requests]

    @property
    def status(self) -> tuple[str, ...]:
        return self.tallies.of(KEY).standing(self.clock.now_ns())


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


def test_a_pod_that_is_refused_is_an_event_of_its_recording(told: Told) -> None:
    point = NodePoint(
        f"{KEY}/web-1", KEY, "web-1", "u", NOON, reason="HostNetwork", message="it is the node's"
    )
    told.reports.point_refused(point)
    assert told.events == [("HostNetwork", "on node node-1: pod web-1 is not recorded: it is the node's")]


def test_of_a_recording_that_is_gone_nothing_is_told(told: Told) -> None:
    told.objects.recordings.take(Deleted(RECORDING))
    told.reports.clips_suppressed(KEY)
    assert told.events == []


@pytest.mark.parametrize("cause", list(Cause))
def test_a_ring_that_goes_before_its_time_is_told(told: Told, cause: Cause) -> None:
    told.reports.ring_removed(f"{KEY}/web-1", cause)
    expected = cause not in {Cause.RETENTION, Cause.RECORDING}
    assert [reason for reason, _ in told.events] == ["RingRemoved"] * expected


def test_of_a_disk_that_is_short_only_what_is_new_is_told(told: Told) -> None:
    for notes in (("rings hold 50 %",), ("rings hold 49 %",), ("rings hold 49 %", "clips go"), ()):
        told.reports.disk_short([KEY], notes)
    assert [message for _, message in told.events] == [
        "on node node-1: rings hold 50 %",
        "on node node-1: clips go",
    ]


def test_a_recording_that_cannot_be_read_is_told_while_what_was_read_of_it_holds(told: Told) -> None:
    other = {**RECORDING["metadata"], "name": "other", "uid": "uid-2"}
    told.objects.recordings.take(Changed({"metadata": other, "spec": {}}))
    assert told.events == []  # what is not recorded has nobody to tell
    told.objects.recordings.take(Changed({**RECORDING, "spec": {}}))
    ((reason, _),) = told.events
    assert reason == "Unreadable"
    (text,) = told.status
    assert text.startswith("it cannot be read, and goes on as it was: Recording shop/checkout: spec ")
    assert told.changed == [KEY]
    assert told.lines.getvalue().count("an object cannot be read") == 2


def test_a_clip_without_an_object_is_told_of_its_recording(told: Told) -> None:
    told.reports.clip_refused(KEY, "clip c is kept, but not allowed")
    assert told.events == [("ClipRefused", "on node node-1: clip c is kept, but not allowed")]
    assert told.status == ("clip c is kept, but not allowed",)


def test_a_part_that_is_lost_is_an_event_of_its_clip(told: Told) -> None:
    clip = ClipObject("shop", "c", "uid-c", NOON, "checkout", Window(NOON, NOON), "asked for", None, None)
    told.reports.part_lost(clip, NodePart(PartState.REMOVED, clip.window, "the room was needed"))
    assert told.events == [("PartRemoved", "the part of node node-1: the room was needed")]
    assert told.writes.api.requests[0][2]["involvedObject"]["uid"] == "uid-c"
