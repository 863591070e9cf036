"""How the points of a recorder share the kernel's memory, as they come and go. Pure.

Every point has a packet ring in the kernel. All of them together stay within one budget:

- Where no more points are there than were expected, each gets an even share (`geometry_for`).
- A point beyond those gets its share as well, but at most a quarter of what is free, so that many that come
  at once all find room; the smallest ring is 1 MB. It never waits for others to make room: its first packets
  come soon. Where nothing is free the budget is exceeded by its 1 MB until larger rings have given way, and
  for good only where there are more points than the budget has megabytes.
- A ring that fills grows while there is room, one that stays quiet goes back to its share.
- With more points than were expected an eighth of the budget is kept free for those to come: no ring grows
  into it. Whenever less is free, the largest ring that is above its share is replaced by one of its share,
  one ring at a time.

A ring cannot be resized, only replaced: until the writer has read the old one to its end both count.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from podcam.capture import Geometry, control_frames_for, geometry, geometry_for

_FREE_SHARE = 4
_KEPT_FREE_SHARE = 8
_MANY_POINTS = 64
"""For so many the buffers of the detector's sockets are shaped, once there are more than were expected."""


@dataclass(frozen=True, slots=True)
class KernelMemory:
    """The budget, and how many points are expected to share it."""

    budget_bytes: int
    expected_points: int = 1

    def share(self, points: int) -> Geometry:
        """The ring of each of so many points, if all had the same."""
        return geometry_for(self.budget_bytes, max(points, self.expected_points))

    def first(self, points: int, used_bytes: int, segment_bytes: int) -> Geometry:
        """The ring of a new point, with which there are `points`; the others' take `used_bytes`.

        Its blocks are small enough for two of them to fit into a segment, if any are.
        """
        shape = self.share(points)
        if points > self.expected_points:
            free_bytes = max(0, self.budget_bytes - used_bytes)
            shape = geometry(min(shape.ring_bytes, free_bytes // _FREE_SHARE), shape.retire_ms)
        while 2 * shape.block_bytes > segment_bytes and (smaller := _halved(shape)) != shape:
            shape = smaller
        return shape

    def grown(self, shape: Geometry, points: int, used_bytes: int, segment_bytes: int) -> Geometry | None:
        """The ring to replace one of `points` that fills, None where it cannot grow."""
        larger = shape.doubled()
        if larger is None or used_bytes + larger.ring_bytes > self.budget_bytes - self._kept_free(points):
            return None
        # The blocks of larger rings are larger, and two of them have to fit into a segment.
        return None if 2 * larger.block_bytes > segment_bytes else larger

    def shrunk(self, shape: Geometry, points: int) -> Geometry | None:
        """The ring to replace one that is quiet, None where it has no more than its share."""
        share = self.share(points)
        return share if share.ring_bytes < shape.ring_bytes else None

    def relief(self, shapes: Iterable[Geometry], used_bytes: int) -> tuple[Geometry, Geometry] | None:
        """Which ring is to be replaced by which, where memory has become scarce; None where none has to."""
        shapes = list(shapes)
        free_bytes = self.budget_bytes - used_bytes
        if not shapes or free_bytes >= self._kept_free(len(shapes)):
            return None
        largest = max(shapes, key=lambda shape: shape.ring_bytes)
        share = self.share(len(shapes))
        if largest.ring_bytes <= share.ring_bytes:
            return None
        return largest, geometry(min(share.ring_bytes, max(0, free_bytes)), share.retire_ms)

    def control_frames(self, points: int) -> int:
        """How many control packets may wait for the detector at a new point; with it there are `points`."""
        few = points <= self.expected_points
        return control_frames_for(self.expected_points if few else max(points, _MANY_POINTS))

    def _kept_free(self, points: int) -> int:
        return self.budget_bytes // _KEPT_FREE_SHARE if points > self.expected_points else 0


def _halved(shape: Geometry) -> Geometry:
    return geometry(shape.ring_bytes // 2, shape.retire_ms)
