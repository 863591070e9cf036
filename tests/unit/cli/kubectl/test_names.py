"""What the verbs of `kubectl podcam` take for a name, and what they say where there is nothing of it."""

from typing import Any

import pytest

from fake_cluster import FakeCluster
from podcam.cli.kubectl import main
from podcam.kube import CLIPS, PODS, RECORDINGS, path_of


@pytest.fixture(autouse=True)
def shop(cluster: FakeCluster) -> None:
    cluster.add(RECORDINGS, recording("web"))
    cluster.add(CLIPS, clip("web-1"))


def recording(name: str, of: str = "web") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "shop", "generation": 1},
        "spec": {
            "selector": {"matchLabels": {"app": of}},
            "target": {"kind": "Deployment", "name": of},
            "ring": {"segments": 10, "segmentSize": "25M"},
        },
    }


def clip(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": {"recording": "web"}}


@pytest.mark.parametrize(
    "argv",
    [
        ["status"],
        ["stop"],
        ["clip"],
        ["clip", "--pod"],
        ["clips"],
        ["clips", "--recording"],
        ["pull"],
        ["diagnose"],
        ["record"],
        ["record", "deploy"],
        ["record", "deploy/web", "--name"],
    ],
)
def test_no_name_is_refused_and_not_taken_for_all(
    argv: list[str], cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, complaint in (
        ("", "the name is empty"),
        (" ", "the name is empty"),
        (".", "'.' is not the name of an object"),
        ("..", "'..' is not the name of an object"),
    ):
        assert main(["-n", "shop", *argv, name]) == 2
        err = capsys.readouterr().err
        assert f": {complaint}: write " in err
        assert err.count("\n") == 1
    assert cluster.asked == []


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["status", "recording.podcam.dev/"], "the name is empty: write that of a recording"),
        (["status", "/web"], "'/web' is not the name of a recording: write that of a recording"),
        (["status", "clip.podcam.dev/web"], "'clip.podcam.dev' has no pods that could be recorded"),
        (["status", "deploy/"], "'deploy/' is not TYPE/NAME"),
        (["stop", "recordings.example.com/web"], "'recordings.example.com' has no pods"),
        (["clips", "recording.podcam.dev/web"], "is not the name of a clip: write that of a clip"),
        (["clips", "--recording", "deploy/web"], "is not the name of a recording"),
        (["clip", "--pod", "deploy/web"], "is not the name of a pod"),
        (["pull", "recording.podcam.dev/web"], "`kubectl podcam clips` lists them"),
        (["record", "deploy/.."], "'..' is not the name of an object"),
    ],
)
def test_a_name_of_something_else(
    argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-n", "shop", *argv]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    "word",
    [
        "web",
        "recording.podcam.dev/web",
        "recordings/web",
        "rec/web",
        "Recording.v1alpha1.podcam.dev/web",
        "deploy/web",
        "deployment/web",
    ],
)
def test_a_recording_as_podcam_prints_it(
    word: str, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", word, "-n", "shop"]) == 0
    assert capsys.readouterr().out.startswith("web: deployment/web, all traffic, for ")
    assert main(["status", word, "-n", "shop", "-o", "name"]) == 0
    assert capsys.readouterr().out == "recording.podcam.dev/web\n"
    assert main(["clip", word, "-n", "shop", "--no-wait", "-o", "name"]) == 0
    assert capsys.readouterr().out.startswith("clip.podcam.dev/web-20")
    assert main(["stop", word, "-n", "shop"]) == 0
    assert path_of(RECORDINGS, "shop", "web") not in cluster.objects


def test_a_clip_as_podcam_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("web-1", "clip.podcam.dev/web-1", "clips/web-1"):
        assert main(["clips", word, "-n", "shop", "-o", "name"]) == 0
        assert capsys.readouterr().out == "clip.podcam.dev/web-1\n"
    assert main(["clips", "--recording", "recording.podcam.dev/web", "-n", "shop", "-o", "name"]) == 0
    assert capsys.readouterr().out == "clip.podcam.dev/web-1\n"


def test_what_is_recorded_twice(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add(RECORDINGS, recording("web-headers"), recording("db", of="db"))
    assert main(["status", "deploy/web", "-n", "shop"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("web: deployment/web")
    assert "\n\nweb-headers: deployment/web" in out
    assert "db" not in out
    assert main(["clip", "deploy/web", "-n", "shop"]) == 2
    err = capsys.readouterr().err
    assert "there are 2 recordings of deploy/web in namespace shop: name one of web, web-headers" in err


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["status", "nosuch"], "recording nosuch"),
        (["stop", "recording.podcam.dev/nosuch"], "recording nosuch"),
        (["clip", "nosuch"], "recording nosuch"),
        (["clips", "clip.podcam.dev/nosuch"], "clip nosuch"),
        (["pull", "nosuch"], "clip nosuch"),
        (["diagnose", "nosuch"], "clip nosuch"),
        (["record", "deploy/nosuch"], "deployment nosuch"),
    ],
)
def test_what_is_not_there_says_where(
    argv: list[str], what: str, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.kinds.add("deployments")
    assert main(["-n", "side", *argv]) == 1
    told = f"kubectl podcam: there is no {what} in namespace side (-n names another)\n"
    assert capsys.readouterr().err == told


def test_what_is_not_recorded_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "sts/web", "-n", "side"]) == 1
    told = "nothing is recorded of statefulset/web in namespace side (-n names another)\n"
    assert capsys.readouterr().err.endswith(told)


def test_without_the_custom_resources_it_is_no_matter_of_the_namespace(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.objects.clear()
    cluster.kinds.remove("clips")
    assert main(["pull", "web-1", "-n", "shop"]) == 1
    err = capsys.readouterr().err
    assert "run `kubectl podcam install`" in err
    assert "namespace" not in err


def test_the_help_names_every_type_that_is_taken(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["record", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "TYPE/NAME deploy, sts, ds, rs, job, rc, svc or pod " in told
    for word in ("deploy", "sts", "ds", "rs", "job", "rc", "svc", "pod"):
        assert main(["record", f"{word}/x", "-n", "shop"]) == 1, word


def test_pods_are_named_with_their_type_or_without(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    of = recording("db", of="db")
    of["status"] = {"nodes": {"node-1": {"points": [{"pod": "db-0", "state": "Recording"}]}}}
    cluster.add(RECORDINGS, of)
    for word in ("db-0", "pod/db-0", "po/db-0"):
        assert main(["clip", "--pod", word, "-n", "shop", "--no-wait", "-o", "name"]) == 0
        name = capsys.readouterr().out.strip().rpartition("/")[2]
        assert cluster.objects.pop(path_of(CLIPS, "shop", name))["spec"]["pods"] == ["db-0"]
    assert PODS.is_called("Pods")
