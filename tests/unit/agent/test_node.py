"""A node as a whole: what the API server says, and what is made of it."""

import base64
from pathlib import Path
from typing import Any

import pytest

from agents import NOON, SECOND, PaperNode
from podcam.agent import node_recordings
from podcam.agent.matching import Matching, match
from podcam.kube import CLIPS, GRANTS, PODS, RECORDINGS, Changed, format_time


@pytest.fixture
def paper(tmp_path: Path) -> PaperNode:
    return PaperNode(tmp_path)


def _object(name: str, **spec: Any) -> dict[str, Any]:
    metadata = {
        "namespace": "shop",
        "name": name,
        "uid": f"uid-{name}",
        "creationTimestamp": format_time(NOON),
    }
    return {"metadata": metadata, "spec": spec}


def _grant(name: str, clip: str) -> dict[str, Any]:
    return _object(name, clip=clip, publicKey=base64.b64encode(bytes(32)).decode())


def test_a_pod_and_a_recording_of_it_make_a_point(paper: PaperNode) -> None:
    paper.finder.appears("uid-web-1")
    paper.take[PODS](Changed(_object("web-1", nodeName="node-1")))
    paper.clock.passes(1)
    assert paper.recorder.added == {}
    paper.take[RECORDINGS](Changed(_object("checkout", pods=["web-1"])))
    paper.clock.passes(1)
    assert list(paper.recorder.added) == ["shop/checkout/web-1"]
    assert list(paper.recorder.defined) == ["shop/checkout"]


def test_what_other_nodes_report_matches_nothing_anew(
    paper: PaperNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    matched: list[Matching] = []

    def noted(*arguments: Any, **options: Any) -> Matching:
        matched.append(match(*arguments, **options))
        return matched[-1]

    monkeypatch.setattr(node_recordings, "match", noted)
    recording = _object("checkout", pods=["web-1"])
    for dropped in range(10):
        entry = {"points": [], "dropped": dropped, "updated": format_time(NOON)}
        paper.take[RECORDINGS](Changed({**recording, "status": {"nodes": {"node-2": entry}}}))
        paper.clock.passes(1)
    assert len(matched) == 1
    paper.take[RECORDINGS](Changed(_object("checkout", pods=["web-2"])))
    paper.clock.passes(1)
    assert len(matched) == 2


def _keep(paper: PaperNode) -> None:
    """The node has a part of the clip `kept`."""
    paper.finder.appears("uid-web-1")
    paper.take[PODS](Changed(_object("web-1", nodeName="node-1")))
    paper.take[RECORDINGS](Changed(_object("checkout", pods=["web-1"])))
    paper.clock.passes(1)
    paper.node.hearing.hear([{"event": "started", "id": "shop/checkout/web-1"}])
    paper.take[CLIPS](Changed(_object("kept", recording="checkout", last="60s")))


def test_the_object_of_a_clip_makes_a_part_where_a_ring_reaches_into_it(paper: PaperNode) -> None:
    _keep(paper)
    assert [request.clip for request in paper.recorder.kept] == ["shop_kept"]


def test_a_clip_that_nobody_keeps_is_told_where_its_recording_is(paper: PaperNode) -> None:
    _keep(paper)
    ten_years = {"start": format_time(NOON), "end": format_time(NOON + 3650 * 86_400 * SECOND)}
    paper.take[CLIPS](Changed(_object("far", recording="checkout", window=ten_years)))
    paper.take[CLIPS](Changed(_object("others", recording="elsewhere", window=ten_years)))
    assert [request.clip for request in paper.recorder.kept] == ["shop_kept"]
    paper.clock.passes(1)
    paper.writes.send()
    (event,) = [body for verb, path, body in paper.api.requests if verb == "create" and "events" in path]
    assert (event["reason"], event["involvedObject"]["name"]) == ("ClipRefused", "checkout")
    sentence = "a clip is not kept: Clip shop/far: spec.window ends more than 25h after the clip was made"
    assert event["message"] == f"on node node-1: {sentence}"
    (entry,) = [body for verb, _, body in paper.api.requests if verb == "apply as podcam-agent-node-1"]
    assert entry["nodes"]["node-1"]["warnings"] == [sentence]


def test_a_grant_for_what_can_be_no_clip_keeps_no_other_from_being_deleted(paper: PaperNode) -> None:
    _keep(paper)
    paper.take[GRANTS](Changed(_grant("odd", "a/b")))
    paper.take[GRANTS](Changed(_grant("old", "kept")))
    paper.clock.passes(3601)
    paper.node.clips.grants.expire()
    assert "grant/shop/old/delete" in paper.writes.waiting
    assert "grant/shop/odd/delete" not in paper.writes.waiting
    paper.clock.passes(3601)
    paper.node.clips.grants.expire()
    assert "grant/shop/odd/delete" in paper.writes.waiting
