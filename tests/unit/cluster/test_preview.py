"""What a recording would mean, told before it starts."""

from typing import Any

from podcam.cluster import NodeShare, preview
from podcam.cluster.preview import Preview, disks_of
from podcam.kube import NamespaceLimits, Pod


def pod(name: str, node: str | None = "node-1", phase: str = "Running", **spec: Any) -> Pod:
    return Pod.parse(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": "shop",
                "uid": name,
                "creationTimestamp": "2026-11-23T06:00:00Z",
            },
            "spec": {"containers": [{"name": "app"}], **({"nodeName": node} if node else {}), **spec},
            "status": {"phase": phase},
        }
    )


def look(*pods: Pod, host_network: bool = False, limits: NamespaceLimits | None = None) -> Preview:
    return preview(
        pods,
        ring_bytes=250_000_000,
        host_network=host_network,
        limits=limits,
        handlers={"safe": "runsc", "plain": "runc"},
        disks={"node-1": 100_000_000_000},
    )


def test_rings_are_counted_per_node() -> None:
    seen = look(pod("b"), pod("a"), pod("c", "node-2"))
    assert seen.shares == (
        NodeShare("node-1", ("a", "b"), 500_000_000, 100_000_000_000),
        NodeShare("node-2", ("c",), 250_000_000, None),
    )
    assert [share.budget_bytes for share in seen.shares] == [10_000_000_000, None]
    assert seen.pods == {"a", "b", "c"}
    assert seen.refusals == ()


def test_what_has_finished_is_left_out_and_what_has_no_node_waits() -> None:
    seen = look(pod("done", phase="Succeeded"), pod("later", node=None, phase="Pending"))
    assert seen == Preview(shares=(), unscheduled=("later",), refusals=())


def test_pods_in_their_node_s_network_are_refused_unless_asked_for_and_allowed() -> None:
    hostly = pod("hostly", hostNetwork=True)
    (refusal,) = look(hostly).refusals
    assert (refusal.pod, refusal.node) == ("hostly", "node-1")
    assert "--host-network" in refusal.why
    (refusal,) = look(hostly, host_network=True, limits=NamespaceLimits("shop")).refusals
    assert "kubectl annotate namespace shop podcam.dev/allow-host-network=true" in refusal.why
    assert look(hostly, host_network=True, limits=NamespaceLimits("shop", allow_host_network=True)).pods == {
        "hostly"
    }
    assert look(hostly, host_network=True, limits=None).pods == {"hostly"}


def test_pods_with_a_kernel_of_their_own_are_refused() -> None:
    seen = look(
        pod("sandboxed", runtimeClassName="safe"),
        pod("named-so", runtimeClassName="kata-qemu"),
        pod("usual", runtimeClassName="plain"),
    )
    assert [(refusal.pod, refusal.node) for refusal in seen.refusals] == [
        ("sandboxed", "node-1"),
        ("named-so", "node-1"),
    ]
    assert all("other side" in refusal.why for refusal in seen.refusals)
    assert seen.pods == {"usual"}


def test_what_a_namespace_allows_is_told() -> None:
    assert look(limits=NamespaceLimits("shop", max_payload_bytes=0)).most_payload_bytes == 0


def test_disks_as_kubelets_report_them() -> None:
    nodes = [
        {"metadata": {"name": "a"}, "status": {"capacity": {"ephemeral-storage": "20Gi"}}},
        {"metadata": {"name": "b"}, "status": {"capacity": {}}},
    ]
    assert disks_of(nodes) == {"a": 20 * 2**30}
