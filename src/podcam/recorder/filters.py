"""Which packets are let into the rings, as interfaces come and go and the disks are too slow for all."""

import time
from collections.abc import Callable, Iterable, Mapping

from podcam.errors import PodcamError
from podcam.recorder.emitter import EventEmitter
from podcam.recorder.points import WatchedPoint
from podcam.recorder.recorded import RecordedPoints
from podcam.recorder.write_budget import WriteBudget


class Filters:
    """Swaps the filters of points that are recorded, and tells of it: in events, and in segments.

    One point that cannot be filtered anew, or is gone, is no reason to stop recording the others: its filter
    stays as it was.

    Args:
        points: whose filters they are.
        budget: what all of them may write, if that is bounded.
        note_source: has the writer note through which filter a point's packets come from now on.
        events: tells people.
    """

    def __init__(
        self,
        points: RecordedPoints,
        budget: WriteBudget | None,
        note_source: Callable[[WatchedPoint], None],
        events: EventEmitter,
    ) -> None:
        self._points = points
        self._budget = budget
        self._note_source = note_source
        self._events = events
        self._measured_seconds = time.monotonic()

    def swapped(self, point: WatchedPoint) -> None:
        """A point has another filter, or other interfaces."""
        self._note_source(point)
        self._events.tell("filter", point.id, **point.filter())

    def links_changed(self, point: WatchedPoint) -> None:
        """Interfaces came or went at a point."""
        try:
            if not point.links.update():
                return
            point.refilter()
        except PodcamError as error:
            self._stays(point, error)
        self.swapped(point)

    def wrote(self, written: Mapping[str, int]) -> None:
        """So many bytes were written of each point since the last call: keep the write budget."""
        now = time.monotonic()
        seconds, self._measured_seconds = now - self._measured_seconds, now
        if self._budget is None or seconds <= 0:
            return
        cut, restored = self._budget.measured(written, seconds, time.monotonic_ns())
        if cut_names := self._cut(cut, cut=True):
            self._events.warn(None, f"over the write budget: only headers are kept of {cut_names}")
        if whole_names := self._cut(restored, cut=False):
            self._events.warn(None, f"within the write budget again: whole packets of {whole_names}")

    def forget(self, point_id: str) -> None:
        """A point is recorded no longer."""
        if self._budget is not None:
            self._budget.cut.discard(point_id)

    def _cut(self, point_ids: Iterable[str], *, cut: bool) -> str:
        """Keep headers only of these points, or whole packets again; the names of those where it is so."""
        names = []
        for point_id in point_ids:
            point = self._points.by_id[point_id].watched
            try:
                point.cut_payload(cut=cut)
                names.append(point.name)
            except PodcamError as error:
                self._stays(point, error)
            self.swapped(point)
        return ", ".join(sorted(names))

    def _stays(self, point: WatchedPoint, why: PodcamError) -> None:
        self._events.warn(point.id, f"{why}: the filter stays as it was")
