"""An HTTP server for few and patient clients, which no client can take up as a whole.

What it hands out is a `Body`, which `Find` finds by the path of a request. All refusals are JSON,
`{"error": sentence}`.
"""

import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

_BACKLOG: Final = 128
"""Connections that the kernel takes before there is a thread for them."""
_NO_ROOM_SECONDS: Final = 0.1
"""Until the next try where the process has no descriptor left for a connection."""
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class Refusal(Exception):  # noqa: N818 - an answer, not an error of the server's
    """What is asked for is not handed out, and why."""

    def __init__(self, status: HTTPStatus, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for."""

    path: str
    """Without what stands behind a question mark."""
    headers: Mapping[str, str]
    """By their names in lower case."""


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes that can be had from any place on."""

    size: int
    pieces: Callable[[int, int], Iterator[bytes]]
    """From one place up to another."""
    content_type: str = "application/octet-stream"
    version: str | None = None
    """What tells these bytes from any others under their path: the ETag."""
    ranges: bool = False


Find = Callable[[Request], AbstractContextManager[Body]]
"""Finds what is handed out; it stays open until all of it is. Raises Refusal. Called from many threads."""


def whole(content: bytes, content_type: str) -> AbstractContextManager[Body]:
    """A body that is handed out in one piece."""
    return nullcontext(Body(len(content), lambda start, stop: iter([content[start:stop]]), content_type))


@dataclass(frozen=True, slots=True)
class Limits:
    """What keeps one client from taking all there is."""

    connections: int = 64
    """At most so many; the one that has stood still for longest makes room for a new one."""
    silence_seconds: float = 30.0
    """Without a request, or without taking a chunk of an answer, a connection is closed."""


class Server:
    """Serves from its own threads, from `start` until `close`.

    Args:
        find: what it answers with.
        address: to listen at; "" for all, IPv6 and IPv4.
        port: 0 for any that is free.
        limits: see there.

    Raises:
        OSError: the port cannot be had.
    """

    def __init__(self, find: Find, *, address: str, port: int, limits: Limits | None = None) -> None:
        self._server = _Server((address, port), find, limits or Limits())
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.accept, name="http", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    @property
    def connections(self) -> int:
        """How many there are now."""
        return self._server.connections

    def close(self) -> None:
        """Break off whatever is being answered, and leave the port."""
        self._server.stop_accepting()
        self._thread.join()
        self._server.server_close()
        self._server.hang_up()


class _Server(ThreadingHTTPServer):
    """A bounded number of connections, a thread for each."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], find: Find, limits: Limits) -> None:
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
        self.find = find
        self.limits = limits
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, None] = {}
        """In the order in which they last moved."""

    @property
    def connections(self) -> int:
        """How many there are now."""
        with self._lock:
            return len(self._connections)

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
            headers = {name.lower(): value for name, value in self.headers.items()}
            with self.server.find(Request(self.path.partition("?")[0], headers)) as body:
                self._send(body)
        except Refusal as refusal:
            self._refuse(refusal.status, refusal.sentence, refusal.headers)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def _send(self, body: Body) -> None:
        headers = {"Accept-Ranges": "bytes" if body.ranges else "none"}
        tag = f'"{body.version}"'
        if body.version is not None:
            headers["ETag"] = tag
        start, stop, status = 0, body.size, HTTPStatus.OK
        asked = self.headers.get("Range")
        if asked and body.ranges and self.headers.get("If-Range", tag) == tag:
            found = _range(asked, body.size)
            if found == (0, 0):
                headers["Content-Range"] = f"bytes */{body.size}"
                raise Refusal(
                    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"there are only {body.size} bytes", headers
                )
            if found:
                start, stop = found
                status = HTTPStatus.PARTIAL_CONTENT
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{body.size}"
        self._head(status, body.content_type, stop - start, headers)
        if self.command == "HEAD":
            return
        self.close_connection, closes = True, self.close_connection  # unless all of it goes out
        for piece in body.pieces(start, stop):
            self.wfile.write(piece)
            self.server.moved(self.connection)
        self.close_connection = closes

    def _refuse(self, status: HTTPStatus, sentence: str, headers: Mapping[str, str]) -> None:
        body = json.dumps({"error": sentence}, ensure_ascii=False).encode() + b"\n"
        self._head(status, "application/json", len(body), headers)
        if self.command != "HEAD":
            self.wfile.write(body)

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
