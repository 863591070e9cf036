"""`kubectl podcam` as a person types it, on a real cluster."""

import json
from collections.abc import Callable

import pytest

from e2e.cluster import Cluster, wait_for
from e2e.scenario import Scenario
from e2e.users import OPERATOR, READER, VIEWER

pytestmark = pytest.mark.usefixtures("agents")


def podcam(cluster: Cluster, *arguments: object) -> tuple[str, str]:
    """What `kubectl podcam ARGUMENTS` prints on standard output and on standard error; it has to go well."""
    done = cluster.run("podcam", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_workload_is_recorded_and_clipped_and_stopped(scenario: Scenario) -> None:
    cluster, where = scenario.cluster, ("-n", scenario.namespace)
    out, err = podcam(cluster, "record", "deploy/app", "--port", "5432", *where)
    assert out == "recording.podcam.dev/app created\n"
    assert "deployment/app: 3 pods now, a ring of 250MB each:" in err
    assert all(pod["metadata"]["name"] in err for pod in scenario.pods())
    assert "3 of 3 recorded" in err

    out, err = podcam(cluster, "status", *where)
    name, target, points, *_ = out.splitlines()[1].split()
    assert (name, target, points, err) == ("app", "deployment/app", "3/3", "")

    out, err = podcam(cluster, "clip", "--last", "30s", "--reason", "a look", *where)
    clip = out.strip()
    assert cluster.get(f"clips.podcam.dev/{clip}", *where)["status"]["state"] == "Complete"
    assert "complete, " in err
    out, _ = podcam(cluster, "clips", *where)
    assert [line.split()[:4] for line in out.splitlines()[1:]] == [[clip, "app", "Complete", "2/2"]]

    out, err = podcam(cluster, "stop", "deploy/app", *where)
    assert out == "recording.podcam.dev/app deleted\n"
    assert "its 1 clip stays" in err
    assert cluster.items("recordings.podcam.dev", *where) == []
    assert len(cluster.items("clips.podcam.dev", *where)) == 1


def test_a_failure_is_listed_with_its_reason(scenario: Scenario) -> None:
    cluster, where = scenario.cluster, ("-n", scenario.namespace)
    podcam(cluster, "record", "deploy/app", "--port", "5432", "--after", "1s", *where)
    scenario.fail_next()

    def listed() -> str | None:
        out, _ = podcam(cluster, "clips", "--recording", "app", *where)
        return out if "reset" in out and "Complete" in out else None

    assert "2/2" in wait_for("the clip in the list", listed, 60)


def test_what_a_dry_run_prints_can_be_applied_and_is_what_record_makes(scenario: Scenario) -> None:
    cluster, where = scenario.cluster, ("-n", scenario.namespace)
    flags = ("deploy/app", "--port", "5432", "--payload", "0", "--on", "reset", "--scope", "pod", *where)
    printed, _ = podcam(cluster, "record", *flags, "--dry-run=client", "-o", "yaml")
    cluster.kubectl("apply", "-f", "-", given=printed)
    out, _ = podcam(cluster, "record", *flags)
    assert out == "recording.podcam.dev/app unchanged\n"
    refusal = cluster.refusal("podcam", "record", "deploy/app", "--port", "6432", *where)
    assert "ports: [5432] → [6432]" in refusal
    out, _ = podcam(cluster, "record", "deploy/app", "--port", "6432", "--replace", *where)
    assert out == "recording.podcam.dev/app replaced\n"
    changed = cluster.get("recordings.podcam.dev/app", *where)["spec"]
    assert (changed["ports"], changed["scope"], "payload" in changed) == ([6432], "recording", False)


def test_the_api_server_says_what_is_wrong(cluster: Cluster, namespace: str) -> None:
    refusal = cluster.refusal("podcam", "record", "-l", "app=x", "--retention", "721h", "-n", namespace)
    assert "rings of ended pods are kept for 720h (30 days) at most" in refusal


def test_each_user_may_what_the_roles_say(
    cluster: Cluster, namespace: str, user: Callable[..., Cluster]
) -> None:
    viewer = user(namespace, "viewer", {namespace: [VIEWER]})
    operator = user(namespace, "operator", {namespace: [OPERATOR]})
    reader = user(namespace, "reader", {namespace: [READER]})

    assert "you may not record here" in (refusal := viewer.refusal("podcam", "record", "-l", "app=web"))
    assert "not allowed" in refusal
    _, err = podcam(operator, "record", "-l", "app=web")
    assert "you may not\n" in err
    assert "you may not list the pods" in err
    for someone in (viewer, operator, reader):
        out, _ = podcam(someone, "status")
        assert out.splitlines()[1].startswith("web ")
    found = {
        name: {
            each["found"]
            for each in json.loads(someone.run("podcam", "doctor", "-o", "json").stdout)["findings"]
        }
        for name, someone in (("viewer", viewer), ("operator", operator), ("reader", reader))
    }
    assert "you may record" in found["operator"]
    assert {"you may not record", "you may not read packets"} <= found["viewer"]
    assert {"you may not record", "you may read packets"} <= found["reader"]


def test_the_doctor_finds_nothing_wrong(cluster: Cluster, namespace: str) -> None:
    out, _ = podcam(cluster, "doctor", "-n", namespace)
    assert "FAIL" not in out
    assert out.count("of the disk are free") == len(cluster.items("nodes"))


def test_a_cluster_that_is_not_there(cluster: Cluster) -> None:
    done = cluster.run("podcam", "status", "--server", "https://127.0.0.1:1", "-n", "x")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert cluster.run("podcam", "status", "--context", "nowhere").returncode != 0
