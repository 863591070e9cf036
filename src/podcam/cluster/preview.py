"""What a recording would mean, told before it starts: which pods, and how much of which node's disk.

Pure: from objects of the API server to sentences' facts.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podcam.kube import ALLOW_HOST_NETWORK, NamespaceLimits, Pod, parse_quantity, sandbox_of

BUDGET_FRACTION = 0.1
"""Of a node's file system: what an agent takes for all rings and clips unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A pod that matches and cannot be recorded."""

    pod: str
    node: str
    why: str


@dataclass(frozen=True, slots=True)
class NodeShare:
    """What a recording takes on one node at most."""

    node: str
    pods: tuple[str, ...]
    ring_bytes: int
    disk_bytes: int | None
    """The node's file system for pods; None when it is not known."""

    @property
    def budget_bytes(self) -> int | None:
        """What the agent there takes for everything, unless told otherwise."""
        return None if self.disk_bytes is None else int(self.disk_bytes * BUDGET_FRACTION)


@dataclass(frozen=True, slots=True)
class Preview:
    """The pods that match now."""

    shares: tuple[NodeShare, ...]
    unscheduled: tuple[str, ...]
    """Match, but have no node yet: they are recorded once they have."""
    refusals: tuple[Refusal, ...]
    most_payload_bytes: int | None = None
    """What the namespace allows to be kept of a packet's payload; None: all, or the caller may not see it."""

    @property
    def pods(self) -> frozenset[str]:
        """Those that are about to be recorded."""
        return frozenset(pod for share in self.shares for pod in share.pods)


def preview(
    pods: Iterable[Pod],
    *,
    ring_bytes: int,
    host_network: bool,
    limits: NamespaceLimits | None,
    handlers: Mapping[str, str],
    disks: Mapping[str, int],
) -> Preview:
    """What recording `pods` means.

    Args:
        pods: those that match.
        ring_bytes: what a ring takes at most.
        host_network: whether pods that share their node's network are wanted.
        limits: what the namespace allows; None when the caller may not see it.
        handlers: the runtime's handler of each runtime class that is known.
        disks: the size in bytes of each node's file system, where known.
    """
    on_node: dict[str, list[str]] = defaultdict(list)
    refusals = []
    unscheduled = []
    for pod in pods:
        if pod.finished or pod.deleting:
            continue
        why = _refusal(pod, host_network=host_network, limits=limits, handlers=handlers)
        if why is not None:
            refusals.append(Refusal(pod.name, pod.node or "", why))
        elif not pod.node:
            unscheduled.append(pod.name)
        else:
            on_node[pod.node].append(pod.name)
    return Preview(
        shares=tuple(
            NodeShare(node, tuple(sorted(names)), ring_bytes * len(names), disks.get(node))
            for node, names in sorted(on_node.items())
        ),
        unscheduled=tuple(sorted(unscheduled)),
        refusals=tuple(refusals),
        most_payload_bytes=None if limits is None else limits.max_payload_bytes,
    )


def _refusal(
    pod: Pod, *, host_network: bool, limits: NamespaceLimits | None, handlers: Mapping[str, str]
) -> str | None:
    if pod.host_network and not host_network:
        return (
            "it shares its node's network, so recording it would record the node; if that is wanted, "
            "say --host-network"
        )
    if pod.host_network and limits is not None and not limits.allow_host_network:
        return (
            "it shares its node's network, which its namespace does not let recordings in: "
            f"kubectl annotate namespace {pod.namespace} {ALLOW_HOST_NETWORK}=true"
        )
    if pod.runtime_class:
        handler = handlers.get(pod.runtime_class, pod.runtime_class)
        if is_sandboxed(handler):
            return (
                f"its runtime class {pod.runtime_class} gives it a kernel of its own, which its node cannot "
                "look into; record the other side of its connections"
            )
    return None


def is_sandboxed(handler: str) -> bool:
    """Whether this handler of a runtime class gives pods a kernel of their own."""
    return sandbox_of(handler) is not None


def disks_of(nodes: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Each node's file system for pods, in bytes, as its kubelet reports it."""
    found = {}
    for node in nodes:
        size = node.get("status", {}).get("capacity", {}).get("ephemeral-storage")
        if size:
            found[node["metadata"]["name"]] = parse_quantity(size)
    return found
