"""The agent of a node: its threads, its timers, how it begins and how it ends.

Watches, writes and the HTTP server have threads of their own, and hand over what they hear by `loop.call`;
what `agent/node.py` holds decides in the loop's thread what is made of it. The agent ends only when recording
cannot go on.
"""

import resource
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from podcam.agent.clock import SystemClock
from podcam.agent.guard import Guard
from podcam.agent.http import AgentServer
from podcam.agent.log import Log
from podcam.agent.metrics import exposition
from podcam.agent.node import Node
from podcam.agent.requests import CountedApi
from podcam.agent.search import own_search_domains, search_domains
from podcam.agent.served import ServedAgent
from podcam.agent.settings import AgentSettings
from podcam.agent.watches import Watches
from podcam.agent.writes import Writes
from podcam.kube import PODS, NamespaceFinder
from podcam.recorder import Event, Loop, Recorder, RecorderFolder, RecorderSettings, Subject
from podcam.sealed import PrivateKey, public_key_text

_BEAT_SECONDS = 1.0
_BUDGET_SECONDS = 5.0
_GRANTS_SECONDS = 60.0
_FAREWELL_SECONDS = 10.0
"""For the last words to the API server, of the 30 s that a pod has to end."""
_TURN_SECONDS = 1.0
_PATIENCE_SECONDS = 5.0
"""An API server that has not said so long after the start what there is, is away."""
_EXPECTED_POINTS = 30
"""So many pods share the kernel's memory evenly from the start. With one expected, the first ones of a node
that starts take large rings, which count until they have given way: 60 pods at once had rings of 169 MB at
first, and of 151 MB with thirty expected."""
_KEY = "agent.key"


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
        self._guard = Guard(log)
        self._clock = SystemClock()
        self._started_ns = self._clock.now_ns()
        self._beat_seconds = self._clock.monotonic()
        self._told_to_end = False
        self._loop = Loop()
        self._finder = finder
        folder = RecorderFolder(settings.folder)
        folder.create()
        settings.folder.chmod(0o700)  # the kubelet made it, for everybody to look into
        key = PrivateKey.kept_in(settings.folder / _KEY)
        self._recorder = Recorder(
            RecorderSettings(
                folder=settings.folder,
                kernel_memory_bytes=settings.kernel_memory_bytes,
                write_bytes_per_second=settings.write_bytes_per_second,
                expected_points=_EXPECTED_POINTS,
            ),
            self._loop,
            self._observe,
            name_clip=self._name_clip,
        )
        self._writes = Writes(api, log)
        self._watches = Watches(watching, self._loop.call, log, self._clock.monotonic)
        self._node = Node(
            settings,
            public_key_text(key.public),
            recorder=self._recorder,
            folder=folder,
            finder=finder,
            search=partial(
                search_domains,
                own_search=own_search_domains(),
                own_namespace=settings.namespace,
            ),
            writes=self._writes,
            call=self._call,
            later=self._later,
            guard=self._guard,
            clock=self._clock,
            log=log,
        )
        served = ServedAgent(
            self._call,
            lambda: self._beat_seconds,
            self._clock.monotonic,
            self._metrics,
            self._node.clips.grants,
            self._node.clips.kept,
        )
        self._server = AgentServer(served, key, port=settings.http_port)

    def run(self) -> int:
        """Record until SIGTERM or SIGINT; returns the exit code.

        Raises:
            PodcamError: recording cannot begin, or cannot go on.
        """
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each point has four descriptors
        self._loop.listen_for_signals((signal.SIGINT, signal.SIGTERM), self._signalled)
        self._start()
        try:
            while not self._told_to_end:
                self._loop.run_once(_TURN_SECONDS)
        finally:
            self._stop()
        return 0

    # --- begin and end ---

    def _start(self) -> None:
        self._recorder.start()
        self._node.restore()
        self._namespace_watch = self._finder.watch()
        look = partial(self._guard, "namespaces", self._look_at_namespaces)
        self._loop.listen(self._namespace_watch, look)
        self._writes.start()
        for kind, objects in self._node.objects.by_kind.items():
            own = f"spec.nodeName={self._settings.node}" if kind == PODS else None
            self._watches.start(kind, objects.take, field_selector=own)
        self._every(_BEAT_SECONDS, self._beat)
        self._every(_BUDGET_SECONDS, self._node.recordings.keep_within)
        self._every(_GRANTS_SECONDS, self._node.clips.grants.expire)
        self._later(_PATIENCE_SECONDS, self._node.recordings.recall)
        self._server.start()
        self._log.info("started", node=self._settings.node, folder=str(self._settings.folder))

    def _observe(self, events: Sequence[Event]) -> None:
        self._node.hearing.hear(events)

    def _name_clip(self, subject: Subject) -> str:
        return self._node.clips.name(subject)

    def _look_at_namespaces(self) -> None:
        self._namespace_watch.changes()
        self._node.recordings.look_at_namespaces()

    def _signalled(self, _numbers: bytes) -> None:
        self._told_to_end = True

    def _stop(self) -> None:
        """Write what the kernel still holds, complete the clips, and say that recording has ended."""
        self._log.info("ending")
        self._watches.close()
        self._node.recordings.end()
        self._recorder.stop()
        self._node.flush()
        deadline = self._clock.monotonic() + _FAREWELL_SECONDS
        said = False
        while not said and self._clock.monotonic() < deadline:
            said = not self._writes.waiting
            self._loop.run_once(0.0 if said else 0.05)  # what was answered may be the last word to another
            self._node.flush()
            said = said and not self._writes.waiting
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

    def _metrics(self) -> str:
        return exposition(
            self._node.figures(
                started_ns=self._started_ns,
                watches=self._watches.figures(),
                requests=Counter(self._api.answers) + Counter(self._watching.answers),
                restarts=self._recorder.restarts,
            )
        )
