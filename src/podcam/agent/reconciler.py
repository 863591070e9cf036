"""From a pod that matches a recording to a recorded network namespace, and to its end.

Level, not edge: `reconcile` compares what should be recorded with what is, and does what is missing. So it
does not matter whether a change came from a watch, a list after an outage, or the namespaces' folder.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from podcam.agent.clock import Clock
from podcam.agent.log import Log
from podcam.agent.matching import Refusal, Wanted
from podcam.agent.points import FIRST_PAUSE_SECONDS, NodePoint, Points
from podcam.agent.recording_status import AGENT_ENDED, PointState
from podcam.capture import Namespace, find_namespace
from podcam.errors import PodcamError
from podcam.kube import NotYet, Pod
from podcam.recorder import PointSettings, Timer

_LONGEST_PAUSE_SECONDS = 1.0
_REFUSED_PAUSE_SECONDS = 30.0
"""What the recorder refused may go later: kernel memory comes back, an interface appears."""


class PointRecorder(Protocol):
    """The part of a recorder that points need."""

    def add_all(self, points: Sequence[tuple[PointSettings, int | None]]) -> Mapping[str, PodcamError]:
        """Begin to record points, each with the limit of its ring: `started` or `stopped` follows.

        Returns why not, by the ids of those that cannot be recorded.
        """

    def end(self, point_id: str, why: str) -> None:
        """Record it no more: `stopped` follows. Raises PodcamError."""

    def totals(self) -> Mapping[str, object]:
        """By the ids of the points that it has."""


class Finder(Protocol):
    """From a pod to its network namespace."""

    def find(self, pod: Pod) -> Path | None:
        """Its file; None while there is none that can be seen. Raises NotYet while it is being made."""


class Reconciler:
    """Holds the points of the node to what should be recorded there.

    Args:
        recorder: what records them.
        finder: from pods to namespaces.
        points: those of the node.
        node: its name.
        later: calls a function in so many seconds.
        clock: what time it is.
        admit: whether the node has room for one more ring: its limit in bytes (None: as asked), or why not.
        search: the DNS search list of the pods of a namespace.
        refused: is told of points that are not recorded, when they become so.
        log: for what happens.
    """

    def __init__(
        self,
        recorder: PointRecorder,
        finder: Finder,
        points: Points,
        *,
        node: str,
        later: Callable[[float, Callable[[], None]], Timer],
        clock: Clock,
        admit: Callable[[str, str], int | Refusal | None],
        search: Callable[[str], tuple[str, ...]],
        refused: Callable[[NodePoint], None],
        log: Log,
    ) -> None:
        self._recorder = recorder
        self._finder = finder
        self._points = points
        self._node = node
        self._later = later
        self._clock = clock
        self._admit = admit
        self._search = search
        self._refused = refused
        self._log = log
        self._latest: Mapping[str, Wanted] = {}
        self._coming: list[tuple[NodePoint, PointSettings]] = []
        """What is to be opened: many points take little longer than one."""

    def reconcile(self, wanted: Mapping[str, Wanted]) -> None:
        """Record what should be recorded, by the ids of points, and end what should not."""
        self._latest = wanted
        for point in list(self._points.all.values()):
            if point.id not in self._latest:
                self._leave(point, "PodGone", "the pod has ended, or the recording does not name it any more")
        for point_id, each in wanted.items():
            self._approach(point_id, each)
        self._open()

    def namespaces_changed(self) -> None:
        """Something came or went where the namespaces lie."""
        for point in list(self._points.all.values()):
            if point.namespace is not None and not point.ending and _gone(point.namespace):
                self._log.info("the pod's network namespace is gone", point=point.id)
                wanted = self._latest.get(point.id)
                ended = wanted is None or wanted.pod.deleting
                state = PointState.ENDED if ended else PointState.WAITING
                self._end(point, state, "NamespaceGone", "the pod's network is gone")
            elif point.state is PointState.WAITING and not point.live:
                point.pause_seconds = FIRST_PAUSE_SECONDS
                self._try(point)
        self._open()

    def started(self, point_id: str) -> None:
        """The recorder has the point's ring open."""
        point = self._points.all.get(point_id)
        if point is None or not point.adding:
            return
        point.adding, point.recorded = False, True
        self._points.put(point, PointState.RECORDING, "", "")
        self._log.info("recording", point=point.id, bound_to_open_ms=point.open_ms)

    def stopped(self, point_id: str, why: str) -> None:
        """The recorder has written the last of the point."""
        point = self._points.all.get(point_id)
        if point is None:
            return
        if not point.ending and point_id in self._latest and point_id in self._recorder.totals():
            point.adding = True  # its recording was changed: the recorder opens it anew by itself
            self._points.put(point, PointState.WAITING, "Reopening", why)
            return
        asked = point.ending
        point.adding = point.ending = False
        point.namespace = None
        if not asked and point_id in self._latest:
            self._log.warning("the recorder gave up a point", point=point_id, why=why)
            self._points.put(point, PointState.REFUSED, "RecorderRefused", why)
            self._refused(point)
            self._again(point, _REFUSED_PAUSE_SECONDS)
            return
        wanted = self._latest.get(point_id)
        if wanted is not None:
            self._approach(point_id, wanted)
            self._open()

    def interrupt(self, recording: str) -> None:
        """The recording is gone; one of its name, if there is one, is another, and begins anew."""
        for point in self._points.of(recording):
            if point.live and not point.ending:
                self._end(point, PointState.WAITING, "RecordingDeleted", "its recording was deleted")

    def close(self) -> None:
        """The agent ends, and with it recording: rings stay, and a next agent goes on in them."""
        for point in self._points.all.values():
            self._cancel(point)
            if point.state is PointState.RECORDING or point.adding:
                self._points.put(
                    point, PointState.WAITING, AGENT_ENDED, "the agent of its node was told to end"
                )
        self._latest = {}

    # --- one point ---

    def _approach(self, point_id: str, wanted: Wanted) -> None:
        point = self._points.all.get(point_id)
        if point is None:
            point = NodePoint(
                point_id, wanted.recording, wanted.pod.name, wanted.pod.uid, self._clock.now_ns()
            )
            point.bound_seconds = self._clock.monotonic()
            self._points.add(point)
        elif point.uid != wanted.pod.uid:
            if point.live:  # the pod of before went, and this one came, between two looks
                self._end(point, PointState.WAITING, "PodReplaced", "another pod has taken the name")
            point.uid = wanted.pod.uid
            point.bound_seconds = self._clock.monotonic()
            self._points.put(point, PointState.WAITING, "", "")
        if wanted.refusal is not None:
            self._turn_away(point, wanted.refusal)
        elif point.live or point.timer is not None:
            return
        elif not (wanted.pod.deleting and point.state is PointState.ENDED):
            self._try(point)

    def _turn_away(self, point: NodePoint, refusal: Refusal) -> None:
        if point.live and not point.ending:
            self._end(point, PointState.REFUSED, refusal.reason, refusal.message)
            self._refused(point)
        elif (point.state, point.reason) != (PointState.REFUSED, refusal.reason):
            self._points.put(point, PointState.REFUSED, refusal.reason, refusal.message)
            self._refused(point)

    def _leave(self, point: NodePoint, reason: str, message: str) -> None:
        """It is not to be recorded any more; what was recorded stays for a while."""
        self._cancel(point)
        if point.live and not point.ending:
            self._end(point, PointState.ENDED, reason, message)
        elif point.live or point.recorded:
            self._points.put(point, PointState.ENDED, reason, message)
        else:
            self._points.drop(point)

    def _try(self, point: NodePoint) -> None:
        """Find its namespace, and record it."""
        self._cancel(point)
        wanted = self._latest.get(point.id)
        if wanted is None:
            return
        try:
            path = self._finder.find(wanted.pod)
            namespace = None if path is None else find_namespace(str(path))
        except (NotYet, PodcamError):
            namespace = None
        if namespace is None:
            self._again(point, point.pause_seconds)
            point.pause_seconds = min(2 * point.pause_seconds, _LONGEST_PAUSE_SECONDS)
            if point.state is not PointState.WAITING or not point.reason:
                self._points.put(point, PointState.WAITING, "NoNamespace", "its network is not there yet")
            return
        self._add(point, wanted, namespace)

    def _add(self, point: NodePoint, wanted: Wanted, namespace: Namespace) -> None:
        self._points.put(point, PointState.WAITING, "", "")  # one that has ended would go with its old ring
        admitted = self._admit(point.id, point.recording)
        if isinstance(admitted, Refusal):
            self._turn_away(point, admitted)
            self._again(point, _REFUSED_PAUSE_SECONDS)
            return
        name = f"{wanted.pod.namespace}/{wanted.pod.name}"
        settings = PointSettings(
            id=point.id,
            name=name,
            recording=point.recording,
            namespace=replace(namespace, name=name),
            search=self._search(wanted.pod.namespace),
            node=self._node,
        )
        point.adding, point.limit_bytes, point.namespace = True, admitted, namespace
        self._coming.append((point, settings))

    def _open(self) -> None:
        """Let the recorder begin with all that was found."""
        coming, self._coming = self._coming, []
        if not coming:
            return
        failed = self._recorder.add_all([(settings, point.limit_bytes) for point, settings in coming])
        for point, settings in coming:
            error = failed.get(point.id)
            if error is None:
                point.open_ms = round(1000 * (self._clock.monotonic() - point.bound_seconds))
                continue
            point.adding, point.namespace = False, None
            if _gone(settings.namespace):
                self._again(point, FIRST_PAUSE_SECONDS)
                continue
            self._log.warning("a pod cannot be recorded", point=point.id, why=error)
            self._turn_away(point, Refusal("RecorderRefused", str(error)))
            self._again(point, _REFUSED_PAUSE_SECONDS)

    def _again(self, point: NodePoint, seconds: float) -> None:
        self._cancel(point)
        point.timer = self._later(seconds, lambda: self._retry(point))

    def _retry(self, point: NodePoint) -> None:
        point.timer = None
        if self._points.all.get(point.id) is point and not point.live:
            wanted = self._latest.get(point.id)
            if wanted is not None:
                self._approach(point.id, wanted)
                self._open()

    def _cancel(self, point: NodePoint) -> None:
        if point.timer is not None:
            point.timer.cancel()
            point.timer = None

    def _end(self, point: NodePoint, state: PointState, reason: str, message: str) -> None:
        point.ending, point.adding = True, False
        self._points.put(point, state, reason, message)
        try:
            self._recorder.end(point.id, message)
        except PodcamError as error:
            point.ending = False
            self._log.error("a point cannot be ended", point=point.id, why=error)


def _gone(namespace: Namespace) -> bool:
    """Whether its file is gone, or is another namespace's now."""
    if namespace.path is None:
        return False
    try:
        status = Path(namespace.path).stat()
    except OSError:
        return True
    return (status.st_dev, status.st_ino) != namespace.identity
