"""The points of a recorder, live, leaving and ended, and the rings that they have on disk."""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from podcam.errors import PodcamError, SegmentError
from podcam.model.point import Gap
from podcam.recorder.channel import Message
from podcam.recorder.folder import RecorderFolder
from podcam.recorder.memory import KernelMemory
from podcam.recorder.points import WatchedPoint
from podcam.recorder.recordings import Recording
from podcam.recorder.rings import Owner, RestingRing, resting_ring, resting_rings, with_gap, write_owner
from podcam.recorder.settings import PointSettings
from podcam.recorder.sockets import beside_one_another
from podcam.recorder.tally import Tally

_NOT_RUNNING = "the recorder was not running"
NOT_RECORDED = "the point was not recorded"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A point that is to be recorded."""

    point: PointSettings
    recording: Recording
    limit_bytes: int | None
    """What its ring may take on disk, if that is not what the recording says."""


@dataclass(slots=True)
class RecordedPoint:
    """A point with what was counted there."""

    watched: WatchedPoint
    tally: Tally = field(default_factory=Tally)
    told: bool = False
    """Whether people know that it is recorded."""
    gap: Gap | None = None
    """Since its ring on disk was last written."""
    ended: bool = False
    ended_ns: int = 0
    """When no further packet was let into its ring."""
    why: str = ""
    """It ended."""
    gap_reason: str = ""
    """Why it is not recorded after that, should its ring go on some day."""

    @property
    def id(self) -> str:
        """Of the point."""
        return self.watched.id


@dataclass(frozen=True, slots=True)
class _Rest:
    """A ring to which nobody writes."""

    ring: RestingRing
    since_ns: int | None = None
    """Since when; None where the recorder before left it."""
    reason: str = _NOT_RUNNING


class RecordedPoints:
    """All points that have, or had, a ring in the recorder's folder."""

    def __init__(self, folder: RecorderFolder, memory: KernelMemory) -> None:
        self.by_id: dict[str, RecordedPoint] = {}
        """Those that are recorded."""
        self.leaving: list[RecordedPoint] = []
        """Those that have ended, and whose last blocks the writer has not yet written."""
        self._folder = folder
        self._memory = memory
        self._resting: dict[str, _Rest] = {}

    # --- for clips ---

    def source(self, point_id: str) -> Message:
        """A point as the headers of its segments describe it."""
        return self._any(point_id).watched.source()

    def folder(self, point_id: str) -> str:
        """The name of the folder of its ring."""
        return self._folder.ring(point_id).name

    def gaps(self, point_id: str) -> tuple[Gap, ...]:
        """When the ring of a point was not written."""
        point = self.find(point_id)
        if point is not None:
            return point.watched.gaps
        rest = self._resting.get(point_id)
        return rest.ring.owner.gaps if rest else ()

    def live(self, recording: str) -> list[str]:
        """The points of a recording that the writer has, or is about to have."""
        points = (*self.by_id.values(), *self.leaving)
        return list(dict.fromkeys(point.id for point in points if point.watched.recording == recording))

    def resting(self, recording: str) -> list[RestingRing]:
        """The rings of a recording's points that have ended, as far as nobody has removed them."""
        self._forget_removed()
        return [rest.ring for rest in self._resting.values() if rest.ring.owner.recording == recording]

    # --- coming and going ---

    def take_stock(self) -> None:
        """See which rings are there from before.

        Raises:
            RightsError, SegmentError: they may not be read.
        """
        self._resting = {point_id: _Rest(ring) for point_id, ring in resting_rings(self._folder).items()}

    def find(self, point_id: str) -> RecordedPoint | None:
        """The point, if it is recorded or leaving."""
        return self.by_id.get(point_id) or self._first_leaving(point_id)

    def meant_by_writer(self, point_id: str) -> RecordedPoint | None:
        """The point of which the writer tells: of several with one id the first that it has not closed."""
        return self._first_leaving(point_id) or self.by_id.get(point_id)

    def recording_of(self, point_id: str) -> str | None:
        """To which recording a point belongs, or belonged; None where nothing is left of it."""
        point = self.find(point_id)
        if point is not None:
            return point.watched.recording
        rest = self._resting.get(point_id)
        return rest.ring.owner.recording if rest else None

    def name_of(self, point_id: str) -> str:
        """What people call a point."""
        point = self.find(point_id)
        if point is not None:
            return point.watched.name
        rest = self._resting.get(point_id)
        return rest.ring.owner.name if rest else point_id

    def of(self, recording: str) -> list[RecordedPoint]:
        """The points that are recorded for a recording."""
        return [point for point in self.by_id.values() if point.watched.recording == recording]

    def open(self, wanted: Sequence[Wanted]) -> list[WatchedPoint | PodcamError]:
        """Open the sockets of points beside one another; for each the point, or why it cannot be opened."""
        points, used_bytes = len(self.by_id) + len(wanted), self.kernel_bytes
        frames = self._memory.control_frames(points)
        openers = []
        for each in wanted:
            settings = each.recording.settings
            shape = self._memory.first(points, used_bytes, settings.ring.segment_bytes)
            used_bytes += shape.ring_bytes
            opener = partial(
                WatchedPoint,
                each.point,
                settings,
                each.recording.following.hosts,
                shape,
                control_frames=frames if settings.detecting else 0,
                limit_bytes=each.limit_bytes,
            )
            openers.append(opener)
        opened: list[WatchedPoint | PodcamError] = []
        for result in beside_one_another(openers):
            if not isinstance(result, WatchedPoint | PodcamError):
                raise result
            opened.append(result)
        return opened

    def begin(self, point: RecordedPoint, last_alive_ns: int | None) -> None:
        """Note whose the point's ring is, and the gap since it was last written, if it goes on.

        `last_alive_ns` is when the recorder before was last known to run.
        """
        watched = point.watched
        leaving = [before for before in self.leaving if before.id == point.id]
        rest = self._resting.pop(point.id, None)
        gap = None
        if leaving:
            watched.gaps = leaving[-1].watched.gaps
            gap = Gap(leaving[-1].ended_ns, watched.opened_ns, leaving[-1].gap_reason)
        elif rest is not None and rest.ring.path.is_dir():
            watched.gaps = rest.ring.owner.gaps
            since_ns = rest.since_ns or _recorded_until_ns(rest.ring, watched, last_alive_ns)
            gap = Gap(since_ns, watched.opened_ns, rest.reason)
        if gap is not None and gap.since_ns < gap.until_ns:
            point.gap = gap
            watched.gaps = with_gap(watched.gaps, gap)
        owner = Owner(point.id, watched.name, watched.recording, watched.source()["node"], watched.gaps)
        with suppress(OSError):  # the writer cannot write there either, and says so
            write_owner(self._folder.ring(point.id), owner)

    def end(self, point_id: str, why: str, reason: str = NOT_RECORDED) -> RecordedPoint:
        """Let no further packet into the point's ring; `reason` is for the gap, if it is recorded again."""
        point = self.by_id.pop(point_id)
        with suppress(PodcamError):
            point.watched.silence()
        point.ended, point.ended_ns, point.why, point.gap_reason = True, time.time_ns(), why, reason
        self.leaving.append(point)
        return point

    def left(self, point_id: str) -> tuple[RecordedPoint, RestingRing | None]:
        """The writer has closed the ring of a point that was leaving, the first of that id."""
        point = self._take_first(point_id)
        ring = self._ring_at_rest(point_id)
        if ring is not None:
            self._resting[point_id] = _Rest(ring, point.ended_ns, point.gap_reason)
        self._forget_removed()
        return point, ring

    def refused(self, point_id: str) -> tuple[RecordedPoint, RestingRing | None]:
        """The writer cannot open the ring of a point; what is there from before rests as it did."""
        point = self._take_first(point_id)
        ring, path = self._ring_at_rest(point_id), self._folder.ring(point_id)
        if ring is not None and point.gap is not None and not point.told:  # the gap goes on
            gaps = tuple(gap for gap in ring.owner.gaps if gap != point.gap)
            ring = replace(ring, owner=replace(ring.owner, gaps=gaps))
            with suppress(OSError):
                write_owner(path, ring.owner)
            self._resting[point_id] = _Rest(ring, point.gap.since_ns, point.gap.reason)
        elif ring is not None:
            self._resting[point_id] = _Rest(ring, ring.last_ns, NOT_RECORDED)
        elif path.is_dir() and not self.find(point_id):
            with suppress(SegmentError):
                self._folder.remove_ring(point_id)
        return point, ring

    # --- the kernel's memory ---

    @property
    def kernel_bytes(self) -> int:
        """What the kernel's rings take, those that are being replaced or read to their end included."""
        return sum(point.watched.kernel_bytes for point in (*self.by_id.values(), *self.leaving))

    def _first_leaving(self, point_id: str) -> RecordedPoint | None:
        return next((point for point in self.leaving if point.id == point_id), None)

    def _take_first(self, point_id: str) -> RecordedPoint:
        point = self._first_leaving(point_id)
        if point is None:
            return self.by_id.pop(point_id)
        self.leaving.remove(point)
        return point

    def _ring_at_rest(self, point_id: str) -> RestingRing | None:
        """A point's ring on disk, unless somebody writes to it or it cannot be read."""
        if self.find(point_id) is not None:
            return None
        with suppress(PodcamError):
            return resting_ring(self._folder.ring(point_id))
        return None

    def _forget_removed(self) -> None:
        """Know no more of rings that somebody removed."""
        for point_id in [i for i, rest in self._resting.items() if not rest.ring.path.is_dir()]:
            del self._resting[point_id]

    def _any(self, point_id: str) -> RecordedPoint:
        point = self.find(point_id)
        if point is None:
            raise KeyError(point_id)
        return point


def _recorded_until_ns(ring: RestingRing, point: WatchedPoint, last_alive_ns: int | None) -> int:
    """Until when a ring from before surely holds what there was.

    One that was not closed was recorded until its recorder was killed, however long before that its last
    packet came; but what came within the last block timeout may have lain in the kernel's ring still.
    """
    if ring.closed or last_alive_ns is None:
        return ring.last_ns
    return max(ring.last_ns, last_alive_ns - point.shape.retire_ms * 1_000_000)


def oldest_ns(points: Iterable[RecordedPoint]) -> int | None:
    """How far the rings of some points reach back; None while they hold no packet."""
    known = (point.tally.oldest_ns for point in points)
    return min((ns for ns in known if ns is not None), default=None)
