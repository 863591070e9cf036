"""A node for tests of a whole agent: real network namespaces, a real recorder, a living API server.

with living_node(folder, disk_budget=5_000_000) as node:
    node.start()
    node.records("web-1")
    node.sends(1_000_000)
    node.ends("web-1")
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import network_lab
from living_cluster import LivingCluster, Object
from podcam.capture import Namespace
from podcam.kube import CLIPS, NAMESPACES, PODS, RECORDINGS

_AGENT = """
import json
import sys
from pathlib import Path
from podcam.agent.agent import Agent
from podcam.agent.log import Log
from podcam.agent.requests import CountedApi
from podcam.agent.settings import AgentSettings, Share
from podcam.kube import NamespaceFinder

host, url, sizes = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
for share in {"disk_budget", "free_floor"} & sizes.keys():
    sizes[share] = Share(bytes=sizes[share])
settings = AgentSettings(
    node="node-1", folder=host / "podcam", pod="agent-x", namespace="podcam-system", http_port=0, **sizes
)
sys.exit(Agent(settings, CountedApi.at(url), CountedApi.at(url), Log(), NamespaceFinder(host)).run())
"""

_MOST_AT_ONCE = 50_000
"""What a socket takes before anybody reads."""


class Node:
    """A node whose pods share a network, which is a namespace of their own, and an agent."""

    def __init__(
        self,
        host: Path,
        cluster: LivingCluster,
        network: Namespace,
        peer: Namespace,
        sizes: Mapping[str, int],
    ) -> None:
        self.host = host
        self.cluster = cluster
        self.network = network
        self.peer = peer
        self.sizes = {"free_floor": 0, "kernel_memory_bytes": 8 << 20, **sizes}
        self.process: subprocess.Popen[str] | None = None
        (host / "var/lib/cni/results").mkdir(parents=True)
        (host / "run/netns").mkdir(parents=True)

    # --- the agent ---

    def start(self) -> None:
        with (self.host / "log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _AGENT, str(self.host), self.cluster.url, json.dumps(self.sizes)],
                stderr=log,
                start_new_session=True,
                text=True,
            )

    def kill(self) -> None:
        """SIGKILL to all of its processes at once, as the kernel does to a container."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=60)
            self.process = None

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self.process = None
        return code

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log(self) -> list[Any]:
        whole, _, _half_written = (self.host / "log").read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines() if line[:1] == "{"]

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
        file = f"cni-{name}"
        (self.host / "run/netns" / file).symlink_to(f"/run/netns/{self.network.name}")
        arguments = {"K8S_POD_UID": f"uid-{name}", "K8S_POD_NAMESPACE": "shop", "K8S_POD_NAME": name}
        result = {"netns": f"/var/run/netns/{file}", "cniArgs": [list(pair) for pair in arguments.items()]}
        (self.host / f"var/lib/cni/results/net-{name}-eth0").write_text(json.dumps(result))

    def records(self, name: str) -> None:
        """A pod comes, and is recorded."""
        self.give_network(name)
        self.bind(name)
        self.wait_until("Recording", name)

    def goes(self, name: str) -> None:
        """The pod is deleted."""
        self.cluster.remove(PODS, "shop", name)
        (self.host / f"var/lib/cni/results/net-{name}-eth0").unlink()
        (self.host / f"run/netns/cni-{name}").unlink()

    def ends(self, name: str) -> None:
        """The pod is deleted, and recorded no longer."""
        self.goes(name)
        self.wait_until("Ended", name)

    def sends(self, size_bytes: int) -> None:
        """Every pod sends about so much: they share a network."""
        for _ in range(0, size_bytes, _MOST_AT_ONCE):
            payload = b"x" * min(size_bytes, _MOST_AT_ONCE)
            network_lab.exchange(self.network, self.peer, "10.9.0.2", 5432, payload)

    def fails(self) -> None:
        """A connection of the pod is reset by the server after it has acknowledged a request."""
        reset_early(self.network, self.peer)

    # --- what becomes of it ---

    def entry(self) -> Any:
        """What the agent says in the status of the recording."""
        body = self.cluster.get(RECORDINGS, "shop", "checkout") or {}
        return body.get("status", {}).get("nodes", {}).get("node-1", {})

    def point(self, name: str = "web-1") -> Any:
        """What it says of a pod; None when nothing."""
        return next((point for point in self.entry().get("points", []) if point["pod"] == name), None)

    def wait_until(self, state: str, name: str = "web-1") -> None:
        self.cluster.wait(f"{name} is {state}", lambda: (self.point(name) or {}).get("state") == state)

    def ring(self, name: str = "web-1") -> Path:
        return self.host / f"podcam/points/shop%2Fcheckout%2F{name}"

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


@contextmanager
def living_node(host: Path, *, recording: Object | None = None, **sizes: int) -> Iterator[Node]:
    """A node with a recording of all pods that are `app: web`; its agent is not started yet.

    `recording` changes its spec, `sizes` are settings of the agent, in bytes.
    """
    with LivingCluster() as cluster, network_lab.namespace() as network, network_lab.namespace() as peer:
        network_lab.join(network, peer)
        cluster.put(NAMESPACES, {"metadata": {"name": "shop"}})
        spec = {
            "selector": {"matchLabels": {"app": "web"}},
            "ports": [5432],
            "ring": {"segments": 4, "segmentSize": "1M"},
            "triggers": {"before": "60s", "after": "1s"},
        }
        metadata = {"namespace": "shop", "name": "checkout"}
        cluster.put(RECORDINGS, {"metadata": metadata, "spec": {**spec, **(recording or {})}})
        made = Node(host, cluster, network, peer, sizes)
        try:
            yield made
        finally:
            made.kill()
