"""Nodes: which can have an agent, and what is to be known of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podcam.kube import NODES, Api, list_objects

_VIRTUAL = (("type", "virtual-kubelet"), ("eks.amazonaws.com/compute-type", "fargate"))
"""Labels of nodes that are none: no DaemonSet runs there."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster."""

    name: str
    ready: bool
    why_no_agent: str
    """Why an agent cannot be there at all; "" where it can."""
    runtime: str
    disk_pressure: bool


def node(body: Mapping[str, Any]) -> Node:
    """The node of an object."""
    status = body.get("status", {})
    labels = body["metadata"].get("labels", {})
    info = status.get("nodeInfo", {})
    conditions = {each["type"]: each["status"] for each in status.get("conditions", [])}
    system = labels.get("kubernetes.io/os") or info.get("operatingSystem", "linux")
    why = ""
    if any(labels.get(key) == value for key, value in _VIRTUAL):
        why = "it is a virtual node, on which no DaemonSet runs: record there with a sidecar or `podcam wrap`"
    elif system != "linux":
        why = f"it runs {system}, and only Linux can be recorded"
    return Node(
        name=body["metadata"]["name"],
        ready=conditions.get("Ready") == "True",
        why_no_agent=why,
        runtime=info.get("containerRuntimeVersion", ""),
        disk_pressure=conditions.get("DiskPressure") == "True",
    )


def nodes_of(api: Api) -> list[Node]:
    """All nodes, by name. Raises ForbiddenError where the caller may not list them."""
    return sorted(map(node, list_objects(api, NODES).objects), key=lambda each: each.name)
