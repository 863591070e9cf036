"""A node: the parts of its agent, in the order in which they need each other.

What the API server says comes to `objects`, which tells whom it concerns; what the recorder tells comes to
`hearing`. All of it happens in one thread, the loop's. Whatever goes wrong with one object is logged,
counted and told in that object's status.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from podcam.agent.announcements import Announcements
from podcam.agent.clips import KeepingRecorder
from podcam.agent.clock import Clock
from podcam.agent.figures import agent_figures
from podcam.agent.guard import Guard
from podcam.agent.hearing import Hearing
from podcam.agent.log import Log
from podcam.agent.memory import Memory
from podcam.agent.metrics import AgentFigures, WatchFigures
from podcam.agent.node_clips import NodeClips
from podcam.agent.node_recordings import NodeRecordings, RecordingRecorder
from podcam.agent.objects import ClusterObjects
from podcam.agent.reconciler import Finder
from podcam.agent.reports import Reports
from podcam.agent.settings import AgentSettings
from podcam.agent.tallies import Tallies
from podcam.agent.writes import Outbox
from podcam.recorder import RecorderFolder, Timer


class NodeRecorder(RecordingRecorder, KeepingRecorder, Protocol):
    """The part of a recorder that a node needs."""


class Node:
    """The recordings and the clips of one node.

    Args:
        settings: what the agent was told.
        public_key: the agent's own, in base64, for who reads clips.
        recorder: records, and tells `hearing`.
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
        public_key: str,
        *,
        recorder: NodeRecorder,
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
        self.objects = ClusterObjects(Memory(settings.folder), guard, log)
        self._tallies = Tallies(clock.now_ns)
        announcements = Announcements(writes, settings.node, settings.pod, clock.now_ns)
        reports = Reports(self.objects, self._tallies, announcements, settings.node)
        self.recordings = NodeRecordings(
            settings,
            objects=self.objects,
            tallies=self._tallies,
            reports=reports,
            recorder=recorder,
            folder=folder,
            finder=finder,
            search=search,
            writes=writes,
            call=call,
            later=later,
            guard=guard,
            clock=clock,
            log=log,
        )
        self.clips = NodeClips(
            settings,
            public_key,
            objects=self.objects,
            defined=self.recordings.defined,
            rings=self.recordings.rings,
            tallies=self._tallies,
            reports=reports,
            recorder=recorder,
            folder=folder,
            writes=writes,
            call=call,
            later=later,
            guard=guard,
            clock=clock,
            log=log,
        )
        self.hearing = Hearing(self.recordings, self.clips.kept, self._tallies, reports, guard, log)

    def restore(self) -> None:
        """Take up what an earlier agent left on the disk."""
        self.recordings.rings.restore()
        self.clips.kept.restore()

    def flush(self) -> None:
        """Say what there is to say now."""
        self.recordings.statuses.flush()
        self.clips.statuses.flush()

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
            recordings=self.objects.recordings.keys(),
            points=self.recordings.points,
            rings=self.recordings.rings,
            tallies=self._tallies,
            watches=watches,
            requests=requests,
            restarts=restarts,
        )
