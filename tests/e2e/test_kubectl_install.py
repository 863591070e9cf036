"""`kubectl podcam install` and `uninstall` on a real cluster: what they bring, and what they leave behind."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import SYSTEM, Cluster, wait_for
from e2e.scenario import Scenario

FOLDER = "/var/lib/podcam"
CLUSTER_WIDE = ("crds", "clusterroles", "clusterrolebindings", "namespaces")


@pytest.fixture
def reinstalled(cluster: Cluster, agents: None, agent_image: str) -> Iterator[None]:
    """Whatever a test takes out is there again afterwards."""
    yield
    install(cluster, agent_image)


def install(cluster: Cluster, agent_image: str) -> str:
    """Install it, as the other tests find it; returns what it told."""
    done = cluster.run("podcam", "install", "--image", agent_image, "--force-conflicts")
    assert done.returncode == 0, done.stderr
    cluster.kubectl("set", "env", "-n", SYSTEM, "daemonset/podcam-agent", "PODCAM_FREE_FLOOR=5%")
    cluster.kubectl("rollout", "status", "-n", SYSTEM, "daemonset/podcam-agent", "--timeout=90s")
    return done.stderr


def left(cluster: Cluster) -> set[str]:
    """Objects of Podcam that belong to no namespace, by kind and name."""
    names = cluster.kubectl("get", ",".join(CLUSTER_WIDE), "-o", "name").split()
    return {name for name in names if "podcam" in name}


def folders(tools: Path, nodes: int) -> list[bool]:
    """Whether the agents' folder is there, node by node."""
    return [
        subprocess.run(
            [tools / "node-shell", str(number + 1), "test", "-e", FOLDER], capture_output=True, check=False
        ).returncode
        == 0
        for number in range(nodes)
    ]


def test_uninstall_leaves_nothing_behind(
    cluster: Cluster, scenario: Scenario, tools: Path, reinstalled: None, agent_image: str
) -> None:
    nodes = len(cluster.items("nodes"))
    where = ("-n", scenario.namespace)
    cluster.kubectl("podcam", "record", "deploy/app", "--port", "5432", *where)
    cluster.kubectl("podcam", "clip", *where)
    assert folders(tools, nodes) == [True] * nodes
    assert "say --yes, or --keep-data" in cluster.refusal("podcam", "uninstall")

    done = cluster.run("podcam", "uninstall", "--yes")
    assert done.returncode == 0, done.stderr
    assert left(cluster) == set()
    assert folders(tools, nodes) == [False] * nodes
    assert "not installed" in cluster.refusal("podcam", "status", *where)
    assert cluster.run("podcam", "doctor").returncode == 1

    assert f"{nodes} of {nodes} agents ready" in install(cluster, agent_image)
    assert "3 of 3 recorded" in cluster.run("podcam", "record", "deploy/app", *where).stderr


def test_what_is_to_be_kept_is_kept_and_goes_on(
    cluster: Cluster, scenario: Scenario, tools: Path, reinstalled: None, agent_image: str
) -> None:
    nodes = len(cluster.items("nodes"))
    where = ("-n", scenario.namespace)
    cluster.kubectl("podcam", "record", "deploy/app", "--port", "5432", *where)
    clip = cluster.kubectl("podcam", "clip", *where).strip()

    done = cluster.run("podcam", "uninstall", "--keep-data")
    assert done.returncode == 0, done.stderr
    assert {name.partition("/")[0] for name in left(cluster)} == {
        "customresourcedefinition.apiextensions.k8s.io"
    }
    assert folders(tools, nodes) == [True] * nodes

    install(cluster, agent_image)
    assert cluster.get(f"clips.podcam.dev/{clip}", *where)["status"]["state"] == "Complete"
    wait_for(
        "the recording goes on",
        lambda: cluster.get("recordings.podcam.dev/app", *where)["status"].get("points") == "3/3",
    )
    assert cluster.items("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=podcam-clean-up") == []
