"""The agent's HTTP server: health, metrics, and clips, which leave the node sealed for their readers.

    GET /healthz                                 200, or 503 and why
    GET /metrics                                 Prometheus' text format; names no pod and no address
    GET /v1/grants/NAMESPACE/GRANT/index         sealed JSON: {"manifest": {…}, "files": [{"folder", "name",
                                                 "bytes", "modified_ns", "version"}]}
    GET /v1/grants/NAMESPACE/GRANT/files/NUMBER  the sealed file with this place in the index; Range, If-Range

Whoever reaches the node's network may ask; `podcam.sealed` says why that gives nobody a packet. What a path
names is a grant and a number, never a file. All refusals are JSON, `{"error": sentence}`.
"""

import json
import os
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Protocol

from podcam.agent.metrics import CONTENT_TYPE
from podcam.clip import COMPLETE, Manifest, read_manifest
from podcam.errors import ClipError
from podcam.kube import Grant
from podcam.sealed import PrivateKey, Resource, Seal, SealedError, sealed_range, sealed_size

PORT: Final = 9472
GRANT_LIFE_NS: Final = 3600 * 1_000_000_000
"""A grant opens nothing any more when it is older than this."""
INDEX: Final = "index"
"""The name that the index is sealed by. Files have theirs: `FOLDER/NAME`."""

_GRANT_WAIT_SECONDS: Final = 3.0
_MOST_WAITING: Final = 16
"""Requests that may wait for a grant at one time; further ones are answered at once."""

_BACKLOG: Final = 128
"""Connections that the kernel takes before there is a thread for them."""
_NO_ROOM_SECONDS: Final = 0.1
"""Until the next try where the process has no descriptor left for a connection."""

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_OF_GRANT: Final = re.compile(
    rf"/v1/grants/(?P<namespace>{_LABEL})/(?P<grant>(?=[-.a-z0-9]{{1,253}}/){_LABEL}(?:\.{_LABEL})*)"
    r"/(?:index|files/(?P<number>\d{1,6}))",
    re.ASCII,
)
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class Served(Protocol):
    """What the server answers with. Called from its threads."""

    def health(self) -> str | None:
        """Why the agent is not healthy, None when it is."""

    def metrics(self) -> str:
        """In Prometheus' text format."""

    def grant(self, namespace: str, name: str, wait_seconds: float) -> Grant | None:
        """The grant of this name, if it comes within that time."""

    def clip_folder(self, namespace: str, clip: str) -> Path | None:
        """Where this node's part of a clip lies, None when it has none."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What keeps one client from taking all there is."""

    connections: int = 64
    """At most so many; the one that has stood still for longest makes room for a new one."""
    silence_seconds: float = 30.0
    """Without a request, or without taking a chunk of an answer, a connection is closed."""


class AgentServer:
    """Serves from its own threads, from `start` until `close`.

    Args:
        served: what it answers with.
        key: the agent's, by which clips are sealed.
        address: to listen at; "" for all, IPv6 and IPv4.
        port: 0 for any that is free.
        limits: see there.
        now_ns: the time that the age of grants is counted to.

    Raises:
        OSError: the port cannot be had.
    """

    def __init__(
        self,
        served: Served,
        key: PrivateKey,
        *,
        address: str = "",
        port: int = PORT,
        limits: Limits | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        clips = _SealedClips(served, key, now_ns)
        self._server = _Server((address, port), served, clips, limits or Limits())
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.accept, name="http", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Break off whatever is being answered, and leave the port."""
        self._server.stop_accepting()
        self._thread.join()
        self._server.server_close()
        self._server.hang_up()


class _Refusal(Exception):  # noqa: N818 - an answer, not an error of the server's
    def __init__(self, status: HTTPStatus, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class _Body:
    """Bytes that can be had from any place on."""

    size: int
    version: str
    pieces: Callable[[int, int], Iterator[bytes]]
    """From one place up to another."""
    ranges: bool


class _ChangedError(OSError):
    """A file of a complete clip is not what it was when it was opened."""


class _SealedClips:
    """The sealed bytes of what grants open."""

    def __init__(self, served: Served, key: PrivateKey, now_ns: Callable[[], int]) -> None:
        self._served = served
        self._key = key
        self._now_ns = now_ns
        self._may_wait = threading.BoundedSemaphore(_MOST_WAITING)

    @contextmanager
    def body(self, namespace: str, name: str, number: int | None) -> Iterator[_Body]:
        """The index, or a file. Raises _Refusal."""
        grant = self._grant(namespace, name)
        folder, manifest = self._clip(grant)
        if number is None:
            yield self._index(grant, folder, manifest)
            return
        files = list(_files(manifest))
        if number >= len(files):
            raise _Refusal(
                HTTPStatus.NOT_FOUND,
                f"this part of clip {grant.clip} has {len(files)} files, and none {number}",
            )
        path = folder / files[number][0] / files[number][1]
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise _Refusal(
                HTTPStatus.NOT_FOUND, f"file {number} of clip {grant.clip} is gone: {error.strerror}"
            ) from error
        try:
            yield self._file(grant, "/".join(files[number]), descriptor)
        finally:
            os.close(descriptor)

    def _grant(self, namespace: str, name: str) -> Grant:
        waits = self._may_wait.acquire(blocking=False)
        try:
            grant = self._served.grant(namespace, name, _GRANT_WAIT_SECONDS if waits else 0.0)
        finally:
            if waits:
                self._may_wait.release()
        if grant is None:
            raise _Refusal(
                HTTPStatus.FORBIDDEN,
                f"there is no PacketGrant {name} in namespace {namespace}, or it has not arrived here yet",
            )
        if self._now_ns() - grant.created_ns > GRANT_LIFE_NS:
            raise _Refusal(
                HTTPStatus.FORBIDDEN, f"the PacketGrant {name} is more than an hour old: make another"
            )
        return grant

    def _clip(self, grant: Grant) -> tuple[Path, Manifest]:
        folder = self._served.clip_folder(grant.namespace, grant.clip)
        if folder is None:
            raise _Refusal(HTTPStatus.NOT_FOUND, f"this node keeps nothing of clip {grant.clip}")
        try:
            manifest = read_manifest(folder)
        except ClipError as error:
            raise _Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, f"this node's part of clip {grant.clip} cannot be read"
            ) from error
        if manifest.state != COMPLETE:
            end_ns = manifest.window.end_ns
            seconds = max(1, -(-(end_ns - self._now_ns()) // 1_000_000_000))
            raise _Refusal(
                HTTPStatus.CONFLICT,
                f"clip {grant.clip} is still being kept, until "
                f"{datetime.fromtimestamp(end_ns // 1_000_000_000, UTC):%H:%M:%S} UTC: ask again then",
                {"Retry-After": str(seconds)},
            )
        return folder, manifest

    def _index(self, grant: Grant, folder: Path, manifest: Manifest) -> _Body:
        files = [_entry(folder, *names) for names in _files(manifest)]
        plain = json.dumps({"manifest": manifest.to_json(), "files": files}, separators=(",", ":")).encode()
        return self._sealed(
            grant,
            INDEX,
            secrets.token_hex(16),
            len(plain),
            lambda at, size: plain[at : at + size],
            ranges=False,
        )

    def _file(self, grant: Grant, name: str, descriptor: int) -> _Body:
        status = os.fstat(descriptor)
        version = version_of(status)

        def read(at: int, size: int) -> bytes:
            data = _read_at(descriptor, at, size)
            if len(data) != size or version_of(os.fstat(descriptor)) != version:
                raise _ChangedError
            return data

        return self._sealed(grant, name, version, status.st_size, read, ranges=True)

    def _sealed(
        self,
        grant: Grant,
        name: str,
        version: str,
        plain_bytes: int,
        read: Callable[[int, int], bytes],
        *,
        ranges: bool,
    ) -> _Body:
        try:
            seal = Seal.by_agent(self._key, grant.public_key, Resource(grant.uid, name, version))
        except SealedError as error:
            raise _Refusal(
                HTTPStatus.FORBIDDEN, f"the PacketGrant {grant.name} is of no use: {error}"
            ) from error
        return _Body(
            sealed_size(plain_bytes),
            version,
            lambda start, stop: sealed_range(seal, read, plain_bytes, start, stop),
            ranges,
        )


def version_of(status: os.stat_result) -> str:
    """What tells the content of a file from any other under its name. `podcam.sealed` builds on this."""
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def _files(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Folder and name of each file, in the order that numbers them."""
    for part in manifest.parts:
        for name in part.segments:
            yield part.folder, name


def _entry(folder: Path, part: str, name: str) -> dict[str, Any]:
    """A file as the index has it; one that is gone keeps its number, without a size."""
    try:
        status = (folder / part / name).lstat()
    except OSError:
        return {"folder": part, "name": name, "bytes": None, "modified_ns": None, "version": None}
    return {
        "folder": part,
        "name": name,
        "bytes": status.st_size,
        "modified_ns": status.st_mtime_ns,
        "version": version_of(status),
    }


def _read_at(descriptor: int, at: int, size: int) -> bytes:
    data = os.pread(descriptor, size, at)
    while len(data) < size and (more := os.pread(descriptor, size - len(data), at + len(data))):
        data += more
    return data


class _Server(ThreadingHTTPServer):
    """A bounded number of connections, a thread for each."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], served: Served, clips: _SealedClips, limits: Limits) -> None:
        super().__init__(address, _Handler, bind_and_activate=False)
        self.socket.close()
        everywhere = not address[0] and socket.has_dualstack_ipv6()
        self.socket = socket.create_server(
            address,
            family=socket.AF_INET6 if everywhere else socket.AF_INET,
            backlog=_BACKLOG,
            dualstack_ipv6=everywhere,
        )
        self.server_address = self.socket.getsockname()[:2]
        self.served = served
        self.clips = clips
        self.limits = limits
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, None] = {}
        """In the order in which they last moved."""

    def accept(self) -> None:
        """Take connections until `stop_accepting`, and wake for nothing else."""
        while not self._closing.is_set():
            try:
                connection, address = self.get_request()
            except OSError:
                self._closing.wait(_NO_ROOM_SECONDS)
                continue
            try:
                self.process_request(connection, address)
            except RuntimeError:  # no thread to be had
                self.shutdown_request(connection)

    def stop_accepting(self) -> None:
        """Wake `accept` for the last time."""
        self._closing.set()
        self.socket.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Make room for a connection, and answer it in a thread."""
        with self._lock:
            if len(self._connections) >= self.limits.connections:
                still = next(iter(self._connections))
                del self._connections[still]
                _hang_up(still)
            self._connections[request] = None
        super().process_request(request, client_address)

    def moved(self, connection: socket.socket) -> None:
        """Something came or went on this connection."""
        with self._lock:
            if connection in self._connections:
                del self._connections[connection]
                self._connections[connection] = None

    def shutdown_request(self, request: Any) -> None:
        """The connection has ended."""
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End all connections."""
        with self._lock:
            for connection in self._connections:
                _hang_up(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or a file that did, is nobody's defect; all else is told."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One connection's requests, one after the other."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        self.request.settimeout(self.server.limits.silence_seconds)
        super().setup()

    def do_GET(self) -> None:
        """Answer, and say in JSON why not."""
        self.server.moved(self.connection)
        if "Transfer-Encoding" in self.headers or self.headers.get("Content-Length", "0") != "0":
            self.close_connection = True  # a body that nobody reads would be taken for the next request
        try:
            self._answer(self.path.partition("?")[0])
        except _Refusal as refusal:
            self._refuse(refusal.status, refusal.sentence, refusal.headers)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def _answer(self, path: str) -> None:
        if path == "/healthz":
            ill = self.server.served.health()
            if ill is not None:
                raise _Refusal(HTTPStatus.SERVICE_UNAVAILABLE, ill)
            self._send(HTTPStatus.OK, "text/plain; charset=utf-8", b"ok\n")
        elif path == "/metrics":
            metrics = self.server.served.metrics().encode()
            self._send(HTTPStatus.OK, CONTENT_TYPE, metrics)
        elif match := _OF_GRANT.fullmatch(path):
            number = None if match["number"] is None else int(match["number"])
            with self.server.clips.body(match["namespace"], match["grant"], number) as body:
                self._send_sealed(body)
        else:
            raise _Refusal(HTTPStatus.NOT_FOUND, "there is nothing here: this is an agent of Podcam")

    def _send_sealed(self, body: _Body) -> None:
        tag = f'"{body.version}"'
        headers = {"ETag": tag, "Accept-Ranges": "bytes" if body.ranges else "none"}
        start, stop, status = 0, body.size, HTTPStatus.OK
        asked = self.headers.get("Range")
        if asked and body.ranges and self.headers.get("If-Range", tag) == tag:
            found = _range(asked, body.size)
            if found == (0, 0):
                headers["Content-Range"] = f"bytes */{body.size}"
                raise _Refusal(
                    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"there are only {body.size} bytes", headers
                )
            if found:
                start, stop = found
                status = HTTPStatus.PARTIAL_CONTENT
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{body.size}"
        self._head(status, "application/octet-stream", stop - start, headers)
        if self.command == "HEAD":
            return
        self.close_connection, closes = True, self.close_connection  # unless all of it goes out
        for piece in body.pieces(start, stop):
            self.wfile.write(piece)
            self.server.moved(self.connection)
        self.close_connection = closes

    def _send(
        self, status: HTTPStatus, content_type: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        self._head(status, content_type, len(body), headers or {})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, sentence: str, headers: Mapping[str, str]) -> None:
        body = json.dumps({"error": sentence}, ensure_ascii=False).encode() + b"\n"
        self._send(status, "application/json", body, headers)

    def _head(self, status: HTTPStatus, content_type: str, size: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(size))
        self.send_header("Cache-Control", "no-store")
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server itself refuses: no HTTP, a head too long, a method other than GET and HEAD."""
        self.close_connection = True
        status = HTTPStatus(code)
        self._refuse(status, f"{explain or message or status.description}", {})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Not a line per request: whoever asks could fill the node's disk."""

    def version_string(self) -> str:
        return "podcam"


def _range(asked: str, size: int) -> tuple[int, int] | None:
    """From which byte up to which (RFC 9110, 14.1.2); (0, 0) where there are none such, None to send all."""
    match = _RANGE.fullmatch(asked.strip())
    if not match or match[0] == "bytes=-" or (match[1] and match[2] and int(match[1]) > int(match[2])):
        return None
    if not match[1]:
        last = min(int(match[2]), size)
        return (size - last, size) if last else (0, 0)
    start = int(match[1])
    stop = min(int(match[2]) + 1, size) if match[2] else size
    return (start, stop) if start < size else (0, 0)
