"""The points of a node: what became of each pod that a recording covers, now or before."""

from collections.abc import Callable
from dataclasses import dataclass, field

from podcam.agent.recording_status import PointState
from podcam.capture import Namespace
from podcam.recorder import Timer

FIRST_PAUSE_SECONDS = 0.002
"""Between the file of a namespace and its mount lie 1 to 42 ms (measured)."""


@dataclass(slots=True)
class NodePoint:
    """One pod as recorded by one recording, now or before."""

    id: str
    recording: str
    """`NAMESPACE/NAME`"""
    pod: str
    """Its name; its namespace is the recording's."""
    uid: str | None
    """Of the pod; None for a ring that an earlier agent left."""
    since_ns: int
    state: PointState = PointState.WAITING
    reason: str = ""
    message: str = ""
    limit_bytes: int | None = None
    """What the node's budget leaves to its ring, where that is less than was asked."""
    adding: bool = False
    """The recorder was asked, and has not answered."""
    ending: bool = False
    """The recorder was told to end it, and has not said `stopped`."""
    recorded: bool = False
    """Whether it has a ring on disk."""
    namespace: Namespace | None = None
    bound_seconds: float = 0.0
    """When the pod was first heard of, on the monotonic clock."""
    open_ms: int | None = None
    """How long after that its sockets were open."""
    pause_seconds: float = FIRST_PAUSE_SECONDS
    timer: Timer | None = field(default=None, repr=False)

    @property
    def live(self) -> bool:
        """Whether the recorder holds it."""
        return self.adding or self.ending or self.state is PointState.RECORDING


class Points:
    """All points of the node, by their ids; tells which recording's status may have to be another.

    Args:
        now_ns: the wall clock.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.all: dict[str, NodePoint] = {}
        self._now_ns = now_ns
        self._changed: list[Callable[[str], None]] = []

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """Have `changed` told of the recording of each point that comes, changes or goes."""
        self._changed.append(changed)

    def of(self, recording: str) -> list[NodePoint]:
        """The points of one recording."""
        return [point for point in self.all.values() if point.recording == recording]

    @property
    def recordings(self) -> set[str]:
        """Those that have a point here."""
        return {point.recording for point in self.all.values()}

    def add(self, point: NodePoint) -> None:
        """A pod is to be recorded."""
        self.all[point.id] = point
        self._tell(point)

    def rest(self, point_id: str, recording: str, pod: str, last_ns: int) -> None:
        """An earlier agent left the ring of this point."""
        if point_id not in self.all:
            self.all[point_id] = NodePoint(
                point_id, recording, pod, None, last_ns, PointState.ENDED, "RecordedEarlier", recorded=True
            )

    def put(self, point: NodePoint, state: PointState, reason: str, message: str) -> None:
        """Say what becomes of a point."""
        if (point.state, point.reason, point.message) == (state, reason, message):
            return
        if point.state is not state:
            point.since_ns = self._now_ns()
        point.state, point.reason, point.message = state, reason, message
        self._tell(point)

    def drop(self, point: NodePoint) -> None:
        """Nothing is kept of it any more."""
        del self.all[point.id]
        self._tell(point)

    def lose_ring(self, point_id: str) -> None:
        """The ring of a point that is not recorded is gone from the disk."""
        point = self.all.get(point_id)
        if point is None or point.live:
            return
        point.recorded = False
        if point.state is PointState.ENDED:
            self.drop(point)

    def _tell(self, point: NodePoint) -> None:
        for changed in self._changed:
            changed(point.recording)
