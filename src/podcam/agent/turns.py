"""Which agent writes what all agents know: no leader, and yet not all at once.

Every agent sees the same object, and computes the same merged fields of its status from what each node has
written there. Those of an object that stand wrong are written by the agent whose node has the lowest name of
all that have an entry; each next one waits longer, and writes only if they still stand wrong by then. So an
object costs one write as a rule, and an agent that is away costs two seconds.
"""

import json
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

_STEP_NS = 2_000_000_000
"""How much longer each agent waits than the one before it: a write has come back by the watch by then."""
_STRANGERS = 16
"""Agents without an entry wait longest, spread over so many steps."""
_AGAIN_NS = 10_000_000_000
"""How long an agent waits for its own write to come back before it writes again."""


@dataclass(slots=True)
class Turn:
    """When it is this agent's turn to write the merged fields of one object."""

    node: str
    _wanted: str | None = None
    _since_ns: int = 0
    _not_before_ns: int = 0

    def due(self, fields: Mapping[str, Any] | None, reporters: Collection[str], now_ns: int) -> int | None:
        """When to write these fields: `now_ns` for at once, later for then, None for not at all.

        Who is told to write at once does so: asked again, it is told to wait for what it wrote to come back.

        Args:
            fields: what has to be written as the object stands now, None when it is right.
            reporters: the nodes that have an entry in it.
            now_ns: the monotonic clock.
        """
        if fields is None:
            self._wanted = None
            return None
        wanted = json.dumps(without_times(fields), sort_keys=True)
        if wanted != self._wanted:
            self._wanted, self._since_ns, self._not_before_ns = wanted, now_ns, now_ns
        due_ns = max(self._since_ns + self._rank(reporters) * _STEP_NS, self._not_before_ns)
        if due_ns > now_ns:
            return due_ns
        self._not_before_ns = now_ns + _AGAIN_NS
        return now_ns

    def _rank(self, reporters: Collection[str]) -> int:
        if self.node in reporters:
            return sum(other < self.node for other in reporters)
        return len(reporters) + zlib.crc32(self.node.encode()) % _STRANGERS


def without_times(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Merged fields without the times of their conditions, which depend on who computed them, and when."""
    bare = dict(fields)
    if "conditions" in bare:
        bare["conditions"] = [
            {key: value for key, value in condition.items() if key != "lastTransitionTime"}
            for condition in bare["conditions"]
        ]
    return bare


def amended(status: Mapping[str, Any], fields: Mapping[str, Any], now: str) -> dict[str, Any] | None:
    """What has to be written for the status to have these fields; None when it has them.

    Args:
        status: of the object, as it stands.
        fields: as they should be; conditions without their times, each type at most once.
        now: the time of a condition that changes, as it stands in JSON.
    """
    before = {condition["type"]: condition for condition in status.get("conditions") or ()}
    conditions = []
    for condition in fields.get("conditions", ()):
        last = before.get(condition["type"], {})
        unchanged = last.get("status") == condition["status"] and "lastTransitionTime" in last
        conditions.append(
            {**condition, "lastTransitionTime": last["lastTransitionTime"] if unchanged else now}
        )
    wanted = {**fields, "conditions": conditions}
    standing = {key: status.get(key) for key in wanted if key != "conditions"}
    standing["conditions"] = [before.get(condition["type"]) for condition in conditions]
    return None if standing == wanted else wanted
