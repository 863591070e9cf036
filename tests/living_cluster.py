"""An API server whose watches are alive, for tests of a whole agent.

    with LivingCluster() as cluster:
        … an agent at cluster.url …
        cluster.put(PODS, body)                    # as the kubelet and people do
        cluster.wait_for(RECORDINGS, "shop", "checkout", lambda body: "status" in body)
        cluster.away()                             # nobody answers any more
        cluster.back()

It knows nothing of schemas, rights and field managers: those are tested on a real cluster.
"""

import copy
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from podcam.kube import Kind, path_of

Object = dict[str, Any]
PATIENCE_S = 30.0


class LivingCluster:
    """Runs in threads of its own; use as a context manager."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        """Verb and path of everything but watches, in order; a list has its selector."""
        self._news = threading.Condition()
        self._objects: dict[str, Object] = {}
        self._events: list[tuple[int, str, Object]] = []
        self._versions = itertools.count(1)
        self._connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self._place = socket.socket()
        """Bound, and never listens: nobody else gets the port while the server is away."""

    def __enter__(self) -> Self:
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self.back()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.away()
        self._place.close()

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self._place.getsockname())

    def back(self) -> None:
        """Answer, at the same port as before."""
        self._server = _Server(self._place.getsockname(), self)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def away(self) -> None:
        """Break off everything, and refuse connections."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        server.server_close()
        with self._news:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._connections.clear()
            self._news.notify_all()

    def put(self, kind: Kind, body: Object) -> None:
        """Somebody creates or changes an object."""
        metadata = body["metadata"]
        path = path_of(kind, metadata.get("namespace"), metadata["name"])
        with self._news:
            self._store(path, {"apiVersion": kind.api_version, "kind": kind.kind, **body})

    def remove(self, kind: Kind, namespace: str, name: str) -> None:
        """Somebody deletes it."""
        with self._news:
            self._tell("DELETED", path_of(kind, namespace, name))

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        with self._news:
            return copy.deepcopy(self._objects.get(path_of(kind, namespace, name)))

    def all(self, kind: Kind) -> list[Object]:
        """All objects of a kind."""
        with self._news:
            return [copy.deepcopy(o) for o in self._objects.values() if o.get("kind") == kind.kind]

    def wait(self, what: str, look: Callable[[], Any]) -> Any:
        """What `look` finds, once it finds something."""
        with self._news:
            assert self._news.wait_for(look, PATIENCE_S), f"{what}: {json.dumps(self._objects)[-3000:]}"
            return look()

    # --- what requests do; under the lock ---

    def _store(self, path: str, body: Object) -> Object:
        before = self._objects.get(path)
        metadata = body["metadata"]
        metadata.setdefault("uid", before["metadata"]["uid"] if before else f"uid-{next(self._versions)}")
        metadata.setdefault("creationTimestamp", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        metadata.setdefault("generation", 1)
        self._objects[path] = body
        self._tell("MODIFIED" if before else "ADDED", path)
        return body

    def _tell(self, event: str, path: str) -> None:
        body = self._objects[path] if event != "DELETED" else self._objects.pop(path)
        version = next(self._versions)
        body["metadata"]["resourceVersion"] = str(version)
        self._events.append((version, path, {"type": event, "object": copy.deepcopy(body)}))
        self._news.notify_all()

    def _after(self, version: int) -> list[tuple[int, str, Object]]:
        return [event for event in self._events if event[0] > version]

    def _create(self, path: str, body: Object) -> tuple[int, Object]:
        path = f"{path}/{body['metadata']['name']}"
        if path in self._objects:
            return 409, _status(409, "AlreadyExists", path)
        return 201, self._store(path, body)

    def _apply(self, path: str, body: Object) -> tuple[int, Object]:
        path = path.removesuffix("/status")
        known = self._objects.get(path)
        if known is None:
            return 404, _status(404, "NotFound", path)
        known["status"] = _merged(known.get("status", {}), body["status"])
        self._tell("MODIFIED", path)
        return 200, known

    def _below(self, where: str, params: Mapping[str, str]) -> Callable[[str, Object], bool]:
        plural = where.rpartition("/")[2]
        wanted = dict(part.split("=") for part in params.get("fieldSelector", "").split(",") if part)

        def is_it(path: str, body: Object) -> bool:
            return path.split("/")[-2] == plural and all(
                _field(body, place) == value for place, value in wanted.items()
            )

        return is_it


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], cluster: LivingCluster) -> None:
        self.cluster = cluster
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that are broken off are what a test wants."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        with self.server.cluster._news:
            self.server.cluster._connections.add(self.connection)

    def _body(self) -> Object:
        length = int(self.headers.get("Content-Length") or 0)
        return json.loads(self.rfile.read(length)) if length else {}

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        params = dict(parse_qsl(url.query))
        cluster = self.server.cluster
        if "watch" in params:
            self._watch(url.path, params)
            return
        with cluster._news:
            cluster.requests.append(("get", url.path))
            found = cluster._objects.get(url.path)
            if found is not None:
                self._answer(200, found)
                return
            is_it = cluster._below(url.path, params)
            items = [body for path, body in cluster._objects.items() if is_it(path, body)]
            version = str(next(cluster._versions))
            self._answer(200, {"kind": "List", "metadata": {"resourceVersion": version}, "items": items})

    def do_POST(self) -> None:
        self._change("create", self.server.cluster._create)

    def do_PATCH(self) -> None:
        self._change("apply", self.server.cluster._apply)

    def do_DELETE(self) -> None:
        cluster, path = self.server.cluster, urlsplit(self.path).path
        self._body()
        with cluster._news:
            cluster.requests.append(("delete", path))
            if path in cluster._objects:
                cluster._tell("DELETED", path)
            self._answer(200, {})

    def _change(self, verb: str, change: Callable[[str, Object], tuple[int, Object]]) -> None:
        cluster, path, body = self.server.cluster, urlsplit(self.path).path, self._body()
        with cluster._news:
            cluster.requests.append((verb, path))
            code, answer = change(path, body)
            self._answer(code, answer)

    def _watch(self, path: str, params: Mapping[str, str]) -> None:
        cluster, server = self.server.cluster, self.server
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.flush()
        is_it = cluster._below(path, params)
        seen = int(params["resourceVersion"])
        while cluster._server is server:
            with cluster._news:
                news = cluster._after(seen)
                if not news:
                    cluster._news.wait(PATIENCE_S)
                    continue
            for version, where, event in news:
                seen = version
                if is_it(where, event["object"]):
                    self.wfile.write(json.dumps(event).encode() + b"\n")
            self.wfile.flush()

    def _answer(self, code: int, body: Object) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def _status(code: int, reason: str, path: str) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": path,
        "details": {"name": path.rpartition("/")[2]},
    }


def _field(body: Object, place: str) -> Any:
    value: Any = body
    for part in place.split("."):
        value = value.get(part, {}) if isinstance(value, dict) else None
    return value


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}
