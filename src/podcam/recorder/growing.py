"""A clip while it grows: its window, its parts, and the manifest that tells of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from podcam.clip import COMPLETE, OPEN, Clip, ClipPart, Manifest
from podcam.model.failure import ServerCounts
from podcam.model.point import Gap, Window
from podcam.recorder.channel import Message
from podcam.recorder.requests import Answer
from podcam.recorder.settings import SECOND_NS
from podcam.trigger import Keeper, OpenClip

_MOST_COMPARED = 5
"""Good connections kept beside a window, per point: one for each of the first servers that fail."""
_GOOD_MARGIN_NS = SECOND_NS // 100
"""Around a good connection: its last packet may be acknowledged a little later."""
_LONGEST_GOOD_NS = 60 * SECOND_NS
"""Of a good connection that lasted longer the beginning is kept: start-ups are what is compared."""


class Origin(StrEnum):
    """Who made a clip."""

    WIRE = "wire"
    """The detector, as a connection failed."""
    ASKED = "asked"
    """A person at this recorder."""
    KEPT = "kept"
    """Somebody outside of the recorder."""


@dataclass(slots=True)
class GrowingClip:
    """A clip whose window has not ended, or whose last segments are still being kept."""

    clip: Clip
    recording: str
    point: str | None
    """The id of the point at which its first failure was seen."""
    points: frozenset[str] | None
    """The ids of those that it holds; None for all of the recording."""
    origin: Origin
    keeper: Keeper
    opened: OpenClip
    comparisons: dict[str, list[Window]] = field(default_factory=dict)
    parts: dict[str, ClipPart] = field(default_factory=dict)
    """By the points' ids."""
    rested: dict[str, tuple[int, tuple[Window, ...]]] = field(default_factory=dict)
    """By point: until when its ring was written that rests, and what was kept of that."""
    bytes: int = 0
    """What has been kept of it so far, on disk."""
    requests: int = 0
    """So many times the writer was asked for it."""
    answer: Answer | None = None
    told: bool = False
    changed: bool = False
    """Since its manifest was written."""
    ended_ns: int | None = None
    """When the writer had kept the last of it."""
    warnings: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The name of its folder."""
        return self.clip.manifest.id

    def holds(self, point_id: str) -> bool:
        """Whether packets of this point belong to it, if the point is one of its recording."""
        return self.points is None or point_id in self.points

    def windows_of(self, point_id: str) -> tuple[Window, ...]:
        """What it keeps of a point."""
        return (self.opened.window, *self.comparisons.get(point_id, ()))

    def compare(self, point_id: str, server: ServerCounts | None) -> None:
        """Keep the last good connection to the server beside the window, if it lies before that."""
        if server is None or server.last_good_start_ns is None or server.last_good_end_ns is None:
            return
        kept = self.comparisons.setdefault(point_id, [])
        end_ns = min(server.last_good_end_ns, server.last_good_start_ns + _LONGEST_GOOD_NS)
        good = Window(server.last_good_start_ns - _GOOD_MARGIN_NS, end_ns + _GOOD_MARGIN_NS)
        inside = self.opened.window.start_ns <= good.start_ns
        if inside or len(kept) >= _MOST_COMPARED or any(w.overlaps(good.start_ns, good.end_ns) for w in kept):
            return
        kept.append(good)

    def request(self, points: list[str]) -> Message:
        """What the writer is to keep of these points: a message for it, which counts."""
        self.requests += 1
        window = self.opened.window
        comparisons = {
            point_id: [(w.start_ns, w.end_ns) for w in windows]
            for point_id, windows in self.comparisons.items()
        }
        return {
            "do": "freeze",
            "clip": self.id,
            "request": self.requests,
            "folder": str(self.clip.path),
            "window": (window.start_ns, window.end_ns),
            "points": points,
            "comparisons": comparisons,
        }

    def manifest(
        self, servers: Mapping[str, tuple[ServerCounts, ...]], gaps_of: Callable[[str], tuple[Gap, ...]]
    ) -> Manifest:
        """What is known of it now.

        Args:
            servers: what became of the connections to each server, by point.
            gaps_of: when a point's ring was not written.
        """
        window = self.opened.window
        if self.ended_ns is not None:
            window = ended(window, self.clip.manifest.created_ns, self.ended_ns)
        parts = [
            self._part(point_id, window, servers.get(point_id, part.servers), gaps_of(point_id))
            for point_id, part in self.parts.items()
        ]
        if self.origin is Origin.KEPT and not any(part.totals.packets for part in parts):
            parts = []
        return replace(
            self.clip.manifest,
            window=window,
            state=OPEN if self.ended_ns is None else COMPLETE,
            triggers=tuple(self.opened.triggers),
            parts=tuple(parts),
            warnings=(*self.warnings, *_unlisted(self.opened)),
        )

    def _part(
        self, point_id: str, window: Window, servers: tuple[ServerCounts, ...], gaps: tuple[Gap, ...]
    ) -> ClipPart:
        compared = tuple(self.comparisons.get(point_id, ()))
        within = gaps_within((window, *compared), gaps)
        return replace(self.parts[point_id], comparisons=compared, servers=servers, gaps=within)


def ended(window: Window, created_ns: int, now_ns: int) -> Window:
    """What of a clip's window has passed; all of it if the clock was set back since the clip was made."""
    return replace(window, end_ns=min(window.end_ns, now_ns)) if now_ns >= created_ns else window


def gaps_within(windows: tuple[Window, ...], gaps: tuple[Gap, ...]) -> tuple[Gap, ...]:
    """Those of a ring's gaps that reach into one of the windows."""
    return tuple(gap for gap in gaps if any(w.overlaps(gap.since_ns, gap.until_ns) for w in windows))


def _unlisted(opened: OpenClip) -> tuple[str, ...]:
    if opened.failures <= len(opened.triggers):
        return ()
    return (f"of {opened.failures:,} failures in its window the first {len(opened.triggers)} are listed",)
