"""Bringing Podcam into a cluster, and seeing whether it has arrived."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from podcam.cluster.agents import DAEMON_SET, DAEMON_SETS, NAMESPACE
from podcam.cluster.kubectl import Kubectl
from podcam.cluster.manifests import to_text
from podcam.cluster.waiting import states
from podcam.kube import Api

_MANAGER = "podcam-install"


def apply(
    kubectl: Kubectl, objects: Sequence[dict[str, Any]], *, dry_run: bool = False, force: bool = False
) -> str:
    """Apply them server-side, in their order; returns what kubectl says of each.

    Raises KubernetesError, also where another manager owns a field and `force` is not given.
    """
    return kubectl.run(
        "apply",
        "--server-side",
        f"--field-manager={_MANAGER}",
        *(["--force-conflicts"] if force else []),
        *(["--dry-run=server"] if dry_run else []),
        "-f",
        "-",
        given=to_text(list(objects)),
    )


@dataclass(frozen=True, slots=True)
class Arrival:
    """How many of the agents are there, and are of the version that is wanted."""

    ready: int
    wanted: int
    settled: bool
    """Whether the numbers are of the DaemonSet as it is now."""

    @property
    def complete(self) -> bool:
        """Whether every node that can have an agent has one."""
        return self.settled and self.ready >= self.wanted


def arrivals(api: Api, *, timeout_seconds: float) -> Iterator[Arrival]:
    """How far the agents have come, each time that it changes."""
    for daemon_set in states(api, DAEMON_SETS, NAMESPACE, DAEMON_SET, timeout_seconds=timeout_seconds):
        if daemon_set is not None:
            yield arrival(daemon_set)


def arrival(daemon_set: dict[str, Any]) -> Arrival:
    """How far the agents have come, as the DaemonSet's status has it."""
    status = daemon_set.get("status", {})
    wanted = status.get("desiredNumberScheduled", 0)
    # While an update rolls on, agents of the older version are ready, too.
    ready = min(status.get("numberReady", 0), status.get("updatedNumberScheduled", 0))
    settled = status.get("observedGeneration", 0) >= daemon_set["metadata"].get("generation", 0)
    return Arrival(ready, wanted, settled)
