"""The agent of a node: what it hears of the API server and of its recorder, and what it does about it.

All of it happens in one thread, the loop's. Watches, writes and the HTTP server have threads of their own,
and hand over what they hear by `loop.call`. Whatever goes wrong with one object is logged, counted and told
in that object's status; the agent ends only when recording cannot go on.
"""

import signal
import socket
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from podcam.agent.announcements import Announcements, Subject
from podcam.agent.aspects import ClipAspect, RecordingAspect
from podcam.agent.budget import Cause
from podcam.agent.clip_status import PartState, expected_nodes
from podcam.agent.clips import Clips
from podcam.agent.collection import Collection
from podcam.agent.figures import agent_figures
from podcam.agent.grants import Grants
from podcam.agent.http import AgentServer
from podcam.agent.log import Log
from podcam.agent.marks import Marks
from podcam.agent.matching import Matching, match
from podcam.agent.memory import Memory, essence
from podcam.agent.metrics import exposition
from podcam.agent.naming import Name, PointId, clip_folder, wire_clip_name
from podcam.agent.parts import NodePart
from podcam.agent.peers import Peers
from podcam.agent.points import NodePoint, Points
from podcam.agent.requests import CountedApi
from podcam.agent.rings import Rings, RingTerms
from podcam.agent.runtimes import Runtimes
from podcam.agent.served import ServedAgent
from podcam.agent.settings import AgentSettings
from podcam.agent.statuses import Statuses
from podcam.agent.tallies import Tallies
from podcam.agent.translation import search_domains
from podcam.agent.watches import Watches
from podcam.agent.writes import Writes
from podcam.clip import ClipStore
from podcam.errors import InvalidObjectError, PodcamError
from podcam.kube import (
    CLIPS,
    GRANTS,
    NAMESPACES,
    PODS,
    RECORDINGS,
    ClipObject,
    Grant,
    Kind,
    NamespaceFinder,
    NamespaceLimits,
    Pod,
    Recording,
)
from podcam.model.point import Window
from podcam.recorder import (
    Event,
    Loop,
    Recorder,
    RecorderFolder,
    RecorderSettings,
    RecordingSettings,
    Scope,
)
from podcam.recorder import Subject as ClipSubject
from podcam.sealed import PrivateKey, public_key_text

T = TypeVar("T")

_BEAT_SECONDS = 1.0
_BUDGET_SECONDS = 5.0
_GRANTS_SECONDS = 60.0
_FAREWELL_SECONDS = 10.0
"""For the last words to the API server, of the 30 s that a pod has to end."""
_TURN_SECONDS = 1.0
_PATIENCE_SECONDS = 5.0
"""An API server that has not said so long after the start what there is, is away."""
_KEY = "agent.key"


class SystemClock:
    """The clocks of this machine."""

    def now_ns(self) -> int:
        """The wall clock, in nanoseconds since 1970 UTC."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds on a clock that is never set."""
        return time.monotonic()


class Agent:
    """Records the pods of its node until it is told to end.

    Args:
        settings: what it was told.
        api: the API server, for writes.
        watching: the same, for watches, which are ended by closing it.
        log: for what happens.
        finder: from pods to namespaces.
    """

    def __init__(
        self,
        settings: AgentSettings,
        api: CountedApi,
        watching: CountedApi,
        log: Log,
        finder: NamespaceFinder,
    ) -> None:
        self._settings = settings
        self._api, self._watching = api, watching
        self._log = log
        self._clock = SystemClock()
        self._started_ns = self._clock.now_ns()
        self._beat_seconds = self._clock.monotonic()
        self._told_to_end = self._ending = False
        self._settling = False
        """Whether `_settle` is to come."""
        self._matching = Matching()
        self._defined: dict[str, RecordingSettings] = {}
        """As the recorder knows them."""
        self._loop = Loop()
        self._finder = finder
        self._folder = RecorderFolder(settings.folder)
        self._folder.create()
        settings.folder.chmod(0o700)  # the kubelet made it, for everybody to look into
        key = PrivateKey.kept_in(settings.folder / _KEY)
        self._recorder = Recorder(
            RecorderSettings(
                folder=settings.folder,
                kernel_memory_bytes=settings.kernel_memory_bytes,
                write_bytes_per_second=settings.write_bytes_per_second,
            ),
            self._loop,
            self._observe,
            name_clip=self._name_clip,
        )
        self._memory = Memory(settings.folder)
        self._writes = Writes(api, log)
        self._watches = Watches(watching, self._loop.call, log, self._clock.monotonic)
        self._tallies = Tallies(self._clock.now_ns)
        self._announcements = Announcements(self._writes, settings.node, settings.pod, self._clock.now_ns)
        self._collect()
        self._arrange_points()
        self._arrange_clips((settings.pod, settings.http_port, public_key_text(key.public)))
        served = ServedAgent(
            self._call,
            lambda: self._beat_seconds,
            self._clock.monotonic,
            self._metrics,
            self._grants,
            self._clips,
        )
        self._server = AgentServer(served, key, port=settings.http_port)

    def run(self) -> int:
        """Record until SIGTERM or SIGINT; returns the exit code.

        Raises:
            PodcamError: recording cannot begin, or cannot go on.
        """
        self._listen_for_signals()
        self._start()
        try:
            while not self._told_to_end:
                self._loop.run_once(_TURN_SECONDS)
        finally:
            self._stop()
        return 0

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
            listed=lambda: self._guard("clips", self._clips.listed),
            unreadable=partial(self._unreadable, CLIPS),
            with_status=True,
        )
        self._grants = Grants(
            self._writes, lambda clip: self._clips.path_of(Name.parse(clip)) is not None, self._clock.now_ns
        )
        self._grant_objects = Collection(
            Grant.parse,
            changed=self._grants.changed,
            removed=self._grants.gone,
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
        self._clips = Clips(
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
            log=self._log,
        )

    # --- begin and end ---

    def _start(self) -> None:
        self._recorder.start()
        self._rings.restore()
        self._clips.restore()
        self._namespace_watch = self._finder.watch()
        look = partial(self._guard, "namespaces", self._look_at_namespaces)
        self._loop.listen(self._namespace_watch, look)
        self._writes.start()
        node = f"spec.nodeName={self._settings.node}"
        self._watches.start(NAMESPACES, self._namespaces.take)
        self._watches.start(RECORDINGS, self._recordings.take)
        self._watches.start(PODS, self._pods.take, field_selector=node)
        self._watches.start(CLIPS, self._clip_objects.take)
        self._watches.start(GRANTS, self._grant_objects.take)
        self._every(_BEAT_SECONDS, self._beat)
        self._every(_BUDGET_SECONDS, self._keep_within)
        self._every(_GRANTS_SECONDS, self._grants.expire)
        self._later(_PATIENCE_SECONDS, self._recall)
        self._server.start()
        self._log.info("started", node=self._settings.node, folder=str(self._settings.folder))

    def _listen_for_signals(self) -> None:
        reading, writing = socket.socketpair()
        writing.setblocking(False)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        self._wakeup = reading, writing
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: None)
        self._loop.listen(reading, self._signalled)

    def _signalled(self) -> None:
        self._wakeup[0].recv(64)
        self._told_to_end = True

    def _stop(self) -> None:
        """Write what the kernel still holds, complete the clips, and say that recording has ended."""
        self._ending = True
        self._log.info("ending")
        self._watches.close()
        self._points.close()
        self._recorder.stop()
        self._recording_statuses.flush()
        self._clip_statuses.flush()
        deadline = self._clock.monotonic() + _FAREWELL_SECONDS
        while self._writes.waiting and self._clock.monotonic() < deadline:
            self._loop.run_once(0.05)
            self._recording_statuses.flush()
            self._clip_statuses.flush()
        self._writes.finish(max(0.0, deadline - self._clock.monotonic()))
        self._server.close()
        self._log.info("ended", unsaid=self._writes.waiting)

    # --- time ---

    def _every(self, seconds: float, function: Callable[[], None]) -> None:
        def again() -> None:
            self._guard(function.__name__, function)
            self._loop.later(seconds, again)

        self._loop.later(seconds, again)

    def _later(self, seconds: float, function: Callable[[], None]) -> Any:
        return self._loop.later(seconds, partial(self._guard, "a timer", function))

    def _call(self, function: Callable[[], None]) -> None:
        self._loop.call(partial(self._guard, "a call", function))

    def _beat(self) -> None:
        self._beat_seconds = self._clock.monotonic()

    def _keep_within(self) -> None:
        if not self._recordings.known:
            return  # nobody can tell yet how long rings are to be kept
        notes = self._rings.plan.notes
        self._rings.keep_within()
        for recording in {point.recording for point in self._points.all.values()}:
            for note in set(self._rings.plan.notes) - set(notes):
                self._warn(recording, "NodeBudget", note)
            self._recording_statuses.changed(recording)
        self._tallies.forget(recording for recording, _ in self._recordings.items())

    def _guard(self, what: str, function: Callable[..., T], *arguments: Any) -> T | None:
        """Call what must not end the agent, whatever it raises."""
        try:
            return function(*arguments)
        except PodcamError as error:
            self._log.error("something could not be done", what=what, why=error)
        except Exception as error:  # noqa: BLE001 - the supervisor: one object must not end all others
            self._log.error("a defect", what=what, why=repr(error), where=traceback.format_exc(limit=-5))
        return None

    # --- pods, namespaces, recordings ---

    def _settle_soon(self, *_what: object) -> None:
        """Look at all points, once all that is known now has been heard."""
        if not self._settling:
            self._settling = True
            self._loop.later(0.0, partial(self._guard, "points", self._settle))

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

    def _recall(self) -> None:
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

    def _look_at_namespaces(self) -> None:
        self._namespace_watch.changes()
        self._points.namespaces_changed()

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

    def _point_changed(self, recording: str) -> None:
        self._recording_statuses.changed(recording)

    def _point_refused(self, point: NodePoint) -> None:
        self._warn(point.recording, point.reason, f"pod {point.pod} is not recorded: {point.message}")

    def _ring_removed(self, point_id: str, cause: Cause) -> None:
        if cause not in {Cause.RETENTION, Cause.RECORDING}:
            point = PointId.parse(point_id)
            self._warn(point.recording_id, "RingRemoved", f"the ring of pod {point.pod} went: {cause.value}")

    def _notes(self, recording: str) -> tuple[str, ...]:
        return (*self._matching.notes.get(recording, ()), *self._rings.plan.notes)

    def _terms(self, recording: str) -> RingTerms | None:
        known = self._recordings.get(recording)
        if known is None:
            return None
        return RingTerms(
            known.ring_segments * known.ring_segment_bytes, known.ring_segment_bytes, known.retention_ns
        )

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
        self._guard(key, self._clips.changed, key, clip)
        self._clip_statuses.changed(key)

    def _clip_gone(self, key: str, clip: ClipObject) -> None:
        self._clip_aspect.parts.pop(key, None)
        self._clip_statuses.gone(key)
        self._guard(key, self._clips.gone, key, clip)

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

    def _name_clip(self, subject: ClipSubject) -> str:
        recording = Name.parse(subject.recording)
        failed_ns = subject.created_ns if subject.failure is None else subject.failure.time_ns
        settings = self._defined.get(subject.recording)
        pod = None
        if settings is not None and settings.scope is Scope.POD and subject.point is not None:
            pod = PointId.parse(subject.point).pod
        over = self._clips.over(recording.namespace, failed_ns)
        name = wire_clip_name(recording.name, failed_ns, pod=pod, taken=over)
        return clip_folder(Name(recording.namespace, name))

    # --- what the recorder tells ---

    def _observe(self, events: Sequence[Event]) -> None:
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
                self._clips.opened(event)
                self._recording_statuses.changed(event["recording"])
            case "complete":
                self._clips.completed(event)
            case "removed":
                self._clips.removed(event)
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

    def _metrics(self) -> str:
        return exposition(
            agent_figures(
                started_ns=self._started_ns,
                recordings=[key for key, _ in self._recordings.items()],
                points=self._points,
                rings=self._rings,
                tallies=self._tallies,
                watches=self._watches.figures(),
                requests=Counter(self._api.answers) + Counter(self._watching.answers),
                restarts=self._recorder.restarts,
            )
        )


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
