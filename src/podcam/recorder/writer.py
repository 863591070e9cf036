"""The writer: takes the blocks of all kernel rings to disk, and freezes. A process of its own.

It shares its interpreter with nothing that can be flooded, as whatever keeps a Python thread busy delays
the next write by milliseconds.
"""

import contextlib
import os
import queue
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import assert_never

from podcam.capture import Geometry, MappedRing
from podcam.errors import PodcamError, SegmentError
from podcam.model.point import Interface, Point
from podcam.recorder.channel import Channel, Message, Outbox
from podcam.recorder.freezing import Freezing
from podcam.recorder.point_writer import PointWriter
from podcam.ring import (
    FLAG_PAYLOAD_CUT,
    Notice,
    NotKept,
    PacketsLost,
    Ring,
    RingGrew,
    RingShrunk,
    Source,
    TornSegment,
    sync,
)

_NICENESS = -10
"""Where it may (CAP_SYS_NICE): it runs briefly and often, and every wait for a busy processor costs room."""
_SYNC_SECONDS = 10.0
"""What a power cut can cost at most, the time that the disk needs aside."""
_STATUS_SECONDS = 1.0
_SLACK_SECONDS = 0.02
"""How much later than its timeout a block may be handed over, or a packet that was under way be put into one
when the filter was closed."""


class _Syncer:
    """Makes what was written survive a power cut, in a thread that waits for the disk."""

    def __init__(self) -> None:
        self.failed: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._paths: queue.SimpleQueue[list[Path]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)
        self._thread.start()

    @property
    def is_behind(self) -> bool:
        """Whether the disk has not even begun with what it was last given."""
        return not self._paths.empty()

    def sync(self, paths: list[Path]) -> None:
        """Sync these."""
        self._paths.put(paths)

    def _run(self) -> None:
        while True:
            try:
                sync(self._paths.get())
            except SegmentError as error:
                self.failed.put(str(error))


def _close_all(descriptors: "queue.SimpleQueue[int]") -> None:
    """Gives back the space of evicted segments: 10 to 30 ms for 100 MB, for which no packet should wait."""
    while True:
        os.close(descriptors.get())


class Writer:
    """Obeys its supervisor's messages until told to stop, or until the supervisor is gone."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._outbox = Outbox(channel)
        self._points: dict[str, PointWriter] = {}
        self._leaving: dict[str, float] = {}
        """Points to be closed, by when, on the monotonic clock."""
        self._by_descriptor: dict[int, PointWriter] = {}
        self._freezing = Freezing(self._points, _SLACK_SECONDS, self._outbox.put)
        self._epoll = select.epoll()
        self._epoll.register(channel.fileno(), select.EPOLLIN)
        self._status_due = time.monotonic() + _STATUS_SECONDS
        self._sync_due = time.monotonic() + _SYNC_SECONDS
        self._syncer = _Syncer()
        self._unsynced: list[Path] = []
        """What points that have left wrote since the last time."""
        self._evicted: queue.SimpleQueue[int] = queue.SimpleQueue()
        threading.Thread(target=_close_all, args=(self._evicted,), name="evict", daemon=True).start()
        self._stopping = False

    def run(self) -> None:
        """Until the end."""
        with contextlib.suppress(PermissionError):
            os.nice(_NICENESS)
        while not self._stopping:
            for descriptor, _events in self._epoll.poll(self._patience()):
                if descriptor == self._channel.fileno():
                    self._obey_next()
                elif descriptor in self._by_descriptor:
                    self._drain(self._by_descriptor[descriptor])
            self._keep_time()
        self._finish()

    def _patience(self) -> float:
        due = min(
            [
                self._status_due,
                self._sync_due,
                *self._freezing.due(),
                *self._leaving.values(),
            ]
        )
        return max(0.0, due - time.monotonic())

    def _obey_next(self) -> None:
        received = self._channel.receive()
        if received is None:
            self._stopping = True
            return
        message, descriptors = received
        sock = socket.socket(fileno=descriptors[0]) if descriptors else None
        if message["do"] != "add" and "point" in message and message["point"] not in self._points:
            if sock is not None:  # it could not be opened, of which the supervisor has not heard yet
                sock.close()
            return
        match message["do"], sock:
            case "add", socket.socket():
                self._add(message, sock)
            case "replace", socket.socket():
                self._replace(message, sock)
            case "source", None:
                self._change_source(message)
            case "limit", None:
                self._points[message["point"]].ring.limit(message["limit_bytes"], time.time_ns())
                self._points[message["point"]].has_news = True
            case "remove", None:
                self._leaving[message["point"]] = time.monotonic() + _SLACK_SECONDS
            case "freeze", None:
                self._freezing.request(message)
            case "drop", None:
                self._freezing.drop(message["clip"])
            case "stop", None:
                self._stopping = True
            case unknown:
                raise ValueError(f"a message that the writer does not know: {unknown}")

    def _add(self, message: Message, sock: socket.socket) -> None:
        if message["point"] in self._leaving:
            self._remove(message["point"])
        try:
            kernel = MappedRing(sock, Geometry(*message["shape"]))
            ring = Ring(
                Path(message["folder"]),
                _source(message),
                limit_bytes=message["limit_bytes"],
                segment_bytes=message["segment_bytes"],
                now_ns=time.time_ns(),
                close=self._evicted.put,
            )
        except PodcamError as error:
            sock.close()
            self._outbox.put(
                {"is": "refused", "point": message["point"], "why": str(error), "code": error.exit_code}
            )
            return
        if message["gap"]:
            ring.note("gap", message["gap"], time.time_ns())
        point = PointWriter(message["point"], sock, kernel, ring)
        point.flags = FLAG_PAYLOAD_CUT if message["cut"] else 0
        self._points[point.id] = point
        self._listen_to(point)
        self._outbox.put({"is": "added", "point": point.id})

    def _remove(self, point_id: str) -> None:
        """Close a point to which nothing comes any more, with its parts of the open clips."""
        del self._leaving[point_id]
        point = self._points[point_id]
        self._epoll.unregister(point.fileno())
        del self._by_descriptor[point.fileno()]
        try:
            point.drain_to_the_end()
        except SegmentError as error:
            self._outbox.put({"is": "failed", "why": str(error)})
            raise
        self._freezing.leave(point)
        counts = point.counts()
        point.close_kernel_ring()
        point.ring.close(time.time_ns())
        self._unsynced += point.ring.take_unsynced()
        del self._points[point_id]
        self._tell_notices(point)
        self._outbox.put({"is": "removed", "point": point_id, "counts": counts})

    def _replace(self, message: Message, sock: socket.socket) -> None:
        point = self._points[message["point"]]
        self._epoll.unregister(point.fileno())
        del self._by_descriptor[point.fileno()]
        point.replace(sock, Geometry(*message["shape"]))
        point.ring.change_source(_source(message), time.time_ns())
        self._listen_to(point)
        self._outbox.put({"is": "replaced", "point": point.id})

    def _change_source(self, message: Message) -> None:
        point = self._points[message["point"]]
        self._drain(point)
        point.flags = FLAG_PAYLOAD_CUT if message["cut"] else 0
        point.ring.change_source(_source(message), time.time_ns())

    def _listen_to(self, point: PointWriter) -> None:
        self._by_descriptor[point.fileno()] = point
        self._epoll.register(point.fileno(), select.EPOLLIN)

    def _drain(self, point: PointWriter) -> None:
        asked = point.filling
        try:
            point.drain()
        except SegmentError as error:
            self._outbox.put({"is": "failed", "why": str(error)})
            raise
        if point.filling and not asked:
            self._outbox.put({"is": "filling", "point": point.id})

    def _keep_time(self) -> None:
        now = time.monotonic()
        self._freezing.keep_time(now)
        for point_id in [point_id for point_id, due in self._leaving.items() if due <= now]:
            self._remove(point_id)
        if self._status_due <= now:
            self._status_due = now + _STATUS_SECONDS
            self._tell_status(now, self._outbox.offer)
        if self._sync_due <= now:
            self._sync_due = now + _SYNC_SECONDS
            if not self._syncer.is_behind:
                self._sync()

    def _sync(self) -> None:
        paths, self._unsynced = self._unsynced, []
        for point in self._points.values():
            paths += point.ring.take_unsynced()
        self._syncer.sync(paths)

    def _tell_status(self, now: float, tell: Callable[[Message], object]) -> None:
        """Tell what is new, by a function that returns False when the supervisor is not ready to hear it."""
        told = [point for point in self._points.values() if point.has_news]
        status = {
            "is": "status",
            "points": {point.id: point.counts() for point in told},
            "clips": self._freezing.kept_bytes(),
        }
        if tell(status) is False:
            return
        for point in told:
            point.has_news = point.filling = False
            self._tell_notices(point)
        for point in self._points.values():
            if point.take_quiet(now):
                self._outbox.put({"is": "quiet", "point": point.id})
        while not self._syncer.failed.empty():
            self._outbox.put({"is": "warning", "point": None, "text": self._syncer.failed.get()})

    def _tell_notices(self, point: PointWriter) -> None:
        for notice in point.ring.take_notices():
            self._outbox.put({"is": "warning", "point": point.id, "text": _spell(notice)})

    def _finish(self) -> None:
        """Write what the kernel still holds, which takes one block timeout, and close everything."""
        deadline = time.monotonic() + max((p.retire_seconds for p in self._points.values()), default=0.0)
        self._epoll.unregister(self._channel.fileno())
        for point_id in list(self._leaving):
            self._remove(point_id)
        while (left := deadline + _SLACK_SECONDS - time.monotonic()) > 0:
            for descriptor, _events in self._epoll.poll(left):
                self._drain(self._by_descriptor[descriptor])
        self._freezing.finish()
        for point in self._points.values():
            self._drain(point)
            point.close_kernel_ring()
            point.ring.close(time.time_ns())
        self._tell_status(time.monotonic(), self._outbox.put)
        self._outbox.finish()


def _source(message: Message) -> Source:
    body = message["source"]
    return Source(
        point=Point(body["point"], body["node"], body["namespace"]),
        boot_id=body["boot_id"],
        block_bytes=body["block_bytes"],
        interfaces=tuple(Interface(*interface) for interface in body["interfaces"]),
        filter=body["filter"],
    )


def _spell(notice: Notice) -> str:
    match notice:
        case RingShrunk(limit_bytes):
            return f"the disk is full: the ring goes on with {limit_bytes:,} bytes; free some space"
        case RingGrew(limit_bytes):
            return f"the disk has room again: the ring may use {limit_bytes:,} bytes"
        case PacketsLost(packets):
            return f"the disk is full: {packets:,} packets were not written; free some space"
        case TornSegment(path, problems):
            return f"{path} was there before and is damaged ({'; '.join(problems)}): its other packets stay"
        case NotKept(into, reason):
            return f"{into} lacks a segment: {reason}"
        case unknown:
            assert_never(unknown)
