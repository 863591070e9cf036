"""`kubectl podcam status`, `clips` and `stop`: what there is, as tables, sentences and objects."""

import json
from typing import Any

import pytest
import yaml

from fake_cluster import FakeCluster
from podcam.cli.kubectl import main
from podcam.kube import CLIPS, PODS, RECORDINGS, path_of


def recording(name: str = "web", namespace: str = "shop", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "generation": 1,
            "creationTimestamp": "2026-11-23T06:00:00Z",
            "managedFields": [{"manager": "x"}],
        },
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "target": {"kind": "Deployment", "name": name},
            "ports": [5432],
            "ring": {"segments": 10, "segmentSize": "25M"},
        },
        "status": status,
    }


def clip(name: str, recording_name: str = "web", namespace: str = "shop", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"podcam.dev/recording": recording_name},
            "creationTimestamp": f"2026-11-23T06:00:0{name[-1]}Z",
        },
        "spec": {"recording": recording_name, "reason": f"reset of {name}"},
        "status": status,
    }


COMPLETE: dict[str, Any] = {
    "state": "Complete",
    "partsComplete": "2/2",
    "parts": {
        "node-1": {
            "state": "Complete",
            "packets": 3,
            "bytes": 1000,
            "pods": [{"pod": "web-1"}],
            "window": {"start": "2026-11-23T05:59:00.5Z", "end": "2026-11-23T06:00:10Z"},
        },
        "node-2": {
            "state": "Complete",
            "packets": 4,
            "bytes": 2000,
            "pods": [{"pod": "web-2"}],
            "window": {"start": "2026-11-23T05:58:00Z", "end": "2026-11-23T06:00:05Z"},
        },
    },
}
NODES: dict[str, Any] = {
    "nodes": {
        "node-1": {
            "points": [{"pod": "web-1", "state": "Recording", "since": "2026-11-23T06:00:01Z"}],
            "ringBytes": 2_500_000,
            "dropped": 0,
            "failures": 2,
        },
        "node-2": {
            "points": [{"pod": "web-2", "state": "Waiting", "message": "its network is not there yet"}],
            "ringBytes": 0,
            "dropped": None,
        },
    }
}


@pytest.fixture(autouse=True)
def shop(cluster: FakeCluster) -> None:
    cluster.add(RECORDINGS, recording(**NODES))
    cluster.add(CLIPS, clip("web-2", state="Incomplete", partsComplete="1/2", missing=["node-2"]))
    cluster.add(CLIPS, clip("web-1", **COMPLETE), clip("db-3", "db", "bank"))


def table(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_recordings_as_a_table_and_what_is_wrong_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "-n", "shop"]) == 0
    out, err = capsys.readouterr()
    header, row = table(out)
    assert header == ["NAME", "TARGET", "POINTS", "FAILURES", "CLIPS", "DROPPED", "ON", "DISK", "AGE"]
    assert row[:-1] == ["web", "deployment/web", "1/2", "2", "2", "?", "2.5MB"]
    assert err == "web: web-2 on node-2 is not recorded: its network is not there yet\n"


def test_what_the_nodes_are_like_is_not_asked(cluster: FakeCluster) -> None:
    cluster.kinds |= {"pods", "nodes"}
    assert main(["status", "-n", "shop"]) == 0
    assert not [request for request in cluster.asked if request.url.path.endswith("/nodes")]


def test_what_somebody_wrote_steers_no_terminal(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    of = recording("evil")
    of["spec"]["target"] = {"kind": "Deployment", "name": "x\x1b[2J"}
    cluster.add(RECORDINGS, of)
    assert main(["status", "evil", "-n", "shop"]) == 0
    assert "evil: deployment/x\\x1b[2J, port 5432" in capsys.readouterr().out


def test_all_namespaces_and_more_columns(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add(RECORDINGS, recording("db", "bank"))
    cluster.kinds.add("pods")
    assert main(["status", "-A", "-o", "wide"]) == 0
    header, *rows = table(capsys.readouterr().out)
    assert (header[0], header[-2:]) == ("NAMESPACE", ["TRAFFIC", "NODES"])
    assert [row[:2] for row in rows] == [["shop", "web"], ["bank", "db"]]
    assert rows[0][-3:] == ["port", "5432", "node-1,node-2"]


def test_one_recording_pod_by_pod(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "web", "-n", "shop"]) == 0
    out = capsys.readouterr().out
    assert "web: deployment/web, port 5432, for " in out
    assert "1 of 2 pods recorded, 0 ended; 2.5MB on disk, a ring of 250MB per pod at most" in out
    assert "2 failures seen, an unknown number of packets dropped" in out
    rows = table(out)
    assert ["POD", "NODE", "STATE", "REASON", "SINCE"] in rows
    assert ["web-2", "node-2", "Waiting", "-", "<unknown>"] in rows
    assert "2 clips (1 complete, 1 incomplete):" in out


def test_one_is_not_several(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add(RECORDINGS, recording("db", nodes={"node-1": {"dropped": 1, "failures": 1}}))
    cluster.add(CLIPS, clip("db-1", "db", **COMPLETE))
    assert main(["status", "db", "-n", "shop"]) == 0
    out = capsys.readouterr().out
    assert "1 failure seen, 1 packet dropped since the agents started" in out
    assert "1 clip (1 complete):" in out


def test_of_many_clips_the_last_ones_are_shown(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add(RECORDINGS, recording("db"))
    names = ["a-8", "z-1", "y-2", "x-3", "w-4", "v-5", "b-7"]
    cluster.add(CLIPS, *(clip(name, "db", **COMPLETE) for name in names))
    assert main(["status", "db", "-n", "shop"]) == 0
    told, _, *rows = capsys.readouterr().out.rpartition("\n\n")[2].splitlines()
    assert told == (
        "7 clips (7 complete), the last 5; `kubectl podcam clips --recording db -n shop` lists all:"
    )
    assert [row.split()[0] for row in rows] == ["x-3", "w-4", "v-5", "b-7", "a-8"]


def test_a_pod_that_no_agent_reports(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add(
        PODS,
        {
            "metadata": {
                "name": "web-3",
                "namespace": "shop",
                "uid": "3",
                "labels": {"app": "web"},
                "creationTimestamp": "2026-11-23T06:00:00Z",
            },
            "spec": {"nodeName": "node-3", "containers": []},
            "status": {"phase": "Running"},
        },
    )
    assert main(["status", "-n", "shop"]) == 0
    assert "web: web-3 on node-3 is not recorded: node-3 has no agent" in capsys.readouterr().err


def test_objects_come_without_managed_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "web", "-n", "shop", "-o", "yaml"]) == 0
    one = yaml.safe_load(capsys.readouterr().out)
    assert (one["kind"], "managedFields" in one["metadata"]) == ("Recording", False)
    assert main(["status", "-n", "shop", "-o", "json"]) == 0
    several = json.loads(capsys.readouterr().out)
    assert (several["kind"], [each["kind"] for each in several["items"]]) == ("List", ["Recording"])
    assert main(["status", "-n", "shop", "-o", "name"]) == 0
    assert capsys.readouterr().out == "recording.podcam.dev/web\n"


def test_nothing_to_show(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "-n", "empty"]) == 0
    assert "no recordings in namespace empty" in capsys.readouterr().err
    assert main(["clips", "-n", "empty"]) == 0
    assert "no clips in namespace empty" in capsys.readouterr().err
    assert main(["status", "nothing", "-n", "shop"]) == 1
    assert "there is no recording nothing in namespace shop" in capsys.readouterr().err


def test_where_pods_record_themselves_it_is_said_where_their_clips_are(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*argv: str) -> list[str]:
        assert main(["clips", *argv]) == 0
        return capsys.readouterr().err.splitlines()

    made = {"creationTimestamp": "2026-11-23T06:00:00Z", "uid": "1"}
    metadata: dict[str, Any] = {"name": "a", "namespace": "side", **made}
    cluster.add(PODS, {"metadata": metadata, "spec": {}, "status": {}})
    assert told("-n", "side") == ["no clips in namespace side"]
    metadata["labels"] = {"podcam.dev/recorder": "wrap"}
    none, where = told("-n", "side")
    assert none == "no clips in namespace side"
    assert where == (
        "pods with a recorder of their own (1 here) keep their clips: `kubectl podcam status -n side` lists "
        "such pods, `kubectl podcam pull --sidecar POD -n side` fetches a clip of one"
    )
    assert len(told("-n", "side", "--recording", "web")) == 1
    assert len(told("-n", "empty", "-o", "wide")) == 1
    assert told("-n", "side", "-o", "name") == []
    cluster.forbidden.add(path_of(PODS, "side"))
    assert told("-n", "side") == ["no clips in namespace side"]


def test_clips_the_oldest_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clips", "-n", "shop"]) == 0
    header, *rows = table(capsys.readouterr().out)
    assert header == ["NAME", "RECORDING", "STATE", "PARTS", "MISSING", "AGE", "REASON"]
    assert [row[:5] + row[6:] for row in rows] == [
        ["web-1", "web", "Complete", "2/2", "-", "reset", "of", "web-1"],
        ["web-2", "web", "Incomplete", "1/2", "node-2", "reset", "of", "web-2"],
    ]


def test_clips_with_all_their_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clips", "web-1", "-n", "shop", "-o", "wide"]) == 0
    out = capsys.readouterr().out
    assert "2026-11-23 05:58:00   2026-11-23 06:00:10   7         3KB    web-1,web-2   reset of web-1" in out


def test_clips_of_one_recording_in_all_namespaces(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clips", "-A", "--recording", "db", "-o", "name"]) == 0
    assert capsys.readouterr().out == "clip.podcam.dev/db-3\n"
    assert main(["clips", "-n", "shop", "-l", "podcam.dev/recording=db"]) == 0
    assert "no clips" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["status", "web", "-A"], "lies in one namespace"),
        (["status", "web", "-l", "a=b"], "cannot stand together"),
        (["clips", "web-1", "--recording", "web"], "cannot stand together"),
        (["clips", "-o", "xml"], "invalid choice"),
        (["stop", "-n", "shop"], "name the recordings"),
        (["stop", "web", "--all", "-n", "shop"], "name the recordings to stop, or say --all, not both"),
    ],
)
def test_wrong_usage(argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("word", ["web", "deploy/web", "--all"])
def test_stop_deletes_the_recording_and_tells_what_stays(
    word: str, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stop", word, "-n", "shop"]) == 0
    out, err = capsys.readouterr()
    assert out == "recording.podcam.dev/web deleted\n"
    assert "its 2 clips stay" in err
    assert "kubectl delete clips.podcam.dev -n shop -l podcam.dev/recording=web" in err
    assert path_of(RECORDINGS, "shop", "web") not in cluster.objects
    assert path_of(CLIPS, "shop", "web-1") in cluster.objects


def test_stop_of_what_is_named_twice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop", "web", "deploy/web", "-n", "shop"]) == 0
    assert capsys.readouterr().out == "recording.podcam.dev/web deleted\n"


def test_stop_of_what_is_not_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop", "sts/web", "-n", "shop"]) == 1
    assert "nothing is recorded of statefulset/web in namespace shop" in capsys.readouterr().err


def test_flags_may_stand_before_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-n", "shop", "--context=lab", "status", "-o", "name"]) == 0
    assert main(["-nshop", "status", "-o", "name"]) == 0
    assert main(["--namespace=shop", "status", "-o", "name"]) == 0
    assert capsys.readouterr().out == "recording.podcam.dev/web\n" * 3
