"""`kubectl podcam clip`: of which recording, of which nodes, and until it is complete."""

from datetime import UTC, datetime
from typing import Any, NoReturn

import pytest

from fake_cluster import FakeCluster
from podcam.cli.kubectl import clip as verb
from podcam.cli.kubectl import main
from podcam.kube import CLIPS, RECORDING_LABEL, RECORDINGS, path_of

NAME = "web-20261123-060000"


@pytest.fixture(autouse=True)
def shop(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "now", lambda: datetime(2026, 11, 23, 6, tzinfo=UTC))
    cluster.add(RECORDINGS, recording("web"))


def recording(name: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": name}}},
        "status": {
            "nodes": {
                "node-1": {"points": [{"pod": f"{name}-1", "state": "Recording"}]},
                "node-2": {"points": [{"pod": f"{name}-2", "state": "Ended"}]},
                "node-3": {"points": [{"pod": f"{name}-3", "state": "Refused"}]},
            }
        },
    }


def clip(state: str, complete: str, name: str = NAME, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"recording": "web"},
        "status": {"state": state, "partsComplete": complete, **status},
    }


def test_it_makes_a_clip_of_the_only_recording_and_waits_for_all_parts(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {
        "node-1": {"state": "Complete", "packets": 1200, "bytes": 50_000},
        "node-2": {"state": "Nothing", "message": "the ring began later"},
    }
    cluster.tells(CLIPS, clip("Freezing", "1/2"), clip("Complete", "2/2", parts=parts))
    assert main(["clip", "-n", "shop", "--last", "5m", "--reason", "slow"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{NAME}\n"
    assert err.splitlines() == [
        "1/2 parts",
        "2/2 parts",
        "  node-1: complete, segments of 1,200 packets, 50KB",
        "  node-2: nothing: the ring began later",
    ]
    made = cluster.objects[path_of(CLIPS, "shop", NAME)]
    assert made["metadata"]["labels"] == {RECORDING_LABEL: "web"}
    assert made["spec"] == {"recording": "web", "last": "5m", "reason": "slow", "nodes": ["node-1", "node-2"]}


def test_a_missing_part_is_a_failure_that_is_told(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.tells(CLIPS, clip("Incomplete", "1/2", missing=["node-2"]))
    assert main(["clip", "web", "-n", "shop"]) == 1
    out, err = capsys.readouterr()
    assert out == f"{NAME}\n"
    assert "  node-2: missing; is its agent well?" in err


def test_it_does_not_wait_for_ever(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.tells(CLIPS, clip("Freezing", "0/2"))
    assert main(["clip", "web", "-n", "shop", "--timeout", "200ms"]) == 1
    assert f"kubectl podcam clips {NAME}" in capsys.readouterr().err


def test_of_one_pod(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add(RECORDINGS, recording("db"))
    assert main(["clip", "--pod", "pod/db-2", "-n", "shop", "--no-wait", "-o", "name"]) == 0
    assert capsys.readouterr().out == "clip.podcam.dev/db-20261123-060000\n"
    spec = cluster.objects[path_of(CLIPS, "shop", "db-20261123-060000")]["spec"]
    assert (spec["pods"], spec["nodes"]) == (["db-2"], ["node-2"])


def test_a_pod_that_the_recording_does_not_have(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["clip", "web", "--pod", "web-1", "--pod", "nope", "-n", "shop"]) == 2
    assert "recording web in namespace shop has no ring of nope" in capsys.readouterr().err
    assert path_of(CLIPS, "shop", NAME) not in cluster.objects


def test_an_empty_clip_is_a_failure_that_is_told(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {"node-1": {"state": "Nothing", "message": "no ring reaches into the window"}}
    cluster.tells(CLIPS, clip("Complete", "1/1", parts=parts))
    assert main(["clip", "web", "-n", "shop"]) == 1
    out, err = capsys.readouterr()
    assert out == f"{NAME}\n"
    assert err.splitlines()[-1] == "the clip is empty: nothing was recorded in that time"


def test_ctrl_c_ends_the_waiting_and_not_the_clip(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(verb, "states", interrupted)
    assert main(["clip", "web", "-n", "shop"]) == 130
    assert f"`kubectl podcam clips {NAME} -n shop` shows it" in capsys.readouterr().err
    assert path_of(CLIPS, "shop", NAME) in cluster.objects


def test_two_in_one_second_have_two_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clip", "-n", "shop", "--no-wait"]) == 0
    assert main(["clip", "-n", "shop", "--no-wait"]) == 0
    assert capsys.readouterr().out == f"{NAME}\n{NAME}-2\n"


def test_a_long_name_fits_beside_the_time(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add(RECORDINGS, recording("w" * 39 + "-" + "x" * 20))
    assert main(["clip", "w" * 39 + "-" + "x" * 20, "-n", "shop", "--no-wait"]) == 0
    assert capsys.readouterr().out == "w" * 39 + "-20261123-060000\n"


def test_which_recording_has_to_be_clear(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add(RECORDINGS, recording("db"))
    assert main(["clip", "-n", "shop"]) == 2
    assert "there are 2 recordings in namespace shop: name one of db, web" in capsys.readouterr().err
    assert main(["clip", "--pod", "other", "-n", "shop"]) == 2
    assert "there is no recording of other in namespace shop" in capsys.readouterr().err
    assert main(["clip", "nothing", "-n", "shop"]) == 1
    assert "there is no recording nothing in namespace shop" in capsys.readouterr().err


def test_a_recording_that_has_no_ring_yet(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add(RECORDINGS, {**recording("web"), "status": {}})
    assert main(["clip", "-n", "shop", "--no-wait"]) == 0
    assert "no node has a ring of web yet" in capsys.readouterr().err


def test_a_clip_that_is_deleted_meanwhile(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.tells(CLIPS, clip("Freezing", "0/2"), None)
    assert main(["clip", "-n", "shop"]) == 1
    assert f"clip {NAME} was deleted meanwhile" in capsys.readouterr().err
