"""A clip while it grows: its window, its parts, and the manifest that tells of them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from podcam.clip import COMPLETE, OPEN, Clip, ClipPart, Manifest
from podcam.model.failure import ServerCounts
from podcam.model.point import Gap, Interface, Point, Window
from podcam.recorder.channel import Message
from podcam.recorder.keepers import opened
from podcam.recorder.requests import Answer
from podcam.recorder.resting import LEFT_OPEN, part_of
from podcam.recorder.rings import RestingRing
from podcam.recorder.settings import SECOND_NS
from podcam.recorder.windows import covers, ended, gaps_within, span
from podcam.ring import Totals, segments_in
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

    @property
    def goes_on(self) -> bool:
        """Whether its window is open still; one that a clock set back has ended is not, wherever it ends."""
        return any(clip is self.opened for clip in self.keeper.open)

    def lies_open(self, now_ns: int) -> bool:
        """Whether packets that are still to come belong to it."""
        return self.goes_on and self.opened.window.end_ns > now_ns

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

    def widen(self, window: Window, now_ns: int) -> bool:
        """Hold this window too; whether there is more to be kept for that."""
        before = self.opened.window
        if covers(before, window) or self.ended_ns is not None:
            return False
        if self.keeper.widen(self.opened.number, window) is None:  # it has just ended
            again = opened(self.keeper, self.keeper.asked(span(before, window), now_ns).clip)
            again.triggers, again.failures = self.opened.triggers, self.opened.failures
            self.opened = again
        self.changed = True
        return True

    def go_on(self, ids: Mapping[str, str]) -> None:
        """Take over what another recorder had kept of it when that ended.

        `ids` are those of the recording's points, by the folders of their rings.
        """
        manifest = self.clip.manifest
        self.clip = replace(self.clip, manifest=replace(manifest, interrupted=False))
        self.opened.triggers.extend(manifest.triggers)
        self.opened.failures = len(manifest.triggers)
        self.warnings.extend(warning for warning in manifest.warnings if warning != LEFT_OPEN)
        for part in manifest.parts:
            point_id = ids.get(part.folder, part.folder)
            self.parts[point_id] = part
            self.comparisons[point_id] = list(part.comparisons)

    def request(self, points: Collection[str]) -> Message:
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
            "goes_on": self.goes_on,
            "points": list(points),
            "comparisons": comparisons,
        }

    def kept(self, message: Message, source: Message) -> None:
        """The writer has kept so much of a point, which the headers of its segments describe as `source`."""
        self.parts[message["point"]] = ClipPart(
            point=Point(source["point"], source["node"], source["namespace"]),
            folder=message["folder"],
            segments=tuple(path.name for path in segments_in(self.clip.path / message["folder"])),
            totals=Totals(**message["totals"]),
            how=message["how"],
            interfaces=tuple(Interface(*interface) for interface in source["interfaces"]),
            filter=source["filter"],
        )

    def keep_resting(self, ring: RestingRing) -> None:
        """Keep what a ring holds of its windows to which nobody writes; nothing if that is done.

        Raises:
            ClipError, SegmentError, RightsError: as `part_of`.
        """
        point_id, last_ns = ring.owner.id, ring.last_ns + SECOND_NS
        windows = self.windows_of(point_id)
        within = tuple(Window(w.start_ns, min(w.end_ns, last_ns)) for w in windows if w.start_ns <= last_ns)
        if not within or self.rested.get(point_id) == (last_ns, within) or not ring.path.is_dir():
            return
        self.rested[point_id] = (last_ns, within)
        part = part_of(ring, self.clip, windows)
        if part is not None:
            known = self.parts.get(point_id)
            if known is not None:  # as the point was when it ended, which headers tell only up to the last
                part = replace(part, interfaces=known.interfaces, filter=known.filter)
            self.parts[point_id] = part
            self.changed = True

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
            interrupted=window != self.opened.window,
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


def _unlisted(opened: OpenClip) -> tuple[str, ...]:
    if opened.failures <= len(opened.triggers):
        return ()
    return (f"of {opened.failures:,} failures in its window the first {len(opened.triggers)} are listed",)
