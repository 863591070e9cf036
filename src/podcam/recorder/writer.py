"""The writer: takes the blocks of all kernel rings to disk, and freezes. A process of its own.

It shares its interpreter with nothing that can be flooded, as whatever keeps a Python thread busy delays
the next write by milliseconds. Per packet it does nothing; per batch of blocks one `writev`.
"""

import contextlib
import os
import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import assert_never

from podcam.capture import Geometry, MappedRing
from podcam.errors import PodcamError, SegmentError
from podcam.model.point import Interface, Point, Window
from podcam.recorder.channel import Channel, Message, Outbox
from podcam.recorder.settings import SECOND_NS
from podcam.ring import (
    FLAG_PAYLOAD_CUT,
    FrozenPart,
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
_BATCH_BYTES = 1 << 21
"""Written with one call, and then given back to the kernel: more would keep it waiting for room."""
_FULL_SHARE = 0.5
"""A ring that waits this full asks for a larger one: a drop counter that moves would be too late."""
_QUIET_SHARE = 0.05
_QUIET_SECONDS = 60.0
"""A ring that stayed emptier than that for so long gives back what it was lent."""
_SYNC_SECONDS = 10.0
"""What a power cut can cost at most, the time that the disk needs aside."""
_STATUS_SECONDS = 1.0
_SLACK_SECONDS = 0.02
"""How much later than its timeout a block may be handed over, or a packet that was under way be put into one
when the filter was closed."""


class _PointWriter:
    """One point: its kernel ring, its ring on disk, and what was counted since the start."""

    def __init__(self, point_id: str, sock: socket.socket, kernel: MappedRing, ring: Ring) -> None:
        self.id = point_id
        self.ring = ring
        self.flags = 0
        self.bytes = 0
        self.freezes = 0
        self.filling = False
        """Whether the kernel's ring became so full that a larger one was asked for."""
        self.busy_seconds = time.monotonic()
        """When it was last fuller than a quiet ring."""
        self._socket = sock
        self._kernel = kernel

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def retire_seconds(self) -> float:
        return self._kernel.shape.retire_ms / 1000

    def counts(self) -> list[int | None]:
        """Packets, bytes, drops, freezes, the ring's bytes and its oldest time: see `tally.py`."""
        ring = self.ring
        return [ring.packets, self.bytes, ring.dropped, self.freezes, ring.bytes, ring.oldest_ns]

    def drain(self) -> bool:
        """Write every block that is ready; whether there was one."""
        blocks = self._kernel.ready()
        fill = len(blocks) / self._kernel.shape.blocks
        self.filling |= fill >= _FULL_SHARE
        if fill > _QUIET_SHARE:
            self.busy_seconds = time.monotonic()
        dropped = self._take_drops()
        many = max(1, _BATCH_BYTES // self._kernel.shape.block_bytes)
        for start in range(0, len(blocks), many):
            batch = blocks[start : start + many]
            self.bytes += sum(map(len, batch))
            self.ring.append(batch, now_ns=time.time_ns(), dropped=dropped, flags=self.flags)
            self._kernel.release(len(batch))
            dropped = 0
        if dropped:
            self.ring.append([], now_ns=time.time_ns(), dropped=dropped)
        return bool(blocks)

    def replace(self, sock: socket.socket, shape: Geometry) -> None:
        """Go on with another ring, to which all packets are already given; keep all that the old one got."""
        successor = MappedRing(sock, shape)
        self.drain_to_the_end()
        self.close_kernel_ring()
        self._socket, self._kernel = sock, successor
        self.filling = False
        self.busy_seconds = time.monotonic()

    def drain_to_the_end(self) -> None:
        """Write all that the kernel's ring has, the block that is not full included: no more comes to it."""
        while self.drain():
            pass
        rest = self._kernel.rest()
        if rest is not None:
            self.bytes += len(rest)
            self.ring.append([rest], now_ns=time.time_ns(), flags=self.flags)

    def close_kernel_ring(self) -> None:
        self._kernel.close()
        self._socket.close()

    def _take_drops(self) -> int:
        counted = self._kernel.statistics()
        self.freezes += counted.freezes
        return counted.dropped


@dataclass(slots=True)
class _OpenClip:
    """A clip that is being frozen. `due` is when to act next, on the monotonic clock."""

    id: str
    folder: Path
    due: float
    ends: float = 0.0
    request: int = 0
    """The number of the last request for it."""
    windows: dict[str, tuple[Window, ...]] = field(default_factory=dict)
    """By point: the clip's window, and what is kept beside it to compare with."""
    begun: bool = False
    left_bytes: int = 0
    """What it holds of points that have left."""


class _Syncer:
    """Makes what was written survive a power cut, in a thread that waits for the disk."""

    def __init__(self) -> None:
        self.failed: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._paths: queue.SimpleQueue[list[Path]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)
        self._thread.start()

    @property
    def is_behind(self) -> bool:
        """Whether the disk is not yet done with what it was last given."""
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
        self._points: dict[str, _PointWriter] = {}
        self._leaving: dict[str, float] = {}
        """Points to be closed, by when, on the monotonic clock."""
        self._by_descriptor: dict[int, _PointWriter] = {}
        self._clips: dict[str, _OpenClip] = {}
        self._news: set[str] = set()
        """Points of which something is to be told."""
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
                *(clip.due for clip in self._clips.values()),
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
                self._news.add(message["point"])
            case "remove", None:
                self._leaving[message["point"]] = time.monotonic() + _SLACK_SECONDS
            case "freeze", None:
                self._freeze(message)
            case "drop", None:
                self._drop(message["clip"])
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
        point = _PointWriter(message["point"], sock, kernel, ring)
        point.flags = FLAG_PAYLOAD_CUT if message["cut"] else 0
        self._points[point.id] = point
        self._news.add(point.id)
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
        for clip in self._clips.values():
            windows = clip.windows.pop(point_id, None)
            if windows is not None:
                clip.left_bytes += self._freeze_point(clip, point, windows, ended=True)
        counts = point.counts()
        point.close_kernel_ring()
        point.ring.close(time.time_ns())
        self._unsynced += point.ring.take_unsynced()
        del self._points[point_id]
        self._news.discard(point_id)
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

    def _listen_to(self, point: _PointWriter) -> None:
        self._by_descriptor[point.fileno()] = point
        self._epoll.register(point.fileno(), select.EPOLLIN)

    def _drain(self, point: _PointWriter) -> None:
        asked = point.filling
        self._news.add(point.id)
        try:
            point.drain()
        except SegmentError as error:
            self._outbox.put({"is": "failed", "why": str(error)})
            raise
        if point.filling and not asked:
            self._outbox.put({"is": "filling", "point": point.id})

    def _freeze(self, message: Message) -> None:
        """Begin a clip, or widen the one that is open."""
        now, now_ns = time.monotonic(), time.time_ns()
        window, besides = Window(*message["window"]), message["comparisons"]
        wait = max((point.retire_seconds for point in self._points.values()), default=0.0) + _SLACK_SECONDS
        ends = now + max(0, window.end_ns - now_ns) / SECOND_NS + wait
        clip = self._clips.get(message["clip"])
        if clip is None:
            clip = _OpenClip(message["clip"], Path(message["folder"]), due=now + wait)
            self._clips[clip.id] = clip
        clip.windows = {
            point_id: (window, *_windows(besides.get(point_id, ())))
            for point_id in message["points"]
            if point_id in self._points
        }
        clip.ends, clip.request = ends, message["request"]
        if clip.begun:
            clip.due = ends
            for point_id, windows in clip.windows.items():
                self._widen(clip, self._points[point_id], windows)

    def _drop(self, clip_id: str) -> None:
        """Keep nothing more for a clip, whose folder is about to go."""
        clip = self._clips.pop(clip_id, None)
        if clip is not None:
            for point in self._points.values():
                point.ring.forget(clip.folder / point.ring.folder.name)
        self._outbox.put({"is": "dropped", "clip": clip_id})

    def _widen(self, clip: _OpenClip, point: _PointWriter, windows: tuple[Window, ...]) -> None:
        try:
            point.ring.widen(clip.folder / point.ring.folder.name, windows)
        except PodcamError as error:
            self._outbox.put({"is": "warning", "point": point.id, "text": str(error)})

    def _keep_time(self) -> None:
        now = time.monotonic()
        for clip in [clip for clip in self._clips.values() if clip.due <= now]:
            self._act_on(clip, ended=clip.ends <= now)
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

    def _act_on(self, clip: _OpenClip, *, ended: bool) -> None:
        for point_id, windows in clip.windows.items():
            self._freeze_point(clip, self._points[point_id], windows, ended=ended)
        clip.begun, clip.due = True, clip.ends
        if ended:
            del self._clips[clip.id]
        self._outbox.put({"is": "frozen", "clip": clip.id, "request": clip.request, "ended": ended})

    def _freeze_point(
        self, clip: _OpenClip, point: _PointWriter, windows: tuple[Window, ...], *, ended: bool
    ) -> int:
        """Keep what the point's ring has of the windows; how many bytes that is in all."""
        into = clip.folder / point.ring.folder.name
        self._news.add(point.id)
        try:
            point.drain()
            part = point.ring.freeze(into, windows, time.time_ns())
            if ended:
                part = point.ring.release(into, time.time_ns())
        except PodcamError as error:
            self._outbox.put({"is": "warning", "point": point.id, "text": str(error)})
            return 0
        self._outbox.put({"is": "part", "clip": clip.id, "point": point.id, **_part(part)})
        return part.totals.bytes

    def _tell_status(self, now: float, tell: Callable[[Message], object]) -> None:
        """Tell what is new, by a function that returns False when the supervisor is not ready to hear it."""
        told = [point for point in self._points.values() if point.id in self._news]
        status = {
            "is": "status",
            "points": {point.id: point.counts() for point in told},
            "clips": {clip.id: self._kept_bytes(clip) for clip in self._clips.values()},
        }
        if tell(status) is False:
            return
        self._news.clear()
        for point in told:
            point.filling = False
            self._tell_notices(point)
        for point in self._points.values():
            if now - point.busy_seconds > _QUIET_SECONDS:
                point.busy_seconds = now
                self._outbox.put({"is": "quiet", "point": point.id})
        while not self._syncer.failed.empty():
            self._outbox.put({"is": "warning", "point": None, "text": self._syncer.failed.get()})

    def _tell_notices(self, point: _PointWriter) -> None:
        for notice in point.ring.take_notices():
            self._outbox.put({"is": "warning", "point": point.id, "text": _spell(notice)})

    def _kept_bytes(self, clip: _OpenClip) -> int:
        return clip.left_bytes + sum(
            point.ring.frozen_bytes(clip.folder / point.ring.folder.name) for point in self._points.values()
        )

    def _finish(self) -> None:
        """Write what the kernel still holds, which takes one block timeout, and close everything."""
        deadline = time.monotonic() + max((p.retire_seconds for p in self._points.values()), default=0.0)
        self._epoll.unregister(self._channel.fileno())
        for point_id in list(self._leaving):
            self._remove(point_id)
        while (left := deadline + _SLACK_SECONDS - time.monotonic()) > 0:
            for descriptor, _events in self._epoll.poll(left):
                self._drain(self._by_descriptor[descriptor])
        for clip in list(self._clips.values()):
            self._act_on(clip, ended=True)
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


def _windows(pairs: Iterable[tuple[int, int]]) -> tuple[Window, ...]:
    return tuple(Window(*pair) for pair in pairs)


def _part(part: FrozenPart) -> Message:
    return {
        "folder": part.folder.name,
        "how": part.how,
        "totals": asdict(part.totals),
    }


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
