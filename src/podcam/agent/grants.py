"""Grants as the watch tells them, for the threads that serve packets."""

import threading
import time
from collections.abc import Callable

from podcam.agent.http import GRANT_LIFE_NS
from podcam.agent.naming import Name
from podcam.agent.writes import Outbox
from podcam.kube import GRANTS, Api, Grant, path_of


class Grants:
    """All grants of the cluster.

    Args:
        writes: the requests to the API server.
        serves: whether this node has a part of a clip.
        stands: whether there is such a clip.
        turn: from 0 to 1, which agent of all is to delete what none can serve any more.
        now_ns: the wall clock.
    """

    def __init__(
        self,
        writes: Outbox,
        serves: Callable[[Name], bool],
        stands: Callable[[Name], bool],
        turn: float,
        now_ns: Callable[[], int],
    ) -> None:
        self._writes = writes
        self._serves = serves
        self._stands = stands
        self._stranger_ns = int(turn * GRANT_LIFE_NS)
        self._now_ns = now_ns
        self._news = threading.Condition()
        self._known: dict[str, Grant] = {}

    def changed(self, key: str, grant: Grant) -> None:
        """There is a grant."""
        with self._news:
            self._known[key] = grant
            self._news.notify_all()

    def gone(self, key: str) -> None:
        """It was deleted."""
        with self._news:
            self._known.pop(key, None)

    def find(self, namespace: str, name: str, wait_seconds: float) -> Grant | None:
        """The grant of this name, if it comes within that time. From any thread."""
        key = f"{namespace}/{name}"
        deadline = time.monotonic() + wait_seconds
        with self._news:
            while (grant := self._known.get(key)) is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._news.wait(left)
            return grant

    def expire(self) -> None:
        """Delete the grants that are of no use any more, if this agent could have served them.

        Those of clips that are gone, whose readers were killed, are anybody's: agents spread over an hour,
        so that the first one deletes it before the others come to it.
        """
        before_ns = self._now_ns() - GRANT_LIFE_NS
        with self._news:
            old = [(key, grant) for key, grant in self._known.items() if grant.created_ns < before_ns]
        for key, grant in old:
            clip = Name(grant.namespace, grant.clip)
            orphan = grant.created_ns < before_ns - self._stranger_ns and not self._stands(clip)
            if orphan or self._serves(clip):
                self._delete(key, grant)

    def _delete(self, key: str, grant: Grant) -> None:
        def send(api: Api) -> None:
            api.delete(path_of(GRANTS, grant.namespace, grant.name), preconditions={"uid": grant.uid})

        self._writes.put(f"grant/{key}/delete", send, insist=False)
