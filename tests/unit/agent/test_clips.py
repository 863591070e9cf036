"""Clips of the cluster and clips on the disk, with a recorder and an API server made of paper."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents import NOON, SECOND, PaperApi, PaperRecorder, PaperWrites, paper_log
from podcam.agent.clip_status import PartState
from podcam.agent.clips import Clips
from podcam.agent.collection import Collection
from podcam.agent.guard import Guard
from podcam.agent.marks import Marks
from podcam.agent.naming import Name
from podcam.agent.parts import NodePart
from podcam.clip import COMPLETE, ClipPart, ClipStore, Manifest, read_manifest, write_manifest
from podcam.errors import ClipError, ConflictError, ForbiddenError, NotFoundError, UnreachableError
from podcam.kube import Changed, ClipObject, Deleted, Listed, format_time
from podcam.model.failure import Failure
from podcam.model.point import Endpoint, Point, Window
from podcam.model.verdict import FailureClass
from podcam.ring import Totals

CLIP = Name("shop", "checkout-20261123-120000")
ID = "shop_checkout-20261123-120000"
WINDOW = Window(NOON - 60 * SECOND, NOON + 10 * SECOND)
FAILURE = Failure(
    NOON,
    FailureClass.RESET_EARLY,
    Endpoint("10.244.0.7", 40_000),
    Endpoint("10.96.0.5", 5432),
    "server",
    NOON,
)
HOME = "/api/v1/namespaces/shop"
PATH = "/apis/podcam.dev/v1alpha1/namespaces/shop/clips"


class PaperRings:
    reaches = True

    def reach(self, recording: str, pods: tuple[str, ...] | None, window: Window) -> bool:
        return self.reaches


class PaperPeers:
    def look_up(
        self,
        clip: str,
        addresses: Iterable[str],
        pods: Iterable[str],
        done: Callable[[Mapping[str, str]], None],
    ) -> None:
        done({address: f"name of {address}" for address in addresses})


class Node:
    """The clips of one node; `restart` is what a killed agent's successor sees."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.api = PaperApi()
        self.rings = PaperRings()
        self.nodes: tuple[str, ...] = ("node-1", "node-2")
        self.home: str | None = "uid-of-shop"
        self.api.objects[HOME] = {"metadata": {"uid": self.home}}
        self.restart()

    def restart(self) -> None:
        self.recorder = PaperRecorder()
        self.writes = PaperWrites(self.api)
        self.reported: dict[str, NodePart] = {}
        self.refused: list[tuple[str, str]] = []
        self.store = ClipStore(self.folder / "clips")
        self.objects = Collection(ClipObject.parse, Guard(paper_log()[0]))
        self.clips = Clips(
            node="node-1",
            store=self.store,
            marks=Marks(self.folder),
            recorder=self.recorder,
            rings=self.rings,
            expected=lambda _recording: self.nodes,
            home=lambda _namespace: self.home,
            peers=PaperPeers(),
            writes=self.writes,
            call=lambda function: function(),
            objects=self.objects,
            report=lambda name, part: self.reported.__setitem__(str(name), part),
            refused=lambda recording, text: self.refused.append((recording, text)),
            log=paper_log()[0],
        )
        self.objects.subscribe(changed=self.clips.changed, removed=self.clips.gone, listed=self.clips.listed)
        self.clips.restore()

    @property
    def part(self) -> NodePart | None:
        return self.reported.get(str(CLIP))

    def fails(self) -> None:
        """A connection fails here: the recorder opens a clip."""
        self.writes_folder(replace(_manifest(), triggers=(FAILURE,)))
        self.clips.opened(self.event("wire"))

    def event(self, origin: str) -> dict[str, Any]:
        path = str(self.store.folder / ID)
        return {"clip": ID, "path": path, "point": "shop/web-1", "points": None, "origin": origin}

    def writes_folder(self, manifest: Manifest) -> None:
        path = self.store.folder / ID
        path.mkdir(parents=True, exist_ok=True)
        write_manifest(path, manifest)

    def completes(self, *, packets: int = 7) -> None:
        """The recorder has kept the whole window."""
        path = self.store.folder / ID
        part = ClipPart(
            Point("shop/web-1", "node-1"), "web-1", ("1.seg",), Totals(packets, 700, 0, NOON, NOON)
        )
        write_manifest(path, replace(read_manifest(path), state=COMPLETE, parts=(part,)))
        self.clips.completed(self.event("wire"))

    def hears(self, *bodies: dict[str, Any]) -> None:
        for body in bodies:
            self.objects.take(Changed(body))


def _manifest() -> Manifest:
    return Manifest(ID, "it was reset", NOON, WINDOW, recording="shop/checkout")


def _object(uid: str = "uid-1", **changes: Any) -> dict[str, Any]:
    spec = {
        "recording": "checkout",
        "reason": "asked for",
        "window": {"start": format_time(WINDOW.start_ns), "end": format_time(WINDOW.end_ns)},
        **changes.get("spec", {}),
    }
    metadata = {
        "namespace": "shop",
        "name": CLIP.name,
        "uid": uid,
        "creationTimestamp": format_time(NOON),
    }
    return {"metadata": metadata, "spec": spec, "status": changes.get("status", {})}


def _reported(state: str) -> dict[str, Any]:
    return {"status": {"parts": {"node-1": {"state": state}}}}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_failure_seen_here_becomes_an_object(node: Node) -> None:
    node.fails()
    node.writes.send()
    assert node.api.requests[0][:2] == ("get", HOME)
    ((verb, path, body),) = node.api.requests[1:]
    assert (verb, path) == ("create", PATH)
    assert body["metadata"] == {
        "namespace": "shop",
        "name": CLIP.name,
        "labels": {"podcam.dev/recording": "checkout"},
    }
    assert body["spec"]["nodes"] == ["node-1", "node-2"]
    assert body["spec"]["window"] == {
        "start": format_time(WINDOW.start_ns),
        "end": format_time(WINDOW.end_ns),
    }
    trigger = body["spec"]["trigger"]
    assert (trigger["class"], trigger["pod"], trigger["node"]) == ("reset-early", "web-1", "node-1")
    assert trigger["server"] == {"ip": "10.96.0.5", "port": 5432}
    assert "pods" not in body["spec"]
    assert node.part == NodePart(PartState.FREEZING, WINDOW)


def test_with_scope_pod_the_object_names_the_pod(node: Node) -> None:
    node.writes_folder(replace(_manifest(), triggers=(FAILURE,)))
    node.clips.opened({**node.event("wire"), "points": ["shop/checkout/web-1"]})
    node.writes.send()
    assert node.api.requests[1][2]["spec"]["pods"] == ["web-1"]


def test_the_second_agent_to_create_it_joins(node: Node) -> None:
    node.fails()
    node.api.objects[f"{PATH}/{CLIP.name}"] = _object("of-another")
    node.api.create = _raise(ConflictError("it exists", status=409, reason="AlreadyExists"))  # type: ignore[method-assign]
    node.writes.send()
    assert Marks(node.folder).of(ID).uid == "of-another"
    assert node.part is not None


def test_an_object_waits_for_the_api_server_and_outlives_a_restart(node: Node) -> None:
    node.api.fails = UnreachableError("it is down")
    node.fails()
    node.writes.send()
    node.completes()
    node.restart()
    node.api.fails = None
    node.objects.take(Listed(()))
    assert (node.store.folder / ID).exists()
    node.writes.send()
    body = next(body for verb, _, body in node.api.requests if verb == "create")
    assert body["spec"]["trigger"]["pod"] == "web-1"
    assert node.part is not None
    assert node.part.state is PartState.COMPLETE


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("tried", [False, True])
def test_a_namespace_that_was_made_anew_for_others_gets_no_clip_of_the_old_one(
    node: Node, restarted: bool, tried: bool
) -> None:
    node.api.fails = UnreachableError("it is down")
    node.fails()
    if tried:
        node.writes.send()
    node.completes()
    if restarted:
        node.restart()
    node.api.objects[HOME] = {"metadata": {"uid": "another"}}
    node.api.fails = None
    node.writes.send()
    assert [verb for verb, *_ in node.api.requests] == ["get"]
    assert node.recorder.asked == [("drop", ID)]
    assert node.clips.path_of(CLIP) is None


def test_a_clip_of_that_name_in_a_namespace_made_anew_is_another(node: Node) -> None:
    node.fails()
    node.completes()
    node.home = "another"
    node.hears(_object("of-others"))
    assert node.recorder.asked == [("drop", ID)]
    assert [request.clip for request in node.recorder.kept] == [ID]
    assert not node.writes.waiting


def test_a_clip_waits_until_its_namespace_is_known(node: Node) -> None:
    node.fails()
    node.completes()
    node.restart()
    node.home = None
    node.hears(_object("uid-1"))
    assert (node.part, node.recorder.asked) == (None, [])
    node.api.objects[f"{PATH}/{CLIP.name}"] = _object("uid-1")
    node.api.create = _raise(ConflictError("it exists", status=409, reason="AlreadyExists"))  # type: ignore[method-assign]
    node.writes.send()
    assert node.part is not None
    assert Marks(node.folder).of(ID).uid == "uid-1"


def test_an_object_that_was_deleted_before_its_maker_saw_it_takes_the_clip_along(node: Node) -> None:
    node.fails()
    node.api.create = _raise(ConflictError("it exists", status=409, reason="AlreadyExists"))  # type: ignore[method-assign]
    node.api.get = _raise(NotFoundError("no such clip", status=404))  # type: ignore[method-assign]
    node.writes.send()
    assert node.recorder.asked == [("drop", ID)]
    assert not node.writes.waiting


def test_a_clip_is_complete_once_its_addresses_have_names(node: Node) -> None:
    node.fails()
    node.writes.send()
    node.completes()
    assert read_manifest(node.store.folder / ID).names == {
        "10.244.0.7": "name of 10.244.0.7",
        "10.96.0.5": "name of 10.96.0.5",
    }
    assert node.part is not None
    assert (node.part.state, node.part.pods[0].pod) == (PartState.COMPLETE, "web-1")


def test_a_clip_without_packets_is_nothing(node: Node) -> None:
    node.hears(_object())
    node.writes_folder(_manifest())
    node.completes(packets=0)
    assert node.part is not None
    assert node.part.state is PartState.NOTHING


def test_an_object_makes_this_node_keep_its_part(node: Node) -> None:
    node.hears(_object(spec={"pods": ["web-1"], "trigger": _trigger("node-2")}))
    (request,) = node.recorder.kept
    assert (request.clip, request.recording, request.window) == (ID, "shop/checkout", WINDOW)
    assert request.points == frozenset({"shop/checkout/web-1"})
    assert request.joins
    node.hears(_object(status={"state": "Freezing"}))
    assert len(node.recorder.kept) == 1


def test_what_a_person_asks_for_joins_nothing(node: Node) -> None:
    node.hears(_object())
    assert not node.recorder.kept[0].joins
    assert node.recorder.kept[0].points is None


def test_an_expected_node_without_rings_says_so(node: Node) -> None:
    node.rings.reaches = False
    node.hears(_object(spec={"nodes": ["node-1"]}))
    assert node.part is not None
    assert node.part.state is PartState.NOTHING


def test_a_node_that_is_not_concerned_says_nothing(node: Node) -> None:
    node.rings.reaches = False
    node.hears(_object(spec={"nodes": ["node-2"]}))
    assert node.part is None
    assert not node.recorder.kept


def test_what_was_reported_as_settled_is_left(node: Node) -> None:
    for state in ("Nothing", "Failed", "Removed"):
        node.hears(_object(**_reported(state)))
    assert node.part is None
    assert not node.recorder.kept


def test_a_part_whose_files_are_lost_is_removed(node: Node) -> None:
    node.hears(_object(**_reported("Complete")))
    assert node.part is not None
    assert node.part.state is PartState.REMOVED


def test_a_part_that_cannot_be_kept_has_failed(node: Node) -> None:
    node.recorder.refuses = ClipError("the disk is full")
    node.hears(_object())
    assert node.part == NodePart(PartState.FAILED, WINDOW, "the disk is full")


def test_two_agents_that_saw_a_failure_at_once_keep_what_both_need(node: Node) -> None:
    node.fails()
    earlier = {"start": format_time(WINDOW.start_ns - 9 * SECOND), "end": format_time(WINDOW.end_ns)}
    node.hears(_object(spec={"window": earlier, "trigger": _trigger("node-2")}))
    (request,) = node.recorder.kept
    assert request.window.start_ns == WINDOW.start_ns - 9 * SECOND


@pytest.mark.parametrize(
    ("interrupted", "reported", "goes_on"),
    [
        (True, "Freezing", True),  # killed within the window
        (False, "Freezing", True),  # complete, but the agent ended before it could say so
        (True, "Complete", True),  # said as much as there was, before the window's end
        (False, "Complete", False),
    ],
)
def test_what_an_earlier_agent_began_is_brought_to_its_end(
    node: Node, interrupted: bool, reported: str, goes_on: bool
) -> None:
    node.hears(_object())
    node.writes_folder(_manifest())
    node.completes()
    path = node.store.folder / ID
    write_manifest(path, replace(read_manifest(path), interrupted=interrupted))
    node.restart()
    node.objects.take(Listed((_object(**_reported(reported)),)))
    assert [request.window for request in node.recorder.kept] == [WINDOW] * goes_on
    node.clips.completed(node.event("kept"))
    assert node.part is not None
    assert node.part.state is PartState.COMPLETE
    node.hears(_object(status={"state": "Complete", **_reported(reported)["status"]}))
    assert len(node.recorder.kept) == goes_on


def test_what_cannot_be_gone_on_with_is_told_as_it_is(node: Node) -> None:
    node.hears(_object())
    node.writes_folder(_manifest())
    node.completes()
    node.restart()
    node.recorder.refuses = ClipError("the disk is full")
    node.objects.take(Listed((_object(**_reported("Freezing")),)))
    assert node.part is not None
    assert (node.part.state, node.part.pods[0].packets) == (PartState.COMPLETE, 7)


def test_a_clip_goes_with_its_object(node: Node) -> None:
    node.hears(_object())
    node.objects.take(Deleted(_object()))
    assert node.recorder.asked == [("drop", ID)]
    assert node.clips.path_of(CLIP) is None
    assert Marks(node.folder).all() == set()


def test_a_clip_whose_object_went_unseen_goes_at_the_next_list(node: Node) -> None:
    node.fails()
    node.writes.send()
    node.completes()
    node.restart()
    node.objects.take(Listed(()))
    assert node.recorder.asked == [("drop", ID)]


def test_a_list_that_was_made_before_the_object_does_not_end_its_clip(node: Node) -> None:
    node.fails()
    node.writes.send()
    node.objects.take(Listed(()))  # asked for before the object was made, and read after it
    assert node.recorder.asked == []
    node.objects.take(Listed(()))
    assert node.recorder.asked == [("drop", ID)]


def test_a_list_after_the_watch_told_of_the_object_ends_its_clip(node: Node) -> None:
    node.fails()
    node.writes.send()
    node.hears(_object(f"uid-of-{CLIP.name}"))
    node.objects.take(Listed(()))
    assert node.recorder.asked == [("drop", ID)]


def test_another_clip_of_the_same_name_takes_its_place(node: Node) -> None:
    node.hears(_object("first"))
    node.hears(_object("second"))
    assert node.recorder.asked == [("drop", ID)]
    assert len(node.recorder.kept) == 2
    assert Marks(node.folder).of(ID).uid == "second"


def test_a_clip_that_a_quota_refuses_is_kept_and_told(node: Node) -> None:
    node.fails()
    node.api.fails = ForbiddenError("exceeded quota: clips", status=403)
    node.writes.send()
    ((recording, text),) = node.refused
    assert recording == "shop/checkout"
    assert CLIP.name in text
    assert "exceeded quota" in text
    assert node.recorder.asked == []
    node.api.fails = None
    node.writes.send()
    assert node.part is not None


def test_a_clip_goes_with_its_namespace(node: Node) -> None:
    node.fails()
    node.api.create = _raise(NotFoundError("no namespace shop", status=404))  # type: ignore[method-assign]
    node.writes.send()
    assert node.recorder.asked == [("drop", ID)]


def test_a_clip_that_the_budget_took_is_told(node: Node) -> None:
    node.hears(_object())
    node.clips.removed({"clip": ID, "reason": "the clips reached their budget"})
    assert node.part == NodePart(PartState.REMOVED, WINDOW, "the clips reached their budget")
    assert node.clips.path_of(CLIP) is None


def test_a_failure_joins_no_clip_that_is_over(node: Node) -> None:
    node.hears(_object())
    assert node.clips.over("shop", NOON) == set()
    assert node.clips.over("shop", WINDOW.end_ns + 1) == {CLIP.name}
    assert node.clips.over("other", WINDOW.end_ns + 1) == set()
    node.restart()
    node.fails()
    node.completes()
    assert node.clips.over("shop", NOON) == {CLIP.name}


def test_clips_of_a_recorder_without_a_cluster_are_left_alone(node: Node) -> None:
    path = node.store.folder / "20261123-120000-reset"
    path.mkdir(parents=True)
    write_manifest(path, replace(_manifest(), id=path.name))
    node.restart()
    node.objects.take(Listed(()))
    assert path.exists()
    assert not node.writes.waiting


def _trigger(node: str) -> dict[str, Any]:
    return {"class": "reset", "pod": "web-9", "node": node, "time": format_time(NOON)}


def _raise(error: Exception) -> Callable[..., Any]:
    def raise_it(*_arguments: Any, **_options: Any) -> Any:
        raise error

    return raise_it
