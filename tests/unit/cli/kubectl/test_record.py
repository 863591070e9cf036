"""`kubectl podcam record`: what it tells, what it creates, and how long it waits."""

from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
import yaml

from fake_cluster import FakeCluster
from podcam.cli.kubectl import main
from podcam.cli.kubectl import record as verb
from podcam.kube import NAMESPACES, NODES, PODS, RECORDINGS, Kind, path_of

DEPLOYMENTS = Kind("apps", "v1", "deployments", "Deployment")
WEB = path_of(RECORDINGS, "shop", "web")


@pytest.fixture(autouse=True)
def shop(cluster: FakeCluster) -> None:
    """A deployment of two pods on two nodes."""
    selector = {"matchLabels": {"app": "web"}}
    cluster.add(
        DEPLOYMENTS, {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"selector": selector}}
    )
    cluster.add(PODS, pod("web-1", "node-1"), pod("web-2", "node-2"), pod("other", "node-1", app="other"))
    cluster.add(
        NODES, {"metadata": {"name": "node-1"}, "status": {"capacity": {"ephemeral-storage": "100G"}}}
    )


def pod(name: str, node: str, app: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": name,
            "labels": {"app": app},
            "creationTimestamp": "2026-11-23T06:00:00Z",
        },
        "spec": {"nodeName": node, "containers": [{"name": "app"}], **spec},
        "status": {"phase": "Running"},
    }


def reported(*points: tuple[str, str, str], generation: int = 1, message: str = "") -> dict[str, Any]:
    """The recording as agents report it."""
    nodes: dict[str, Any] = {}
    for node, name, state in points:
        nodes.setdefault(node, {"points": []})["points"].append(
            {"pod": name, "state": state, "message": message}
        )
    return {
        "metadata": {"name": "web", "namespace": "shop", "generation": generation},
        "spec": {},
        "status": {"nodes": nodes, "observedGeneration": generation},
    }


def test_it_tells_what_it_means_and_waits_until_all_are_recorded(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.tells(
        RECORDINGS,
        reported(("node-1", "web-1", "Recording"), ("node-2", "web-2", "Waiting")),
        reported(("node-1", "web-1", "Recording"), ("node-2", "web-2", "Recording")),
    )
    assert main(["record", "deploy/web", "-n", "shop", "--port", "5432"]) == 0
    out, err = capsys.readouterr()
    assert out == "recording.podcam.dev/web created\n"
    lines = err.splitlines()
    assert lines[:4] == [
        "deployment/web: 2 pods now, a ring of 250MB each:",
        "  node-1: up to 250MB of its disk's 100GB (web-1)",
        "  node-2: up to 250MB (web-2)",
        "to be read by whoever has the role podcam-packet-reader in namespace shop; you may",
    ]
    assert lines[4:-1] == ["0 of 2 recorded", "1 of 2 recorded", "2 of 2 recorded"]
    assert lines[-1].startswith("recording, ")
    made = cluster.objects[WEB]
    assert made["spec"] == {
        "selector": {"matchLabels": {"app": "web"}},
        "target": {"kind": "Deployment", "name": "web"},
        "ports": [5432],
        "ring": {"segments": 10, "segmentSize": "25M"},
    }


def test_pods_that_are_not_recorded_in_time_say_why(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.tells(
        RECORDINGS, reported(("node-1", "web-1", "Waiting"), message="its network is not there yet")
    )
    assert main(["record", "deploy/web", "-n", "shop", "--timeout", "200ms"]) == 1
    err = capsys.readouterr().err
    assert "  web-1 on node-1 is not recorded: its network is not there yet" in err
    assert "  web-2 on node-2 is not recorded: node-2 has no agent" in err


def test_refused_pods_end_the_waiting_at_once(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.tells(
        RECORDINGS,
        reported(("node-1", "web-1", "Refused"), ("node-2", "web-2", "Recording"), message="no room"),
    )
    assert main(["record", "deploy/web", "-n", "shop", "--timeout", "1h"]) == 1
    assert "  web-1 on node-1 is not recorded: no room" in capsys.readouterr().err


def test_what_cannot_be_recorded_is_told_before(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add(PODS, pod("hostly", "node-1", hostNetwork=True))
    cluster.add(NAMESPACES, {"metadata": {"name": "shop", "annotations": {"podcam.dev/max-payload": "64"}}})
    cluster.denied |= {("create", "packetgrants"), ("create", "recordings")}
    assert main(["record", "deploy/web", "-n", "shop", "--no-wait"]) == 0
    err = capsys.readouterr().err
    assert "  hostly on node-1 cannot be recorded: it shares its node's network" in err
    assert "the namespace lets 64 bytes of payload be kept of a packet" in err
    assert "in namespace shop; you may not\n" in err
    assert "you may not record here: that takes the role podcam-operator in namespace shop" in err


def test_pods_that_cannot_be_recorded_are_not_recorded(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add(PODS, pod("hostly", "node-1", hostNetwork=True))
    assert main(["record", "pod/hostly", "-n", "shop", "--timeout", "1h"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "pod/hostly: no pod now that can be recorded:"
    assert lines[1].startswith("  hostly on node-1 cannot be recorded: it shares its node's network")
    assert lines[-1] == (
        "0 of 1 recorded, 1 cannot be, as said above; `kubectl podcam stop hostly -n shop` ends it"
    )

    cluster.tells(RECORDINGS, reported(("node-1", "web-1", "Recording"), ("node-2", "web-2", "Recording")))
    assert main(["record", "deploy/web", "-n", "shop", "--timeout", "1h"]) == 1
    assert "2 of 3 recorded, 1 cannot be, as said above; " in capsys.readouterr().err


def test_pods_without_a_node_are_waited_for(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add(PODS, pod("web-3", ""))
    recorded = [("node-1", "web-1", "Recording"), ("node-2", "web-2", "Recording")]
    cluster.tells(RECORDINGS, reported(*recorded), reported(*recorded, ("node-2", "web-3", "Recording")))
    assert main(["record", "deploy/web", "-n", "shop", "--timeout", "1h"]) == 0
    assert "3 of 3 recorded" in capsys.readouterr().err


def test_pods_that_get_no_node_in_time_are_not_recorded(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add(PODS, pod("unsched", ""))
    assert main(["record", "pod/unsched", "-n", "shop", "--timeout", "200ms"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "pod/unsched: no pod now that can be recorded:",
        "  unsched has no node yet, and is recorded once it has",
    ]
    assert "  unsched on no node yet is not recorded: `kubectl describe pod` says why" in lines


def test_pods_that_got_a_node_meanwhile_say_what_is_with_its_agent(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object, **__: object) -> Iterator[None]:
        cluster.add(PODS, pod("unsched", "node-2"))
        yield from ()

    cluster.add(PODS, pod("unsched", ""))
    monkeypatch.setattr(verb, "states", none)
    assert main(["record", "pod/unsched", "-n", "shop"]) == 1
    assert "  unsched on node-2 is not recorded: node-2 has no agent" in capsys.readouterr().err


def test_a_point_that_its_agent_left_says_what_is_with_the_agent(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    left = reported(("node-1", "web-1", "Waiting"), ("node-2", "web-2", "Recording"))
    left["status"]["nodes"]["node-1"]["points"][0]["reason"] = "AgentEnded"
    cluster.tells(RECORDINGS, left)
    assert main(["record", "deploy/web", "-n", "shop", "--timeout", "200ms"]) == 1
    assert "  web-1 on node-1 is not recorded: node-1 has no agent" in capsys.readouterr().err


def other(name: str, *points: tuple[str, str]) -> dict[str, Any]:
    """Another recording, and what has become of its pods on node-1."""
    reports = [{"pod": of, "state": state} for of, state in points]
    return {
        "metadata": {"name": name, "namespace": "shop", "generation": 1},
        "spec": {},
        "status": {"observedGeneration": 1, "nodes": {"node-1": {"points": reports}}},
    }


def test_pods_that_are_recorded_already_are_told_before(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["record", "deploy/web", "-n", "shop", "--no-wait"]
    cluster.add(RECORDINGS, other("db", ("other", "Recording")), other("past", ("web-1", "Ended")))
    assert main(command) == 0
    assert main(command) == 0
    assert "recorded already" not in capsys.readouterr().err

    cluster.add(RECORDINGS, other("a", ("web-1", "Recording"), ("x", "Recording")))
    assert main([*command, "--dry-run=server"]) == 0
    told = "this makes another ring of each, and another clip of each failure"
    assert f"1 of these pods is recorded already, by a: {told}\n" in capsys.readouterr().err

    cluster.add(RECORDINGS, other("b", ("web-1", "Recording"), ("web-2", "Waiting")))
    assert main([*command, "--dry-run=server"]) == 0
    assert f"2 of these pods are recorded already, by a, b: {told}\n" in capsys.readouterr().err

    cluster.forbidden.add(path_of(RECORDINGS, "shop"))
    assert main([*command, "--dry-run=client"]) == 0
    assert "recorded already" not in capsys.readouterr().err


def test_rings_beyond_the_node_s_budget_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "deploy/web", "-n", "shop", "--no-wait", "--ring", "10x2GB"]) == 0
    assert "(10%: 10GB): the rings will be smaller" in capsys.readouterr().err


def test_who_may_not_list_pods_may_record_them(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.forbidden.add(path_of(PODS, "shop"))
    assert main(["record", "deploy/web", "-n", "shop"]) == 0
    assert "you may not list the pods of namespace shop" in capsys.readouterr().err
    assert WEB in cluster.objects


def test_no_pods_are_no_reason_to_wait(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "-l", "app=later", "-n", "shop"]) == 0
    assert "pods with app=later: no pod now; those that come are recorded" in capsys.readouterr().err
    assert cluster.objects[path_of(RECORDINGS, "shop", "later")]["spec"]["selector"] == {
        "matchLabels": {"app": "later"}
    }


def test_a_dry_run_prints_the_object(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--port", "5432", "--host", "db.example", "--on", "reset", "--before", "2m"]
    assert main(["record", "deploy/web", "-n", "shop", *flags, "--dry-run=client", "-o", "yaml"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["metadata"] == {"name": "web", "namespace": "shop"}
    assert printed["spec"]["triggers"] == {"classes": ["reset"], "before": "2m"}
    assert WEB not in cluster.objects


def test_a_dry_run_of_a_selector_asks_no_cluster(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["record", "-l", "app=web", "-n", "shop", "--dry-run=client", "-o", "name"]) == 0
    assert capsys.readouterr() == ("recording.podcam.dev/web\n", "")
    assert cluster.asked == []


def test_a_server_dry_run_creates_nothing(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "deploy/web", "-n", "shop", "--dry-run=server"]) == 0
    assert capsys.readouterr().out == "recording.podcam.dev/web created (server dry run)\n"
    assert WEB not in cluster.objects


def test_a_server_dry_run_says_what_the_command_would(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.defaults = defaulted
    command = ["record", "deploy/web", "-n", "shop"]
    assert main([*command, "--no-wait"]) == 0
    assert main([*command, "--dry-run=server"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["recording.podcam.dev/web unchanged (server dry run)"]
    assert main([*command, "--dry-run=server", "--payload", "0"]) == 1
    assert "payload: (not set) → 0" in capsys.readouterr().err


def test_ctrl_c_ends_the_waiting_and_not_the_recording(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(verb, "states", interrupted)
    assert main(["record", "deploy/web", "-n", "shop"]) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "it goes on without this command; `kubectl podcam stop web -n shop` ends it"
    assert WEB in cluster.objects


def defaulted(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "spec": {"scope": "recording", "retention": "1h", **body["spec"]}}


def test_the_same_again_changes_nothing(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.defaults = defaulted
    command = ["record", "deploy/web", "-n", "shop", "--port", "5432", "--no-wait"]
    assert main(command) == 0
    assert main(command) == 0
    assert capsys.readouterr().out == "recording.podcam.dev/web created\nrecording.podcam.dev/web unchanged\n"


def test_what_is_recorded_already_was_not_asked_for_just_now(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["record", "deploy/web", "-n", "shop", "--no-wait"]) == 0
    cluster.tells(RECORDINGS, reported(("node-1", "web-1", "Recording"), ("node-2", "web-2", "Recording")))
    assert main(["record", "deploy/web", "-n", "shop"]) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "recording already; `kubectl podcam stop web -n shop` ends it"


def test_what_cannot_be_looked_up_says_where(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["record", "deploy/nope", "-n", "shop"]) == 1
    assert "there is no deployment nope in namespace shop" in capsys.readouterr().err
    cluster.forbidden.add(path_of(DEPLOYMENTS, "shop", "web"))
    assert main(["record", "deploy/web", "-n", "shop"]) == 1
    assert "choose pods by -l SELECTOR" in capsys.readouterr().err


def test_another_of_that_name_is_replaced_only_when_told(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.defaults = defaulted
    command = ["record", "deploy/web", "-n", "shop", "--no-wait"]
    assert main([*command, "--payload", "0"]) == 0
    assert main([*command, "--scope", "pod"]) == 1
    err = capsys.readouterr().err
    assert "  scope: recording → pod\n  payload: 0 → (not set)\n" in err
    assert "--replace" in err
    assert cluster.objects[WEB]["spec"]["payload"] == 0

    assert main([*command, "--scope", "pod", "--replace"]) == 0
    assert capsys.readouterr().out == "recording.podcam.dev/web replaced\n"
    spec = cluster.objects[WEB]["spec"]
    assert (spec["scope"], "payload" in spec) == ("pod", False)


def test_without_the_custom_resources_it_says_what_to_do(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.kinds.remove("recordings")
    assert main(["record", "deploy/web", "-n", "shop"]) == 1
    assert "run `kubectl podcam install`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ([], "say which pods"),
        (["deploy/web", "-l", "app=web"], "and not both"),
        (["deploy/web", "--narrow"], "--narrow"),
        (["deploy/web", "--on", "reset", "--on", "none"], "--on none"),
        (["deploy/web", "--on", "sneeze"], "no such class"),
        (["deploy/web", "--port", "0"], "not a port"),
        (["cm/web"], "has no pods"),
    ],
)
def test_wrong_usage(argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "-n", "shop", *argv]) == 2
    assert complaint in capsys.readouterr().err
