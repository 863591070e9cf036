"""The status of objects, written as seldom as can be: this node's entry, and the merged fields in its turn.

What stands there is known from the watch, so nothing is read; and what is written is compared with it first,
so that an agent with nothing new to say is silent.
"""

from collections.abc import Callable, Mapping
from collections.abc import Collection as Container
from dataclasses import dataclass, field
from typing import Any, Protocol

from podcam.agent.clip_status import Merge
from podcam.agent.clock import Clock
from podcam.agent.collection import Collection
from podcam.agent.guard import Guard
from podcam.agent.turns import Turn
from podcam.agent.writes import Outbox
from podcam.kube import Api, Kind, path_of
from podcam.recorder import Timer

MERGER = "podcam-merge"
"""The field manager of the merged fields, whichever agent writes them."""
_SECOND_NS = 1_000_000_000
_GATHER_SECONDS = 0.02
"""Changes of one moment are looked at together."""
_ENTRY_DELAY_SECONDS = 0.1
"""At most ten entries a second and object, however fast things change."""

Entry = Mapping[str, Any]


class Aspect(Protocol):
    """What one kind of objects is told."""

    @property
    def kind(self) -> Kind:
        """Of the objects."""

    @property
    def field(self) -> str:
        """Where the entries stand, by node."""

    def entry(self, key: str, now_ns: int) -> Entry | None:
        """This node's entry as it should be; None for none."""

    def entry_due(self, fresh: Entry | None, standing: Entry | None, now_ns: int) -> int | None:
        """When it should be written."""

    def merge(self, key: str, status: Mapping[str, Any], now_ns: int) -> Merge:
        """The fields that follow from all entries."""


@dataclass(slots=True)
class _Kept:
    """What is remembered of one object."""

    turn: Turn
    sent: bool = False
    """Whether an entry was sent that has not come back by the watch."""
    last: Entry | None = None
    """That entry."""
    timer: Timer | None = field(default=None, repr=False)


class Statuses:
    """The statuses of one kind of objects.

    Args:
        aspect: what is said.
        node: whose entry.
        objects: as the watch tells.
        writes: the requests to the API server.
        later: calls a function in so many seconds.
        guard: calls what looks at an object: one that cannot be read keeps no other from being told.
        clock: what time it is.
    """

    def __init__(
        self,
        aspect: Aspect,
        node: str,
        objects: Collection[Any],
        writes: Outbox,
        later: Callable[[float, Callable[[], None]], Timer],
        guard: Guard,
        clock: Clock,
    ) -> None:
        self._aspect = aspect
        self._node = node
        self._objects = objects
        self._writes = writes
        self._later = later
        self._guard = guard
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._dirty: set[str] = set()
        objects.subscribe(changed=lambda key, _object: self.changed(key), removed=self.gone)

    def changed(self, key: str) -> None:
        """Something that its status tells is, or may be, another than before."""
        if not self._dirty:
            self._later(_GATHER_SECONDS, self.flush)
        self._dirty.add(key)

    def gone(self, key: str) -> None:
        """The object was deleted."""
        kept = self._kept.pop(key, None)
        if kept is not None and kept.timer is not None:
            kept.timer.cancel()
        self._dirty.discard(key)
        for what in ("entry", "merge"):
            self._writes.drop(self._key(key, what))

    def flush(self) -> None:
        """Look at all that has changed."""
        dirty, self._dirty = self._dirty, set()
        for key in sorted(dirty):
            self._guard(key, self._look, key)

    def _look(self, key: str) -> None:
        if self._objects.get(key) is None or not self._objects.complete:
            return
        kept = self._kept.setdefault(key, _Kept(Turn(self._node)))
        if kept.timer is not None:
            kept.timer.cancel()
            kept.timer = None
        status = self._objects.status(key)
        entries = status.get(self._aspect.field) or {}
        pauses = [self._say(key, kept, entries.get(self._node)), *self._merge(key, kept, status, entries)]
        waits = [pause for pause in pauses if pause is not None]
        if waits:
            kept.timer = self._later(max(0.0, min(waits)), lambda: self.changed(key))

    def _say(self, key: str, kept: _Kept, standing: Entry | None) -> float | None:
        """Write this node's entry if it should be another; or tell in how many seconds it may have to be."""
        if kept.sent and _same(kept.last, standing):
            kept.sent = False
        if kept.sent:
            standing = kept.last
        now_ns = self._clock.now_ns()
        fresh = self._aspect.entry(key, now_ns)
        due_ns = self._aspect.entry_due(fresh, standing, now_ns)
        if due_ns is None:
            return None
        if due_ns > now_ns:
            return (due_ns - now_ns) / _SECOND_NS
        kept.sent, kept.last = True, fresh
        entries = {} if fresh is None else {self._node: fresh}
        self._apply(key, "entry", {self._aspect.field: entries}, f"podcam-agent-{self._node}")
        return None

    def _merge(
        self, key: str, kept: _Kept, status: Mapping[str, Any], entries: Container[str]
    ) -> tuple[float | None, float | None]:
        now_ns = self._clock.now_ns()
        merge = self._aspect.merge(key, status, now_ns)
        again = None if merge.again_ns is None else (merge.again_ns - now_ns) / _SECOND_NS
        monotonic_ns = int(self._clock.monotonic() * _SECOND_NS)
        due_ns = kept.turn.due(merge.fields, entries, monotonic_ns)
        if due_ns is None or merge.fields is None:
            return None, again
        if due_ns > monotonic_ns:
            return (due_ns - monotonic_ns) / _SECOND_NS, again
        self._apply(key, "merge", merge.fields, MERGER)
        return None, again

    def _apply(self, key: str, what: str, status: Mapping[str, Any], manager: str) -> None:
        namespace, _, name = key.partition("/")
        kind = self._aspect.kind
        path = path_of(kind, namespace, name)
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"namespace": namespace, "name": name},
            "status": dict(status),
        }

        def send(api: Api) -> None:
            api.apply(path, body, manager=manager, force=True, subresource="status")

        delay = _ENTRY_DELAY_SECONDS if what == "entry" else 0.0
        self._writes.put(self._key(key, what), send, delay_seconds=delay)

    def _key(self, key: str, what: str) -> str:
        return f"{self._aspect.kind.plural}/{key}/{what}"


def _same(sent: Entry | None, standing: Entry | None) -> bool:
    """Whether what was sent is what stands there."""
    if sent is None or standing is None:
        return sent is standing
    return sent.get("updated") == standing.get("updated")
