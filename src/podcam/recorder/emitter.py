"""What a recorder tells whoever observes it, with the point and the recording that it is about."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from podcam.model.failure import Failure
from podcam.recorder.events import Event, event, failure_fields
from podcam.recorder.recorded import RecordedPoint, RecordedPoints

Totals = Mapping[str, int | None]
"""What was counted at a point."""


class EventEmitter:
    """Makes events. In each `point` is the name of the point, `id` its id.

    Args:
        observe: takes the events of a moment.
        points: that they tell of.
    """

    def __init__(self, observe: Callable[[Sequence[Event]], None], points: RecordedPoints) -> None:
        self._observe = observe
        self._points = points

    def tell(self, kind: str, point_id: str | None, **fields: Any) -> None:
        """Something happened at a point, or to all (None)."""
        known: Event = {"id": point_id, "recording": None}
        if point_id is not None:
            known["recording"] = self._points.recording_of(point_id) or None
        name = None if point_id is None else self._points.name_of(point_id)
        self._observe([event(kind, name, known | fields)])

    def warn(self, point_id: str | None, text: str) -> None:
        """A person should know this of a point, or of all (None)."""
        self.tell("warning", point_id, text=text)

    def name_unknown(self, recording: str, name: str) -> None:
        """A name that a recording follows has no address."""
        text = f"{name} has no address yet: its packets are not told from others until a DNS answer has one"
        self._observe([event("warning", None, {"id": None, "recording": recording, "text": text})])

    def failures(self, point_id: str, recording: str, failures: Iterable[Failure]) -> None:
        """Connections failed at a point."""
        name = self._points.name_of(point_id)
        known = {"id": point_id, "recording": recording or None}
        self._observe([event("failure", name, known | failure_fields(failure)) for failure in failures])

    def status(self, counted: Iterable[tuple[RecordedPoint, Totals]]) -> None:
        """What was counted at each of these points so far."""
        self._observe([_counted("status", point, totals) for point, totals in counted])

    def stopped(self, point: RecordedPoint, totals: Totals, why: str, **fields: Any) -> None:
        """A point is no longer recorded. It may be that nothing is known of it here any more."""
        self._observe([_counted("stopped", point, {"why": why, **totals, **fields})])


def _counted(kind: str, point: RecordedPoint, fields: Mapping[str, Any]) -> Event:
    known = {"id": point.id, "recording": point.watched.recording or None}
    return event(kind, point.watched.name, {**known, **fields})
