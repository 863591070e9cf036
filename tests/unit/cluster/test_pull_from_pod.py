"""Fetching from a pod's own recorder: size, checksum, resume, with a kubectl made of Python."""

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fake_cluster import FakeCluster
from podcam.clip import read_manifest
from podcam.cluster.fetching import PartError
from podcam.cluster.sidecar import (
    PodRecorder,
    PodRoad,
    pod_recorders,
    pull_from_pod,
    statuses,
)
from podcam.errors import ForbiddenError, KubernetesError, NotFoundError, UnreachableError
from podcam.kube import PODS, SERVICES, Api
from podcam.wrap.http import PodServer
from served_clips import keep_clip, packet

CLIP = "20231114-221320-broken"
KUBECTL = """\
    import json, socket, sys, threading
    from pathlib import Path

    here = Path(__file__).parent
    said = json.loads((here / "says").read_text())
    (here / "arguments").write_text(json.dumps(sys.argv[1:]))
    if "complaint" in said:
        sys.exit(said["complaint"])
    left = said["bytes"].pop(0) if said["bytes"] else None
    (here / "says").write_text(json.dumps(said))
    server = socket.create_server(("127.0.0.1", 0))
    print(f"Forwarding from 127.0.0.1:{server.getsockname()[1]} -> 9472", flush=True)

    def pump(source, target, counted):
        global left
        while data := source.recv(4096):
            if counted and left is not None:
                left -= len(data)
                if left < 0:
                    print("error: lost connection to pod", file=sys.stderr, flush=True)
                    import os
                    os._exit(1)
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    while True:
        client, _ = server.accept()
        print(f"Handling connection for {server.getsockname()[1]}", flush=True)
        try:
            pod = socket.create_connection(("127.0.0.1", said["port"]))
        except OSError:
            print('E1123 08:00:00.0 1 portforward.go:424] "Unhandled Error" err="an error occurred '
                  'forwarding '
                  '1 -> 9472: error forwarding port 9472 to pod x, uid : failed to dial 9472: '
                  'connect: connection refused"', file=sys.stderr, flush=True)
            client.close()
            continue
        threading.Thread(target=pump, args=(client, pod, False), daemon=True).start()
        threading.Thread(target=pump, args=(pod, client, True), daemon=True).start()
"""


class Kubectl:
    """The program; `says` tells it what to do."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.path = folder / "kubectl"
        self.path.write_text(f"#!{sys.executable}\n" + textwrap.dedent(KUBECTL))
        self.path.chmod(0o755)
        self.says(port=port)

    def says(self, **what: Any) -> None:
        (self.folder / "says").write_text(json.dumps({"bytes": [], **what}))

    @property
    def arguments(self) -> list[str]:
        return list(json.loads((self.folder / "arguments").read_text()))


def pod(name: str = "web-1", phase: str = "Running", **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": "0a1b2c3d-0000-4000-8000-000000000000",
            "creationTimestamp": "2023-11-14T22:13:20Z",
            "labels": labels or {"podcam.dev/recorder": "sidecar"},
            "annotations": {"podcam.dev/serve": "9472"},
        },
        "spec": {"nodeName": "node-1", "containers": []},
        "status": {"phase": phase, "podIP": "10.244.0.7", "podIPs": [{"ip": "10.244.0.7"}]},
    }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PodServer]:
    segments = [[packet(second, bytes(200_000)) for second in range(5)], [packet(9)]]
    keep_clip(tmp_path / "clips", CLIP, "node-1", {"web-1": segments})
    server = PodServer(tmp_path / "clips", lambda: {"state": "recording", "warnings": []}, 0)
    server.start()
    yield server
    server.close()


@pytest.fixture
def kubectl(server: PodServer, tmp_path: Path) -> Kubectl:
    folder = tmp_path / "bin"
    folder.mkdir()
    return Kubectl(folder, server.port)


@pytest.fixture
def api() -> Iterator[Api]:
    with FakeCluster() as cluster, Api.at(cluster.url) as api:
        cluster.add(SERVICES)
        cluster.add(PODS, pod())
        yield api


def road(kubectl: Kubectl, body: Mapping[str, Any] | None = None) -> PodRoad:
    recorder = PodRecorder.of(dict(body or pod()))
    return PodRoad(["--context=here"], recorder, pause=lambda _: None, kubectl=str(kubectl.path))


def test_a_clip_comes_whole(kubectl: Kubectl, api: Api, tmp_path: Path) -> None:
    recorder = PodRecorder.of(pod())
    progress: list[tuple[int, int]] = []
    with road(kubectl) as there:
        (clip,) = there.clips()
        assert (clip.name, clip.complete) == (CLIP, True)
        pulled = pull_from_pod(
            api, there, recorder, CLIP, tmp_path / "cache", tell=lambda *each: progress.append(each)
        )
    assert kubectl.arguments == [
        "--context=here", "port-forward", "--namespace=shop", "--address=127.0.0.1", "pod/web-1", ":9472"
    ]  # fmt: skip
    assert pulled.fetched_bytes > 1_000_000
    assert progress[-1] == (pulled.fetched_bytes, pulled.fetched_bytes)
    manifest = read_manifest(pulled.folder)
    assert manifest.names["10.244.0.7"] == "pod shop/web-1"
    for part in manifest.parts:
        for name in part.segments:
            copied = (pulled.folder / part.folder / name).read_bytes()
            assert copied == (tmp_path / "clips" / CLIP / part.folder / name).read_bytes()
    with road(kubectl) as there:
        again = pull_from_pod(api, there, recorder, CLIP, tmp_path / "cache", tell=lambda *_: None)
    assert again.fetched_bytes == 0


def test_what_a_pod_tells_in_the_place_of_an_address_has_no_name(
    kubectl: Kubectl, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = PodRoad._json

    def told(self: PodRoad, path: str) -> Mapping[str, Any]:
        body = good(self, path)
        if path.endswith("/index"):
            for part in body["manifest"]["parts"]:
                part["servers"] = [
                    {
                        "server": {"ip": "10.0.0.1,metadata.name=x", "port": 1},
                        "connections": 1,
                        "since_ns": 0,
                        "failures": {},
                    }
                ]
        return body

    monkeypatch.setattr(PodRoad, "_json", told)
    recorder = PodRecorder.of(pod())
    with road(kubectl) as there:
        pulled = pull_from_pod(api, there, recorder, CLIP, tmp_path / "cache", tell=lambda *_: None)
    assert pulled.manifest.names == {"10.244.0.7": "pod shop/web-1"}


def test_a_way_that_is_cut_is_gone_on_with(
    kubectl: Kubectl, api: Api, server: PodServer, tmp_path: Path
) -> None:
    """Each kubectl dies after some bytes: what had come by then does not come again."""
    kubectl.says(port=server.port, bytes=[50_000, 300_000, 400_000])
    with road(kubectl) as there:
        pulled = pull_from_pod(
            api, there, PodRecorder.of(pod()), CLIP, tmp_path / "cache", tell=lambda *_: None
        )
    total = sum(path.stat().st_size for path in pulled.folder.rglob("*") if path.parent.name == "web-1")
    assert pulled.fetched_bytes == total


def test_a_way_that_is_cut_before_the_sum_came_is_gone_on_with(
    kubectl: Kubectl, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove, asked = PodRoad.prove, []

    def cut_once(self: PodRoad, file: Any, copy: Path) -> None:
        asked.append(file.number)
        if len(asked) == 1:
            raise UnreachableError("lost connection to pod")
        prove(self, file, copy)

    monkeypatch.setattr(PodRoad, "prove", cut_once)
    with road(kubectl) as there:
        pulled = pull_from_pod(
            api, there, PodRecorder.of(pod()), CLIP, tmp_path / "cache", tell=lambda *_: None
        )
    assert asked == [0, 0, 1]
    total = sum(path.stat().st_size for path in pulled.folder.rglob("*") if path.parent.name == "web-1")
    assert pulled.fetched_bytes == total


def test_what_came_wrong_is_noticed(
    kubectl: Kubectl, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = PodRoad.content

    def flipped(self: PodRoad, file: Any, start: int) -> Iterator[bytes]:
        for piece in good(self, file, start):
            yield bytes([piece[0] ^ 1]) + piece[1:]

    monkeypatch.setattr(PodRoad, "content", flipped)
    recorder = PodRecorder.of(pod())
    with road(kubectl) as there, pytest.raises(PartError, match="did not come as it was sent"):
        pull_from_pod(api, there, recorder, CLIP, tmp_path / "cache", tell=lambda *_: None)
    monkeypatch.undo()
    with road(kubectl) as there:
        pulled = pull_from_pod(api, there, recorder, CLIP, tmp_path / "cache", tell=lambda *_: None)
    assert pulled.fetched_bytes


def test_nothing_serves_there(kubectl: Kubectl) -> None:
    kubectl.says(port=1)
    with (
        road(kubectl) as there,
        pytest.raises(UnreachableError, match="nothing hands out clips at port 9472"),
    ):
        there.clips()


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ('Error from server (Forbidden): pods "web-1" is forbidden: no', ForbiddenError),
        ('Error from server (NotFound): pods "web-1" not found', NotFoundError),
        ("error: unable to forward port because pod is not running. Current status=Pending", KubernetesError),
        ("error: upgrade request required", UnreachableError),
    ],
)
def test_why_kubectl_does_not_forward(kubectl: Kubectl, said: str, kind: type[KubernetesError]) -> None:
    kubectl.says(complaint=said)
    with road(kubectl) as there, pytest.raises(kind) as caught:
        there.clips()
    assert said.rpartition(": ")[2][:20] in str(caught.value)


def test_a_pod_that_names_its_clips_like_paths(
    kubectl: Kubectl, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"clips": [{"clip": "../../.ssh", "state": "complete", "created_ns": 0}]}
    monkeypatch.setattr(PodRoad, "_json", lambda self, path: told)
    with road(kubectl) as there, pytest.raises(PartError, match="no name of a clip"):
        there.clips()


def test_status_of_many(kubectl: Kubectl, tmp_path: Path) -> None:
    recorders = [PodRecorder.of(pod("web-1")), PodRecorder.of(pod("web-2", phase="Pending"))]
    answers = statuses([], recorders, kubectl=str(kubectl.path))
    assert answers == {"shop/web-1": {"state": "recording", "warnings": []}}
    kubectl.says(complaint='Error from server (Forbidden): pods "web-1" is forbidden: no')
    (answer,) = statuses([], recorders, kubectl=str(kubectl.path)).values()
    assert "forbidden" in answer


def test_labelled_pods_are_found() -> None:
    with FakeCluster() as cluster, Api.at(cluster.url) as api:
        cluster.add(PODS, pod("web-1"), pod("web-2", app="web"))
        (found,) = pod_recorders(api, "shop")
    assert (found.pod.name, found.how, found.port) == ("web-1", "sidecar", 9472)
