"""From pods to points and to their ends, with a recorder, namespaces and a clock made of paper."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agents import NOON, SECOND, PaperClock, PaperFinder, PaperRecorder, paper_log, pod
from podcam.agent.matching import Refusal, Wanted
from podcam.agent.points import NodePoint, Points
from podcam.agent.reconciler import Reconciler
from podcam.agent.recording_status import PointState
from podcam.errors import CaptureError
from podcam.kube import Pod

ID = "shop/checkout/web-1"


class Node:
    """A node whose pods a test decides about."""

    def __init__(self, folder: Path) -> None:
        self.clock = PaperClock()
        self.recorder = PaperRecorder()
        self.finder = PaperFinder(folder)
        self.pods: dict[str, Wanted] = {}
        self.admits: Callable[[str], int | Refusal | None] = lambda _point: None
        self.changed: list[str] = []
        self.refused: list[str] = []
        self.points = Points(self.clock.now_ns)
        self.points.subscribe(self.changed.append)
        self.reconciler = Reconciler(
            self.recorder,
            self.finder,
            self.points,
            node="node-1",
            later=self.clock.later,
            clock=self.clock,
            admit=lambda point, _recording: self.admits(point),
            search=lambda namespace: (f"{namespace}.svc.cluster.local",),
            refused=lambda point: self.refused.append(point.message),
            log=paper_log()[0],
        )

    def runs(self, *pods: Pod, refusal: Refusal | None = None) -> None:
        """These pods are bound to the node, and no others."""
        self.pods = {f"shop/checkout/{each.name}": Wanted("shop/checkout", each, refusal) for each in pods}
        self.looks_again()

    def looks_again(self) -> None:
        self.reconciler.reconcile(dict(self.pods))

    def starts(self, *pods: Pod) -> None:
        """These pods run, and the recorder has their rings open."""
        for each in pods:
            self.finder.appears(each.uid)
        self.runs(*pods)
        for each in pods:
            self.reconciler.started(f"shop/checkout/{each.name}")

    def point(self, point_id: str = ID) -> NodePoint:
        return self.points.all[point_id]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_pods_that_are_found_in_one_look_are_opened_together(node: Node) -> None:
    node.starts(pod("web-1"), pod("web-2"), pod("web-3"))
    assert node.recorder.at_once == [3]
    node.looks_again()
    assert node.recorder.at_once == [3]


def test_a_pod_whose_namespace_is_there_is_recorded_at_once(node: Node) -> None:
    node.finder.appears("uid-web-1")
    node.runs(pod("web-1", ip=None, ips=()))
    added = node.recorder.added[ID]
    assert (added.name, added.recording, added.node) == ("shop/web-1", "shop/checkout", "node-1")
    assert added.namespace.name == "shop/web-1"
    assert added.search == ("shop.svc.cluster.local",)
    assert node.point().state is PointState.WAITING
    node.reconciler.started(ID)
    assert node.point().state is PointState.RECORDING


def test_the_file_of_a_namespace_may_come_before_its_mount(node: Node) -> None:
    node.runs(pod("web-1"))
    assert node.point().reason == "NoNamespace"
    node.clock.passes(0.001)
    node.finder.appears("uid-web-1")
    node.clock.passes(0.05)
    assert ID in node.recorder.added


def test_who_waits_for_a_namespace_looks_seldom_until_something_appears(node: Node) -> None:
    node.runs(pod("web-1"))
    node.clock.passes(60)
    looks = node.finder.looks
    node.clock.passes(60)
    assert node.finder.looks - looks <= 60
    node.finder.appears("uid-web-1")
    node.reconciler.namespaces_changed()
    assert ID in node.recorder.added


def test_a_pod_that_is_gone_keeps_its_ring(node: Node) -> None:
    node.starts(pod("web-1"))
    node.runs()
    assert node.recorder.asked[-1] == ("end", ID)
    node.reconciler.stopped(ID, "it was told to")
    assert node.point().state is PointState.ENDED
    node.points.lose_ring(ID)
    assert ID not in node.points.all


def test_a_pod_that_was_never_recorded_leaves_nothing(node: Node) -> None:
    node.runs(pod("web-1"))
    node.runs()
    assert ID not in node.points.all
    node.finder.appears("uid-web-1")
    node.clock.passes(10)
    assert ID not in node.recorder.added


def test_a_namespace_that_goes_ends_the_point_though_the_api_server_says_nothing(node: Node) -> None:
    node.starts(pod("web-1"))
    node.finder.goes("uid-web-1")
    node.reconciler.namespaces_changed()
    assert node.recorder.asked[-1] == ("end", ID)
    node.reconciler.stopped(ID, "it was told to")
    assert node.point().state is PointState.WAITING


def test_a_pod_that_is_being_deleted_is_recorded_to_its_end(node: Node) -> None:
    node.starts(pod("web-1"))
    node.runs(pod("web-1", deleting=True))
    assert node.point().state is PointState.RECORDING
    node.finder.goes("uid-web-1")
    node.reconciler.namespaces_changed()
    node.reconciler.stopped(ID, "it was told to")
    assert node.point().state is PointState.ENDED
    looks = node.finder.looks
    node.looks_again()
    node.clock.passes(10)
    assert node.finder.looks == looks


def test_a_sandbox_made_anew_goes_on_in_the_same_ring(node: Node) -> None:
    """As after a crash of the pod's pause container: the same pod, another namespace."""
    node.starts(pod("web-1"))
    node.finder.goes("uid-web-1")
    node.finder.appears("uid-web-1")
    node.reconciler.namespaces_changed()
    assert node.recorder.asked == [("add", ID), ("end", ID)]  # not both at once: the ring is one
    node.reconciler.stopped(ID, "it was told to")
    assert node.recorder.asked[-1] == ("add", ID)


def test_a_pod_made_anew_under_its_name_goes_on_in_the_same_ring(node: Node) -> None:
    node.starts(pod("db-0", uid="first"))
    node.finder.appears("second")
    node.runs(pod("db-0", uid="second"))
    point_id = "shop/checkout/db-0"
    assert node.recorder.asked[-1] == ("end", point_id)
    node.reconciler.stopped(point_id, "it was told to")
    assert node.recorder.asked[-1] == ("add", point_id)
    node.reconciler.started(point_id)
    assert node.point(point_id).state is PointState.RECORDING
    assert node.point(point_id).uid == "second"


def test_the_rings_of_an_earlier_agent_are_gone_on_with(node: Node) -> None:
    node.points.rest(ID, "shop/checkout", "web-1", NOON - SECOND)
    node.points.rest("shop/checkout/web-2", "shop/checkout", "web-2", NOON - SECOND)
    node.finder.appears("uid-web-1")
    node.runs(pod("web-1", deleting=True))
    assert ID in node.recorder.added
    other = node.point("shop/checkout/web-2")
    assert (other.state, other.since_ns) == (PointState.ENDED, NOON - SECOND)


def test_what_cannot_be_recorded_says_so(node: Node) -> None:
    node.finder.appears("uid-web-1")
    node.runs(pod("web-1"), refusal=Refusal("HostNetwork", "it would record the node"))
    assert node.point().state is PointState.REFUSED
    node.looks_again()
    assert node.refused == ["it would record the node"]
    assert not node.recorder.added


def test_what_may_be_recorded_no_more_is_ended(node: Node) -> None:
    node.starts(pod("web-1"))
    node.runs(pod("web-1"), refusal=Refusal("HostNetworkNotAllowed", "not allowed any more"))
    assert node.recorder.asked[-1] == ("end", ID)
    node.reconciler.stopped(ID, "it was told to")
    assert node.point().state is PointState.REFUSED
    node.runs(pod("web-1"))
    assert node.recorder.asked[-1] == ("add", ID)


def test_a_point_that_the_node_has_no_room_for_is_tried_again(node: Node) -> None:
    node.admits = lambda _point: Refusal("NodeBudget", "no room")
    node.finder.appears("uid-web-1")
    node.runs(pod("web-1"))
    node.looks_again()
    node.clock.passes(20)
    assert node.point().state is PointState.REFUSED
    node.admits = lambda _point: 50_000_000
    node.clock.passes(20)
    assert node.recorder.limits[ID] == 50_000_000


def test_what_the_recorder_refuses_is_told_and_tried_again(node: Node) -> None:
    node.recorder.refuses = CaptureError("there is no interface eth9")
    node.finder.appears("uid-web-1")
    node.runs(pod("web-1"))
    assert node.point().message == "there is no interface eth9"
    node.recorder.refuses = None
    node.clock.passes(31)
    assert ID in node.recorder.added


def test_a_ring_that_the_recorder_gave_up_is_opened_again(node: Node) -> None:
    node.starts(pod("web-1"))
    del node.recorder.added[ID]
    node.reconciler.stopped(ID, "the disk is full")
    assert (node.point().state, node.point().message) == (PointState.REFUSED, "the disk is full")
    node.clock.passes(31)
    assert node.recorder.asked == [("add", ID), ("add", ID)]


def test_a_recording_that_changes_has_its_points_opened_anew_by_the_recorder(node: Node) -> None:
    node.starts(pod("web-1"))
    node.reconciler.stopped(ID, "its recording was changed")
    assert node.point().state is PointState.WAITING
    node.reconciler.started(ID)
    assert node.point().state is PointState.RECORDING
    assert node.recorder.asked == [("add", ID)]


def test_at_the_end_all_points_wait_for_the_next_agent(node: Node) -> None:
    node.starts(pod("web-1"))
    node.reconciler.close()
    node.reconciler.stopped(ID, "it was told to")
    point = node.point()
    assert (point.state, point.reason) == (PointState.WAITING, "AgentEnded")
    assert node.recorder.asked == [("add", ID)]


def test_every_change_is_told_for_the_status(node: Node) -> None:
    node.starts(pod("web-1"))
    before = len(node.changed)
    assert set(node.changed) == {"shop/checkout"}
    node.looks_again()
    assert len(node.changed) == before
