"""The status of a `Clip`: the part that this node keeps, and whether all parts are there.

Pure: times come in, and what goes out is the JSON of `status.parts[NODE]` and of the merged fields.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from podcam.agent import turns
from podcam.agent.recording_status import PointState
from podcam.kube import format_time, parse_time
from podcam.model.point import Gap, Window

_SECOND_NS = 1_000_000_000

_PATIENCE_NS = 60 * _SECOND_NS
"""What has not been reported so long after the window's end is missing."""
_PROGRESS_EVERY_NS = 30 * _SECOND_NS
"""How often a part that grows while its window is open makes a write."""

_LONGEST_SENTENCE = 1024
_MOST_GAPS = 64
_MOST_NAMED = 10


class PartState(StrEnum):
    """What became of a node's part of a clip."""

    FREEZING = "Freezing"
    COMPLETE = "Complete"
    NOTHING = "Nothing"
    """No ring of the node reached the window."""
    FAILED = "Failed"
    REMOVED = "Removed"
    """It was there, and its room was needed."""


@dataclass(frozen=True, slots=True)
class PodPart:
    """What a part holds of one pod; None is unknown."""

    pod: str
    packets: int | None
    bytes: int
    first_ns: int | None = None
    last_ns: int | None = None
    dropped: int | None = None
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """What an agent has to say of its part of a clip, and how to get it."""

    state: PartState
    window: Window
    agent_pod: str
    agent_port: int
    public_key: str
    """In base64."""
    pods: tuple[PodPart, ...] = ()
    message: str = ""


@dataclass(frozen=True, slots=True)
class Merge:
    """The fields that follow from all parts."""

    fields: Mapping[str, Any] | None
    """What has to be written; None when it stands so already."""
    again_ns: int | None = None
    """When to look again though nothing was heard: then what has not been reported is missing."""


def part_entry(part: Part, now_ns: int) -> dict[str, Any]:
    """`status.parts[NODE]`."""
    packets = [pod.packets for pod in part.pods if pod.packets is not None]
    body: dict[str, Any] = {
        "state": str(part.state),
        "window": {"start": format_time(part.window.start_ns), "end": format_time(part.window.end_ns)},
        "packets": sum(packets) if len(packets) == len(part.pods) else None,
        "bytes": sum(pod.bytes for pod in part.pods),
        "pods": [_pod(pod) for pod in sorted(part.pods, key=lambda pod: pod.pod)],
        "agent": {"pod": part.agent_pod, "port": part.agent_port},
        "publicKey": part.public_key,
        "updated": format_time(now_ns // 1_000_000 * 1_000_000),
    }
    if part.message:
        body["message"] = part.message[:_LONGEST_SENTENCE]
    return body


def part_due(fresh: Mapping[str, Any], standing: Mapping[str, Any] | None, now_ns: int) -> int | None:
    """When a part should be written: `now_ns` for at once, later for then, None for not at all.

    Args:
        fresh: the entry as it would be written now.
        standing: the entry as it was last seen in the object, or was last sent there.
        now_ns: the wall clock, which `updated` is compared with.
    """
    changed = {key for key in fresh.keys() | (standing or {}).keys() if _differs(fresh, standing or {}, key)}
    if not changed:
        return None
    growing = changed <= {"window", "packets", "bytes", "pods"} and fresh["state"] == PartState.FREEZING
    if standing is None or not growing:
        return now_ns
    return max(now_ns, min(parse_time(standing["updated"]), now_ns) + _PROGRESS_EVERY_NS)


def expected_nodes(
    named: Collection[str],
    clip: Mapping[str, Any],
    recording: Mapping[str, Any],
    *,
    pods: Collection[str] | None,
    window_end_ns: int,
) -> frozenset[str]:
    """The nodes whose parts are expected.

    Args:
        named: `spec.nodes` of the clip; empty where its maker did not know.
        clip: its status. Once it is settled, it says itself what was expected: the recording goes on, on
            other nodes too.
        recording: the recording's status, which counts where nothing was named; empty when it is gone.
        pods: `spec.pods`, which narrows that.
        window_end_ns: what began later is not concerned.
    """
    if named:
        return frozenset(named)
    if clip.get("state") in ("Complete", "Incomplete"):
        return frozenset(clip.get("parts") or ()) | frozenset(clip.get("missing") or ())
    return frozenset(
        node
        for node, entry in (recording.get("nodes") or {}).items()
        if any(_concerned(point, pods, window_end_ns) for point in entry.get("points") or ())
    )


def merged(status: Mapping[str, Any], expected: Collection[str], window_end_ns: int, now_ns: int) -> Merge:
    """The fields that follow from the parts of all nodes.

    Freezing until every part expected is there, or a minute has passed since the window's end; then Complete
    (where nothing was expected, too), or Incomplete. A part that is reported later is taken in.

    Args:
        status: of the clip, as it stands.
        expected: see `expected_nodes`. Parts of other nodes count too.
        window_end_ns: of the spec; parts may have extended it.
        now_ns: the wall clock.
    """
    parts = status.get("parts") or {}
    states = {node: parts[node]["state"] for node in parts}
    nodes = sorted(states.keys() | frozenset(expected))
    waiting = [node for node in nodes if states.get(node, PartState.FREEZING) == PartState.FREEZING]
    deadline_ns = max(window_end_ns, *_window_ends(parts.values()), 0) + _PATIENCE_NS
    over = now_ns >= deadline_ns or status.get("state") == "Incomplete"
    there = [node for node in nodes if states.get(node) in (PartState.COMPLETE, PartState.NOTHING)]
    if len(there) == len(nodes) and (nodes or over):
        state = "Complete"
    elif over or (nodes and not waiting):
        state = "Incomplete"
    else:
        state = "Freezing"
    missing = waiting if state == "Incomplete" else []
    value, reason, message = _condition(state, nodes, missing, parts)
    condition = {"type": "Complete", "status": value, "reason": reason, "message": message}
    fields = {
        "state": state,
        "partsComplete": f"{len(there)}/{len(nodes)}",
        "missing": missing,
        "conditions": [condition],
    }
    again = deadline_ns if state == "Freezing" else None
    return Merge(turns.amended(status, fields, format_time(now_ns // _SECOND_NS * _SECOND_NS)), again)


def _condition(
    state: str, nodes: Collection[str], missing: list[str], parts: Mapping[str, Any]
) -> tuple[str, str, str]:
    if state == "Complete" and not nodes:
        return "True", "NoRings", "no node has rings of this recording"
    if state == "Complete":
        held = any(part["state"] == PartState.COMPLETE for part in parts.values())
        return (
            ("True", "AllParts", "every part expected is there")
            if held
            else ("True", "NothingRecorded", "no ring holds packets of this window")
        )
    if state == "Freezing":
        return "Unknown", "Freezing", "the window is open, or nodes have yet to report"
    if missing:
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        return "False", "PartsMissing", f"not reported: {', '.join(missing[:_MOST_NAMED])}{more}"
    lost = {node: part for node, part in sorted(parts.items()) if part["state"] == PartState.FAILED}
    if lost:
        node, part = next(iter(lost.items()))
        more = f"; and {len(lost) - 1} more" if len(lost) > 1 else ""
        return "False", "PartsFailed", f"{node}: {part.get('message') or 'failed'}{more}"
    removed = [node for node, part in sorted(parts.items()) if part["state"] == PartState.REMOVED]
    more = f" and {len(removed) - _MOST_NAMED} more" if len(removed) > _MOST_NAMED else ""
    return "False", "PartsRemoved", f"removed for want of room: {', '.join(removed[:_MOST_NAMED])}{more}"


def _window_ends(parts: Iterable[Mapping[str, Any]]) -> list[int]:
    ends = [part.get("window", {}).get("end") for part in parts]
    return [parse_time(end) for end in ends if end]


def _concerned(point: Mapping[str, Any], pods: Collection[str] | None, window_end_ns: int) -> bool:
    """Whether a ring of this point may hold packets of a window."""
    if point["state"] == PointState.REFUSED or (pods is not None and point["pod"] not in pods):
        return False
    begun = point["state"] == PointState.ENDED or not point.get("since")
    return begun or parse_time(point["since"]) <= window_end_ns


def _differs(fresh: Mapping[str, Any], standing: Mapping[str, Any], key: str) -> bool:
    return key != "updated" and fresh.get(key) != standing.get(key)


def _pod(pod: PodPart) -> dict[str, Any]:
    return {
        "pod": pod.pod,
        "packets": pod.packets,
        "bytes": pod.bytes,
        "first": None if pod.first_ns is None else format_time(pod.first_ns),
        "last": None if pod.last_ns is None else format_time(pod.last_ns),
        "dropped": pod.dropped,
        "gaps": [_gap(gap) for gap in pod.gaps[:_MOST_GAPS]],
    }


def _gap(gap: Gap) -> dict[str, Any]:
    return {"since": format_time(gap.since_ns), "until": format_time(gap.until_ns), "reason": gap.reason}
