"""A node: what its agent knows of it, and what it does about what it hears.

All of it happens in one thread, the loop's. Whatever goes wrong with one object is logged, counted and told
in that object's status.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from podcam.agent.announcements import Announcements, Subject
from podcam.agent.aspects import ClipAspect, RecordingAspect
from podcam.agent.budget import Cause
from podcam.agent.clip_status import PartState, expected_nodes
from podcam.agent.clips import Clips, KeepingRecorder
from podcam.agent.clock import Clock
from podcam.agent.collection import Collection
from podcam.agent.figures import agent_figures
from podcam.agent.grants import Grants
from podcam.agent.guard import Guard
from podcam.agent.log import Log
from podcam.agent.marks import Marks
from podcam.agent.matching import Matching, match
from podcam.agent.memory import Memory, essence
from podcam.agent.metrics import AgentFigures, WatchFigures
from podcam.agent.naming import Name, PointId, clip_folder, wire_clip_name
from podcam.agent.parts import NodePart
from podcam.agent.peers import Peers
from podcam.agent.points import Finder, NodePoint, Points
from podcam.agent.points import Recording as PointRecorder
from podcam.agent.rings import LimitingRecorder, Rings, RingTerms
from podcam.agent.runtimes import Runtimes
from podcam.agent.settings import AgentSettings
from podcam.agent.statuses import Statuses
from podcam.agent.tallies import Tallies
from podcam.agent.translation import search_domains
from podcam.agent.writes import Outbox
from podcam.clip import ClipStore
from podcam.errors import InvalidObjectError
from podcam.kube import (
    CLIPS,
    GRANTS,
    NAMESPACES,
    PODS,
    RECORDINGS,
    Change,
    ClipObject,
    Grant,
    Kind,
    NamespaceLimits,
    Pod,
    Recording,
)
from podcam.model.point import Window
from podcam.recorder import Event, RecorderFolder, RecordingSettings, Scope, Timer
from podcam.recorder import Subject as ClipSubject


class NodeRecorder(LimitingRecorder, PointRecorder, KeepingRecorder, Protocol):
    """The part of a recorder that a node needs."""

    def define(self, recording: str, settings: RecordingSettings) -> None:
        """A recording is new, or another than before. Raises PodcamError."""

    def forget(self, recording: str) -> None:
        """A recording is gone, and its points have been ended. Raises PodcamError."""


class Node:
    """The points, rings, clips and statuses of one node.

    Args:
        settings: what the agent was told.
        public_key: the agent's own, in base64, for who reads clips.
        recorder: records, and tells `observe`.
        folder: where it does.
        finder: from pods to namespaces.
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
        public_key: str,
        *,
        recorder: NodeRecorder,
        folder: RecorderFolder,
        finder: Finder,
        writes: Outbox,
        call: Callable[[Callable[[], None]], None],
        later: Callable[[float, Callable[[], None]], Timer],
        guard: Guard,
        clock: Clock,
        log: Log,
    ) -> None:
        self._settings = settings
        self._recorder = recorder
        self._folder = folder
        self._finder = finder
        self._writes = writes
        self._call = call
        self._later = later
        self._guard = guard
        self._clock = clock
        self._log = log
        self._ending = False
        self._settling = False
        """Whether `_settle` is to come."""
        self._matching = Matching()
        self._defined: dict[str, RecordingSettings] = {}
        """As the recorder knows them."""
        self._told: tuple[str, ...] = ()
        """What was last said of the node's disk; another number in a sentence is no news."""
        self._memory = Memory(settings.folder)
        self._tallies = Tallies(clock.now_ns)
        self._announcements = Announcements(writes, settings.node, settings.pod, clock.now_ns)
        self._collect()
        self._arrange_points()
        self._arrange_clips((settings.pod, settings.http_port, public_key))

    @property
    def hears(self) -> Mapping[Kind, Callable[[Change], None]]:
        """Who is to be told of what a watch says."""
        return {
            NAMESPACES: self._namespaces.take,
            RECORDINGS: self._recordings.take,
            PODS: self._pods.take,
            CLIPS: self._clip_objects.take,
            GRANTS: self._grant_objects.take,
        }

    def restore(self) -> None:
        """Take up what an earlier agent left on the disk."""
        self._rings.restore()
        self.clips.restore()

    def end(self) -> None:
        """Nothing new is begun any more, and the pods wait for the next agent."""
        self._ending = True
        self._points.close()

    def flush(self) -> None:
        """Say what there is to say now."""
        self._recording_statuses.flush()
        self._clip_statuses.flush()

    def figures(
        self,
        *,
        started_ns: int,
        watches: tuple[WatchFigures, ...],
        requests: Mapping[tuple[str, str], int],
        restarts: Mapping[str, int],
    ) -> AgentFigures:
        """For the metrics; the arguments are what the agent counts itself."""
        return agent_figures(
            started_ns=started_ns,
            recordings=[key for key, _ in self._recordings.items()],
            points=self._points,
            rings=self._rings,
            tallies=self._tallies,
            watches=watches,
            requests=requests,
            restarts=restarts,
        )

    # --- what it is made of ---

    def _collect(self) -> None:
        soon = self._settle_soon
        self._pods = Collection(
            Pod.parse,
            changed=self._pod_changed,
            removed=soon,
            listed=soon,
            remembered=partial(essence, PODS),
        )
        self._namespaces = Collection(
            NamespaceLimits.parse,
            changed=soon,
            removed=soon,
            listed=soon,
            remembered=partial(essence, NAMESPACES),
        )
        self._recordings = Collection(
            Recording.parse,
            changed=self._recording_changed,
            removed=self._recording_gone,
            listed=self._recordings_listed,
            unreadable=partial(self._unreadable, RECORDINGS),
            with_status=True,
            remembered=partial(essence, RECORDINGS),
        )
        self._recorded_kinds: dict[Kind, Collection[Any]] = {
            RECORDINGS: self._recordings,
            PODS: self._pods,
            NAMESPACES: self._namespaces,
        }
        self._clip_objects = Collection(
            ClipObject.parse,
            changed=self._clip_changed,
            removed=self._clip_gone,
            listed=lambda: self._guard("clips", self.clips.listed),
            unreadable=partial(self._unreadable, CLIPS),
            with_status=True,
        )
        self.grants = Grants(
            self._writes,
            serves=lambda clip: self.clips.path_of(Name.parse(clip)) is not None,
            stands=lambda clip: not self._clip_objects.complete or self._clip_objects.get(clip) is not None,
            turn=zlib.crc32(self._settings.node.encode()) / 2**32,
            now_ns=self._clock.now_ns,
        )
        self._grant_objects = Collection(
            Grant.parse,
            changed=self.grants.changed,
            removed=self.grants.gone,
            unreadable=partial(self._unreadable, GRANTS),
        )

    def _arrange_points(self) -> None:
        self._rings = Rings(
            self._settings,
            self._folder,
            self._recorder,
            terms=self._terms,
            log=self._log,
            clock=self._clock,
            removed=self._ring_removed,
        )
        self._points = Points(
            self._recorder,
            self._finder,
            node=self._settings.node,
            later=self._later,
            clock=self._clock,
            wanted=lambda: self._matching.wanted,
            admit=self._rings.admit,
            search=_pod_search(self._settings.namespace),
            changed=self._point_changed,
            refused=self._point_refused,
            log=self._log,
        )
        self._rings.points = self._points
        self._runtimes = Runtimes(self._writes, self._call, self._log, self._settle_soon)
        aspect = RecordingAspect(
            lambda: self._recordings, self._points.of, self._rings.bytes_of, self._notes, self._tallies
        )
        self._recording_statuses = Statuses(
            aspect, self._settings.node, lambda: self._recordings, self._writes, self._later, self._clock
        )

    def _arrange_clips(self, reader: tuple[str, int, str]) -> None:
        self._clip_aspect = ClipAspect(lambda: self._clip_objects, lambda: self._recordings, reader)
        self._clip_statuses = Statuses(
            self._clip_aspect,
            self._settings.node,
            lambda: self._clip_objects,
            self._writes,
            self._later,
            self._clock,
        )
        self._peers = Peers(self._writes, self._call, self._log, self._clock.now_ns)
        self.clips = Clips(
            node=self._settings.node,
            store=ClipStore(self._folder.clips),
            marks=Marks(self._settings.folder),
            recorder=self._recorder,
            rings=self,
            peers=self._peers,
            writes=self._writes,
            call=self._call,
            objects=self._clip_objects,
            report=self._report_part,
            refused=self._clip_refused,
            log=self._log,
        )

    # --- pods, namespaces, recordings ---

    def _settle_soon(self, *_what: object) -> None:
        """Look at all points, once all that is known now has been heard."""
        if not self._settling:
            self._settling = True
            self._later(0.0, self._settle)

    def _settle(self) -> None:
        self._settling = False
        if self._ending or not all(kind.known for kind in self._recorded_kinds.values()):
            return
        self._matching = match(
            self._recordings.values(),
            self._pods.values(),
            dict(self._namespaces.items()),
            node=self._settings.node,
            handlers=self._runtimes.handlers,
            recorded={point.id for point in self._points.all.values() if point.recorded},
        )
        for recording, settings in self._matching.settings.items():
            if self._defined.get(recording) != settings:
                self._guard(recording, self._recorder.define, recording, settings)
                self._defined[recording] = settings
        for wanted in self._matching.wanted.values():
            if wanted.pod.runtime_class is not None:
                self._runtimes.look_up(wanted.pod.runtime_class)
        self._points.reconcile()
        for recording in self._defined.keys() - self._matching.settings.keys():
            del self._defined[recording]
            self._guard(recording, self._recorder.forget, recording)
        self._guard("memory", self._remember)

    def _remember(self) -> None:
        """Keep what is recorded here, for an agent that starts while the API server is away."""
        if not all(kind.complete for kind in self._recorded_kinds.values()):
            return
        wanted = self._matching.wanted.values()
        concerned = {point.recording for point in self._points.all.values()}
        recordings = sorted(key for key, _ in self._recordings.items() if key in concerned)
        pods = sorted({f"{each.pod.namespace}/{each.pod.name}" for each in wanted})
        namespaces = sorted({each.pod.namespace for each in wanted})
        keys = {RECORDINGS: recordings, PODS: pods, NAMESPACES: namespaces}
        self._memory.keep(
            {kind.plural: [self._recorded_kinds[kind].body(key) for key in keys[kind]] for kind in keys}
        )

    def recall(self) -> None:
        """The API server has not answered so far: go on recording what was recorded here last."""
        unheard = [kind for kind in self._recorded_kinds if not self._recorded_kinds[kind].known]
        if not unheard:
            return
        remembered = self._memory.recall()
        for kind in unheard:
            self._recorded_kinds[kind].recall(remembered.get(kind.plural, ()))
        self._log.warning(
            "the API server does not answer: recording what was recorded here last",
            pods=[str(Name(pod.namespace, pod.name)) for pod in self._pods.values()],
        )
        self._settle_soon()

    def _pod_changed(self, _key: str, pod: Pod) -> None:
        self._peers.seen(pod)
        self._settle_soon()

    def _recording_changed(self, key: str, _recording: Recording) -> None:
        self._settle_soon()
        self._recording_statuses.changed(key)
        for clip_key, clip in self._clip_objects.items():
            if f"{clip.namespace}/{clip.recording}" == key and clip.state == "Freezing":
                self._clip_statuses.changed(clip_key)

    def _recording_gone(self, key: str, _recording: Recording) -> None:
        self._guard(key, self._points.interrupt, key)
        self._rings.disown(key)
        self._settle_soon()
        self._recording_statuses.gone(key)

    def _recordings_listed(self) -> None:
        def since_ns(key: str) -> int | None:
            if key in self._recordings.unread:
                return 0  # it is there; nobody can tell since when
            known = self._recordings.get(key)
            return None if known is None else known.created_ns

        self._guard("rings", self._rings.disown_strangers, since_ns)
        self._settle_soon()

    def _notes(self, recording: str) -> tuple[str, ...]:
        return (*self._matching.notes.get(recording, ()), *self._rings.plan.notes)

    def _terms(self, recording: str) -> RingTerms | None:
        known = self._recordings.get(recording)
        if known is None:
            return None
        return RingTerms(
            known.ring_segments * known.ring_segment_bytes, known.ring_segment_bytes, known.retention_ns
        )

    # --- points and rings ---

    def look_at_namespaces(self) -> None:
        """Something came or went where the namespaces of pods lie."""
        self._points.namespaces_changed()

    def keep_within(self) -> None:
        """Hold rings and clips within the node's budget, and say what that costs."""
        if not self._recordings.known:
            return  # nobody can tell yet how long rings are to be kept
        self._rings.keep_within()
        told, self._told = self._told, self._rings.plan.notes
        for recording in {point.recording for point in self._points.all.values()}:
            for note in self._told[len(told) :]:
                self._warn(recording, "NodeBudget", note)
            self._recording_statuses.changed(recording)
        self._tallies.forget(recording for recording, _ in self._recordings.items())

    def _point_changed(self, recording: str) -> None:
        self._recording_statuses.changed(recording)

    def _point_refused(self, point: NodePoint) -> None:
        self._warn(point.recording, point.reason, f"pod {point.pod} is not recorded: {point.message}")

    def _ring_removed(self, point_id: str, cause: Cause) -> None:
        if cause not in {Cause.RETENTION, Cause.RECORDING}:
            point = PointId.parse(point_id)
            self._warn(point.recording_id, "RingRemoved", f"the ring of pod {point.pod} went: {cause.value}")

    # --- clips ---

    def reach(self, recording: str, pods: tuple[str, ...] | None, window: Window) -> bool:
        """Whether a ring of the recording may hold packets of the window."""
        return self._rings.reach(recording, pods, window)

    def expected(self, recording: str) -> tuple[str, ...]:
        """The nodes that hold rings of the recording, as far as its status tells."""
        status = self._recordings.status(recording)
        now_ns = self._clock.now_ns()
        return tuple(sorted(expected_nodes((), {}, status, pods=None, window_end_ns=now_ns)))

    def _clip_changed(self, key: str, clip: ClipObject) -> None:
        self._guard(key, self.clips.changed, key, clip)
        self._clip_statuses.changed(key)

    def _clip_gone(self, key: str, clip: ClipObject) -> None:
        self._clip_aspect.parts.pop(key, None)
        self._clip_statuses.gone(key)
        self._guard(key, self.clips.gone, key, clip)

    def _report_part(self, name: Name, part: NodePart) -> None:
        self._clip_aspect.parts[str(name)] = part
        self._clip_statuses.changed(str(name))
        clip = self._clip_objects.get(str(name))
        if clip is None:
            return
        if part.state is PartState.FAILED:
            self._tallies.of(f"{clip.namespace}/{clip.recording}").clips_failed += 1
        if part.state in {PartState.FAILED, PartState.REMOVED}:
            subject = Subject(CLIPS, clip.namespace, clip.name, clip.uid)
            note = f"the part of node {self._settings.node}: {part.message}"
            self._announcements.warn(subject, f"Part{part.state.value}", note)

    def _clip_refused(self, recording: str, text: str) -> None:
        self._tallies.of(recording).warn(self._clock.now_ns(), text)
        self._warn(recording, "ClipRefused", text)
        self._recording_statuses.changed(recording)

    def name_clip(self, subject: ClipSubject) -> str:
        """The recorder's id of the clip that a failure makes."""
        recording = Name.parse(subject.recording)
        failed_ns = subject.created_ns if subject.failure is None else subject.failure.time_ns
        settings = self._defined.get(subject.recording)
        pod = None
        if settings is not None and settings.scope is Scope.POD and subject.point is not None:
            pod = PointId.parse(subject.point).pod
        over = self.clips.over(recording.namespace, failed_ns)
        name = wire_clip_name(recording.name, failed_ns, pod=pod, taken=over)
        return clip_folder(Name(recording.namespace, name))

    # --- what the recorder tells ---

    def observe(self, events: Sequence[Event]) -> None:
        """Hear what the recorder tells."""
        for event in events:
            self._guard(str(event["event"]), self._hear, event)

    def _hear(self, event: Event) -> None:
        match event["event"]:
            case "started":
                self._points.started(event["id"])
                self._rings.started(event["id"])
            case "status":
                self._tallies.take(event["id"], event)
                self._hear_suppressed(event)
            case "stopped":
                self._tallies.take(event["id"], event)
                self._tallies.totals.ended(event["id"])
                self._points.stopped(event["id"], event["why"])
                self._rings.drop_disowned()
            case "failure":
                self._tallies.of(event["recording"]).failures[str(event["class"])] += 1
            case "clip":
                self._log.info(
                    "keeping a clip", clip=event["clip"], point=event["id"], origin=event["origin"]
                )
                self._tallies.of(event["recording"]).clips[event["origin"]] += 1
                self.clips.opened(event)
                self._recording_statuses.changed(event["recording"])
            case "complete":
                self.clips.completed(event)
            case "removed":
                self.clips.removed(event)
            case "warning":
                self._hear_warning(event)

    def _hear_suppressed(self, event: Event) -> None:
        tally, count = self._tallies.of(event["recording"]), event["suppressed"]
        if count > tally.suppressed:
            tally.suppressed = count
            note = "failures make no more clips for now, as there were enough: they are counted"
            self._warn(event["recording"], "ClipsSuppressed", note)

    def _hear_warning(self, event: Event) -> None:
        point_id, recording = event.get("id"), event.get("recording")
        self._log.warning(event["text"], point=point_id, recording=recording)
        concerned = (
            {point.recording for point in self._points.all.values()} if recording is None else {recording}
        )
        for each in concerned:
            self._tallies.of(each).warn(self._clock.now_ns(), event["text"])
            self._recording_statuses.changed(each)

    # --- what people are told ---

    def _warn(self, recording: str, reason: str, note: str) -> None:
        known = self._recordings.get(recording)
        if known is not None:
            subject = Subject(RECORDINGS, known.namespace, known.name, known.uid)
            self._announcements.warn(subject, reason, f"on node {self._settings.node}: {note}")

    def _unreadable(self, kind: Kind, key: str, error: InvalidObjectError) -> None:
        self._log.error("an object cannot be read", kind=kind.kind, name=key, why=error)
        if kind == RECORDINGS and self._recordings.get(key) is not None:
            text = f"it cannot be read, and goes on as it was: {error}"
            self._tallies.of(key).warn(self._clock.now_ns(), text)
            self._warn(key, "Unreadable", text)
            self._recording_statuses.changed(key)


def _pod_search(own_namespace: str) -> Callable[[str], tuple[str, ...]]:
    """The search list of the pods of a namespace, told from the agent's own."""
    own: tuple[str, ...] = ()
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            for line in file:
                words = line.split()
                if words[:1] == ["search"]:
                    own = tuple(word.rstrip(".") for word in words[1:])
    except OSError:
        pass
    return lambda namespace: search_domains(namespace, own, own_namespace)
