"""The agent's pod is admitted where it belongs, refused elsewhere, and has the rights named: no more."""

import json
from pathlib import Path

import pytest
import yaml

from e2e.cluster import AGENTS, SYSTEM, Cluster, Object, wait_for

pytestmark = pytest.mark.usefixtures("installed")

_DEPLOY = Path(__file__).parents[2] / "deploy"


def test_every_node_gets_an_agent_with_exactly_these_rights(cluster: Cluster) -> None:
    nodes = {node["metadata"]["name"] for node in cluster.items("nodes")}

    def current_pods() -> list[Object] | None:
        daemons = cluster.get("daemonset/podcam-agent", "-n", SYSTEM)
        observed, updated = (
            daemons["status"].get(key) for key in ("observedGeneration", "updatedNumberScheduled")
        )
        if observed != daemons["metadata"]["generation"] or updated != len(nodes):
            return None
        pods = cluster.items("pods", "-n", SYSTEM, "-l", AGENTS)
        current = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return current if {pod["spec"].get("nodeName") for pod in current} == nodes else None

    for pod in wait_for("an agent's pod on every node", current_pods, 90):
        spec = pod["spec"]
        assert {name for name in ("hostPID", "hostNetwork", "hostIPC") if spec.get(name)} == set()
        assert spec["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "runAsUser": 0,
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN", "NET_RAW"]},
        }
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        folders = {
            volume["hostPath"]["path"]: bool(mounts[volume["name"]].get("readOnly"))
            for volume in spec["volumes"]
            if "hostPath" in volume
        }
        assert folders == {"/run/netns": True, "/var/lib/cni": True, "/var/lib/podcam": False}
        assert mounts["network-namespaces"]["mountPropagation"] == "HostToContainer"
        assert (spec["serviceAccountName"], spec["priorityClassName"]) == (
            "podcam-agent",
            "system-node-critical",
        )


def test_pod_security_admits_it_in_its_own_namespace_only(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=baseline")
    daemons = cluster.get("daemonset/podcam-agent", "-n", SYSTEM)
    spec = daemons["spec"]["template"]["spec"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "agent"}, "spec": spec}
    # An ordinary pod's: the question is what Pod Security says, not whether an account is there.
    elsewhere = pod | {"spec": spec | {"serviceAccountName": "default"}}

    cluster.kubectl("create", "--dry-run=server", "-n", SYSTEM, "-f", "-", given=json.dumps(pod))
    refused = cluster.refusal(
        "create", "--dry-run=server", "-n", namespace, "-f", "-", given=json.dumps(elsewhere)
    )
    assert 'violates PodSecurity "baseline:latest"' in refused
    assert "SYS_ADMIN" in refused
    assert "hostPath volumes" in refused


def test_the_namespace_says_that_it_is_privileged(cluster: Cluster) -> None:
    labels = cluster.get(f"namespace/{SYSTEM}")["metadata"]["labels"]
    levels = {mode: labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")}
    assert levels == dict.fromkeys(("enforce", "audit", "warn"), "privileged")


@pytest.mark.parametrize("kustomization", ["crds", "base", "overlays/host-pid"])
def test_applying_it_again_changes_nothing_that_the_server_objects_to(
    cluster: Cluster, kustomization: str
) -> None:
    cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-k", _DEPLOY / kustomization)


def test_the_overlay_for_other_runtimes_adds_the_process_list_and_what_it_takes(cluster: Cluster) -> None:
    daemons = _rendered(cluster, "overlays/host-pid", "DaemonSet")
    pod = daemons["spec"]["template"]["spec"]
    assert pod["hostPID"] is True
    capabilities = pod["containers"][0]["securityContext"]["capabilities"]
    assert capabilities == {"drop": ["ALL"], "add": ["SYS_ADMIN", "NET_RAW", "SYS_PTRACE"]}


def _rendered(cluster: Cluster, kustomization: str, kind: str) -> Object:
    rendered = yaml.safe_load_all(cluster.kubectl("kustomize", _DEPLOY / kustomization))
    (found,) = (found for found in rendered if found["kind"] == kind)
    assert isinstance(found, dict)
    return found
