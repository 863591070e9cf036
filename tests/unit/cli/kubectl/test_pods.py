"""Pods with a recorder of their own: in `status`, and `pull --sidecar`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_cluster import FakeCluster
from podcam.cli.kubectl import main, pods, status
from podcam.cluster.sidecar import PodClip, PodRecorder, PodRoad
from podcam.errors import UnreachableError
from podcam.kube import PODS, RECORDINGS, Api, path_of
from podcam.wrap.http import PodServer
from served_clips import keep_clip, packet

CLIP = "20231114-221320-broken"
TOLD = {
    "state": "recording",
    "totals": {"failures": 2, "dropped": 0, "ring_bytes": 2_500_000},
    "last_clip": CLIP,
    "warnings": ["the volume is small \x1b[31m"],
}


def pod(name: str, phase: str = "Running", how: str = "sidecar") -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"0a1b2c3d-0000-4000-8000-{name}",
            "creationTimestamp": "2026-11-23T06:00:00Z",
            "labels": {"podcam.dev/recorder": how},
        },
        "spec": {"nodeName": "node-1", "containers": []},
        "status": {"phase": phase, "podIP": "10.244.0.7"},
    }


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the pods tell."""
    answers: dict[str, Any] = {}

    def ask(options: Any, recorders: list[PodRecorder]) -> dict[str, Any]:
        names = [f"{each.pod.namespace}/{each.pod.name}" for each in recorders if each.runs]
        return {name: answers[name] for name in names if name in answers}

    monkeypatch.setattr(status, "statuses", ask)
    return answers


def test_status_shows_pods_with_a_recorder_of_their_own(
    cluster: FakeCluster, told: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add(PODS, pod("a"), pod("b", how="wrap"), pod("c", phase="Pending"), pod("d"))
    told |= {"shop/a": TOLD, "shop/b": "nothing hands out clips at port 9472 of pod b"}
    assert main(["status", "-n", "shop"]) == 0
    out, err = capsys.readouterr()
    assert [line.split() for line in out.splitlines()] == [
        ["POD", "NODE", "RECORDER", "STATE", "FAILURES", "DROPPED", "ON", "DISK", "LAST", "CLIP"],
        ["a", "node-1", "sidecar", "recording", "2", "0", "2.5MB", CLIP],
        ["b", "node-1", "wrap", "?", "?", "?", "?", "-"],
        ["c", "node-1", "sidecar", "pending", "?", "?", "?", "-"],
        ["d", "node-1", "sidecar", "?", "?", "?", "?", "-"],
    ]
    assert "a: the volume is small \\x1b[31m" in err
    assert "b: nothing hands out clips" in err
    assert "1 further pod was not asked" in err


def test_a_pod_may_answer_whatever_it_likes(
    cluster: FakeCluster, told: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add(PODS, pod("a"))
    told["shop/a"] = {"state": "\x1b]0;x", "totals": [], "warnings": "none", "last_clip": {"a": 1}}
    assert main(["status", "-n", "shop"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_status_without_pods_of_that_kind_says_so(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.denied |= {("list", "pods")}
    cluster.forbidden |= {path_of(PODS, "shop"), path_of(RECORDINGS, "none")}
    assert main(["status", "-n", "shop"]) == 0
    assert "no recordings in namespace shop" in capsys.readouterr().err


class Road(PodRoad):
    """The way to a pod, without kubectl."""

    clips_told: list[list[PodClip]] = []  # noqa: RUF012 - each test sets it
    states: list[str] = []  # noqa: RUF012

    def __init__(self, options: Any, recorder: PodRecorder) -> None:
        super().__init__(options, recorder, pause=lambda _: None)

    def clips(self) -> list[PodClip]:
        return self.clips_told.pop(0) if len(self.clips_told) > 1 else self.clips_told[0]


@pytest.fixture
def road(monkeypatch: pytest.MonkeyPatch) -> type[Road]:
    monkeypatch.setattr(pods, "PodRoad", Road)
    return Road


def test_which_clip_of_a_pod(
    cluster: FakeCluster, road: type[Road], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add(PODS, pod("a"))
    both = [PodClip("20231114-1-x", "complete", 1), PodClip("20231114-2-y", "complete", 2)]
    for clips, argument, sentence in (
        ([], [], "has kept no clip yet"),
        (both, ["20231114"], "20231114 is the start of 2 clips; there are 20231114-1-x, 20231114-2-y"),
        (both, ["3"], "this pod has no clip 3; there are"),
    ):
        road.clips_told = [clips]
        assert main(["pull", "--sidecar", "a", *argument, "-n", "shop"]) == 1
        assert sentence in capsys.readouterr().err


def test_the_latest_is_the_latest_that_can_be_fetched(road: type[Road]) -> None:
    kept, growing = PodClip("20231114-1-x", "complete", 1), PodClip("20231114-2-y", "open", 2)
    assert pods._named([kept, growing], None) is kept
    assert pods._named([growing], None) is growing
    assert pods._named([kept, growing], growing.name) is growing


def test_misuse(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    for argv, sentence in (
        (["pull"], "which clip?"),
        (["pull", "--watch"], "--watch takes --sidecar"),
        (["pull", "--watch", "--sidecar", "a", "-o", "x"], "makes a file of each"),
    ):
        assert main([*argv, "-n", "shop"]) == 2
        assert sentence in capsys.readouterr().err
    assert main(["pull", "--sidecar", "gone", "-n", "shop"]) == 1
    assert '"gone" not found in namespace shop: -n NAMESPACE names another' in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "pod/", ".", ".."])
@pytest.mark.parametrize("verb", [["pull"], ["pull", "--watch"], ["diagnose"]])
def test_a_pod_without_a_name_is_wrong_usage(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str], verb: list[str], name: str
) -> None:
    assert main([*verb, "--sidecar", name, "-n", "shop"]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert "argument --sidecar: " in told


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[PodServer, dict[str, Any]]]:
    keep_clip(tmp_path / "clips", CLIP, "node-1", {"web-1": [[packet(1), packet(2)]]})
    said: dict[str, Any] = {"state": "recording", "warnings": []}
    server = PodServer(tmp_path / "clips", lambda: said, 0)
    server.start()
    yield server, said
    server.close()


def test_watch_fetches_what_comes_until_the_recorder_ends(
    cluster: FakeCluster,
    server: tuple[PodServer, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One clip is there, another one comes, then the way breaks once, then the recorder ends."""
    serves, said = server
    cluster.add(PODS, pod("a"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    turns = 0

    def pause(_seconds: float) -> None:
        nonlocal turns
        turns += 1
        if turns == 1:
            keep_clip(tmp_path / "clips", "20231114-221321-again", "node-1", {"web-2": [[packet(3)]]})
        elif turns == 3:
            said["state"] = "ended"

    class Direct(PodRoad):
        def __init__(self, options: Any, recorder: PodRecorder) -> None:
            super().__init__(options, recorder, pause=pause)

        def _reached(self) -> Api:
            if turns == 2:
                pause(0)
                raise UnreachableError("lost connection to pod")
            return Api.at(f"http://127.0.0.1:{serves.port}")

    monkeypatch.setattr(pods, "PodRoad", Direct)
    assert main(["pull", "--sidecar", "a", "--watch", "-n", "shop"]) == 0
    out, err = capsys.readouterr()
    files = out.splitlines()
    assert [name.rpartition("-shop-a-")[0] for name in files] == [CLIP, "20231114-221321-again"]
    assert all((tmp_path / name).exists() for name in files)
    assert "lost connection to pod; it is tried again" in err
    assert "has ended, and all of its clips are here" in err


def test_watch_writes_what_an_earlier_command_has_fetched(
    cluster: FakeCluster,
    server: tuple[PodServer, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serves, said = server
    cluster.add(PODS, pod("a"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def pause(_seconds: float) -> None:
        said["state"] = "ended"

    class Direct(PodRoad):
        def __init__(self, options: Any, recorder: PodRecorder) -> None:
            super().__init__(options, recorder, pause=pause)

        def _reached(self) -> Api:
            return Api.at(f"http://127.0.0.1:{serves.port}")

    monkeypatch.setattr(pods, "PodRoad", Direct)
    assert main(["diagnose", "--sidecar", "a", "-n", "shop", "--json"]) == 0
    capsys.readouterr()
    assert main(["pull", "--sidecar", "a", "--watch", "-n", "shop"]) == 0
    (name,) = capsys.readouterr().out.splitlines()
    assert (tmp_path / name).exists()
