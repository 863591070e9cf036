"""`kubectl podcam doctor`: what it finds, and what it says to do."""

import json
from typing import Any

import pytest

from fake_cluster import FakeCluster
from podcam.cli.kubectl import main
from podcam.cluster.agents import DAEMON_SETS
from podcam.errors import UnreachableError
from podcam.kube import EVENTS, NAMESPACES, NODES, PODS, RUNTIME_CLASSES

SELF = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
METRICS = """\
# HELP podcam_disk_free_bytes Free space.
# TYPE podcam_disk_free_bytes gauge
podcam_disk_free_bytes {free}
podcam_disk_floor_bytes 20000000000
podcam_disk_budget_bytes 10000000000
podcam_disk_rings_bytes 500000000
podcam_disk_clips_bytes 100000000
podcam_disk_ring_share {share}
podcam_points{{namespace="shop",recording="web",state="Recording"}} 3
"""


def agent(node: str, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"podcam-agent-{node}",
            "namespace": "podcam-system",
            "labels": {"app.kubernetes.io/name": "podcam-agent"},
        },
        "spec": {"nodeName": node, "containers": [{"name": "agent", "image": "i"}]},
        "status": status or {"conditions": [{"type": "Ready", "status": "True"}]},
    }


def node(name: str, ready: str = "True", **labels: str) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready}]
    return {"metadata": {"name": name, "labels": labels}, "status": {"conditions": conditions}}


def metrics(cluster: FakeCluster, name: str, free: float = 50e9, share: float = 1) -> None:
    path = f"/api/v1/namespaces/podcam-system/pods/podcam-agent-{name}:9472/proxy/metrics"
    cluster.raw[path] = METRICS.format(free=free, share=share).encode()


@pytest.fixture(autouse=True)
def well(cluster: FakeCluster) -> None:
    """A cluster where all is well."""
    resources = [{"name": name} for name in ("recordings", "recordings/status", "clips", "packetgrants")]
    cluster.raw["/apis/podcam.dev/v1alpha1"] = {"resources": resources}
    cluster.kinds.add("runtimeclasses")
    cluster.add(NODES, node("node-1"))
    cluster.add(PODS, agent("node-1"))
    label = {"pod-security.kubernetes.io/enforce": "privileged"}
    cluster.add(NAMESPACES, {"metadata": {"name": "podcam-system", "labels": label}})
    cluster.add(
        DAEMON_SETS, {"metadata": {"name": "podcam-agent", "namespace": "podcam-system"}, "status": {}}
    )
    metrics(cluster, "node-1")


def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "-n", "shop"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok  ") for line in lines)
    assert lines[0].endswith("answers, Kubernetes v1.36.0")
    assert lines[-1].endswith(
        "ready; rings and clips take 0.6 GB of 10.0 GB that they may, 50.0 GB of the disk are free"
    )


def found(capsys: pytest.CaptureFixture[str], code: int) -> list[tuple[str, str, str | None, bool]]:
    """What is not well."""
    assert main(["doctor", "-n", "shop", "-o", "json"]) == code
    findings = json.loads(capsys.readouterr().out)["findings"]
    return [
        (each["subject"], each["found"], each["remedy"], each["needed"])
        for each in findings
        if each["remedy"]
    ]


def test_an_api_server_that_is_away_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(_self: object) -> object:
        raise UnreachableError("connection refused")

    monkeypatch.setattr("podcam.cli.kubectl.access.KubectlProxy.__enter__", away)
    ((subject, text, remedy, needed),) = found(capsys, 1)
    assert (subject, needed) == ("API server", True)
    assert "connection refused" in text
    assert remedy is not None
    assert "kubectl itself" in remedy


def test_nothing_installed(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    del cluster.raw["/apis/podcam.dev/v1alpha1"]
    cluster.objects = {path: each for path, each in cluster.objects.items() if "podcam-system" not in path}
    assert found(capsys, 1) == [
        ("custom resources", "not installed", "run `kubectl podcam install`", True),
        ("agents", "there are none", "run `kubectl podcam install`", True),
    ]


def test_custom_resources_of_another_version(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.raw["/apis/podcam.dev"] = {"versions": [{"version": "v1"}]}
    del cluster.raw["/apis/podcam.dev/v1alpha1"]
    assert found(capsys, 1)[0][1] == "podcam.dev is there in v1, and this program speaks v1alpha1"
    cluster.raw["/apis/podcam.dev/v1alpha1"] = {"resources": [{"name": "clips"}]}
    assert found(capsys, 1)[0][1] == "recordings, packetgrants are missing"


def test_rights_that_are_not_there_are_notes(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.denied |= {("create", "packetgrants")}
    ((subject, text, remedy, needed),) = found(capsys, 0)
    assert (subject, text, needed) == ("rights in shop", "you may not read packets", False)
    assert remedy is not None
    assert remedy.endswith("--clusterrole=podcam-packet-reader --user=U")


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("anna@example.org", "--user=anna@example.org"),
        ("oidc#anna b", "--user='oidc#anna b'"),
        ("system:serviceaccount:shop:looker", "--serviceaccount=shop:looker"),
        ("system:anonymous", "--user=U"),
    ],
)
def test_rights_are_to_be_granted_to_whoever_asks(
    name: str, flag: str, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.denied |= {("create", "packetgrants")}
    cluster.raw[SELF] = {"status": {"userInfo": {"username": name}}}
    ((_, _, remedy, _),) = found(capsys, 0)
    assert remedy is not None
    assert remedy.endswith(f"--clusterrole=podcam-packet-reader {flag}")


def test_an_agent_that_is_not_ready(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    cluster.add(PODS, agent("node-1", containerStatuses=[{"state": waiting}]))
    ((subject, text, remedy, _),) = found(capsys, 1)
    assert (subject, text) == ("agent of node-1", "not ready: ImagePullBackOff: no such image")
    assert remedy == "kubectl describe pod -n podcam-system podcam-agent-node-1"


def test_an_agent_that_ran_has_logs(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add(PODS, agent("node-1", containerStatuses=[{"state": {"running": {}}}]))
    ((_, _, remedy, _),) = found(capsys, 1)
    assert remedy is not None
    assert remedy.endswith("; kubectl logs -n podcam-system podcam-agent-node-1")


LOST = [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]


@pytest.mark.parametrize(
    ("conditions", "may_list_nodes"),
    [(LOST, True), (LOST, False), ([{"type": "Ready", "status": "True"}], True)],
)
def test_of_an_agent_on_a_node_that_is_not_ready_the_node_is_to_blame(
    conditions: list[dict[str, str]],
    may_list_nodes: bool,
    cluster: FakeCluster,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster.add(NODES, node("node-1", ready="Unknown"))
    if not may_list_nodes:
        cluster.forbidden.add("/api/v1/nodes")
    running: list[dict[str, Any]] = [{"state": {"running": {}}}]
    cluster.add(PODS, agent("node-1", conditions=conditions, containerStatuses=running))
    cluster.raw = {path: each for path, each in cluster.raw.items() if not path.endswith("/metrics")}
    assert found(capsys, 1) == [
        ("agent of node-1", "the node is not ready", "kubectl describe node node-1", True)
    ]


def test_nodes_without_an_agent(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add(
        NODES,
        node("node-2"),
        node("node-3", ready="Unknown"),
        node("node-4", **{"kubernetes.io/os": "windows"}),
        node("node-5", type="virtual-kubelet"),
    )
    assert [(subject, text, needed) for subject, text, _, needed in found(capsys, 1)] == [
        ("agent of node-2", "none", True),
        ("agent of node-3", "none: the node is not ready", True),
        ("agent of node-4", "none", False),
        ("agent of node-5", "none", False),
    ]


def test_pods_that_admission_refuses(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    label = {"pod-security.kubernetes.io/enforce": "baseline"}
    cluster.add(NAMESPACES, {"metadata": {"name": "podcam-system", "labels": label}})
    cluster.add(
        DAEMON_SETS,
        {
            "metadata": {"name": "podcam-agent", "namespace": "podcam-system"},
            "status": {"desiredNumberScheduled": 2, "currentNumberScheduled": 1},
        },
    )
    event = {
        "metadata": {"name": "podcam-agent.1", "namespace": "podcam-system"},
        "involvedObject": {"name": "podcam-agent"},
        "reason": "FailedCreate",
        "message": "violates PodSecurity",
    }
    cluster.add(EVENTS, event)
    assert [(subject, text, remedy) for subject, text, remedy, _ in found(capsys, 1)] == [
        (
            "pod security",
            "namespace podcam-system enforces baseline",
            "kubectl label namespace podcam-system --overwrite pod-security.kubernetes.io/enforce=privileged",
        ),
        ("admission", "1 agents of 2 exist", "violates PodSecurity"),
    ]


@pytest.mark.parametrize(
    ("free", "share", "said"),
    [
        (5e9, 1.0, "free space is below 20.0 GB"),
        (50e9, 0.5, "rings get 50% of what was asked for together, as the largest are cut"),
    ],
)
def test_disks_that_are_short(
    free: float, share: float, said: str, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics(cluster, "node-1", free, share)
    ((_, _, remedy, _),) = found(capsys, 1)
    assert remedy is not None
    assert remedy.startswith(said)


def test_an_agent_that_the_api_server_cannot_reach(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = (path for path in cluster.raw if path.endswith("/metrics"))
    cluster.forbidden.add(path)
    ((_, text, remedy, _),) = found(capsys, 1)
    assert "its HTTP cannot be reached through the API server" in text
    assert remedy is not None
    assert "podcam-road" in remedy


def test_runtimes_that_cannot_be_recorded_are_notes(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add(RUNTIME_CLASSES, {"metadata": {"name": "safe"}, "handler": "runsc"})
    cluster.add(RUNTIME_CLASSES, {"metadata": {"name": "plain"}, "handler": "runc"})
    ((subject, text, _, needed),) = found(capsys, 0)
    assert (subject, text, needed) == (
        "runtimes",
        "pods with runtime class safe have a kernel of their own",
        False,
    )


def test_who_may_see_little_still_gets_an_answer(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.forbidden |= {
        "/api/v1/nodes",
        "/api/v1/namespaces/podcam-system",
        "/apis/node.k8s.io/v1/runtimeclasses",
        "/apis/apps/v1/namespaces/podcam-system/daemonsets/podcam-agent",
    }
    assert found(capsys, 0) == []
    cluster.forbidden.add("/api/v1/namespaces/podcam-system/pods")
    ((subject, text, _, _),) = found(capsys, 1)
    assert (subject, text) == ("agents", "you may not see them")
