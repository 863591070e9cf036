"""What recordings have come to: totals, and what is not as it should be, from objects. Pure."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podcam.cluster.agents import Agent
from podcam.cluster.preview import Preview
from podcam.cluster.recordings import Point, points_of
from podcam.cluster.targets import choice_of
from podcam.model.text import printable

_MOST_NAMED = 8
"""Pods named one by one; the rest is counted."""
_AGENT_ENDED = "AgentEnded"
"""The reason of points that wait for the next agent of their node."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the nodes of a recording, since each agent's start."""

    recorded: int
    concerned: int
    ended: int
    ring_bytes: int
    dropped: int | None
    """None when a node cannot tell."""
    failures: int
    suppressed: int


def totals_of(recording: Mapping[str, Any]) -> Totals:
    """What the agents report of a recording, together."""
    nodes = list(recording.get("status", {}).get("nodes", {}).values())
    points = points_of(recording)
    live = [point for point in points if point.state != "Ended"]
    dropped = [node.get("dropped") for node in nodes]
    return Totals(
        recorded=sum(point.state == "Recording" for point in live),
        concerned=len(live),
        ended=len(points) - len(live),
        ring_bytes=sum(node.get("ringBytes") or 0 for node in nodes),
        dropped=None if None in dropped else sum(count or 0 for count in dropped),
        failures=sum(node.get("failures") or 0 for node in nodes),
        suppressed=sum(node.get("suppressed") or 0 for node in nodes),
    )


def target_text(recording: Mapping[str, Any]) -> str:
    """What the recording is of: `deployment/web`, or its selector or pods."""
    choice = choice_of(recording)
    return printable(str(choice) if choice.target or choice.pods else choice.label_selector)


def traffic_text(recording: Mapping[str, Any]) -> str:
    """Which packets: `port 5432, host db.example`."""
    spec = recording["spec"]
    parts = [f"port {port}" for port in spec.get("ports", [])] + [
        f"host {host}" for host in spec.get("hosts", [])
    ]
    if spec.get("payload") is not None:
        parts.append("headers only" if spec["payload"] == 0 else f"{spec['payload']} bytes of payload")
    return ", ".join(parts) or "all traffic"


def problems_of(
    recording: Mapping[str, Any], seen: Preview | None, agents: Sequence[Agent] | None
) -> Iterator[str]:
    """What is not as it should be, a sentence each.

    Args:
        recording: the object.
        seen: the pods that match now; None when the caller may not list them.
        agents: None when the caller may not list them.
    """
    points = points_of(recording)
    there = None if seen is None else {(pod, share.node) for share in seen.shares for pod in share.pods}
    working = None if agents is None else {agent.node for agent in agents if agent.ready}
    missed = [
        Missed(point.pod, point.node, reason_of(point, agents))
        for point in points
        if _is_missed(point, there, working)
    ]
    if seen is not None:
        reported = {(point.pod, point.node) for point in points}
        missed += [
            Missed(pod, share.node, why_no_report(share.node, agents))
            for share in seen.shares
            for pod in share.pods
            if (pod, share.node) not in reported
        ]
        missed += [
            Missed(refusal.pod, refusal.node, refusal.why)
            for refusal in seen.refusals
            if (refusal.pod, refusal.node) not in reported
        ]
    yield from told_together(missed)
    yield from _told_by_nodes(recording)


def _is_last_word(point: Point) -> bool:
    """Whether this stands in the status for as long as no agent says something else."""
    return point.state == "Recording" or point.reason == _AGENT_ENDED


def _is_missed(
    point: Point, there: Container[tuple[str, str]] | None, working: Container[str] | None
) -> bool:
    """Whether a point is to be told of, given the pods that there are and the nodes whose agent is ready."""
    if not _is_last_word(point):
        return point.state in {"Waiting", "Refused"}
    if there is not None and (point.pod, point.node) not in there:
        return False
    return point.state != "Recording" or (working is not None and point.node not in working)


def _told_by_nodes(recording: Mapping[str, Any]) -> Iterator[str]:
    for node, entry in sorted(recording.get("status", {}).get("nodes", {}).items()):
        for warning in entry.get("warnings", []):
            yield f"{node}: {warning}"
        if entry.get("dropped"):
            yield f"{node}: the kernel dropped {entry['dropped']:,} packets"
        if entry.get("suppressed"):
            count = entry["suppressed"]
            yield (
                f"{node}: {count:,} failure{'s' * (count > 1)} made no clip, as one of the same server and "
                "class was made shortly before, or "
                f"{recording['spec'].get('triggers', {}).get('clipsPerHour', 12)} within the hour"
            )


@dataclass(frozen=True, slots=True)
class Missed:
    """A pod that is not recorded."""

    pod: str
    node: str
    why: str


def told_together(missed: Iterable[Missed]) -> Iterator[str]:
    """A sentence for all pods of a node that are not recorded for the same reason."""
    pods: dict[tuple[str, str], list[str]] = {}
    for each in missed:
        pods.setdefault((each.node, each.why), []).append(each.pod)
    for (node, why), names in pods.items():
        shown = ", ".join(names[:_MOST_NAMED])
        others = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        many = len(names) > 1
        yield f"{shown}{others} on {node or 'no node yet'} {'are' if many else 'is'} not recorded: {why}"


def reason_of(point: Point, agents: Sequence[Agent] | None) -> str:
    """Why a point is not recorded: as its agent says it, unless that one says nothing any more."""
    if agents is not None and _is_last_word(point):
        return why_no_report(point.node, agents)
    return point.message or point.reason or f"it is {point.state.lower()}"


def why_no_report(node: str, agents: Sequence[Agent] | None) -> str:
    """Why nothing is known of pods on a node; `agents` is None when the caller may not list them."""
    if agents is None:
        return f"the agent of {node} has not reported"
    of_node = [each for each in agents if each.node == node]
    if not of_node:
        return f"{node} has no agent (`kubectl podcam doctor` says why)"
    if not any(each.ready for each in of_node):
        return f"the agent of {node} is not ready: {of_node[-1].why_not}"
    return f"the agent of {node} has not reported it yet"
