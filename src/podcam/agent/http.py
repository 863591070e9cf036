"""The agent's HTTP server: health, metrics, and clips, which leave the node sealed for their readers.

    GET /healthz                                 200, or 503 and why
    GET /metrics                                 Prometheus' text format; names no pod and no address
    GET /v1/grants/NAMESPACE/GRANT/index         sealed JSON: {"manifest": {…}, "files": [{"folder", "name",
                                                 "bytes", "modified_ns", "version"}]}
    GET /v1/grants/NAMESPACE/GRANT/files/NUMBER  the sealed file with this place in the index; Range, If-Range

Whoever reaches the node's network may ask; `podcam.sealed` says why that gives nobody a packet. What a path
names is a grant and a number, never a file.
"""

import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final, Protocol

from podcam.agent.metrics import CONTENT_TYPE
from podcam.clip import Manifest
from podcam.kube import Grant
from podcam.sealed import PrivateKey, Resource, Seal, SealedError, sealed_range, sealed_size
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

PORT: Final = 9472
GRANT_LIFE_NS: Final = 3600 * 1_000_000_000
"""A grant opens nothing any more when it is older than this."""
INDEX: Final = "index"
"""The name that the index is sealed by. Files have theirs: `FOLDER/NAME`."""

_GRANT_WAIT_SECONDS: Final = 3.0
_MOST_WAITING: Final = 16
"""Requests that may wait for a grant at one time; further ones are answered at once."""

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_OF_GRANT: Final = re.compile(
    rf"/v1/grants/(?P<namespace>{_LABEL})/(?P<grant>(?=[-.a-z0-9]{{1,253}}/){_LABEL}(?:\.{_LABEL})*)"
    r"/(?:index|files/(?P<number>\d{1,6}))",
    re.ASCII,
)


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


class AgentServer(Server):
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
        self._served = served
        self._clips = _SealedClips(served, key, now_ns)
        super().__init__(self._find, address=address, port=port, limits=limits)

    def _find(self, request: Request) -> AbstractContextManager[Body]:
        if request.path == "/healthz":
            ill = self._served.health()
            if ill is not None:
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, ill)
            return whole(b"ok\n", "text/plain; charset=utf-8")
        if request.path == "/metrics":
            return whole(self._served.metrics().encode(), CONTENT_TYPE)
        if match := _OF_GRANT.fullmatch(request.path):
            number = None if match["number"] is None else int(match["number"])
            return self._clips.body(match["namespace"], match["grant"], number)
        raise Refusal(HTTPStatus.NOT_FOUND, "there is nothing here: this is an agent of Podcam")


class _SealedClips:
    """The sealed bytes of what grants open."""

    def __init__(self, served: Served, key: PrivateKey, now_ns: Callable[[], int]) -> None:
        self._served = served
        self._key = key
        self._now_ns = now_ns
        self._may_wait = threading.BoundedSemaphore(_MOST_WAITING)

    @contextmanager
    def body(self, namespace: str, name: str, number: int | None) -> Iterator[Body]:
        """The index, or a file. Raises Refusal."""
        grant = self._grant(namespace, name)
        folder, manifest = self._clip(grant)
        if number is None:
            yield self._index(grant, folder, manifest)
            return
        with opened(folder, manifest, number, grant.clip) as (file, descriptor):
            status = os.fstat(descriptor)
            yield self._sealed(
                grant, file, version_of(status), status.st_size, read_unchanged(descriptor), ranges=True
            )

    def _grant(self, namespace: str, name: str) -> Grant:
        waits = self._may_wait.acquire(blocking=False)
        try:
            grant = self._served.grant(namespace, name, _GRANT_WAIT_SECONDS if waits else 0.0)
        finally:
            if waits:
                self._may_wait.release()
        if grant is None:
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                f"there is no PacketGrant {name} in namespace {namespace}, or it has not arrived here yet",
            )
        if self._now_ns() - grant.created_ns > GRANT_LIFE_NS:
            raise Refusal(
                HTTPStatus.FORBIDDEN, f"the PacketGrant {name} is more than an hour old: make another"
            )
        return grant

    def _clip(self, grant: Grant) -> tuple[Path, Manifest]:
        folder = self._served.clip_folder(grant.namespace, grant.clip)
        if folder is None:
            raise Refusal(HTTPStatus.NOT_FOUND, f"this node keeps nothing of clip {grant.clip}")
        return folder, complete_clip(folder, grant.clip, self._now_ns())

    def _index(self, grant: Grant, folder: Path, manifest: Manifest) -> Body:
        files = entries_of(folder, manifest)
        plain = json.dumps({"manifest": manifest.to_json(), "files": files}, separators=(",", ":")).encode()
        return self._sealed(
            grant,
            INDEX,
            secrets.token_hex(16),
            len(plain),
            lambda at, size: plain[at : at + size],
            ranges=False,
        )

    def _sealed(
        self,
        grant: Grant,
        name: str,
        version: str,
        plain_bytes: int,
        read: Callable[[int, int], bytes],
        *,
        ranges: bool,
    ) -> Body:
        try:
            seal = Seal.by_agent(self._key, grant.public_key, Resource(grant.uid, name, version))
        except SealedError as error:
            raise Refusal(
                HTTPStatus.FORBIDDEN, f"the PacketGrant {grant.name} is of no use: {error}"
            ) from error
        return Body(
            sealed_size(plain_bytes),
            lambda start, stop: sealed_range(seal, read, plain_bytes, start, stop),
            version=version,
            ranges=ranges,
        )
