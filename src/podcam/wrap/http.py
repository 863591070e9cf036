"""What a recorder in a pod hands out: its status and its clips, at the pod's loopback address alone.

    GET /healthz                        200 and the state, or 503 and why nothing is recorded
    GET /status                         what status.json says
    GET /v1/clips                       {"clips": [{"clip", "state", "reason", "created_ns",
                                        "window"}]}, in the order of time
    GET /v1/clips/CLIP/index            {"manifest": {…}, "files": [{"folder", "name", "bytes", "modified_ns",
                                        "version"}]}
    GET /v1/clips/CLIP/files/N          the file with this place in the index; Range, If-Range
    GET /v1/clips/CLIP/files/N/sha256   {"version", "sha256"}: made when first asked for

Whoever may forward a port of the pod, or run something in it, can reach this, and may read its packets. An
app that can be talked into fetching a URL must not: so each request has to have a header that such a fetch
has not (`READER`), and none that a proxy adds.
"""

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from podcam.clip import Clip, ClipStore
from podcam.errors import ClipError
from podcam.serving import (
    Body,
    Limits,
    Refusal,
    Request,
    Server,
    complete_clip,
    entries_of,
    opened,
    read_unchanged,
    version_of,
    whole,
)

READER: Final = "Podcam-Reader"
"""The header that every request has."""
ADDRESS: Final = "127.0.0.1"
HEALTHY: Final = frozenset({"recording"})

_LIMITS: Final = Limits(connections=8)
_PIECE_BYTES: Final = 256 * 1024
_MOST_SUMS: Final = 4096
_ASKS_AGAIN_SECONDS: Final = 2.5
"""`pull --watch` asks once a second."""
_OF_CLIP: Final = re.compile(
    r"/v1/clips/(?P<clip>[A-Za-z0-9_][A-Za-z0-9._-]{0,200})/"
    r"(?:index|files/(?P<number>\d{1,6})(?P<sum>/sha256)?)",
    re.ASCII,
)


class PodServer(Server):
    """Serves a recorder's clips from its own threads, from `start` until `close`.

    Args:
        clips: the folder that holds them.
        status: what status.json says.
        port: 0 for any that is free.

    Raises:
        OSError: the port cannot be had.
    """

    def __init__(self, clips: Path, status: Callable[[], Mapping[str, Any]], port: int) -> None:
        self._store = ClipStore(clips)
        self._status = status
        self._sums = _Sums()
        self._asked_seconds: float | None = None
        super().__init__(self._find, address=ADDRESS, port=port, limits=_LIMITS)

    @property
    def is_in_use(self) -> bool:
        """Whether somebody fetches, or asked so lately that there will be another request."""
        asked = self._asked_seconds
        return asked is not None and (self.connections > 0 or time.monotonic() - asked < _ASKS_AGAIN_SECONDS)

    def _find(self, request: Request) -> AbstractContextManager[Body]:
        if READER.lower() not in request.headers or "x-forwarded-for" in request.headers:
            raise Refusal(HTTPStatus.FORBIDDEN, "this is for `kubectl podcam pull --sidecar`")
        self._asked_seconds = time.monotonic()
        match request.path:
            case "/healthz":
                return self._health()
            case "/status":
                return _json(self._status())
            case "/v1/clips":
                return _json({"clips": [_told(clip.manifest.to_json()) for clip in self._clips()]})
        found = _OF_CLIP.fullmatch(request.path)
        if found is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "there is nothing here: this is a recorder of Podcam")
        folder = self._store.folder / found["clip"]
        if not folder.is_dir():
            raise Refusal(HTTPStatus.NOT_FOUND, f"no clip {found['clip']} is kept here")
        manifest = complete_clip(folder, found["clip"], time.time_ns())
        if found["number"] is None:
            return _json({"manifest": manifest.to_json(), "files": entries_of(folder, manifest)})
        file = opened(folder, manifest, int(found["number"]), found["clip"])
        return self._sum(file) if found["sum"] else _content(file)

    def _clips(self) -> list[Clip]:
        try:
            return self._store.clips()
        except ClipError as error:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error

    def _health(self) -> AbstractContextManager[Body]:
        status = self._status()
        if status["state"] not in HEALTHY:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"{status['state']}: {status['warnings'][-1:]}")
        return whole(f"{status['state']}\n".encode(), "text/plain; charset=utf-8")

    @contextmanager
    def _sum(self, file: AbstractContextManager[tuple[str, int]]) -> Iterator[Body]:
        with file as (_name, descriptor):
            version = version_of(os.fstat(descriptor))
            sum_ = self._sums.of(descriptor, version)
        with _json({"version": version, "sha256": sum_}) as body:
            yield body


@contextmanager
def _content(file: AbstractContextManager[tuple[str, int]]) -> Iterator[Body]:
    with file as (_name, descriptor):
        status = os.fstat(descriptor)
        read = read_unchanged(descriptor)
        yield Body(
            status.st_size,
            lambda start, stop: _pieces(read, start, stop),
            version=version_of(status),
            ranges=True,
        )


def _pieces(read: Callable[[int, int], bytes], start: int, stop: int) -> Iterator[bytes]:
    for at in range(start, stop, _PIECE_BYTES):
        yield read(at, min(_PIECE_BYTES, stop - at))


class _Sums:
    """SHA-256 of files, each made once, and one at a time: the app needs the processor, too."""

    def __init__(self) -> None:
        self._made: dict[str, str] = {}
        self._lock = threading.Lock()

    def of(self, descriptor: int, version: str) -> str:
        with self._lock:
            if version not in self._made:
                if len(self._made) >= _MOST_SUMS:
                    self._made.clear()
                digest = hashlib.sha256()
                for piece in _pieces(read_unchanged(descriptor), 0, os.fstat(descriptor).st_size):
                    digest.update(piece)
                self._made[version] = digest.hexdigest()
            return self._made[version]


def _told(manifest: Mapping[str, Any]) -> dict[str, Any]:
    told = {key: manifest[key] for key in ("state", "reason", "created_ns", "window")}
    return {"clip": manifest["id"], **told}


def _json(body: Mapping[str, Any]) -> AbstractContextManager[Body]:
    return whole(json.dumps(body, separators=(",", ":")).encode(), "application/json")
