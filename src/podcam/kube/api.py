"""A client for one API server: blocking, thread-safe, on the standard library's HTTP."""

import contextlib
import io
import json
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from podcam import __version__
from podcam.errors import KubernetesError, UnreachableError
from podcam.kube.refusals import refusal, status_of
from podcam.kube.roads import Road, SocketRoad, UrlRoad, in_cluster_road

Object = dict[str, Any]
"""An object as JSON holds it."""
Params = Mapping[str, str | int]

_ANSWER_SECONDS = 30.0
_MOST_IDLE = 4
"""Connections kept for the next requests."""
_MOST_REFUSAL_BYTES = 1 << 20
_PIECE_BYTES = 1 << 18

_RELAY_FAILED = {500, 502, 504}

_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"
_APPLY_PATCH = "application/apply-patch+yaml"
"""Server-side apply takes YAML, of which JSON is a part."""


class Api:
    """One API server.

    One-shot requests share a few connections that are kept alive; an answer that is streamed has its own.
    Use as a context manager, or call `close`.
    """

    def __init__(self, road: Road, *, answer_seconds: float = _ANSWER_SECONDS) -> None:
        self._road = road
        self._answer_seconds = answer_seconds
        self._lock = threading.Lock()
        self._idle: list[_Line] = []
        self._busy: set[_Line] = set()
        self._closed = False

    @classmethod
    def in_cluster(cls) -> Self:
        """The API server of the cluster that this pod runs in, as the pod's service account.

        Raises:
            UsageError: this is no pod, or it has no service account.
        """
        return cls(in_cluster_road())

    @classmethod
    def at_socket(cls, path: Path) -> Self:
        """An API server behind a unix socket, such as `kubectl proxy`."""
        return cls(SocketRoad(path))

    @classmethod
    def at(cls, url: str, *, token: Callable[[], str] | None = None, ca: Path | None = None) -> Self:
        """The API server at a URL.

        Raises:
            UsageError: it is no such URL.
        """
        return cls(UrlRoad(url, token=token, ca=ca))

    @property
    def place(self) -> str:
        """What people call where the API server is."""
        return self._road.place

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all connections; whoever waits for an answer, as a watch does, gets an UnreachableError."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for line in self._busy:
                line.wake()
        for line in idle:
            line.close()

    def get(self, path: str, params: Params | None = None) -> Object:
        """The object, or list of objects, at a path.

        This and the other requests raise KubernetesError, as the leaf that fits, with a sentence for people.
        """
        return self._object("GET", path, params)

    def create(
        self, path: str, body: Mapping[str, Any], *, manager: str | None = None, dry_run: bool = False
    ) -> Object:
        """Create an object below the path of its kind; returns it as the API server stored it.

        Not repeated when the connection breaks before the answer: then nobody knows whether it was created.
        """
        return self._object("POST", path, _write_params(manager, dry_run=dry_run), body)

    def delete(self, path: str, **options: Any) -> Object:
        """Delete an object; `options` as in DeleteOptions: `propagationPolicy`, `preconditions`, `dryRun`."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", **options} if options else None
        return self._object("DELETE", path, None, body)

    def merge_patch(
        self, path: str, body: Mapping[str, Any], *, manager: str | None = None, dry_run: bool = False
    ) -> Object:
        """Change the fields in `body`, and remove those that are None there: RFC 7396."""
        params = _write_params(manager, dry_run=dry_run)
        return self._object("PATCH", path, params, body, _MERGE_PATCH)

    def apply(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        manager: str,
        force: bool = False,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        """Server-side apply: `body` is all that `manager` wants the object to hold.

        Without `force`, fields that another manager holds with other values are a ConflictError.
        """
        params = {**_write_params(manager, dry_run=dry_run), "force": "true" if force else "false"}
        where = path if subresource is None else f"{path}/{subresource}"
        return self._object("PATCH", where, params, body, _APPLY_PATCH)

    def get_bytes(
        self, path: str, headers: Mapping[str, str] | None = None, *, params: Params | None = None
    ) -> "Answer":
        """What is at a path, as bytes, for big answers through a pod's proxy; `headers` such as Range.

        The backend's own answers come through whatever their status; read it in `Answer.status`.

        Raises:
            KubernetesError: the API server itself refused, or could not reach the backend.
        """
        return self._stream(path, params, dict(headers or {}), self._answer_seconds, handed_through=True)

    def watch(self, path: str, params: Params, *, silence_seconds: float) -> "Answer":
        """The events of a watch, one per line; no byte for `silence_seconds` breaks it off."""
        return self._stream(path, params, {"Accept": _JSON}, silence_seconds, handed_through=False)

    def _object(
        self,
        method: str,
        path: str,
        params: Params | None,
        body: Mapping[str, Any] | None = None,
        content_type: str = _JSON,
    ) -> Object:
        headers = {"Accept": _JSON}
        payload = None
        if body is not None:
            headers["Content-Type"] = content_type
            payload = json.dumps(body, separators=(",", ":")).encode()
        line, response = self._request(method, path, params, headers, payload)
        try:
            data = response.read()
        except (OSError, HTTPException) as error:
            self._hang_up(line)
            raise self._unreachable(error) from None
        self._keep(line, response)
        if response.status >= 300:
            raise self._refusal(method, path, response, data)
        try:
            found = json.loads(data)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UnreachableError(f"{self.place} does not answer as an API server does (at {path})")
        return found

    def _stream(
        self,
        path: str,
        params: Params | None,
        headers: dict[str, str],
        silence_seconds: float,
        *,
        handed_through: bool,
    ) -> "Answer":
        line, response = self._request("GET", path, params, headers, None, streaming=True)
        line.sock.settimeout(silence_seconds)
        answer = Answer(response, self.place, lambda: self._hang_up(line))
        if response.status < 300:
            return answer
        with answer:
            body = answer.read(_MOST_REFUSAL_BYTES)
        if handed_through and status_of(body) is None:
            return Answer(response, self.place, lambda: None, body)
        raise self._refusal("GET", path, response, body)

    def _refusal(self, method: str, path: str, response: HTTPResponse, body: bytes) -> KubernetesError:
        if self._road.relayed and response.status in _RELAY_FAILED and status_of(body) is None:
            why = body[:500].decode(errors="replace").strip()
            return UnreachableError(f"the cluster cannot be reached: {why or f'status {response.status}'}")
        return refusal(method, path, response.status, body, retry_after_seconds=_retry_after(response))

    def _request(
        self,
        method: str,
        path: str,
        params: Params | None,
        headers: dict[str, str],
        body: bytes | None,
        *,
        streaming: bool = False,
    ) -> tuple["_Line", HTTPResponse]:
        """Send a request and read the answer's head.

        A kept connection may have been closed by the server while the request was on its way: then the
        request goes out once more, if it may.
        """
        target = f"{path}?{urlencode(params)}" if params else path
        headers = {"User-Agent": f"podcam/{__version__}", **headers, **self._road.headers()}
        while True:
            line = None if streaming else self._kept_line()
            kept = line is not None
            if line is None:
                line = self._new_line()
            try:
                line.sock.settimeout(self._answer_seconds)
                line.connection.request(method, target, body, headers)
                return line, line.connection.getresponse()
            except (OSError, HTTPException) as error:
                self._hang_up(line)
                if not kept or method == "POST" or isinstance(error, TimeoutError):
                    raise self._unreachable(error) from None

    def _kept_line(self) -> "_Line | None":
        with self._lock:
            while self._idle:
                line = self._idle.pop()
                if not _has_ended(line.sock):
                    self._busy.add(line)
                    return line
                line.close()
        return None

    def _new_line(self) -> "_Line":
        connection = self._road.connection()
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise self._unreachable(error) from None
        line = _Line(connection, connection.sock)
        with self._lock:
            if not self._closed:
                self._busy.add(line)
                return line
        line.close()
        raise UnreachableError(f"the connection to {self.place} was closed here")

    def _keep(self, line: "_Line", response: HTTPResponse) -> None:
        with self._lock:
            self._busy.discard(line)
            if not (self._closed or response.will_close or len(self._idle) >= _MOST_IDLE):
                self._idle.append(line)
                return
        line.close()

    def _hang_up(self, line: "_Line") -> None:
        with self._lock:
            self._busy.discard(line)
        line.close()

    def _unreachable(self, error: Exception) -> UnreachableError:
        return _unreachable(self.place, error)


class Answer:
    """An answer that is read piece by piece. Use as a context manager, or call `close`.

    Attributes:
        status: HTTP status.
        headers: the answer's headers, whose names are found in any case.

    Reading raises UnreachableError when the connection breaks off before the end that the head announced.
    """

    def __init__(
        self, response: HTTPResponse, place: str, hang_up: Callable[[], None], body: bytes | None = None
    ) -> None:
        self.status = response.status
        self.headers = response.headers
        self._response = response
        self._place = place
        self._hang_up = hang_up
        self._body = None if body is None else io.BytesIO(body)
        """All of the body, when it has been read already."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up, also before the end."""
        self._response.close()
        self._hang_up()

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill the buffer from its start with what there is; how many bytes, 0 at the end."""
        if self._body is not None:
            return self._body.readinto(buffer)
        try:
            count = self._response.readinto(buffer)
            if not count and len(buffer) and self._response.length:
                raise IncompleteRead(b"", self._response.length)
        except (OSError, HTTPException, ValueError) as error:
            raise _unreachable(self._place, error) from None
        return count

    def read(self, most_bytes: int) -> bytes:
        """All that is left, but not more than this."""
        whole = bytearray()
        piece = memoryview(bytearray(min(most_bytes, _PIECE_BYTES)))
        while count := self.readinto(piece[: most_bytes - len(whole)]):
            whole += piece[:count]
        return bytes(whole)

    def __iter__(self) -> Iterator[bytes]:
        """The pieces of the body, none of them empty."""
        piece = memoryview(bytearray(_PIECE_BYTES))
        while count := self.readinto(piece):
            yield bytes(piece[:count])

    def lines(self, most_bytes: int) -> Iterator[bytes]:
        """The lines of the body, as they come; the last one may lack its end and is not given then.

        Raises:
            UnreachableError: the connection broke off, was silent for too long, or a line is too long.
        """
        rest = bytearray()
        while True:
            try:
                piece = self._response.read1(_PIECE_BYTES)
            except (OSError, HTTPException, ValueError) as error:
                raise _unreachable(self._place, error) from None
            if not piece:
                return
            *whole, last = piece.split(b"\n")
            for line in whole:
                yield bytes(rest) + line
                rest.clear()
            rest += last
            if len(rest) > most_bytes:
                raise UnreachableError(f"{self._place} sent a line of more than {most_bytes:,} bytes")


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """A connection, and its socket: http.client lets go of that when an answer is the last one."""

    connection: HTTPConnection
    sock: socket.socket

    def wake(self) -> None:
        """Whoever reads from it, in any thread, finds its end. A TLS socket keeps its state meanwhile."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """The peer hears of it even where a forked child has the socket, too."""
        self.wake()
        self.connection.close()


def _has_ended(sock: socket.socket) -> bool:
    """Whether an idle connection has something to read: its end, as nothing else can come."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _write_params(manager: str | None, *, dry_run: bool) -> dict[str, str]:
    return ({} if manager is None else {"fieldManager": manager}) | ({"dryRun": "All"} if dry_run else {})


def _retry_after(response: HTTPResponse) -> float | None:
    seconds = response.headers.get("Retry-After", "")
    return float(seconds) if seconds.isascii() and seconds.isdigit() else None


def _unreachable(place: str, error: Exception) -> UnreachableError:
    match error:
        case ssl.SSLCertVerificationError():
            why = f"its certificate is not trusted ({error.verify_message})"
        case TimeoutError():
            why = "no answer in time"
        case (
            HTTPException() | ValueError() | ssl.SSLEOFError()
        ):  # a ValueError: closed here while it was read
            why = "the connection broke off"
        case OSError():
            why = error.strerror or str(error)
        case _:
            why = str(error)
    return UnreachableError(f"the API server at {place} cannot be reached: {why}")
