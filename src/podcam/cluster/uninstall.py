"""Taking Podcam out of a cluster again, the files on its nodes included.

The kubelet never reclaims a hostPath. So, once the agents have gone, a short-lived pod on each node removes
the agents' folder. It has no capability and no token, only that folder's parent, and runs the agent's own
image, which is on the node already. No agent has to do anything for it: it works where they never came up.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from podcam.cluster.agents import DAEMON_SET, DAEMON_SETS, LABELS, NAMESPACE
from podcam.cluster.nodes import Node, nodes_of
from podcam.cluster.recordings import MANAGER
from podcam.cluster.waiting import collections
from podcam.errors import NotFoundError
from podcam.kube import CLIPS, NAMESPACES, PODS, RECORDINGS, Api, Kind, list_objects, path_of

_CLEANER = "podcam-clean-up"
_CLEANERS = f"app.kubernetes.io/name={_CLEANER}"
_DATA_VOLUME = "podcam"
_DEFAULT_FOLDER = "/var/lib/podcam"
_CONSTRAINTS = Kind(
    "security.openshift.io",
    "v1",
    "securitycontextconstraints",
    "SecurityContextConstraints",
    namespaced=False,
)
_ENDED = frozenset({"Succeeded", "Failed"})
_REMOVE = """\
import pathlib, shutil, sys
folder = pathlib.Path("/node") / sys.argv[1]
if folder.exists():
    shutil.rmtree(folder)
"""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What there is to take out."""

    installed: bool
    """Whether there are agents, the custom resources, or the namespace."""
    recordings: int
    clips: int
    daemon_set: Mapping[str, Any] | None
    nodes: tuple[Node, ...]
    """Those that an agent can be on."""
    openshift: bool

    @property
    def folder(self) -> str:
        """The agents' folder on each node."""
        template = self.daemon_set["spec"]["template"]["spec"] if self.daemon_set else {}
        paths = (
            str(volume["hostPath"]["path"])
            for volume in template.get("volumes", [])
            if volume["name"] == _DATA_VOLUME
        )
        return next(paths, _DEFAULT_FOLDER)


def take_inventory(api: Api) -> Inventory:
    """Look at what there is, in all namespaces."""
    recordings, clips = _count(api, RECORDINGS), _count(api, CLIPS)
    daemon_set = _get(api, path_of(DAEMON_SETS, NAMESPACE, DAEMON_SET))
    namespace = _get(api, path_of(NAMESPACES, name=NAMESPACE))
    return Inventory(
        installed=any(each is not None for each in (recordings, clips, daemon_set, namespace)),
        recordings=recordings or 0,
        clips=clips or 0,
        daemon_set=daemon_set,
        nodes=tuple(each for each in nodes_of(api) if not each.why_no_agent),
        openshift=_get(api, path_of(_CONSTRAINTS, name=DAEMON_SET)) is not None,
    )


def _count(api: Api, kind: Kind) -> int | None:
    """How many there are; None where the API server does not know the kind."""
    try:
        return len(list_objects(api, kind).objects)
    except NotFoundError:
        return None


def _get(api: Api, path: str) -> dict[str, Any] | None:
    try:
        return api.get(path)
    except NotFoundError:
        return None


def remove_agents(api: Api, inventory: Inventory, *, timeout_seconds: float) -> list[str]:
    """End all agents; returns the nodes on which one has not ended in time.

    Agents on nodes that are down are forgotten by force: nothing there can say that they have ended, and
    their namespace would wait for that for ever.
    """
    with suppress(NotFoundError):
        api.delete(path_of(DAEMON_SETS, NAMESPACE, DAEMON_SET), propagationPolicy="Background")
    down = {each.name for each in inventory.nodes if not each.ready}
    left: Mapping[str, Mapping[str, Any]] = {}
    for left in collections(api, PODS, NAMESPACE, label_selector=LABELS, timeout_seconds=timeout_seconds):
        if not left:
            return []
        for name, pod in left.items():
            if pod["spec"].get("nodeName") in down:
                _delete_pod(api, name, force=True)
    return sorted(pod["spec"].get("nodeName", "?") for pod in left.values())


def _delete_pod(api: Api, name: str, *, force: bool) -> None:
    with suppress(NotFoundError):
        api.delete(path_of(PODS, NAMESPACE, name), **({"gracePeriodSeconds": 0} if force else {}))


def clean_nodes(api: Api, inventory: Inventory, *, timeout_seconds: float) -> Iterator[tuple[str, str]]:
    """Remove the agents' folder on every node; yields each with why it still has it, "" when it has not."""
    if inventory.daemon_set is None:
        return
    waiting = {}
    for each in inventory.nodes:
        if each.ready:
            cleaner = cleaner_of(inventory.daemon_set, inventory.folder, each.name)
            _delete_pod(api, cleaner["metadata"]["name"], force=True)
            api.create(path_of(PODS, NAMESPACE), cleaner, manager=MANAGER)
            waiting[cleaner["metadata"]["name"]] = each.name
        else:
            yield each.name, "the node is not ready"
    last: Mapping[str, Mapping[str, Any]] = {}
    if waiting:
        for last in collections(
            api, PODS, NAMESPACE, label_selector=_CLEANERS, timeout_seconds=timeout_seconds
        ):
            for name in [name for name in waiting if _phase(last, name) in _ENDED]:
                yield waiting.pop(name), _complaint(last[name])
                _delete_pod(api, name, force=False)
            if not waiting:
                break
    for name, node_name in waiting.items():
        yield node_name, f"the pod that cleans up did not end within {timeout_seconds:.0f} s"
        _delete_pod(api, name, force=True)


def _phase(pods: Mapping[str, Mapping[str, Any]], name: str) -> str:
    return str(pods.get(name, {}).get("status", {}).get("phase", ""))


def _complaint(pod: Mapping[str, Any]) -> str:
    if pod["status"]["phase"] == "Succeeded":
        return ""
    states = [each.get("state", {}) for each in pod["status"].get("containerStatuses", [])]
    said = [state["terminated"].get("message", "") for state in states if "terminated" in state]
    return " ".join(filter(None, said)).strip().rpartition("\n")[2] or pod["status"].get(
        "message", "it failed"
    )


def cleaner_of(daemon_set: Mapping[str, Any], folder: str, node_name: str) -> dict[str, Any]:
    """The pod that removes `folder` on a node: with the agent's image and confinement, none of its rights."""
    template = daemon_set["spec"]["template"]
    agent = template["spec"]["containers"][0]
    place = PurePosixPath(folder)
    digest = hashlib.sha256(node_name.encode()).hexdigest()[:10]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{_CLEANER}-{digest}",
            "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/name": _CLEANER},
            "annotations": dict(template["metadata"].get("annotations", {})),
        },
        "spec": {
            "nodeName": node_name,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": 300,
            "terminationGracePeriodSeconds": 0,
            "serviceAccountName": template["spec"].get("serviceAccountName", "default"),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "tolerations": [{"operator": "Exists"}],
            "securityContext": template["spec"].get("securityContext", {}),
            "imagePullSecrets": template["spec"].get("imagePullSecrets", []),
            "containers": [
                {
                    "name": "clean-up",
                    "image": agent["image"],
                    "imagePullPolicy": agent.get("imagePullPolicy", "IfNotPresent"),
                    "command": ["python3", "-c", _REMOVE, place.name],
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "securityContext": {
                        "runAsUser": 0,
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "parent", "mountPath": "/node"}],
                }
            ],
            "volumes": [
                {"name": "parent", "hostPath": {"path": str(place.parent), "type": "Directory"}},
            ],
        },
    }
