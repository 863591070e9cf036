"""Kubernetes Events: what people who look at a recording or a clip should be told."""

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from podcam.agent.writes import Outbox
from podcam.kube import EVENTS, Api, Kind, format_time, path_of

_REPEAT_NS = 600 * 1_000_000_000
"""The same about the same object is said again after this time only."""
_MOST_KNOWN = 1024
_MOST_IN_A_ROW = 20
_REFILL_NS = 30 * 1_000_000_000
"""One more event may be sent whenever this time has passed: the API server keeps events for everybody."""
_LONGEST_NOTE = 1024


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event is about."""

    kind: Kind
    namespace: str
    name: str
    uid: str


class Announcements:
    """Sends events, and fewer of them when there is much to say.

    Args:
        writes: the requests to the API server.
        node: where this agent is.
        pod: the agent's own.
        now_ns: the wall clock.
    """

    def __init__(self, writes: Outbox, node: str, pod: str, now_ns: Callable[[], int]) -> None:
        self.suppressed = 0
        self._writes = writes
        self._node = node
        self._pod = pod
        self._now_ns = now_ns
        self._said: OrderedDict[tuple[str, str, str], int] = OrderedDict()
        self._left = _MOST_IN_A_ROW
        self._refilled_ns = now_ns()

    def warn(self, subject: Subject, reason: str, note: str) -> None:
        """Something is not as people would expect it."""
        if not self._may(subject, reason, note):
            self.suppressed += 1
            return
        body = self._body(subject, reason, note)
        path = path_of(EVENTS, subject.namespace)

        def send(api: Api) -> None:
            api.create(path, body)

        self._writes.put(f"events/{subject.namespace}/{body['metadata']['name']}", send, insist=False)

    def _may(self, subject: Subject, reason: str, note: str) -> bool:
        now_ns = self._now_ns()
        key = (subject.uid, reason, note)
        last_ns = self._said.get(key)
        if last_ns is not None and 0 <= now_ns - last_ns < _REPEAT_NS:
            return False
        refills = max(0, now_ns - self._refilled_ns) // _REFILL_NS
        if refills or now_ns < self._refilled_ns:
            self._refilled_ns = now_ns
            self._left = min(_MOST_IN_A_ROW, self._left + refills)
        if not self._left:
            return False
        self._left -= 1
        self._said.pop(key, None)
        self._said[key] = now_ns
        while len(self._said) > _MOST_KNOWN:
            self._said.popitem(last=False)
        return True

    def _body(self, subject: Subject, reason: str, note: str) -> dict[str, Any]:
        moment = format_time(self._now_ns())
        seconds = f"{moment[:19]}Z"
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {
                "name": f"{subject.name[:200]}.{secrets.token_hex(8)}",
                "namespace": subject.namespace,
            },
            "involvedObject": {
                "apiVersion": subject.kind.api_version,
                "kind": subject.kind.kind,
                "namespace": subject.namespace,
                "name": subject.name,
                "uid": subject.uid,
            },
            "type": "Warning",
            "reason": reason,
            "message": note[:_LONGEST_NOTE],
            "firstTimestamp": seconds,
            "lastTimestamp": seconds,
            "count": 1,
            "source": {"component": "podcam-agent", "host": self._node},
            "reportingComponent": "podcam.dev/agent",
            "reportingInstance": self._pod,
        }
