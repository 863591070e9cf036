"""What a node does about clips: from a clip's object to a frozen part and back, and who may read it.

`agent/clips.py` holds what is in the cluster and what is on the disk together; here it is connected to what
the API server says of clips, and to the statuses in which this node reports its parts.
"""

import zlib
from collections.abc import Callable, Mapping

from podcam.agent.aspects import ClipAspect
from podcam.agent.clip_status import PartState, expected_nodes
from podcam.agent.clips import Clips, KeepingRecorder
from podcam.agent.clock import Clock
from podcam.agent.grants import Grants
from podcam.agent.guard import Guard
from podcam.agent.log import Log
from podcam.agent.marks import Marks
from podcam.agent.naming import Name, PointId, clip_folder, wire_clip_name
from podcam.agent.objects import ClusterObjects
from podcam.agent.parts import NodePart
from podcam.agent.peers import Peers
from podcam.agent.reports import Reports
from podcam.agent.rings import Rings
from podcam.agent.settings import AgentSettings
from podcam.agent.statuses import Statuses
from podcam.agent.tallies import Tallies
from podcam.agent.writes import Outbox
from podcam.clip import ClipStore
from podcam.kube import Recording
from podcam.recorder import RecorderFolder, RecordingSettings, Scope, Subject, Timer


class NodeClips:
    """The clips of the cluster as far as this node has a part of them.

    Args:
        settings: what the agent was told.
        public_key: the agent's own, in base64, for who reads clips.
        objects: what the API server says.
        defined: the recordings as the recorder knows them.
        rings: of which clips can be kept.
        tallies: what was counted.
        reports: what people are told.
        recorder: keeps packets.
        folder: where it does.
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
        objects: ClusterObjects,
        defined: Mapping[str, RecordingSettings],
        rings: Rings,
        tallies: Tallies,
        reports: Reports,
        recorder: KeepingRecorder,
        folder: RecorderFolder,
        writes: Outbox,
        call: Callable[[Callable[[], None]], None],
        later: Callable[[float, Callable[[], None]], Timer],
        guard: Guard,
        clock: Clock,
        log: Log,
    ) -> None:
        self._objects = objects
        self._defined = defined
        self._tallies = tallies
        self._reports = reports
        self._clock = clock
        reader = settings.pod, settings.http_port, public_key
        self._aspect = ClipAspect(objects.clips, objects.recordings, reader)
        self.statuses = Statuses(self._aspect, settings.node, objects.clips, writes, later, guard, clock)
        self._peers = Peers(writes, call, log, clock.now_ns)
        self.kept = Clips(
            node=settings.node,
            store=ClipStore(folder.clips),
            marks=Marks(settings.folder),
            recorder=recorder,
            rings=rings,
            expected=self._expected,
            home=objects.namespaces.uid,
            peers=self._peers,
            writes=writes,
            call=call,
            objects=objects.clips,
            report=self._report,
            refused=reports.clip_refused,
            log=log,
        )
        self.grants = Grants(
            writes,
            serves=self._serves,
            stands=self._stands,
            turn=zlib.crc32(settings.node.encode()) / 2**32,
            now_ns=clock.now_ns,
        )
        self._subscribe()

    def _subscribe(self) -> None:
        self._objects.pods.subscribe(changed=self._peers.seen)
        self._objects.recordings.subscribe(changed=self._recording_changed)
        self._objects.clips.subscribe(changed=self.kept.changed, removed=self._gone, listed=self.kept.listed)
        self._objects.grants.subscribe(changed=self.grants.changed, removed=self.grants.gone)

    def name(self, subject: Subject) -> str:
        """The recorder's id of the clip that a failure makes."""
        recording = Name.parse(subject.recording)
        failed_ns = subject.created_ns if subject.failure is None else subject.failure.time_ns
        settings = self._defined.get(subject.recording)
        pod = None
        if settings is not None and settings.scope is Scope.POD and subject.point is not None:
            pod = PointId.parse(subject.point).pod
        over = self.kept.over(recording.namespace, failed_ns)
        name = wire_clip_name(recording.name, failed_ns, pod=pod, taken=over)
        return clip_folder(Name(recording.namespace, name))

    # --- what the API server says ---

    def _gone(self, key: str) -> None:
        self._aspect.parts.pop(key, None)
        self.kept.gone(key)

    def _recording_changed(self, key: str, _recording: Recording) -> None:
        """The parts that are expected of a clip follow from its recording's status."""
        for clip_key, clip in self._objects.clips.items():
            if f"{clip.namespace}/{clip.recording}" == key and clip.state == "Freezing":
                self.statuses.changed(clip_key)

    def _expected(self, recording: str) -> tuple[str, ...]:
        status, now_ns = self._objects.recordings.status(recording), self._clock.now_ns()
        return tuple(sorted(expected_nodes((), {}, status, pods=None, window_end_ns=now_ns)))

    # --- what this node has ---

    def _report(self, name: Name, part: NodePart) -> None:
        self._aspect.parts[str(name)] = part
        self.statuses.changed(str(name))
        clip = self._objects.clips.get(str(name))
        if clip is None or part.state not in {PartState.FAILED, PartState.REMOVED}:
            return
        if part.state is PartState.FAILED:
            self._tallies.of(f"{clip.namespace}/{clip.recording}").clips_failed += 1
        self._reports.part_lost(clip, part)

    def _serves(self, clip: Name) -> bool:
        return self.kept.path_of(clip) is not None

    def _stands(self, clip: Name) -> bool:
        return not self._objects.clips.complete or self._objects.clips.get(str(clip)) is not None
