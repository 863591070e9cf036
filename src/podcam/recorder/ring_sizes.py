"""How large the kernel's rings are, as points come and go, fill their rings, and fall quiet."""

from collections.abc import Callable

from podcam.capture import Geometry
from podcam.errors import PodcamError
from podcam.recorder.emitter import EventEmitter
from podcam.recorder.loop import Loop, Timer
from podcam.recorder.memory import KernelMemory
from podcam.recorder.points import WatchedPoint
from podcam.recorder.recorded import RecordedPoints

_RELIEF_SECONDS = 0.01


class RingSizes:
    """Replaces the kernel's rings by larger or smaller ones, within the memory that they share.

    Args:
        memory: decides which ring is to have which shape.
        points: whose rings they are.
        loop: where rings give way to one another.
        go_on: has the writer go on with the ring that a point has now; `replaced` when it has.
        events: tells people where a ring cannot be replaced.
    """

    def __init__(
        self,
        memory: KernelMemory,
        points: RecordedPoints,
        loop: Loop,
        go_on: Callable[[WatchedPoint], None],
        events: EventEmitter,
    ) -> None:
        self._memory = memory
        self._points = points
        self._loop = loop
        self._go_on = go_on
        self._events = events
        self._relief: Timer | None = None

    def resize(self, point_id: str, *, grow: bool) -> None:
        """Let the ring of a point grow, if there is room, or give back what it was lent."""
        recorded = self._points.by_id.get(point_id)
        if recorded is None or recorded.watched.resizing is not None:
            return
        point, many = recorded.watched, len(self._points.by_id)
        if grow:
            shape = self._memory.grown(point.shape, many, self._points.kernel_bytes, point.segment_bytes)
        else:
            shape = self._memory.shrunk(point.shape, many)
        if shape is not None:
            self.replace(point, shape)

    def relieve_soon(self) -> None:
        """Let the largest rings give way where memory has become scarce.

        Not at once: another point may come this very moment, and turning a ring takes milliseconds.
        """
        if self._relief is None:
            self._relief = self._loop.later(_RELIEF_SECONDS, self._relieve)

    def relief(self) -> tuple[WatchedPoint, Geometry] | None:
        """The point whose ring is to give way next, and its new shape; None where none has to, or one is."""
        points = [point.watched for point in self._points.by_id.values()]
        if any(point.resizing for point in points):
            return None
        found = self._memory.relief((point.shape for point in points), self._points.kernel_bytes)
        if found is None:
            return None
        largest, shape = found
        return next(point for point in points if point.shape == largest), shape

    def replace(self, point: WatchedPoint, shape: Geometry) -> None:
        """Give a point a ring of another shape; what the former one has is written first."""
        try:
            point.open_successor(shape)
        except PodcamError as error:
            self._events.warn(point.id, str(error))
            return
        self._go_on(point)

    def replaced(self, point_id: str) -> None:
        """The writer has read the former ring of a point to its end."""
        point = self._points.meant_by_writer(point_id)
        if point is not None:
            point.watched.resized()
        self.relieve_soon()

    def close(self) -> None:
        """Replace no more."""
        if self._relief is not None:
            self._relief.cancel()

    def _relieve(self) -> None:
        self._relief = None
        found = self.relief()
        if found is not None:
            self.replace(*found)
