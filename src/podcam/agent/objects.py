"""What the API server was last heard to say, and what is kept of it for a start without it."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from podcam.agent.collection import Collection
from podcam.agent.guard import Guard
from podcam.agent.log import Log
from podcam.agent.memory import Memory, essence
from podcam.errors import InvalidObjectError
from podcam.kube import (
    CLIPS,
    GRANTS,
    NAMESPACES,
    PODS,
    RECORDINGS,
    ClipObject,
    Grant,
    Kind,
    NamespaceLimits,
    Pod,
    Recording,
)

_RECORDED = (RECORDINGS, PODS, NAMESPACES)
"""What has to be known to record: it is remembered."""


class ClusterObjects:
    """The objects that concern a node, of each kind that its agent watches.

    Args:
        memory: what was known last.
        guard: calls who is told of them.
        log: for those that cannot be read.
    """

    def __init__(self, memory: Memory, guard: Guard, log: Log) -> None:
        self.namespaces = Collection(NamespaceLimits.parse, guard, remembered=partial(essence, NAMESPACES))
        self.recordings = Collection(
            Recording.parse, guard, with_status=True, remembered=partial(essence, RECORDINGS)
        )
        self.pods = Collection(Pod.parse, guard, remembered=partial(essence, PODS))
        self.clips = Collection(ClipObject.parse, guard, with_status=True)
        self.grants = Collection(Grant.parse, guard)
        self.by_kind: Mapping[Kind, Collection[Any]] = {
            NAMESPACES: self.namespaces,
            RECORDINGS: self.recordings,
            PODS: self.pods,
            CLIPS: self.clips,
            GRANTS: self.grants,
        }
        for kind, collection in self.by_kind.items():
            collection.subscribe(unreadable=partial(self._unreadable, kind))
        self._memory = memory
        self._log = log

    @property
    def known(self) -> bool:
        """Whether what has to be known to record is: heard, or recalled."""
        return all(self.by_kind[kind].known for kind in _RECORDED)

    def remember(self, *, recordings: Iterable[str], pods: Iterable[str], namespaces: Iterable[str]) -> None:
        """Keep these, by their keys, once all there is has been heard.

        Raises:
            PodcamError: they cannot be written.
        """
        if not all(self.by_kind[kind].complete for kind in _RECORDED):
            return
        keys = {RECORDINGS: recordings, PODS: pods, NAMESPACES: namespaces}
        self._memory.keep(
            {kind.plural: [self.by_kind[kind].body(key) for key in sorted(keys[kind])] for kind in keys}
        )

    def recall(self) -> bool:
        """Take what was kept for what there is, as far as nothing has been heard; whether that was so."""
        unheard = [kind for kind in _RECORDED if not self.by_kind[kind].known]
        if unheard:
            remembered = self._memory.recall()
            for kind in unheard:
                self.by_kind[kind].recall(remembered.get(kind.plural, ()))
        return bool(unheard)

    def _unreadable(self, kind: Kind, key: str, error: InvalidObjectError) -> None:
        self._log.error("an object cannot be read", kind=kind.kind, name=key, why=error)
