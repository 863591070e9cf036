"""What the writer keeps for clips: which segments of which points, now and as their windows go on."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from podcam.errors import PodcamError
from podcam.model.point import Window
from podcam.recorder.channel import Message
from podcam.recorder.point_writer import PointWriter
from podcam.recorder.settings import SECOND_NS


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
    left_bytes: dict[str, int] = field(default_factory=dict)
    """What it held of points when they left, which may come again."""

    def part_of(self, point: PointWriter) -> Path:
        """The folder that holds what is kept of a point."""
        return self.folder / point.ring.folder.name


class Freezing:
    """The clips that are open in the writer.

    A clip is begun when the packets of its request have left the kernel's rings, goes on as segments close,
    and ends when the last packets of its window have left the kernel's rings too.

    Args:
        points: those that the writer has, by id, as they come and go.
        slack_seconds: how much later than its timeout a block may be handed over.
        tell: takes messages for the supervisor.
    """

    def __init__(
        self, points: Mapping[str, PointWriter], slack_seconds: float, tell: Callable[[Message], None]
    ) -> None:
        self._points = points
        self._slack_seconds = slack_seconds
        self._tell = tell
        self._clips: dict[str, _OpenClip] = {}

    def due(self) -> Iterable[float]:
        """When there is something to do, on the monotonic clock."""
        return [clip.due for clip in self._clips.values()]

    def kept_bytes(self) -> dict[str, int]:
        """How much is kept of each clip."""
        return {clip.id: self._kept_bytes(clip) for clip in self._clips.values()}

    def request(self, message: Message) -> None:
        """Begin a clip, or widen the one that is open."""
        now, now_ns = time.monotonic(), time.time_ns()
        window, besides = Window(*message["window"]), message["comparisons"]
        retire_seconds = max((point.retire_seconds for point in self._points.values()), default=0.0)
        wait = retire_seconds + self._slack_seconds
        clip = self._clips.get(message["clip"])
        if clip is None:
            clip = _OpenClip(message["clip"], Path(message["folder"]), due=now + wait)
            self._clips[clip.id] = clip
        clip.windows = {
            point_id: (window, *_windows(besides.get(point_id, ())))
            for point_id in message["points"]
            if point_id in self._points
        }
        left_ns = max(0, window.end_ns - now_ns) if message["goes_on"] else 0
        clip.ends = now + left_ns / SECOND_NS + wait
        clip.request = message["request"]
        if clip.begun:
            clip.due = clip.ends
            for point_id, windows in clip.windows.items():
                self._widen(clip, self._points[point_id], windows)

    def drop(self, clip_id: str) -> None:
        """Keep nothing more for a clip, whose folder is about to go."""
        clip = self._clips.pop(clip_id, None)
        if clip is not None:
            for point in self._points.values():
                point.ring.forget(clip.part_of(point))
        self._tell({"is": "dropped", "clip": clip_id})

    def leave(self, point: PointWriter) -> None:
        """Keep the last of a point that leaves."""
        for clip in self._clips.values():
            windows = clip.windows.pop(point.id, None)
            if windows is not None:
                clip.left_bytes[point.id] = self._keep(clip, point, windows, ended=True)

    def keep_time(self, now: float) -> None:
        """Do what is due, on the monotonic clock."""
        for clip in [clip for clip in self._clips.values() if clip.due <= now]:
            self._act_on(clip, ended=clip.ends <= now)

    def finish(self) -> None:
        """End all clips: nothing comes any more."""
        for clip in list(self._clips.values()):
            self._act_on(clip, ended=True)

    def _act_on(self, clip: _OpenClip, *, ended: bool) -> None:
        for point_id, windows in clip.windows.items():
            self._keep(clip, self._points[point_id], windows, ended=ended)
        clip.begun, clip.due = True, clip.ends
        if ended:
            del self._clips[clip.id]
        self._tell({"is": "frozen", "clip": clip.id, "request": clip.request, "ended": ended})

    def _keep(self, clip: _OpenClip, point: PointWriter, windows: tuple[Window, ...], *, ended: bool) -> int:
        """Keep what the point's ring has of the windows; how many bytes that is in all."""
        into = clip.part_of(point)
        try:
            point.drain()
            part = point.ring.freeze(into, windows, time.time_ns())
            if ended:
                part = point.ring.release(into, time.time_ns())
        except PodcamError as error:
            self._warn(point, error)
            return 0
        kept = {"folder": part.folder.name, "how": part.how, "totals": asdict(part.totals)}
        self._tell({"is": "part", "clip": clip.id, "point": point.id, **kept})
        return part.totals.bytes

    def _widen(self, clip: _OpenClip, point: PointWriter, windows: tuple[Window, ...]) -> None:
        try:
            point.ring.widen(clip.part_of(point), windows)
        except PodcamError as error:
            self._warn(point, error)

    def _warn(self, point: PointWriter, error: PodcamError) -> None:
        self._tell({"is": "warning", "point": point.id, "text": str(error)})

    def _kept_bytes(self, clip: _OpenClip) -> int:
        kept = dict(clip.left_bytes)
        for point_id in clip.windows:
            point = self._points[point_id]
            kept[point_id] = max(kept.get(point_id, 0), point.ring.frozen_bytes(clip.part_of(point)))
        return sum(kept.values())


def _windows(pairs: Iterable[tuple[int, int]]) -> tuple[Window, ...]:
    return tuple(Window(*pair) for pair in pairs)
