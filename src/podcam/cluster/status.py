"""What recordings have come to: totals, and what is not as it should be, from objects. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podcam.cluster.agents import Agent
from podcam.cluster.preview import Preview
from podcam.cluster.recordings import Point, points_of
from podcam.cluster.targets import choice_of
from podcam.model.text import printable

_MOST_NAMED = 8
"""Pods named one by one; the rest is counted."""


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
    missed = [
        Missed(point.pod, point.node, reason_of(point))
        for point in points
        if point.state in {"Waiting", "Refused"}
    ]
    if seen is not None:
        reported = {point.pod for point in points}
        missed += [
            Missed(pod, share.node, why_no_report(share.node, agents))
            for share in seen.shares
            for pod in share.pods
            if pod not in reported
        ]
        missed += [
            Missed(refusal.pod, refusal.node, refusal.why)
            for refusal in seen.refusals
            if refusal.pod not in reported
        ]
    yield from told_together(missed)
    yield from _told_by_nodes(recording)


def _told_by_nodes(recording: Mapping[str, Any]) -> Iterator[str]:
    for node, entry in sorted(recording.get("status", {}).get("nodes", {}).items()):
        for warning in entry.get("warnings", []):
            yield f"{node}: {warning}"
        if entry.get("dropped"):
            yield f"{node}: the kernel dropped {entry['dropped']:,} packets"
        if entry.get("suppressed"):
            yield (
                f"{node}: {entry['suppressed']:,} failures made no clip, as there were more than "
                f"{recording['spec'].get('triggers', {}).get('clipsPerHour', 12)} in an hour"
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


def reason_of(point: Point) -> str:
    """Why a point is in its state, as its agent says it."""
    return point.message or point.reason or f"it is {point.state.lower()}"


def why_no_report(node: str, agents: Sequence[Agent] | None) -> str:
    """Why nothing is known of pods on a node; `agents` is None when the caller may not list them."""
    if agents is None:
        return f"the agent of {node} has not reported"
    agent = next((each for each in agents if each.node == node), None)
    if agent is None:
        return f"{node} has no agent (`kubectl podcam doctor` says why)"
    if not agent.ready:
        return f"the agent of {node} is not ready: {agent.why_not}"
    return f"the agent of {node} has not reported it yet"
