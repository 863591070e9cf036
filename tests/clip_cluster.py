"""A cluster's API server at the HTTP level, as far as pulling a clip needs it, and agents behind it."""

import http.client
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from podcam.agent.http import AgentServer
from podcam.kube import Api, ClipObject, Grant, format_time
from podcam.sealed import PrivateKey, public_key_text
from served_clips import NOW, SECOND, FakeServed, serving

Fault = Callable[["Request", str, str], bool]
"""Takes a request through the pod proxy, its node and its path there; True when it has answered itself."""


@dataclass
class FakeNode:
    """A node's agent; `pod` is the one that runs now, `told` the one that the clip's status names."""

    served: FakeServed
    key: PrivateKey
    server: AgentServer
    pod: str
    told: str
    ready: bool = True
    state: str = "Ready"
    """Of the node: Ready, NotReady, Gone, or Secret: the caller may not see it."""


@dataclass
class ClipCluster:
    """What the tests arrange, and what they see afterwards."""

    api: Api
    nodes: dict[str, FakeNode] = field(default_factory=dict)
    grants: dict[str, Any] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    """Names of all grants that were made."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """What came through the proxy: path at the agent, and Range."""
    status: dict[str, Any] = field(default_factory=dict)
    """Of the clip, as `GET` has it."""
    fault: Fault | None = None
    may_read: bool = True
    after_create: Callable[[], None] | None = None

    def clip(self, **status: Any) -> ClipObject:
        """The clip `broken`, complete on all nodes; `status` adds to its status, or replaces."""
        return ClipObject.parse(self.clip_body(**status))

    def clip_body(self, **status: Any) -> dict[str, Any]:
        """The same, as the API server sends it."""
        parts = {
            name: {
                "state": "Complete",
                "agent": {"pod": node.told, "port": 9472},
                "publicKey": public_key_text(node.key.public),
            }
            for name, node in self.nodes.items()
        }
        parts |= status.pop("parts", {})
        return {
            "apiVersion": "podcam.dev/v1alpha1",
            "kind": "Clip",
            "metadata": {
                "name": "broken",
                "namespace": "shop",
                "uid": "0a1b2c3d-0000-4000-8000-000000000000",
                "creationTimestamp": "2023-11-14T22:13:20Z",
            },
            "spec": {
                "recording": "web",
                "reason": "reset by the server",
                "nodes": sorted(parts),
                "window": {"start": format_time(NOW), "end": format_time(NOW + 60 * SECOND)},
            },
            "status": {"state": "Complete", "parts": parts, **status},
        }


@contextmanager
def clip_cluster(clips: dict[str, Path]) -> Iterator[ClipCluster]:
    """A cluster whose nodes keep these folders of the clip `broken` in namespace `shop`."""
    with ExitStack() as stack:
        server = _Server(("127.0.0.1", 0), Request)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        api = stack.enter_context(Api.at(f"http://127.0.0.1:{server.server_address[1]}"))
        cluster = ClipCluster(api)
        server.cluster = cluster  # type: ignore[attr-defined]
        for name, folder in clips.items():
            served, key = FakeServed(), PrivateKey.new()
            served.arrived.set()
            served.clips["shop", "broken"] = folder
            agent = stack.enter_context(serving(served, key))
            cluster.nodes[name] = FakeNode(served, key, agent, f"agent-of-{name}", f"agent-of-{name}")
        yield cluster


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a pull that is killed hangs up
            super().handle_error(request, client_address)


class Request(BaseHTTPRequestHandler):
    """One request to the API server."""

    protocol_version = "HTTP/1.1"

    @property
    def cluster(self) -> ClipCluster:
        cluster = self.server.cluster  # type: ignore[attr-defined]
        assert isinstance(cluster, ClipCluster)
        return cluster

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.cluster.may_read:
            self.refuse(
                403, "Forbidden", 'packetgrants.podcam.dev is forbidden: User "eve" cannot create them'
            )
            return
        assert self.path == "/apis/podcam.dev/v1alpha1/namespaces/shop/packetgrants"
        name = body["metadata"]["name"]
        body["metadata"] |= {"uid": f"uid-of-{name}", "creationTimestamp": "2023-11-14T22:13:20Z"}
        self.cluster.grants[name] = body
        self.cluster.made.append(name)
        for node in self.cluster.nodes.values():
            node.served.allow(Grant.parse(body))
        if self.cluster.after_create:
            self.cluster.after_create()
        self.send(201, body)

    def do_DELETE(self) -> None:
        name = self.path.rpartition("/")[2]
        for node in self.cluster.nodes.values():
            node.served.grants.pop(("shop", name), None)
        self.send(200, self.cluster.grants.pop(name))

    def do_GET(self) -> None:
        path = urlsplit(self.path)
        if path.path == "/apis/podcam.dev/v1alpha1/namespaces/shop/clips/broken":
            self.send(200, self.cluster.clip_body(**self.cluster.status))
            return
        if path.path == "/api/v1/namespaces/podcam-system/pods":
            asked = parse_qs(path.query)
            assert asked["labelSelector"] == ["app.kubernetes.io/name=podcam-agent"]
            node_name = asked["fieldSelector"][0].removeprefix("spec.nodeName=")
            pods = [
                _pod(name, node)
                for name, node in self.cluster.nodes.items()
                if name == node_name and node.pod
            ]
            self.send(200, {"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": pods})
            return
        if path.path.startswith("/api/v1/nodes/"):
            self._send_node(path.path.rpartition("/")[2])
            return
        pod, _, at_agent = (
            unquote(path.path).removeprefix("/api/v1/namespaces/podcam-system/pods/").partition(":9472/proxy")
        )
        self.cluster.asked.append((at_agent, self.headers.get("Range")))
        name = next((name for name, node in self.cluster.nodes.items() if node.pod == pod), None)
        if name is None:
            self.refuse(404, "NotFound", f'pods "{pod}" not found', {"name": pod, "kind": "pods"})
        elif not (self.cluster.fault and self.cluster.fault(self, name, at_agent)):
            self.forward(name, at_agent)

    def _send_node(self, name: str) -> None:
        state = self.cluster.nodes[name].state
        if state == "Gone":
            self.refuse(404, "NotFound", f'nodes "{name}" not found', {"name": name, "kind": "nodes"})
        elif state == "Secret":
            self.refuse(403, "Forbidden", 'nodes is forbidden: User "eve" cannot get them')
        else:
            ready = {"type": "Ready", "status": "True" if state == "Ready" else "Unknown"}
            self.send(200, {"metadata": {"name": name}, "status": {"conditions": [ready]}})

    def forward(
        self,
        node: str,
        path: str,
        *,
        most_bytes: int | None = None,
        change: Callable[[bytes], bytes] = lambda body: body,
    ) -> None:
        """As the API server does; `most_bytes` of the body, then the connection is cut."""
        port = self.cluster.nodes[node].server.port
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            kept = {name: self.headers[name] for name in ("Range", "If-Range") if name in self.headers}
            connection.request("GET", path, headers=kept)
            answer = connection.getresponse()
            body = change(answer.read())
        self.send_response(answer.status)
        for name in ("Content-Length", "Content-Range", "Content-Type", "ETag"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.end_headers()
        self.wfile.write(body[:most_bytes])
        if most_bytes is not None and most_bytes < len(body):
            self.close_connection = True

    def refuse(self, code: int, reason: str, message: str, details: dict[str, str] | None = None) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
        self.send(code, {**status, "message": message, "details": details or {}})

    def send(self, code: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def _pod(name: str, node: FakeNode) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True" if node.ready else "False"}
    lost = not node.ready and node.state in {"NotReady", "Secret"}
    containers = {"type": "ContainersReady", "status": "True" if node.ready or lost else "False"}
    return {
        "metadata": {"name": node.pod, "namespace": "podcam-system"},
        "spec": {"nodeName": name, "containers": [{"name": "agent", "image": "agent"}]},
        "status": {"phase": "Running", "conditions": [ready, containers], "containerStatuses": []},
    }
