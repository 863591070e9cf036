"""`kubectl podcam install` and `uninstall`: what is applied, waited for, deleted, and left behind."""

import io
import json
import shutil
import sys
from typing import Any

import pytest
import yaml

from fake_cluster import FakeCluster
from podcam.cli.kubectl import main
from podcam.cluster import Kubectl
from podcam.cluster.agents import DAEMON_SETS
from podcam.cluster.uninstall import cleaner_of
from podcam.kube import CLIPS, NAMESPACES, NODES, PODS, RECORDINGS, path_of

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="kubectl is not on the PATH: https://kubernetes.io/docs/tasks/tools/",
)
AGENTS = path_of(DAEMON_SETS, "podcam-system", "podcam-agent")


class Applied:
    """What kubectl was told to apply and to delete."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, ...]] = []
        self.objects: list[dict[str, Any]] = []
        self.there = True
        """Whether there is anything to delete."""

    @property
    def kinds(self) -> list[str]:
        return [each["kind"] for each in self.objects]


@pytest.fixture
def kubectl(monkeypatch: pytest.MonkeyPatch) -> Applied:
    """kubectl renders, and tells what it would apply and delete."""
    applied = Applied()
    run = Kubectl.run

    def pretend(self: Kubectl, *arguments: str, given: str | None = None) -> str:
        if given is None:
            return run(self, *arguments)
        applied.commands.append(arguments)
        applied.objects = list(yaml.safe_load_all(given))
        if not applied.there:
            return ""
        return "".join(f"{each['metadata']['name']} {arguments[0]}\n" for each in applied.objects)

    monkeypatch.setattr(Kubectl, "run", pretend)
    return applied


def daemon_set(ready: int, wanted: int = 2, generation: int = 1, observed: int = 1) -> dict[str, Any]:
    return {
        "metadata": {"name": "podcam-agent", "namespace": "podcam-system", "generation": generation},
        "spec": {
            "template": {
                "metadata": {"labels": {}, "annotations": {"note": "kept"}},
                "spec": {
                    "serviceAccountName": "podcam-agent",
                    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                    "imagePullSecrets": [{"name": "registry"}],
                    "containers": [{"name": "agent", "image": "registry/agent:1"}],
                    "volumes": [{"name": "podcam", "hostPath": {"path": "/data/podcam"}}],
                },
            }
        },
        "status": {
            "observedGeneration": observed,
            "desiredNumberScheduled": wanted,
            "numberReady": ready,
            "updatedNumberScheduled": wanted,
        },
    }


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


def test_a_dry_run_prints_what_would_be_applied(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "--image", "registry/agent:2", "--dry-run=client", "-o", "yaml"]) == 0
    objects = list(yaml.safe_load_all(capsys.readouterr().out))
    (agents,) = (each for each in objects if each["kind"] == "DaemonSet")
    assert agents["spec"]["template"]["spec"]["containers"][0]["image"] == "registry/agent:2"
    assert main(["install", "--dry-run=client", "-o", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["items"]) == len(objects)
    assert main(["install", "--dry-run=client"]) == 0
    assert "daemonset.apps/podcam-agent applied (dry run)" in capsys.readouterr().out
    assert main(["install", "-o", "yaml"]) == 2
    assert main(["install"]) == 2
    assert "which image?" in capsys.readouterr().err


def test_it_waits_until_every_node_has_an_agent(
    cluster: FakeCluster, kubectl: Applied, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add(DAEMON_SETS, daemon_set(0))
    cluster.add(NODES, node("node-1"), node("node-2"), node("node-3", **{"kubernetes.io/os": "windows"}))
    cluster.add(PODS, agent("node-1"), agent("node-2"))
    cluster.tells(DAEMON_SETS, daemon_set(2, generation=2), daemon_set(1, observed=1), daemon_set(2))
    assert main(["install", "--image", "registry/agent:2"]) == 0
    out, err = capsys.readouterr()
    assert "podcam-agent apply" in out
    assert "--server-side" in kubectl.commands[0]
    assert "--force-conflicts" not in kubectl.commands[0]
    assert err.splitlines() == [
        "0 of 2 agents ready",
        "1 of 2 agents ready",
        "2 of 2 agents ready",
        "  node-3 has no agent: it runs windows, and only Linux can be recorded",
        "record with `kubectl podcam record deploy/NAME --port PORT`",
    ]


def test_agents_that_do_not_come_up_say_why(
    cluster: FakeCluster, kubectl: Applied, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    cluster.add(DAEMON_SETS, daemon_set(0))
    cluster.add(NODES, node("node-1"), node("node-2", ready="Unknown"))
    cluster.add(PODS, agent("node-1", containerStatuses=[{"state": waiting}]))
    assert main(["install", "--image", "a:1", "--timeout", "200ms", "--force-conflicts"]) == 1
    assert "--force-conflicts" in kubectl.commands[0]
    err = capsys.readouterr().err
    assert "  node-1: the agent is not ready: ErrImagePull: no such image" in err
    assert "  node-2 has no agent: it is not ready" in err
    assert "kubectl podcam doctor" in err


@pytest.fixture
def installed(cluster: FakeCluster) -> FakeCluster:
    """Two nodes, of which one is down, a recording and two clips."""
    cluster.add(DAEMON_SETS, daemon_set(2))
    cluster.add(NODES, node("node-1"), node("node-2", ready="Unknown"))
    cluster.add(PODS, agent("node-2"))
    cluster.add(RECORDINGS, {"metadata": {"name": "web", "namespace": "shop"}, "spec": {}})
    cluster.add(CLIPS, *({"metadata": {"name": name, "namespace": "shop"}, "spec": {}} for name in "ab"))
    cluster.tells(PODS, None)
    return cluster


def cleaned(pod: dict[str, Any], phase: str = "Succeeded", message: str = "") -> dict[str, Any]:
    ended = {"state": {"terminated": {"exitCode": int(phase == "Failed"), "message": message}}}
    return {**pod, "status": {"phase": phase, "containerStatuses": [ended]}}


def test_uninstall_leaves_nothing_but_what_a_node_that_is_down_keeps(
    installed: FakeCluster, kubectl: Applied, capsys: pytest.CaptureFixture[str]
) -> None:
    cleaners = []

    def run(pod: dict[str, Any]) -> dict[str, Any]:
        cleaners.append(pod)
        return cleaned(pod)

    installed.pods_run = run
    assert main(["uninstall", "--yes", "--timeout", "2s"]) == 1
    err = capsys.readouterr().err.splitlines()
    assert err == [
        "deleting 1 recording and 2 clips of all namespaces, and /data/podcam on 2 nodes",
        "agents removed",
        "node-2 keeps its files: the node is not ready; remove /data/podcam there by hand",
        "node-1: /data/podcam removed",
    ]
    assert AGENTS not in installed.objects
    assert not [path for path in installed.objects if path.startswith(path_of(PODS, "podcam-system"))]
    assert kubectl.commands == [("delete", "--ignore-not-found", "--wait", "-f", "-")]
    assert kubectl.kinds.count("CustomResourceDefinition") == 3
    assert kubectl.kinds.index("DaemonSet") < kubectl.kinds.index("Namespace")
    assert [pod["spec"]["nodeName"] for pod in cleaners] == ["node-1"]


def test_uninstall_tells_when_a_node_cannot_be_cleaned(
    installed: FakeCluster, kubectl: Applied, capsys: pytest.CaptureFixture[str]
) -> None:
    installed.pods_run = lambda pod: cleaned(pod, "Failed", "Traceback\nOSError: read-only file system")
    assert main(["uninstall", "--yes", "--timeout", "2s"]) == 1
    assert "node-1 keeps its files: OSError: read-only file system" in capsys.readouterr().err


def test_uninstall_does_not_wait_for_ever(
    installed: FakeCluster, kubectl: Applied, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["uninstall", "--yes", "--timeout", "300ms"]) == 1
    assert "node-1 keeps its files: the pod that cleans up did not end" in capsys.readouterr().err
    assert kubectl.commands


def test_data_is_kept_when_told(
    installed: FakeCluster, kubectl: Applied, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["uninstall", "--keep-data", "--timeout", "2s"]) == 0
    assert "kept: 1 recording, 2 clips, and /data/podcam" in capsys.readouterr().err
    assert "CustomResourceDefinition" not in kubectl.kinds
    assert {"Namespace", "DaemonSet", "ClusterRole"} <= set(kubectl.kinds)
    assert path_of(CLIPS, "shop", "a") in installed.objects


def test_nothing_is_deleted_without_a_yes(
    installed: FakeCluster, kubectl: Applied, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["uninstall"]) == 2
    assert "this deletes 1 recording and 2 clips of all namespaces" in capsys.readouterr().err
    assert (AGENTS in installed.objects, kubectl.commands) == (True, [])


@pytest.mark.parametrize("answer", ["", "n\n", "maybe\n"])
def test_whoever_is_asked_and_does_not_say_yes_keeps_everything(
    installed: FakeCluster,
    kubectl: Applied,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
) -> None:
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert main(["uninstall"]) == 1
    assert capsys.readouterr().err.endswith("kubectl podcam: nothing was deleted\n")
    assert (AGENTS in installed.objects, kubectl.commands) == (True, [])


def test_without_agents_the_nodes_are_not_known(
    installed: FakeCluster, kubectl: Applied, capsys: pytest.CaptureFixture[str]
) -> None:
    del installed.objects[AGENTS]
    assert main(["uninstall", "--yes", "--timeout", "2s"]) == 0
    err = capsys.readouterr().err
    assert "deleting 1 recording and 2 clips of all namespaces\n" in err
    assert "there were no agents, so it is not known what the nodes hold" in err
    assert kubectl.commands


def test_what_is_left_of_an_installation_goes_only_when_that_is_said(
    cluster: FakeCluster, kubectl: Applied
) -> None:
    cluster.kinds -= {RECORDINGS.plural, CLIPS.plural}
    cluster.add(NAMESPACES, {"metadata": {"name": "podcam-system"}})
    assert main(["uninstall"]) == 2
    assert not kubectl.commands
    assert main(["uninstall", "--yes"]) == 0
    assert kubectl.commands


@pytest.mark.parametrize("flag", [[], ["--yes"], ["--keep-data"]])
def test_where_nothing_is_installed_nothing_is_asked_or_removed(
    cluster: FakeCluster, kubectl: Applied, capsys: pytest.CaptureFixture[str], flag: list[str]
) -> None:
    cluster.kinds -= {RECORDINGS.plural, CLIPS.plural}
    kubectl.there = False
    assert main(["uninstall", *flag]) == 0
    assert capsys.readouterr() == ("", "Podcam is not installed in this cluster\n")


def test_what_is_left_of_an_installation_goes(
    cluster: FakeCluster, kubectl: Applied, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.kinds -= {RECORDINGS.plural, CLIPS.plural}
    assert main(["uninstall"]) == 0
    out, err = capsys.readouterr()
    assert "podcam-agent delete" in out
    assert err == "no more of Podcam was installed in this cluster\n"


def test_the_pod_that_cleans_up_has_none_of_the_agent_s_rights() -> None:
    pod = cleaner_of(daemon_set(0), "/data/podcam", "node-1")
    spec = pod["spec"]
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "runAsUser": 0,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["volumes"] == [{"name": "parent", "hostPath": {"path": "/data", "type": "Directory"}}]
    assert container["command"][-1] == "podcam"
    assert (container["image"], spec["imagePullSecrets"]) == ("registry/agent:1", [{"name": "registry"}])
    assert pod["metadata"]["annotations"] == {"note": "kept"}
    assert pod["metadata"]["name"] != cleaner_of(daemon_set(0), "/data/podcam", "node-2")["metadata"]["name"]
