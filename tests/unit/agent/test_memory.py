"""What is remembered of the API server's objects, for the time in which it is away."""

import stat
from pathlib import Path
from typing import Any

import pytest

from agents import NOON, paper_log
from podcam.agent.collection import Collection
from podcam.agent.guard import Guard
from podcam.agent.memory import Memory, essence
from podcam.errors import PodcamError
from podcam.kube import NAMESPACES, PODS, RECORDINGS, Listed, NamespaceLimits, Pod, Recording, format_time

RECORDING: dict[str, Any] = {
    "metadata": {
        "namespace": "shop",
        "name": "checkout",
        "uid": "r",
        "creationTimestamp": format_time(NOON),
        "managedFields": [{"manager": "kubectl"}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "…"},
    },
    "spec": {"selector": {"matchLabels": {"app": "web"}}, "payload": 0},
    "status": {"points": "1/1"},
}
POD: dict[str, Any] = {
    "metadata": {
        "namespace": "shop",
        "name": "web-1",
        "uid": "p",
        "labels": {"app": "web"},
        "creationTimestamp": format_time(NOON),
        "annotations": {"kubernetes.io/config.hash": "static", "secret": "of somebody"},
    },
    "spec": {"nodeName": "node-1", "containers": [{"env": [{"name": "PASSWORD", "value": "x"}]}]},
    "status": {"phase": "Running"},
}
NAMESPACE: dict[str, Any] = {
    "metadata": {"name": "shop", "uid": "n", "annotations": {"podcam.dev/max-payload": "0"}}
}


def test_what_is_remembered_reads_as_the_object_did() -> None:
    assert Recording.parse(essence(RECORDINGS, RECORDING)) == Recording.parse({**RECORDING, "status": {}})
    assert Pod.parse(essence(PODS, POD)) == Pod.parse(POD)
    assert NamespaceLimits.parse(essence(NAMESPACES, NAMESPACE)) == NamespaceLimits.parse(NAMESPACE)


def test_nothing_else_of_a_pod_is_written_down(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.keep({"pods": [essence(PODS, POD)]})
    (file,) = tmp_path.iterdir()
    assert "PASSWORD" not in file.read_text()
    assert "secret" not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_it_is_written_only_when_it_is_another(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.keep({"pods": [POD]})
    (file,) = tmp_path.iterdir()
    before = file.stat().st_ino
    memory.keep({"pods": [POD]})
    assert file.stat().st_ino == before
    memory.keep({"pods": []})
    assert Memory(tmp_path).recall() == {"pods": ()}


@pytest.mark.parametrize("text", ["", "[]", '{"pods": 3}', '{"pods": ["x"]}', '{"pods"'])
def test_a_damaged_file_is_no_memory(tmp_path: Path, text: str) -> None:
    memory = Memory(tmp_path)
    assert memory.recall() == {}
    memory.keep({"pods": []})
    (file,) = tmp_path.iterdir()
    file.write_text(text)
    assert memory.recall() == {}


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(PodcamError, match="while the API server is away will record nothing"):
        Memory(tmp_path / "nowhere").keep({})


def test_a_list_comes_after_what_was_recalled_and_tells_everything_anew() -> None:
    told: list[str] = []
    pods = Collection(Pod.parse, Guard(paper_log()[0]))
    pods.subscribe(
        changed=lambda key, _pod: told.append(f"+{key}"),
        removed=lambda key: told.append(f"-{key}"),
    )
    other = {**POD, "metadata": {**POD["metadata"], "name": "web-2"}}
    pods.recall([POD, other])
    assert (pods.known, pods.complete) == (True, False)
    pods.take(Listed((POD,)))
    assert told == ["+shop/web-1", "+shop/web-2", "-shop/web-2", "+shop/web-1"]
    pods.recall([other])
    assert [key for key, _ in pods.items()] == ["shop/web-1"]
