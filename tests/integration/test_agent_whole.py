"""A whole agent on real network namespaces, with an API server that comes and goes."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import network_lab
from living_cluster import LivingCluster, Object
from podcam.capture import Namespace
from podcam.clip import ClipStore, read_manifest
from podcam.kube import CLIPS, EVENTS, NAMESPACES, PODS, RECORDINGS, SERVICES, format_time

pytestmark = pytest.mark.skipif(network_lab.why_not() is not None, reason=str(network_lab.why_not()))

_AGENT = """
import sys
from pathlib import Path
from podcam.agent.agent import Agent
from podcam.agent.log import Log
from podcam.agent.settings import AgentSettings, Share
from podcam.kube import Api, NamespaceFinder

host, url = Path(sys.argv[1]), sys.argv[2]
settings = AgentSettings(
    node="node-1", folder=host / "podcam", pod="agent-x", namespace="podcam-system", http_port=0,
    free_floor=Share(bytes=0), kernel_memory_bytes=8 << 20,
)
sys.exit(Agent(settings, Api.at(url), Api.at(url), Log(), NamespaceFinder(host)).run())
"""


class Node:
    """A node with one pod, whose network is a namespace of its own, and an agent."""

    def __init__(self, host: Path, cluster: LivingCluster, network: Namespace, peer: Namespace) -> None:
        self.host = host
        self.cluster = cluster
        self.network = network
        self.peer = peer
        self.process: subprocess.Popen[str] | None = None
        (host / "var/lib/cni/results").mkdir(parents=True)
        (host / "run/netns").mkdir(parents=True)

    # --- the agent ---

    def start(self) -> None:
        with (self.host / "log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _AGENT, str(self.host), self.cluster.url],
                stderr=log,
                start_new_session=True,
                text=True,
            )

    def kill(self) -> None:
        """SIGKILL to all of its processes at once, as the kernel does to a container."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=10)
            self.process = None

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        self.process = None
        return code

    def log(self) -> list[Any]:
        return [json.loads(line) for line in (self.host / "log").read_text().splitlines() if line[:1] == "{"]

    # --- the pod ---

    def bind(self, name: str = "web-1", **spec: Any) -> None:
        """The pod is bound to the node; its network comes later."""
        body: Object = {
            "metadata": {"namespace": "shop", "name": name, "uid": f"uid-{name}", "labels": {"app": "web"}},
            "spec": {"nodeName": "node-1", **spec},
            "status": {"phase": "Running", "podIP": "10.9.0.1", "podIPs": [{"ip": "10.9.0.1"}]},
        }
        self.cluster.put(PODS, body)

    def give_network(self, name: str = "web-1") -> None:
        """As CNI does: the namespace, then its result."""
        (self.host / "run/netns/cni-1").symlink_to(f"/run/netns/{self.network.name}")
        arguments = {"K8S_POD_UID": f"uid-{name}", "K8S_POD_NAMESPACE": "shop", "K8S_POD_NAME": name}
        result = {"netns": "/var/run/netns/cni-1", "cniArgs": [list(pair) for pair in arguments.items()]}
        (self.host / "var/lib/cni/results/net-eth0").write_text(json.dumps(result))

    def fails(self) -> None:
        """A connection of the pod is reset by the server after it has acknowledged a request."""
        reset_early(self.network, self.peer)

    # --- what becomes of it ---

    def point(self) -> Any:
        body = self.cluster.get(RECORDINGS, "shop", "checkout") or {}
        points = body.get("status", {}).get("nodes", {}).get("node-1", {}).get("points", [])
        return points[0] if points else None

    def wait_until(self, state: str) -> None:
        self.cluster.wait(f"the pod is {state}", lambda: (self.point() or {}).get("state") == state)

    def wait_for_clip(self, state: str = "Complete") -> Object:
        def look() -> Object | None:
            clips = self.cluster.all(CLIPS)
            return next((c for c in clips if c.get("status", {}).get("state") == state), None)

        found: Object = self.cluster.wait(f"a clip that is {state}", look)
        return found

    def clip_folder(self, clip: Object) -> Path:
        return self.host / "podcam/clips" / f"shop_{clip['metadata']['name']}"


def reset_early(client: Namespace, server: Namespace) -> None:
    with (
        network_lab.inside(server, lambda: socket.create_server(("10.9.0.2", 5432))) as listener,
        network_lab.inside(client, lambda: socket.create_connection(("10.9.0.2", 5432))) as client_side,
    ):
        server_side, _ = listener.accept()
        client_side.sendall(b"x" * 83)
        server_side.recv(1000)
        server_side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server_side.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with LivingCluster() as cluster, network_lab.namespace() as network, network_lab.namespace() as peer:
        network_lab.join(network, peer)
        cluster.put(NAMESPACES, {"metadata": {"name": "shop"}})
        cluster.put(
            SERVICES, {"metadata": {"namespace": "db", "name": "db"}, "spec": {"clusterIP": "10.9.0.2"}}
        )
        cluster.put(
            RECORDINGS,
            {
                "metadata": {"namespace": "shop", "name": "checkout"},
                "spec": {
                    "selector": {"matchLabels": {"app": "web"}},
                    "ports": [5432],
                    "ring": {"segments": 4, "segmentSize": "1M"},
                    "triggers": {"before": "60s", "after": "1s"},
                },
            },
        )
        made = Node(tmp_path, cluster, network, peer)
        try:
            made.start()
            yield made
        finally:
            made.kill()


@pytest.fixture
def recorded(node: Node) -> Node:
    node.give_network()
    node.bind()
    node.wait_until("Recording")
    return node


def test_a_pod_is_recorded_as_soon_as_it_has_a_network(node: Node) -> None:
    node.bind()
    node.wait_until("Waiting")
    node.give_network()
    node.wait_until("Recording")
    status = node.cluster.wait(
        "the merged fields",
        lambda: (
            (node.cluster.get(RECORDINGS, "shop", "checkout") or {})["status"].get("points") == "1/1"
            and node.cluster.get(RECORDINGS, "shop", "checkout")
        ),
    )["status"]
    assert status["conditions"][0]["reason"] == "AllPodsRecorded"


def test_from_a_failure_to_a_complete_clip_with_names(recorded: Node) -> None:
    recorded.fails()
    clip = recorded.wait_for_clip()
    assert clip["spec"]["trigger"]["class"] == "reset-early"
    assert clip["spec"]["nodes"] == ["node-1"]
    (part,) = clip["status"]["parts"].values()
    assert part["state"] == "Complete"
    assert part["pods"][0]["pod"] == "web-1"
    manifest = read_manifest(recorded.clip_folder(clip))
    assert manifest.names == {"10.9.0.1": "pod shop/web-1", "10.9.0.2": "service db/db"}


def test_a_clip_that_somebody_asks_for_is_kept_and_goes_with_its_object(recorded: Node) -> None:
    network_lab.exchange(recorded.network, recorded.peer, "10.9.0.2", 5432)
    recorded.cluster.put(
        CLIPS,
        {"metadata": {"namespace": "shop", "name": "mine"}, "spec": {"recording": "checkout", "last": "60s"}},
    )
    folder = recorded.clip_folder(recorded.wait_for_clip())
    assert folder.exists()
    recorded.cluster.remove(CLIPS, "shop", "mine")
    wait_for(lambda: not folder.exists())


def test_a_failure_while_the_api_server_is_away_has_its_clip_afterwards(recorded: Node) -> None:
    recorded.cluster.away()
    recorded.fails()
    store = ClipStore(recorded.host / "podcam/clips")
    wait_for(lambda: [clip for clip in store.clips() if clip.manifest.state == "complete"])
    recorded.kill()  # and not even the agent outlives it
    recorded.start()
    recorded.cluster.back()
    clip = recorded.wait_for_clip()
    assert clip["spec"]["trigger"]["pod"] == "web-1"


def test_a_pod_that_ends_while_the_api_server_is_away_is_noticed(recorded: Node) -> None:
    recorded.cluster.away()
    (recorded.host / "run/netns/cni-1").unlink()
    wait_for(lambda: any("network namespace is gone" in line["text"] for line in recorded.log()))
    recorded.cluster.back()
    recorded.wait_until("Waiting")
    recorded.cluster.remove(PODS, "shop", "web-1")
    recorded.wait_until("Ended")


def test_a_killed_agent_goes_on_in_its_rings_and_shows_the_gap(recorded: Node) -> None:
    network_lab.exchange(recorded.network, recorded.peer, "10.9.0.2", 5432)
    (ring,) = (recorded.host / "podcam/points").iterdir()
    wait_for(lambda: list(ring.glob("*.seg")))
    recorded.kill()
    recorded.start()
    wait_for(lambda: [line["text"] for line in recorded.log()].count("recording") == 2)
    recorded.fails()
    clip = recorded.wait_for_clip()
    (part,) = clip["status"]["parts"].values()
    (gap,) = part["pods"][0]["gaps"]
    assert gap["since"] < gap["until"]


def test_rings_go_with_their_recording(recorded: Node) -> None:
    rings = recorded.host / "podcam/points"
    network_lab.exchange(recorded.network, recorded.peer, "10.9.0.2", 5432)
    wait_for(lambda: list(rings.glob("*/*.seg")))
    recorded.cluster.remove(RECORDINGS, "shop", "checkout")
    wait_for(lambda: not list(rings.iterdir()))


def test_a_recording_made_anew_while_the_agent_was_away_gets_nothing_of_the_old_one(recorded: Node) -> None:
    network_lab.exchange(recorded.network, recorded.peer, "10.9.0.2", 5432)
    (ring,) = (recorded.host / "podcam/points").iterdir()
    wait_for(lambda: list(ring.glob("*.seg")))
    recorded.kill()
    before = {segment.name for segment in ring.glob("*.seg")}
    body = recorded.cluster.get(RECORDINGS, "shop", "checkout")
    assert body is not None
    recorded.cluster.remove(RECORDINGS, "shop", "checkout")
    made = {"namespace": "shop", "name": "checkout", "creationTimestamp": in_a_second()}
    recorded.cluster.put(RECORDINGS, {"metadata": made, "spec": body["spec"]})
    recorded.start()
    wait_for(lambda: [line["text"] for line in recorded.log()].count("recording") == 2)
    assert not before & {segment.name for segment in ring.glob("*.seg")}


def in_a_second() -> str:
    return format_time(time.time_ns() + 1_000_000_000)


def test_told_to_end_it_says_that_the_pods_wait_for_the_next(recorded: Node) -> None:
    assert recorded.stop() == 0
    point = recorded.point()
    assert (point["state"], point["reason"]) == ("Waiting", "AgentEnded")


def test_a_host_network_pod_is_refused_with_an_event(node: Node) -> None:
    node.bind("hostly", hostNetwork=True)
    node.wait_until("Refused")
    (event,) = node.cluster.wait("an event", lambda: node.cluster.all(EVENTS))
    assert event["reason"] == "HostNetwork"


def test_without_news_it_asks_for_nothing(recorded: Node) -> None:
    def requests_of(seconds: float) -> int:
        before, end = len(recorded.cluster.requests), time.monotonic() + seconds
        wait_for(lambda: time.monotonic() > end)
        return len(recorded.cluster.requests) - before

    wait_for(lambda: requests_of(1) == 0)
    assert requests_of(12) == 0  # two looks at the budget


def wait_for(look: Callable[[], Any], timeout_s: float = 30) -> None:
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while not look():
        assert time.monotonic() < deadline
        pause.wait(0.02)
