"""The rings on a node's disk within its budget: admitted, limited, given up."""

import os
from pathlib import Path
from typing import Any

import pytest

from agents import NOON, SECOND, PaperClock, PaperFinder, PaperRecorder, paper_log, pod
from kernel_blocks import Sent, block
from podcam.agent.budget import Cause
from podcam.agent.matching import Refusal, Wanted
from podcam.agent.points import Points
from podcam.agent.reconciler import Reconciler
from podcam.agent.rings import Rings, RingTerms
from podcam.agent.settings import AgentSettings, Share
from podcam.model.point import Interface, Point, Window
from podcam.recorder import Owner, RecorderFolder
from podcam.recorder.rings import write_owner
from podcam.ring import Ring, Source

MB = 1_000_000
SEGMENT = f"00000001-{NOON}.seg"


class Node:
    """A node with so much room for rings and clips; segments are files of noise."""

    def __init__(self, path: Path, budget_bytes: int) -> None:
        self.clock = PaperClock()
        self.recorder = PaperRecorder()
        self.folder = RecorderFolder(path)
        self.folder.create()
        self.went: list[tuple[str, Cause]] = []
        self.terms: dict[str, RingTerms] = {"shop/checkout": RingTerms(10 * MB, MB, 3600 * SECOND)}
        settings = AgentSettings(
            node="node-1",
            folder=path,
            pod="agent-x",
            namespace="podcam-system",
            disk_budget=Share(bytes=budget_bytes),
            free_floor=Share(bytes=0),
        )
        self.points = Points(self.clock.now_ns)
        self.rings = Rings(
            settings,
            self.folder,
            self.recorder,
            self.points,
            terms=self.terms.get,
            log=paper_log()[0],
            clock=self.clock,
            removed=lambda point, cause: self.went.append((point, cause)),
        )
        self.wanted: dict[str, Wanted] = {}
        self.finder = PaperFinder(path)
        self.reconciler = Reconciler(
            self.recorder,
            self.finder,
            self.points,
            node="node-1",
            later=self.clock.later,
            clock=self.clock,
            admit=self.rings.admit,
            search=lambda _namespace: (),
            refused=lambda _point: None,
            log=paper_log()[0],
        )

    def holds(self, name: str, size_bytes: int, *, written_ns: int = NOON) -> Path:
        """The ring of a pod on the disk."""
        point_id = f"shop/checkout/{name}"
        ring = self.folder.ring(point_id)
        write_owner(ring, Owner(point_id, f"shop/{name}", "shop/checkout", "node-1"))
        segment = ring / SEGMENT
        segment.write_bytes(b"\1" * size_bytes)
        os.utime(segment, ns=(written_ns, written_ns))
        return ring

    def holds_clip(self, size_bytes: int) -> None:
        """A clip on the disk."""
        kept = self.folder.clips / "shop_kept" / "web-1"
        kept.mkdir(parents=True)
        (kept / SEGMENT).write_bytes(b"\1" * size_bytes)

    def records(self, name: str) -> str:
        """The pod runs."""
        found = pod(name)
        point_id = f"shop/checkout/{name}"
        self.finder.appears(found.uid)
        self.wanted[point_id] = Wanted("shop/checkout", found)
        self.reconciler.reconcile(self.wanted)
        self.reconciler.started(point_id)
        return point_id


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "podcam", 100 * MB)


def test_where_there_is_room_a_ring_is_as_large_as_asked(node: Node) -> None:
    point = node.records("web-1")
    assert node.recorder.limits[point] is None
    node.rings.keep_within()
    assert node.recorder.limits[point] is None
    assert node.recorder.clips_limit == 50 * MB


def test_a_ring_of_an_ended_pod_goes_after_its_retention(node: Node) -> None:
    node.holds("web-1", MB)
    node.rings.restore()
    node.clock.passes(3599)
    node.rings.keep_within()
    assert node.went == []
    node.clock.passes(2)
    node.rings.keep_within()
    assert node.went == [("shop/checkout/web-1", Cause.RETENTION)]
    assert node.folder.rings() == []
    assert node.points.all == {}


def test_a_clock_that_is_set_makes_no_ring_older(node: Node) -> None:
    node.holds("web-1", MB)
    node.rings.restore()
    node.rings.keep_within()
    for years in (1, -2):
        node.clock.is_set_by(years * 365 * 86400)
        node.rings.keep_within()
        assert node.went == []
    node.clock.passes(3601)
    node.rings.keep_within()
    assert [point for point, _ in node.went] == ["shop/checkout/web-1"]


def test_a_pod_that_ends_before_a_packet_came_leaves_nothing(node: Node) -> None:
    point_id = node.records("web-1")
    write_owner(node.folder.ring(point_id), Owner(point_id, "shop/web-1", "shop/checkout", "node-1"))
    node.wanted.clear()
    node.reconciler.reconcile(node.wanted)
    node.rings.keep_within()
    assert point_id in node.points.all  # the recorder has not said that it stopped
    node.reconciler.stopped(point_id, "the pod has ended")
    node.rings.keep_within()
    assert node.points.all == {}
    assert node.folder.rings() == []


def test_what_an_agent_left_of_pods_without_a_packet_goes_at_the_next_start(node: Node) -> None:
    point_id = "shop/checkout/web-1"
    write_owner(node.folder.ring(point_id), Owner(point_id, "shop/web-1", "shop/checkout", "node-1"))
    node.rings.restore()
    assert node.folder.rings() == []


def test_a_pod_that_waits_when_its_ring_goes_and_then_ends_is_forgotten(node: Node) -> None:
    point_id = node.records("web-1")
    node.holds("web-1", MB)
    node.finder.goes("uid-web-1")
    node.reconciler.namespaces_changed()
    node.reconciler.stopped(point_id, "the pod's network is gone")
    node.clock.passes(3700)
    node.rings.keep_within()
    assert node.went == [(point_id, Cause.RETENTION)]
    node.wanted.clear()
    node.reconciler.reconcile(node.wanted)
    assert node.points.all == {}


def test_rings_of_a_recording_that_is_gone_keep_the_terms_it_had(node: Node) -> None:
    node.holds("web-1", MB)
    node.terms["shop/checkout"] = RingTerms(10 * MB, MB, 60 * SECOND)
    node.rings.restore()
    node.rings.keep_within()
    node.terms.clear()
    node.clock.passes(61)
    node.rings.keep_within()
    assert [point for point, _ in node.went] == ["shop/checkout/web-1"]


def test_rings_go_with_their_recording(node: Node) -> None:
    node.holds("web-1", MB)
    node.rings.restore()
    node.rings.disown("shop/other")
    assert node.went == []
    node.rings.disown("shop/checkout")
    assert node.went == [("shop/checkout/web-1", Cause.RECORDING)]
    assert node.folder.rings() == []
    assert node.points.all == {}


def test_a_ring_that_is_written_goes_once_it_is_not(node: Node) -> None:
    point = node.records("web-1")
    node.holds("web-1", MB)
    node.reconciler.interrupt("shop/checkout")
    node.rings.disown("shop/checkout")
    assert node.recorder.asked[-1] == ("end", point)
    assert node.went == []
    node.wanted.clear()
    node.reconciler.reconcile(node.wanted)
    node.reconciler.stopped(point, "it was told to")
    node.rings.drop_disowned()
    assert node.went == [(point, Cause.RECORDING)]
    assert node.points.all == {}


def test_a_recording_that_is_made_anew_begins_with_an_empty_ring(node: Node) -> None:
    point = node.records("web-1")
    ring = node.holds("web-1", MB)
    node.reconciler.interrupt("shop/checkout")
    node.rings.disown("shop/checkout")
    node.reconciler.reconcile(node.wanted)  # there is one of that name again
    node.reconciler.stopped(point, "it was told to")
    assert not ring.exists()
    assert node.recorder.asked[-2:] == [("end", point), ("add", point)]
    node.reconciler.started(point)
    node.holds("web-1", MB)
    node.rings.keep_within()
    assert ring.exists()
    assert node.points.all[point].state == "Recording"


def test_nobody_goes_on_in_a_ring_of_a_gone_recording_that_cannot_be_removed(node: Node) -> None:
    point_id = "shop/checkout/web-1"
    ring = node.holds("web-1", MB)
    in_the_way = ring.with_name(f".{ring.name}.removed")
    in_the_way.write_text("no folder")
    node.rings.restore()
    node.rings.disown("shop/checkout")
    assert node.went == []
    node.records("web-1")
    point = node.points.all[point_id]
    assert (point.state, point.reason) == ("Refused", "RingNotRemoved")
    assert node.recorder.asked == []

    in_the_way.unlink()
    node.clock.passes(31)
    assert node.went == [(point_id, Cause.RECORDING)]
    assert not ring.exists()
    assert node.recorder.asked == [("add", point_id)]


def test_a_pod_whose_old_ring_goes_as_it_is_admitted_is_known(node: Node) -> None:
    ring = node.holds("web-1", MB)
    point = node.records("web-1")
    wanted = dict(node.wanted)
    node.reconciler.interrupt("shop/checkout")
    node.rings.disown("shop/checkout")
    node.reconciler.reconcile({})
    in_the_way = ring.with_name(f".{ring.name}.removed")
    in_the_way.write_text("no folder")
    node.reconciler.stopped(point, "its recording was deleted")
    node.rings.drop_disowned()
    in_the_way.unlink()
    node.reconciler.reconcile(wanted)
    node.reconciler.started(point)
    assert node.points.all[point].state == "Recording"
    assert node.recorder.asked[-1] == ("add", point)


def test_the_ring_of_a_gone_recording_that_cannot_be_removed_is_tried_again(node: Node) -> None:
    ring = node.holds("web-1", MB)
    in_the_way = ring.with_name(f".{ring.name}.removed")
    in_the_way.write_text("no folder")
    node.rings.restore()
    node.rings.disown("shop/checkout")
    in_the_way.unlink()
    node.rings.keep_within()
    assert node.went == [("shop/checkout/web-1", Cause.RECORDING)]


@pytest.mark.parametrize(
    ("made_ns", "stays"),
    [(NOON - 60 * SECOND, True), (NOON + SECOND, False), (None, False)],
)
def test_what_an_earlier_agent_left_is_of_the_same_recording_or_goes(
    node: Node, made_ns: int | None, stays: bool
) -> None:
    node.holds("web-1", MB, written_ns=NOON)
    node.rings.restore()
    node.rings.disown_strangers(lambda _recording: made_ns)
    assert bool(node.folder.rings()) is stays
    assert (node.went == []) is stays


def test_what_is_recorded_now_is_no_stranger_s(node: Node) -> None:
    node.records("web-1")
    node.holds("web-1", MB, written_ns=NOON)
    node.rings.disown_strangers(lambda _recording: NOON + SECOND)
    node.rings.keep_within()
    assert node.went == []


def test_rings_of_ended_pods_go_first_when_the_budget_is_used_up(tmp_path: Path) -> None:
    node = Node(tmp_path / "podcam", 10 * MB)
    node.holds("old", 8 * MB)
    node.rings.restore()
    point = node.records("web-1")
    node.holds("web-1", 4 * MB)
    node.rings.keep_within()
    assert node.went == [("shop/checkout/old", Cause.BUDGET)]
    limit = node.recorder.limits[point]
    assert limit is None or limit >= 2 * MB


def test_then_rings_shrink_and_a_new_point_is_refused_last(tmp_path: Path) -> None:
    node = Node(tmp_path / "podcam", 6 * MB)
    first, second = node.records("web-1"), node.records("web-2")
    node.holds("web-1", 4 * MB)
    node.holds("web-2", 2 * MB)
    node.rings.keep_within()
    limits = [node.recorder.limits[point] for point in (first, second)]
    assert all(limit is not None and 2 * MB <= limit < 5 * MB for limit in limits)
    assert "is used up" in node.rings.plan.notes[0]
    node.records("web-3")
    refused = node.rings.admit("shop/checkout/web-4", "shop/checkout")
    assert isinstance(refused, Refusal)
    assert refused.reason == "NodeBudget"


def test_a_point_is_admitted_by_what_was_seen_last(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.holds("web-1", MB)
    node.holds_clip(MB)
    node.rings.keep_within()
    read: list[object] = []
    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, read.append)
    assert node.rings.admit("shop/checkout/web-1", "shop/checkout") is None
    assert node.rings.admit("shop/checkout/web-2", "shop/checkout") is None
    assert read == []


def test_what_was_seen_long_ago_is_looked_at_again_before_a_point_is_admitted(node: Node) -> None:
    node.rings.keep_within()
    node.holds_clip(99 * MB)
    node.clock.passes(5)
    assert node.rings.admit("shop/checkout/web-1", "shop/checkout") is None
    node.clock.passes(6)
    assert isinstance(node.rings.admit("shop/checkout/web-1", "shop/checkout"), Refusal)


def test_points_that_were_admitted_since_the_last_look_count(tmp_path: Path) -> None:
    node = Node(tmp_path / "podcam", 6 * MB)
    node.rings.keep_within()
    for name in ("web-1", "web-2", "web-3"):
        node.records(name)
    assert isinstance(node.rings.admit("shop/checkout/web-4", "shop/checkout"), Refusal)


def test_a_ring_that_ended_since_the_last_look_is_kept_and_counts(tmp_path: Path) -> None:
    node = Node(tmp_path / "podcam", 10 * MB)
    ended = node.records("web-1")
    ring = node.holds("web-1", 4 * MB)
    node.rings.keep_within()
    node.wanted.clear()
    node.reconciler.reconcile(node.wanted)
    node.reconciler.stopped(ended, "the pod has ended")
    for name in ("web-2", "web-3"):
        node.records(name)
    assert (ring.exists(), node.points.all[ended].state) == (True, "Ended")
    node.records("web-4")
    assert node.went == [(ended, Cause.BUDGET)]


def test_what_is_removed_for_a_new_point_is_removed_once(tmp_path: Path) -> None:
    node = Node(tmp_path / "podcam", 9 * MB)
    node.holds("old", 8 * MB)
    node.rings.restore()
    node.rings.keep_within()
    for name in ("web-1", "web-2"):
        node.records(name)
    assert node.went == [("shop/checkout/old", Cause.BUDGET)]


def test_a_ring_that_is_opened_anew_keeps_its_limit(tmp_path: Path) -> None:
    node = Node(tmp_path / "podcam", 6 * MB)
    first = node.records("web-1")
    node.holds("web-1", 6 * MB)
    node.rings.keep_within()
    limit = node.recorder.limits.pop(first)
    node.rings.started(first)
    assert node.recorder.limits[first] == limit


def test_what_a_clip_holds_too_counts_as_the_clips(node: Node) -> None:
    ring = node.holds("web-1", MB)
    kept = node.folder.clips / "shop_kept" / "web-1"
    kept.mkdir(parents=True)
    (kept / SEGMENT).hardlink_to(ring / SEGMENT)
    node.rings.restore()
    node.rings.keep_within()
    assert node.rings.clips_bytes >= MB
    assert node.rings.bytes_of("shop/checkout") < MB


@pytest.mark.parametrize(
    ("window", "reaches"),
    [
        (Window(NOON - 9 * SECOND, NOON), True),
        (Window(NOON + SECOND, NOON + 2 * SECOND), True),
        (Window(NOON + 3 * SECOND, NOON + 9 * SECOND), True),
        (Window(NOON + 4 * SECOND, NOON + 9 * SECOND), False),
        (Window(NOON - 9 * SECOND, NOON - SECOND), False),
    ],
)
def test_a_resting_ring_reaches_into_windows_between_its_beginning_and_its_end(
    node: Node, window: Window, reaches: bool
) -> None:
    node.holds("web-1", MB, written_ns=NOON + 3 * SECOND)
    node.rings.restore()
    assert node.rings.reach("shop/checkout", None, window) is reaches
    assert node.rings.reach("shop/checkout", ("web-1",), window) is reaches
    assert not node.rings.reach("shop/checkout", ("web-2",), window)
    assert not node.rings.reach("shop/other", None, window)


def test_a_ring_reaches_back_to_packets_that_the_kernel_held_before_their_segment_was_made(
    node: Node,
) -> None:
    point_id = "shop/checkout/web-1"
    path = node.folder.ring(point_id)
    source = Source(Point("shop/web-1", "node-1"), "boot", 4096, (Interface(1, "lo", 772),), {})
    ring = Ring(path, source, limit_bytes=MB, segment_bytes=MB // 2, now_ns=NOON)
    ring.append([block([Sent(NOON - 5 * SECOND, data=bytes(100))])], now_ns=NOON)
    ring.close(NOON)
    write_owner(path, Owner(point_id, "shop/web-1", "shop/checkout", "node-1"))
    node.rings.restore()
    assert node.rings.reach("shop/checkout", None, Window(NOON - 9 * SECOND, NOON - 4 * SECOND))
    assert not node.rings.reach("shop/checkout", None, Window(NOON - 9 * SECOND, NOON - 6 * SECOND))


def test_a_live_ring_reaches_into_windows_from_its_beginning_on(node: Node) -> None:
    point = node.records("web-1")
    counts: dict[str, Any] = {"oldest_ns": NOON - 5 * SECOND}
    node.recorder.counts[point] = counts
    assert node.rings.reach("shop/checkout", None, Window(NOON - 60 * SECOND, NOON))
    assert node.rings.reach("shop/checkout", None, Window(NOON + 60 * SECOND, NOON + 90 * SECOND))
    assert not node.rings.reach("shop/checkout", None, Window(NOON - 60 * SECOND, NOON - 9 * SECOND))
    node.holds("web-1", MB)  # what it has written says no more
    assert not node.rings.reach("shop/checkout", None, Window(NOON - 60 * SECOND, NOON - 9 * SECOND))


def test_a_live_ring_of_which_nothing_was_told_yet_reaches_back_to_its_first_segment(node: Node) -> None:
    node.clock.passes(60)
    node.records("web-1")
    before, later = Window(NOON, NOON + 9 * SECOND), Window(NOON, NOON + 61 * SECOND)
    assert not node.rings.reach("shop/checkout", None, before)
    assert node.rings.reach("shop/checkout", None, later)
    node.holds("web-1", MB)  # an earlier agent began it
    assert node.rings.reach("shop/checkout", None, before)
    assert not node.rings.reach("shop/checkout", None, Window(NOON - 9 * SECOND, NOON - SECOND))


def test_a_live_ring_reaches_into_windows_after_the_clock_was_set_back(node: Node) -> None:
    point = node.records("web-1")
    node.recorder.counts[point] = {"oldest_ns": NOON - 5 * SECOND}
    node.clock.is_set_by(-3600)
    now_ns = node.clock.now_ns()
    assert node.rings.reach("shop/checkout", None, Window(now_ns - 60 * SECOND, now_ns - SECOND))
    assert node.rings.reach("shop/checkout", None, Window(now_ns - 60 * SECOND, now_ns + SECOND))
