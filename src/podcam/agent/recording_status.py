"""The status of a `Recording`: what this node's agent says there, and what follows from all that is said.

Pure: times come in, and what goes out is the JSON of `status.nodes[NODE]` and of the merged fields.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from podcam.agent import turns
from podcam.kube import format_time, parse_time

_SECOND_NS = 1_000_000_000

_COUNTERS_EVERY_NS = 30 * _SECOND_NS
"""How often counters alone make a write."""
_SIZES_EVERY_NS = 600 * _SECOND_NS
"""How often a ring that grew or shrank by a quarter makes one."""
_SETTLING_NS = 2 * _SECOND_NS
"""A point that waits is told of after so long: as a rule it is recorded by then."""

AGENT_ENDED = "AgentEnded"
"""The reason of points that wait for the next agent of their node."""

_MOST_ENDED = 20
_MOST_WARNINGS = 32
_LONGEST_SENTENCE = 1024
_MOST_NAMED = 5

_COUNTERS = ("dropped", "failures", "clips", "suppressed")


class PointState(StrEnum):
    """What becomes of a pod that a recording covers."""

    WAITING = "Waiting"
    RECORDING = "Recording"
    ENDED = "Ended"
    REFUSED = "Refused"


@dataclass(frozen=True, slots=True)
class PointStatus:
    """One pod, as the recording's status shows it."""

    pod: str
    state: PointState
    since_ns: int
    reason: str = ""
    """One word, for programs."""
    message: str = ""
    """A sentence, for people."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What an agent has to say of one recording; counters since the agent started."""

    points: tuple[PointStatus, ...]
    warnings: tuple[str, ...] = ()
    ring_bytes: int = 0
    dropped: int | None = 0
    failures: int = 0
    clips: int = 0
    suppressed: int = 0


def node_entry(status: NodeStatus, now_ns: int) -> dict[str, Any] | None:
    """`status.nodes[NODE]`; None when there is nothing to say, and an entry that stands there should go.

    Of ended points the last twenty are listed.
    """
    if not status.points and not status.warnings:
        return None
    ended = sorted(
        (point for point in status.points if point.state is PointState.ENDED),
        key=lambda point: (point.since_ns, point.pod),
        reverse=True,
    )
    unlisted = {point.pod for point in ended[_MOST_ENDED:]}
    warnings = list(status.warnings)
    if unlisted:
        warnings.append(f"{len(unlisted)} more pods that ended have a ring")
    return {
        "points": [
            _point(point)
            for point in sorted(status.points, key=lambda point: point.pod)
            if point.state is not PointState.ENDED or point.pod not in unlisted
        ],
        "warnings": [_cut(warning) for warning in warnings[:_MOST_WARNINGS]],
        "ringBytes": status.ring_bytes,
        "dropped": status.dropped,
        "failures": status.failures,
        "clips": status.clips,
        "suppressed": status.suppressed,
        "updated": _time(now_ns),
    }


def entry_due(fresh: Mapping[str, Any] | None, standing: Mapping[str, Any] | None, now_ns: int) -> int | None:
    """When an agent's entry should be written: `now_ns` for at once, later for then, None for not at all.

    What people wait for is written at once; counters every thirty seconds while they move; sizes seldom.

    Args:
        fresh: the entry as it would be written now, None for none.
        standing: the entry as it was last seen in the object, or was last sent there.
        now_ns: the wall clock, which `updated` is compared with.
    """
    if fresh is None:
        return None if standing is None else now_ns
    news_ns = _news_due(fresh, standing or {}, now_ns)
    if news_ns is not None or standing is None:
        return news_ns
    written_ns = min(parse_time(standing["updated"]), now_ns)
    if any(fresh[key] != standing.get(key) for key in _COUNTERS):
        return max(now_ns, written_ns + _COUNTERS_EVERY_NS)
    before = standing.get("ringBytes") or 0
    if abs(fresh["ringBytes"] - before) * 4 > max(fresh["ringBytes"], before):
        return max(now_ns, written_ns + _SIZES_EVERY_NS)
    return None


def merged(status: Mapping[str, Any], generation: int, now_ns: int) -> dict[str, Any] | None:
    """The fields that follow from the entries of all nodes; None when they stand so already.

    Args:
        status: of the recording, as it stands.
        generation: of its spec.
        now_ns: the wall clock, for a condition that changes.
    """
    pods = _latest_by_pod(status)
    concerned = [point for point in pods if point["state"] != PointState.ENDED]
    recorded = [point for point in concerned if point["state"] == PointState.RECORDING]
    value, reason, message = _condition(pods, concerned, recorded)
    condition = {
        "type": "Recording",
        "status": value,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
    }
    fields = {
        "observedGeneration": generation,
        "points": f"{len(recorded)}/{len(concerned)}",
        "conditions": [condition],
    }
    return turns.amended(status, fields, format_time(now_ns // _SECOND_NS * _SECOND_NS))


def _condition(
    pods: list[Mapping[str, Any]],
    concerned: list[Mapping[str, Any]],
    recorded: list[Mapping[str, Any]],
) -> tuple[str, str, str]:
    if not concerned:
        why = "the pods that it covered have ended" if pods else "it covers no pod that runs"
        return "False", "NoPods", why
    if len(recorded) == len(concerned):
        return "True", "AllPodsRecorded", _pods_are_recorded(len(recorded))
    others = [point for point in concerned if point["state"] != PointState.RECORDING]
    named = "; ".join(_why_not(point) for point in others[:_MOST_NAMED])
    more = f"; and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
    return (
        "False",
        "SomePodsNotRecorded",
        f"{len(recorded)} of {_pods_are_recorded(len(concerned))}: {named}{more}",
    )


def _pods_are_recorded(count: int) -> str:
    return "1 pod is recorded" if count == 1 else f"{count} pods are recorded"


def _why_not(point: Mapping[str, Any]) -> str:
    what = "waits" if point["state"] == PointState.WAITING else "is refused"
    message = str(point.get("message") or "")[:500]
    return f"{point['pod']} {what}: {message}" if message else f"{point['pod']} {what}"


def _latest_by_pod(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The points of all nodes, by name; of a pod that moved, the one on its last node."""
    latest: dict[str, tuple[tuple[int, str], Mapping[str, Any]]] = {}
    for node, entry in (status.get("nodes") or {}).items():
        for point in entry.get("points") or ():
            order = (parse_time(point["since"]) if point.get("since") else 0, node)
            known = latest.get(point["pod"])
            if known is None or order > known[0]:
                latest[point["pod"]] = order, point
    return [latest[pod][1] for pod in sorted(latest)]


def _news_due(fresh: Mapping[str, Any], standing: Mapping[str, Any], now_ns: int) -> int | None:
    """When to tell of points and warnings, leaving those that have just begun to wait their time."""
    since = {
        pod: since_ns
        for pod, since_ns in _waiting(fresh).items()
        if since_ns <= now_ns < since_ns + _SETTLING_NS  # one of the future says that the clock was set back
    }
    told = standing.get("points") or []
    if fresh["warnings"] != (standing.get("warnings") or []):
        return now_ns
    if _without(since, fresh["points"]) != _without(since, told):
        return now_ns
    if fresh["points"] != told:
        return min(since.values()) + _SETTLING_NS
    return None


def _waiting(entry: Mapping[str, Any]) -> dict[str, int]:
    """Since when pods wait, by name; those that wait for another agent are told of at once."""
    points = (
        point
        for point in entry["points"]
        if point["state"] == PointState.WAITING and point.get("reason") != AGENT_ENDED
    )
    return {point["pod"]: parse_time(point["since"]) for point in points}


def _without(pods: Container[str], points: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [point for point in points if point["pod"] not in pods]


def _point(point: PointStatus) -> dict[str, Any]:
    body = {"pod": point.pod, "state": str(point.state), "since": _time(point.since_ns)}
    if point.reason:
        body["reason"] = point.reason
    if point.message:
        body["message"] = _cut(point.message)
    return body


def _time(time_ns: int) -> str:
    """To the millisecond, which is what people can use."""
    return format_time(time_ns // 1_000_000 * 1_000_000)


def _cut(sentence: str) -> str:
    return sentence if len(sentence) <= _LONGEST_SENTENCE else f"{sentence[: _LONGEST_SENTENCE - 1]}…"
