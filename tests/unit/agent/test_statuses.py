"""Statuses: this node's entry and the merged fields, written when they have to be, and not before."""

from collections.abc import Mapping
from typing import Any

import pytest

from agents import NOON, PaperApi, PaperClock, PaperWrites, paper_log
from podcam.agent.aspects import ClipAspect, RecordingAspect
from podcam.agent.clip_status import PartState
from podcam.agent.collection import Collection
from podcam.agent.guard import Guard
from podcam.agent.parts import NodePart
from podcam.agent.points import NodePoint
from podcam.agent.recording_status import PointState
from podcam.agent.statuses import Statuses
from podcam.agent.tallies import Tallies
from podcam.kube import Changed, ClipObject, Deleted, Listed, Recording, format_time
from podcam.model.point import Window

KEY = "shop/checkout"
SECOND = 1_000_000_000


class Cluster:
    """One recording as node-1 sees it: what its agent writes comes back by the watch."""

    def __init__(self) -> None:
        self.clock = PaperClock()
        self.api = PaperApi()
        self.writes = PaperWrites(self.api)
        self.points: list[NodePoint] = []
        self.notes: tuple[str, ...] = ()
        self.ring_bytes = 0
        self.tallies = Tallies(self.clock.now_ns)
        guard = Guard(paper_log()[0])
        self.recordings = Collection(Recording.parse, guard, with_status=True)
        aspect = RecordingAspect(
            self.recordings,
            lambda _key: self.points,
            lambda _key: self.ring_bytes,
            lambda _key: self.notes,
            self.tallies,
        )
        self.statuses = Statuses(
            aspect, "node-1", self.recordings, self.writes, self.clock.later, guard, self.clock
        )
        self.status: dict[str, Any] = {}
        self.recordings.take(Listed((_recording(self.status),)))

    def hear(self) -> None:
        self.recordings.take(Changed(_recording(self.status)))

    def passes(self, seconds: float, *, echo: bool = True) -> list[tuple[str, Any]]:
        """So much time goes by; what was written meanwhile, by whom, in order."""
        written: list[tuple[str, Any]] = []
        for _ in range(int(seconds * 10)):
            self.clock.passes(0.1)
            before = len(self.api.requests)
            self.writes.send()
            for verb, _path, status in self.api.requests[before:]:
                written.append((verb.removeprefix("apply as "), status))
                self.status = _applied(self.status, status)
            if echo and len(self.api.requests) > before:
                self.hear()
        return written


def _recording(status: Mapping[str, Any], uid: str = "uid-1") -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "shop",
            "name": "checkout",
            "uid": uid,
            "generation": 3,
            "creationTimestamp": format_time(NOON),
        },
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
        "status": dict(status),
    }


def _applied(status: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    nodes = {**status.get("nodes", {}), **fields.get("nodes", {})}
    if fields.get("nodes") == {}:
        nodes.pop("node-1", None)
    return {**status, **fields, "nodes": nodes}


def _point(state: PointState = PointState.RECORDING, **changes: Any) -> NodePoint:
    return NodePoint("shop/checkout/web-1", KEY, "web-1", "uid", NOON, state, **changes)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_a_pod_that_is_recorded_is_told_and_then_there_is_silence(cluster: Cluster) -> None:
    cluster.passes(60)
    cluster.points = [_point()]
    cluster.statuses.changed(KEY)
    managers = [manager for manager, _ in cluster.passes(3)]
    assert managers == ["podcam-agent-node-1", "podcam-merge"]
    assert cluster.status["points"] == "1/1"
    cluster.statuses.changed(KEY)
    assert cluster.passes(600) == []


def test_many_changes_of_a_moment_are_one_write(cluster: Cluster) -> None:
    cluster.passes(60)
    for number in range(50):
        cluster.points = [*cluster.points, _point(message=str(number))]
        cluster.statuses.changed(KEY)
        cluster.clock.passes(0.001)
    entries = [status for manager, status in cluster.passes(3) if manager == "podcam-agent-node-1"]
    assert len(entries) == 1


def test_what_was_written_is_not_written_again_before_it_comes_back(cluster: Cluster) -> None:
    cluster.points = [_point()]
    cluster.statuses.changed(KEY)
    assert cluster.passes(1, echo=False)
    cluster.statuses.changed(KEY)
    cluster.hear()
    entries = [manager for manager, _ in cluster.passes(5) if manager == "podcam-agent-node-1"]
    assert entries == []


def test_a_status_that_cannot_be_read_keeps_no_other_from_being_written(cluster: Cluster) -> None:
    garbled = _recording({"nodes": {"node-2": {"points": [{"pod": "web-9", "since": "yesterday"}]}}}, "uid-2")
    garbled["metadata"]["name"] = "before-checkout"
    cluster.recordings.take(Changed(garbled))
    cluster.points = [_point()]
    cluster.statuses.changed(KEY)
    cluster.passes(3)
    assert cluster.status["points"] == "1/1"


def test_counters_alone_are_written_seldom(cluster: Cluster) -> None:
    cluster.points = [_point()]
    cluster.statuses.changed(KEY)
    cluster.passes(60)
    written = 0
    for _ in range(60):
        cluster.tallies.of(KEY).failures["reset"] += 1
        cluster.statuses.changed(KEY)
        written += len(cluster.passes(1))
    assert 1 <= written <= 3


def test_an_entry_goes_with_the_last_point(cluster: Cluster) -> None:
    cluster.points = [_point()]
    cluster.statuses.changed(KEY)
    cluster.passes(60)
    cluster.points = []
    cluster.statuses.changed(KEY)
    assert ("podcam-agent-node-1", {"nodes": {}}) in cluster.passes(3)
    cluster.passes(60)  # an agent without an entry waits for the others before it writes what all can see
    assert cluster.passes(600) == []


def test_what_happened_while_the_api_server_was_away_is_caught_up_with(cluster: Cluster) -> None:
    cluster.passes(60)
    cluster.api.fails = ConnectionError()
    cluster.points = [_point(PointState.WAITING)]
    cluster.statuses.changed(KEY)
    cluster.clock.passes(5)
    assert len(cluster.writes.waiting) >= 1
    cluster.points = [_point()]
    cluster.statuses.changed(KEY)
    cluster.clock.passes(5)
    cluster.api.fails = None
    (entry,) = [status for manager, status in cluster.passes(1) if manager == "podcam-agent-node-1"]
    assert entry["nodes"]["node-1"]["points"][0]["state"] == "Recording"


def test_of_a_recording_that_is_gone_nothing_is_said(cluster: Cluster) -> None:
    cluster.points = [_point()]
    cluster.statuses.changed(KEY)
    cluster.clock.passes(0.1)
    cluster.recordings.take(Deleted(_recording({})))
    assert cluster.writes.waiting == {}
    cluster.statuses.changed(KEY)
    assert cluster.passes(60) == []


def test_warnings_and_notes_stand_in_the_status(cluster: Cluster) -> None:
    cluster.points = [_point()]
    cluster.notes = ("rings hold 50 % of what was asked for",)
    cluster.tallies.warn(KEY, "the writer ended")
    cluster.tallies.warn(KEY, "the writer ended")
    cluster.statuses.changed(KEY)
    cluster.passes(3)
    assert cluster.status["nodes"]["node-1"]["warnings"] == [
        "rings hold 50 % of what was asked for",
        "the writer ended",
    ]
    cluster.clock.passes(3600)
    cluster.notes = ()
    cluster.statuses.changed(KEY)
    cluster.passes(3)
    assert cluster.status["nodes"]["node-1"]["warnings"] == []


def test_a_part_is_told_with_how_to_get_it(cluster: Cluster) -> None:
    clips = Collection(ClipObject.parse, Guard(paper_log()[0]), with_status=True)
    window = Window(NOON - 60 * SECOND, NOON)
    clips.take(
        Listed(
            (
                {
                    "metadata": {
                        "namespace": "shop",
                        "name": "kept",
                        "uid": "uid-2",
                        "creationTimestamp": format_time(NOON),
                    },
                    "spec": {"recording": "checkout", "last": "60s", "nodes": ["node-1"]},
                },
            )
        )
    )
    aspect = ClipAspect(clips, cluster.recordings, ("agent-x", 9472, "a key"))
    assert aspect.entry("shop/kept", NOON) is None
    assert aspect.entry_due(None, {"state": "Complete"}, NOON) is None
    aspect.parts["shop/kept"] = NodePart(PartState.NOTHING, window, "nothing")
    entry = aspect.entry("shop/kept", NOON)
    assert entry is not None
    assert (entry["state"], entry["agent"], entry["publicKey"]) == (
        "Nothing",
        {"pod": "agent-x", "port": 9472},
        "a key",
    )
    merge = aspect.merge("shop/kept", {"parts": {"node-1": entry}}, NOON)
    assert merge.fields is not None
    assert merge.fields["state"] == "Complete"
