"""The agents of a cluster: on which nodes, whether they are ready, and why not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podcam.errors import ForbiddenError
from podcam.kube import PODS, Api, Kind, list_objects

NAMESPACE = "podcam-system"
"""Where the agents are."""
DAEMON_SET = "podcam-agent"
LABELS = "app.kubernetes.io/name=podcam-agent"
PORT = 9472
DAEMON_SETS = Kind("apps", "v1", "daemonsets", "DaemonSet")


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent's pod."""

    pod: str
    node: str
    ready: bool
    why_not: str
    """Why it is not ready; "" if it is."""
    node_lost: bool
    """Whether it is not ready because its node is not."""
    has_run: bool
    """Whether its container ever ran: without, there are no logs."""
    restarts: int
    image: str


def agents_of(api: Api) -> list[Agent]:
    """All agents. Raises ForbiddenError where the caller may not list them."""
    return [agent(pod) for pod in list_objects(api, PODS, namespace=NAMESPACE, label_selector=LABELS).objects]


def agents_or_none(api: Api) -> list[Agent] | None:
    """All agents; None where the caller may not list them."""
    try:
        return agents_of(api)
    except ForbiddenError:
        return None


def agent(pod: Mapping[str, Any]) -> Agent:
    """The agent of a pod object."""
    status = pod.get("status", {})
    containers = status.get("containerStatuses", [])
    conditions = {each["type"]: each["status"] for each in status.get("conditions", [])}
    leaving = "deletionTimestamp" in pod["metadata"]
    ready = not leaving and conditions.get("Ready") == "True"
    # A kubelet sets both alike, as the agent has no readiness gates. Where it is silent, the control plane
    # takes `Ready` back alone.
    lost = conditions.get("Ready") == "False" and conditions.get("ContainersReady") == "True"
    if ready:
        why_not = ""
    elif lost:
        why_not = "its node is not ready"
    else:
        why_not = "it is being deleted" if leaving else _why_not(status, containers)
    return Agent(
        pod=pod["metadata"]["name"],
        node=pod["spec"].get("nodeName") or _wanted_node(pod),
        ready=ready,
        why_not=why_not,
        node_lost=lost,
        has_run=any(map(_has_run, containers)),
        restarts=sum(container.get("restartCount", 0) for container in containers),
        image=next((container["image"] for container in pod["spec"]["containers"]), ""),
    )


def _wanted_node(pod: Mapping[str, Any]) -> str:
    """The node that the DaemonSet's pod is for, as its node affinity says, while it has none."""
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    for term in required.get("nodeSelectorTerms", []):
        for field in term.get("matchFields", []):
            if field["key"] == "metadata.name":
                return str(field["values"][0])
    return ""


def _has_run(container: Mapping[str, Any]) -> bool:
    states = (container.get("state", {}), container.get("lastState", {}))
    return any("running" in state or "terminated" in state for state in states)


def _why_not(status: Mapping[str, Any], containers: list[Mapping[str, Any]]) -> str:
    for container in containers:
        state = container.get("state", {})
        ended = state.get("terminated") or container.get("lastState", {}).get("terminated") or {}
        if "exitCode" in ended and "running" not in state:
            said = ended.get("message", "").strip().rpartition("\n")[2]
            return (
                f"it ended with code {ended['exitCode']}{f': {said}' if said else ''}, and is started again"
            )
        if waiting := state.get("waiting"):
            return ": ".join(filter(None, (waiting.get("reason"), waiting.get("message"))))
    for condition in status.get("conditions", []):
        if (
            condition["status"] == "False"
            and condition.get("message")
            and condition["type"] not in {"Ready", "ContainersReady"}
        ):
            return str(condition["message"])
    if any("running" in container.get("state", {}) for container in containers):
        return "it runs, but does not report that it is well yet"
    return f"it is {status.get('phase', 'Unknown').lower()}"
