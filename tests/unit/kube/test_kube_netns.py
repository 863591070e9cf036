"""Files as runtimes leave them on a node, below a folder that stands for the node's root."""

import json
import os
import select
from pathlib import Path

import pytest

from podcam.kube import NamespaceChanges, NamespaceFinder, NamespaceWatch, NotYet, Pod

UID = "8a413b9e-0326-4510-b6cd-49ddd8a81203"
OTHER_UID = "a4fd9e0e-7684-46d6-a82d-9b793a486880"


def pod(
    uid: str = UID, *, name: str = "web-1", node_uid: str | None = None, host_network: bool = False
) -> Pod:
    return Pod(
        namespace="shop",
        name=name,
        uid=uid,
        node="node-1",
        labels={},
        host_network=host_network,
        runtime_class=None,
        phase="Pending",
        ip=None,
        ips=(),
        deleting=False,
        finished=False,
        created_ns=0,
        node_uid=uid if node_uid is None else node_uid,
    )


class Node:
    """The node's files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.named = root / "run/netns"
        self.results = root / "var/lib/cni/results"
        self.processes = root / "proc"
        for folder in (self.named, self.results, self.processes):
            folder.mkdir(parents=True)

    def namespace(self, name: str) -> Path:
        """A file with a namespace behind it, as after the runtime's bind mount."""
        path = self.named / name
        path.unlink(missing_ok=True)
        path.symlink_to("/proc/self/ns/net")
        return path

    def result(
        self, netns: str, *, uid: str | None = UID, name: str = "web-1", sandbox: str = "0a", at: int = 1
    ) -> Path:
        arguments = [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", name]]
        if uid is not None:
            arguments.append(["K8S_POD_UID", uid])
        body = {
            "kind": "cniCacheV1",
            "containerId": sandbox,
            "netns": netns,
            "cniArgs": arguments,
            "ifName": "eth0",
        }
        path = self.results / f"lab-{sandbox}-eth0"
        path.write_text(json.dumps(body))
        os.utime(path, ns=(at, at))
        return path

    def process(self, pid: int, cgroup: str, *, started: int) -> Path:
        folder = self.processes / str(pid)
        folder.mkdir()
        (folder / "cgroup").write_text(cgroup)
        (folder / "stat").write_text(f"{pid} (a (b) c) S " + " ".join(["0"] * 18) + f" {started} 0 0\n")
        return folder / "ns" / "net"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_cnis_result_names_the_namespace(node: Node) -> None:
    namespace = node.namespace("cni-1")
    node.namespace("cni-2")
    node.result("/var/run/netns/cni-1")
    node.result("/var/run/netns/cni-2", uid=OTHER_UID, name="web-2", sandbox="0b")
    assert NamespaceFinder(node.root).find(pod()) == namespace


def test_it_is_found_once_its_result_is_there(node: Node) -> None:
    finder = NamespaceFinder(node.root)
    node.namespace("cni-2")
    node.result("/run/netns/cni-2", uid=OTHER_UID, sandbox="0b")
    namespace = node.namespace("cni-1")
    assert finder.find(pod()) is None
    node.result("/run/netns/cni-1")
    assert finder.find(pod()) == namespace


def test_a_file_without_a_namespace_behind_it_is_not_ready(node: Node) -> None:
    (node.named / "cni-1").touch()
    node.result("/run/netns/cni-1")
    finder = NamespaceFinder(node.root)
    with pytest.raises(NotYet):
        finder.find(pod())
    namespace = node.namespace("cni-1")
    assert finder.find(pod()) == namespace


def test_of_several_sandboxes_the_last_that_lives_counts(node: Node) -> None:
    older, newer = node.namespace("cni-1"), node.namespace("cni-2")
    node.result("/run/netns/cni-1", sandbox="0a", at=1)
    node.result("/run/netns/cni-2", sandbox="0b", at=2)
    node.result("/run/netns/cni-3", sandbox="0c", at=3)  # left over from before the node went down
    finder = NamespaceFinder(node.root)
    assert finder.find(pod()) == newer
    newer.unlink()
    assert finder.find(pod()) == older


def test_a_pod_that_was_made_again_under_its_name_is_another(node: Node) -> None:
    node.namespace("cni-1")
    node.result("/run/netns/cni-1", uid=OTHER_UID)
    assert NamespaceFinder(node.root).find(pod()) is None


def test_a_runtime_that_does_not_say_the_uid_says_the_name(node: Node) -> None:
    namespace = node.namespace("cni-1")
    node.result("/run/netns/cni-1", uid=None)
    assert NamespaceFinder(node.root).find(pod()) == namespace


def test_a_static_pod_goes_by_its_nodes_uid(node: Node) -> None:
    namespace = node.namespace("cni-1")
    node.result("/run/netns/cni-1", uid="3f2a9c1d5e6b7a8f90123456789abcde")
    assert NamespaceFinder(node.root).find(pod(node_uid="3f2a9c1d5e6b7a8f90123456789abcde")) == namespace


def test_a_result_that_is_half_written_is_read_again(node: Node) -> None:
    namespace = node.namespace("cni-1")
    path = node.result("/run/netns/cni-1")
    text = path.read_text()
    path.write_text(text[:-20])
    finder = NamespaceFinder(node.root)
    assert finder.find(pod()) is None
    path.write_text(text)
    assert finder.find(pod()) == namespace


@pytest.mark.parametrize(
    "text", ["", "[]", "1", "{}", '{"netns": 1, "cniArgs": []}', '{"netns": "/run/netns/x", "cniArgs": [1]}']
)
def test_other_files_among_the_results_do_not_disturb(node: Node, text: str) -> None:
    namespace = node.namespace("cni-1")
    node.result("/run/netns/cni-1")
    (node.results / "other").write_text(text)
    (node.results / "folder").mkdir()
    assert NamespaceFinder(node.root).find(pod()) == namespace


@pytest.mark.parametrize("first", [30, 40, 50])
def test_without_results_the_pods_first_process_tells(node: Node, first: int) -> None:
    node.process(10, "0::/system.slice/kubelet.service\n", started=1)
    node.process(60, f"0::/kubepods/pod{OTHER_UID}/0c\n", started=1)
    (node.processes / "uptime").touch()
    mine = {
        pid: node.process(pid, f"0::/kubepods/pod{UID}/0a\n", started=9 + (pid != first))
        for pid in (30, 40, 50)
    }
    assert NamespaceFinder(node.root).find(pod()) == mine[first]


def test_a_result_that_names_a_process_is_not_believed(node: Node) -> None:
    """Its number may belong to another process here, and so lead into another pod's network."""
    node.result("/proc/30/ns/net")
    mine = node.process(31, f"0::/kubepods/pod{UID}/0b\n", started=3)
    assert NamespaceFinder(node.root).find(pod()) == mine


def test_a_process_that_ends_meanwhile_is_passed_over(node: Node) -> None:
    (node.processes / "30").mkdir()
    (node.process(31, f"0::/kubepods/pod{UID}/0b\n", started=3).parent.parent / "stat").unlink()
    assert NamespaceFinder(node.root).find(pod()) is None


def test_a_pod_in_the_nodes_network_goes_by_its_process(node: Node) -> None:
    node.namespace("cni-2")
    node.result("/run/netns/cni-2", uid=OTHER_UID)
    assert NamespaceFinder(node.root).find(pod(host_network=True)) is None
    process = node.process(31, f"0::/kubepods/pod{UID}/0b\n", started=3)
    assert NamespaceFinder(node.root).find(pod(host_network=True)) == process


def test_where_there_is_nothing_nothing_is_found(tmp_path: Path) -> None:
    assert NamespaceFinder(tmp_path).find(pod()) is None


def ready(watch: NamespaceWatch) -> bool:
    return bool(select.select([watch], [], [], 30)[0])


def test_the_watch_tells_what_appears_and_goes(node: Node) -> None:
    with NamespaceFinder(node.root).watch() as watch:
        assert watch.changes().appeared == frozenset()
        namespace = node.namespace("cni-1")
        assert ready(watch)
        assert watch.changes() == NamespaceChanges(appeared=frozenset({namespace}))
        path = node.result("/run/netns/cni-1")
        assert ready(watch)
        assert watch.changes().results
        namespace.unlink()
        assert ready(watch)
        assert watch.changes().gone == {namespace}
        path.unlink()
        assert ready(watch)
        assert watch.changes().results


def test_what_appeared_and_went_is_gone(node: Node) -> None:
    with NamespaceFinder(node.root).watch() as watch:
        namespace = node.namespace("cni-1")
        namespace.unlink()
        assert ready(watch)
        assert watch.changes() == NamespaceChanges(gone=frozenset({namespace}))


def test_the_watch_follows_folders_that_come_later(tmp_path: Path) -> None:
    (tmp_path / "var/lib/cni").mkdir(parents=True)
    with NamespaceFinder(tmp_path).watch() as watch:
        results = tmp_path / "var/lib/cni/results"
        results.mkdir()
        assert ready(watch)
        assert watch.changes().results
        (results / "lab-0a-eth0").write_text("{}")
        assert ready(watch)
        assert watch.changes().results
