"""What a node does about recordings: from what the API server says of pods to points, rings and statuses.

Whatever is heard of a recording, but for its status, of a pod or a namespace leads to the same: all of them
are matched anew, once for all that came at a time (`agent/matching.py`), and the points are held to what
comes of it (`agent/reconciler.py`).
"""

from collections.abc import Callable
from typing import Protocol

from podcam.agent.aspects import RecordingAspect
from podcam.agent.clock import Clock
from podcam.agent.guard import Guard
from podcam.agent.log import Log
from podcam.agent.matching import Matching, match
from podcam.agent.naming import Name
from podcam.agent.objects import ClusterObjects
from podcam.agent.points import Points
from podcam.agent.reconciler import Finder, PointRecorder, Reconciler
from podcam.agent.reports import Reports
from podcam.agent.rings import LimitingRecorder, Rings, RingTerms
from podcam.agent.runtimes import Runtimes
from podcam.agent.settings import AgentSettings
from podcam.agent.statuses import Statuses
from podcam.agent.tallies import Tallies
from podcam.agent.writes import Outbox
from podcam.errors import InvalidObjectError
from podcam.recorder import RecorderFolder, RecordingSettings, Timer


class RecordingRecorder(LimitingRecorder, PointRecorder, Protocol):
    """The part of a recorder that recordings need."""

    def define(self, recording: str, settings: RecordingSettings) -> None:
        """A recording is new, or another than before. Raises PodcamError."""

    def forget(self, recording: str) -> None:
        """A recording is gone, and its points have been ended. Raises PodcamError."""


class NodeRecordings:
    """The recordings as far as they cover pods of this node.

    Args:
        settings: what the agent was told.
        objects: what the API server says.
        tallies: what was counted.
        reports: what people are told.
        recorder: records.
        folder: where it does.
        finder: from pods to namespaces.
        search: the DNS search list of the pods of a namespace.
        writes: the requests to the API server.
        call: runs a function in the agent's thread.
        later: calls a function in so many seconds.
        guard: calls what must not end the agent.
        clock: what time it is.
        log: for what happens.
    """

    def __init__(
        self,
        settings: AgentSettings,
        *,
        objects: ClusterObjects,
        tallies: Tallies,
        reports: Reports,
        recorder: RecordingRecorder,
        folder: RecorderFolder,
        finder: Finder,
        search: Callable[[str], tuple[str, ...]],
        writes: Outbox,
        call: Callable[[Callable[[], None]], None],
        later: Callable[[float, Callable[[], None]], Timer],
        guard: Guard,
        clock: Clock,
        log: Log,
    ) -> None:
        self.defined: dict[str, RecordingSettings] = {}
        """As the recorder knows them."""
        self._node = settings.node
        self._objects = objects
        self._tallies = tallies
        self._reports = reports
        self._recorder = recorder
        self._later = later
        self._guard = guard
        self._log = log
        self._ending = False
        self._settling = False
        """Whether `_settle` is to come."""
        self._matching = Matching()
        self.points = Points(clock.now_ns)
        self.rings = Rings(
            settings,
            folder,
            recorder,
            self.points,
            terms=self._terms,
            log=log,
            clock=clock,
            removed=reports.ring_removed,
        )
        self._reconciler = Reconciler(
            recorder,
            finder,
            self.points,
            node=settings.node,
            later=later,
            clock=clock,
            admit=self.rings.admit,
            search=search,
            refused=reports.point_refused,
            log=log,
        )
        self._runtimes = Runtimes(writes, call, log)
        aspect = RecordingAspect(
            objects.recordings, self.points.of, self.rings.bytes_of, self._notes, tallies
        )
        self.statuses = Statuses(aspect, settings.node, objects.recordings, writes, later, guard, clock)
        self._subscribe()

    def _subscribe(self) -> None:
        self.points.subscribe(self.statuses.changed)
        self._tallies.subscribe(self.statuses.changed)
        soon = self._settle_soon
        self._objects.pods.subscribe(changed=soon, removed=soon, listed=soon)
        self._objects.namespaces.subscribe(changed=soon, removed=soon, listed=soon)
        self._objects.recordings.subscribe(redefined=soon, removed=self._gone, listed=self._listed)
        self._objects.clips.subscribe(unreadable=self._clip_unreadable)

    def recall(self) -> None:
        """The API server has not answered so far: go on recording what was recorded here last."""
        if self._objects.recall():
            self._log.warning(
                "the API server does not answer: recording what was recorded here last",
                pods=self._objects.pods.keys(),
            )
            self._settle_soon()

    def end(self) -> None:
        """Nothing new is begun any more, and the pods wait for the next agent."""
        self._ending = True
        self._reconciler.close()

    # --- what is recorded ---

    def _settle_soon(self, *_what: object) -> None:
        """Look at all points, once all that is known now has been heard."""
        if not self._settling:
            self._settling = True
            self._later(0.0, self._settle)

    def _settle(self) -> None:
        self._settling = False
        if self._ending or not self._objects.known:
            return
        self._matching = matching = match(
            self._objects.recordings.values(),
            self._objects.pods.values(),
            dict(self._objects.namespaces.items()),
            node=self._node,
            handlers=self._runtimes.handlers,
            recorded={point.id for point in self.points.all.values() if point.recorded},
        )
        for recording, settings in matching.settings.items():
            if self.defined.get(recording) != settings:
                self._guard(recording, self._recorder.define, recording, settings)
                self.defined[recording] = settings
        for wanted in matching.wanted.values():
            if wanted.pod.runtime_class is not None:
                self._runtimes.look_up(wanted.pod.runtime_class, self._settle_soon)
        self._reconciler.reconcile(matching.wanted)
        for recording in self.defined.keys() - matching.settings.keys():
            del self.defined[recording]
            self._guard(recording, self._recorder.forget, recording)
        self._guard("memory", self._remember)

    def _remember(self) -> None:
        """Keep what is recorded here, for an agent that starts while the API server is away."""
        pods = [wanted.pod for wanted in self._matching.wanted.values()]
        self._objects.remember(
            recordings=self.points.recordings & set(self._objects.recordings.keys()),
            pods={str(Name(pod.namespace, pod.name)) for pod in pods},
            namespaces={pod.namespace for pod in pods},
        )

    def _gone(self, key: str) -> None:
        self._guard(key, self._reconciler.interrupt, key)
        self.rings.disown(key)
        self._settle_soon()

    def _listed(self) -> None:
        self._guard("rings", self.rings.disown_strangers, self._made_ns)
        self._settle_soon()

    def _made_ns(self, key: str) -> int | None:
        if key in self._objects.recordings.unread:
            return 0  # it is there; nobody can tell since when
        known = self._objects.recordings.get(key)
        return None if known is None else known.created_ns

    def _clip_unreadable(self, key: str, error: InvalidObjectError) -> None:
        """A clip is asked for that no node keeps: whose it is can be told, where it is recorded."""
        spec = self._objects.clips.unread[key].get("spec") or {}
        recording = f"{Name.parse(key).namespace}/{spec.get('recording')}"
        if recording in self.points.recordings:
            self._reports.clip_refused(recording, f"a clip is not kept: {error}")

    # --- points and their rings ---

    def look_at_namespaces(self) -> None:
        """Something came or went where the namespaces of pods lie."""
        self._reconciler.namespaces_changed()

    def started(self, point_id: str) -> None:
        """The recorder has the ring of a point open."""
        self._reconciler.started(point_id)
        self.rings.started(point_id)

    def stopped(self, point_id: str, why: str) -> None:
        """The recorder has written the last of a point."""
        self._reconciler.stopped(point_id, why)
        self.rings.drop_disowned()

    def keep_within(self) -> None:
        """Hold rings and clips within the node's budget, and say what that costs."""
        if not self._objects.recordings.known:
            return  # nobody can tell yet how long rings are to be kept
        self.rings.keep_within()
        concerned = self.points.recordings
        self._reports.disk_short(concerned, self.rings.plan.notes)
        for recording in concerned:
            self.statuses.changed(recording)
        self._tallies.forget(self._objects.recordings.keys())

    def _notes(self, recording: str) -> tuple[str, ...]:
        return (*self._matching.notes.get(recording, ()), *self.rings.plan.notes)

    def _terms(self, recording: str) -> RingTerms | None:
        known = self._objects.recordings.get(recording)
        if known is None:
            return None
        return RingTerms(
            known.ring_segments * known.ring_segment_bytes, known.ring_segment_bytes, known.retention_ns
        )
