"""The points of a recorder, live, leaving and ended, and the rings that they have on disk."""

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from podcam.capture import Geometry
from podcam.errors import PodcamError
from podcam.model.point import Gap
from podcam.recorder.channel import Message
from podcam.recorder.folder import RecorderFolder
from podcam.recorder.memory import KernelMemory
from podcam.recorder.points import WatchedPoint
from podcam.recorder.rings import Owner, RestingRing, resting_ring, resting_rings, with_gap, write_owner
from podcam.recorder.tally import Tally

_NOT_RUNNING = "the recorder was not running"
_NOT_RECORDED = "the point was not recorded"


@dataclass(slots=True)
class RecordedPoint:
    """A point with what was counted there."""

    watched: WatchedPoint
    tally: Tally = field(default_factory=Tally)
    told: bool = False
    """Whether people know that it is recorded."""
    ended_ns: int = 0
    """When no further packet was let into its ring."""
    why: str = ""
    """It ended."""

    @property
    def id(self) -> str:
        """Of the point."""
        return self.watched.id


class RecordedPoints:
    """All points that have, or had, a ring in the recorder's folder."""

    def __init__(self, folder: RecorderFolder, memory: KernelMemory) -> None:
        self.by_id: dict[str, RecordedPoint] = {}
        """Those that are recorded."""
        self.leaving: list[RecordedPoint] = []
        """Those that have ended, and whose last blocks the writer has not yet written."""
        self.memory = memory
        self._folder = folder
        self._resting: dict[str, RestingRing] = {}
        self._ended: dict[str, tuple[int, str]] = {}
        """By id: when points of this run ended, and why."""

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
        ring = self._resting.get(point_id)
        return ring.owner.gaps if ring else ()

    def live(self, recording: str) -> list[str]:
        """The points of a recording that the writer has, or is about to have."""
        points = (*self.by_id.values(), *self.leaving)
        return list(dict.fromkeys(point.id for point in points if point.watched.recording == recording))

    def resting(self, recording: str) -> list[RestingRing]:
        """The rings of a recording's points that have ended, as far as nobody has removed them."""
        for point_id in [i for i, ring in self._resting.items() if not ring.path.is_dir()]:
            del self._resting[point_id]
        return [ring for ring in self._resting.values() if ring.owner.recording == recording]

    # --- coming and going ---

    def take_stock(self) -> None:
        """See which rings are there from before.

        Raises:
            RightsError, SegmentError: they may not be read.
        """
        self._resting = resting_rings(self._folder)

    def find(self, point_id: str) -> RecordedPoint | None:
        """The point, if it is recorded or leaving."""
        return self.by_id.get(point_id) or next((p for p in self.leaving if p.id == point_id), None)

    def recording_of(self, point_id: str) -> str | None:
        """To which recording a point belongs, or belonged; None where nothing is left of it."""
        point = self.find(point_id)
        if point is not None:
            return point.watched.recording
        ring = self._resting.get(point_id)
        return ring.owner.recording if ring else None

    def name_of(self, point_id: str) -> str:
        """What people call a point."""
        point = self.find(point_id)
        if point is not None:
            return point.watched.name
        ring = self._resting.get(point_id)
        return ring.owner.name if ring else point_id

    def of(self, recording: str) -> list[RecordedPoint]:
        """The points that are recorded for a recording."""
        return [point for point in self.by_id.values() if point.watched.recording == recording]

    def begin(self, point: WatchedPoint, last_alive_ns: int | None) -> Message | None:
        """Note whose the point's ring is; returns the gap since it was last written, for its segments.

        `last_alive_ns` is when the recorder before was last known to run.
        """
        path = self._folder.ring(point.id)
        ended_ns, reason = self._ended.pop(point.id, (0, ""))
        before = self._resting.pop(point.id, None)
        gap = None
        if before is not None:
            point.gaps = before.owner.gaps
        if ended_ns:
            gap = Gap(ended_ns, point.opened_ns, reason)
        elif before is not None and before.path.is_dir():
            gap = Gap(_recorded_until_ns(before, point, last_alive_ns), point.opened_ns, _NOT_RUNNING)
        if gap is not None and gap.since_ns < gap.until_ns:
            point.gaps = with_gap(point.gaps, gap)
        owner = Owner(point.id, point.name, point.recording, point.source()["node"], point.gaps)
        with suppress(OSError):  # the writer cannot write there either, and says so
            write_owner(path, owner)
        if gap is None or gap.since_ns >= gap.until_ns:
            return None
        return {"reason": gap.reason, "since_ns": gap.since_ns, "until_ns": gap.until_ns}

    def end(self, point_id: str, why: str, reason: str = _NOT_RECORDED) -> RecordedPoint:
        """Let no further packet into the point's ring; `reason` is for the gap, if it is recorded again."""
        point = self.by_id.pop(point_id)
        point.why = why
        with suppress(PodcamError):
            point.watched.silence()
        point.ended_ns = time.time_ns()
        self._ended[point_id] = (point.ended_ns, reason)
        self.leaving.append(point)
        return point

    def left(self, point_id: str) -> tuple[RecordedPoint, RestingRing | None]:
        """The writer has closed the ring of a point that was leaving, the first of that id."""
        point = next(p for p in self.leaving if p.id == point_id)
        self.leaving.remove(point)
        if point_id in self.by_id or any(p.id == point_id for p in self.leaving):
            return point, None
        ring = resting_ring(self._folder.ring(point_id))
        if ring is not None:
            self._resting[point_id] = ring
        return point, ring

    # --- the kernel's memory ---

    @property
    def kernel_bytes(self) -> int:
        """What the kernel's rings take, those that are being replaced or read to their end included."""
        return sum(point.watched.kernel_bytes for point in (*self.by_id.values(), *self.leaving))

    def first_shape(self, segment_bytes: int) -> Geometry:
        """The kernel's ring of the next point."""
        return self.memory.first(len(self.by_id) + 1, self.kernel_bytes, segment_bytes)

    def relief(self) -> tuple[WatchedPoint, Geometry] | None:
        """The point whose ring is to give way next, and its new shape; None where none has to."""
        points = [point.watched for point in self.by_id.values()]
        if any(point.resizing for point in points):
            return None
        found = self.memory.relief((point.shape for point in points), self.kernel_bytes)
        if found is None:
            return None
        largest, shape = found
        return next(point for point in points if point.shape == largest), shape

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
