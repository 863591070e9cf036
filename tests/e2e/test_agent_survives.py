"""What agents live through: their death, an update, the API server's absence, a writer's death, a storm."""

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.cluster import AGENTS, SYSTEM, Cluster, Object, wait_for
from e2e.scenario import Scenario
from e2e.test_agent_records import (
    clip,
    diagnosis,
    is_complete,
    on_node,
    recording,
    wait_for_clip,
    wait_until_recorded,
)

pytestmark = pytest.mark.usefixtures("agents")

SECOND_NS = 1_000_000_000
_OUTAGE_SECONDS = 60

_KILL = """
for status in /proc/[0-9]*/status; do
    pid=${status#/proc/}; pid=${pid%/status}
    if tr '\\0' ' ' < /proc/$pid/cmdline 2>/dev/null | grep -q 'podcam agent' && grep -q "$1" $status; then
        kill -9 $pid; echo $pid
    fi
done
"""
"""Of a node's agent: its main process, which is number 1 where it runs, or a child by its name."""
_MAIN = "^NSpid:.*[[:space:]]1$"
_WRITER = "^Name:[[:space:]]podcam-writer"


def kill(tools: Path, node: str, which: str) -> None:
    """SIGKILL to a process of a node's agent."""
    number = node.rpartition("-")[2]
    done = subprocess.run(
        [tools / "node-shell", number, "sh", "-c", _KILL, "sh", which],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split(), done.stderr


def agent_of(cluster: Cluster, node: str) -> Object:
    pods = cluster.items("pods", "-n", SYSTEM, "-l", AGENTS)
    return next(
        pod for pod in pods if pod["spec"]["nodeName"] == node and "deletionTimestamp" not in pod["metadata"]
    )


def restarts(cluster: Cluster, node: str) -> int:
    (status,) = agent_of(cluster, node)["status"]["containerStatuses"]
    return int(status["restartCount"]) if status["ready"] else -1


def metric(cluster: Cluster, node: str, name: str) -> float:
    """The sum of a metric's samples."""
    agent = agent_of(cluster, node)["metadata"]["name"]
    page = cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{agent}:9472/proxy/metrics")
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name))


def good_connections(scenario: Scenario, pod: Object, *, more_than: int = 0) -> list[Object]:
    """The app's own list of what went well, once it has so many."""

    def look() -> list[Object] | None:
        good = [line for line in scenario.app_log(pod) if line["error"] is None]
        return good if len(good) > more_than else None

    return wait_for("good connections", look)


def recorded_ports(cluster: Cluster, namespace: str, name: str, pod: Object) -> set[int]:
    """The ports from which a pod connected, as the clip has them."""
    return {
        found["client"]["port"]
        for found in diagnosis(cluster, namespace, name)["connections"]
        if found["client"]["ip"] == pod["status"]["podIP"]
    }


def gaps(found: Object, pod: Object) -> list[Object]:
    """When the pod was not recorded within a clip."""
    return [
        gap
        for part in found["status"]["parts"].values()
        for held in part.get("pods", ())
        if held["pod"] == pod["metadata"]["name"]
        for gap in held["gaps"]
    ]


def recorded_scenario(scenario: Scenario) -> tuple[Cluster, str, Object]:
    cluster, namespace = scenario.cluster, scenario.namespace
    cluster.apply(recording(namespace))
    wait_until_recorded(cluster, namespace, 3)
    return cluster, namespace, scenario.pods()[0]


def test_rings_outlive_an_agent_that_is_killed(scenario: Scenario, tools: Path) -> None:
    cluster, namespace, pod = recorded_scenario(scenario)
    node = pod["spec"]["nodeName"]
    before = good_connections(scenario, pod, more_than=len(scenario.app_log(pod)) + 20)[-15:-5]
    count = restarts(cluster, node)
    kill(tools, node, _MAIN)
    wait_for("the agent again", lambda: restarts(cluster, node) > count)
    wait_until_recorded(cluster, namespace, 3)
    after = good_connections(scenario, pod, more_than=len(scenario.app_log(pod)) + 5)[-2:]
    cluster.create(clip(namespace, "both-sides"))
    found = wait_for_clip(cluster, namespace, is_complete)
    assert len(gaps(found, pod)) == 1
    ports = recorded_ports(cluster, namespace, "both-sides", pod)
    assert {line["client_port"] for line in (*before, *after)} <= ports
    (capture,) = [
        capture
        for capture in diagnosis(cluster, namespace, "both-sides")["captures"]
        if any(pod["metadata"]["name"] in point for point in capture["points"])
    ][:1]
    assert any("nothing was recorded" in warning for warning in capture["warnings"]), capture["warnings"]


def test_an_update_of_the_agents_loses_no_ring_and_no_clip(scenario: Scenario) -> None:
    cluster, namespace, pod = recorded_scenario(scenario)
    before = good_connections(scenario, pod, more_than=len(scenario.app_log(pod)) + 10)[-10:-2]
    scenario.fail_next(pod)
    scenario.wait_until_failed()
    name = wait_for_clip(cluster, namespace)["metadata"]["name"]
    cluster.kubectl("rollout", "restart", "daemonset/podcam-agent", "-n", SYSTEM)
    cluster.kubectl("rollout", "status", "daemonset/podcam-agent", "-n", SYSTEM, "--timeout=90s")
    wait_until_recorded(cluster, namespace, 3)
    found = wait_for_clip(
        cluster, namespace, lambda each: each["metadata"]["name"] == name and is_complete(each)
    )
    assert set(found["status"]["parts"]) == {each["spec"]["nodeName"] for each in scenario.pods()}
    cluster.create(clip(namespace, "afterwards"))
    wait_for_clip(
        cluster, namespace, lambda each: each["metadata"]["name"] == "afterwards" and is_complete(each)
    )
    ports = recorded_ports(cluster, namespace, "afterwards", pod)
    assert {line["client_port"] for line in before} <= ports


def test_a_clip_whose_agent_is_killed_as_it_begins_is_complete_in_the_end(
    scenario: Scenario, tools: Path
) -> None:
    cluster, namespace, pod = recorded_scenario(scenario)
    node = pod["spec"]["nodeName"]
    scenario.fail_next(pod)
    scenario.wait_until_failed()
    name = wait_for_clip(cluster, namespace)["metadata"]["name"]
    kill(tools, node, _MAIN)
    found = wait_for_clip(
        cluster, namespace, lambda each: each["metadata"]["name"] == name and is_complete(each), 90
    )
    assert found["status"]["parts"][node]["state"] == "Complete"
    assert found["spec"]["trigger"]["client"]["port"] in recorded_ports(cluster, namespace, name, pod)


def test_a_writer_that_dies_is_started_again(scenario: Scenario, tools: Path) -> None:
    cluster, namespace, pod = recorded_scenario(scenario)
    node = pod["spec"]["nodeName"]
    known = len(scenario.app_log(pod)) + 5
    good_connections(scenario, pod, more_than=known)
    kill(tools, node, _WRITER)
    around = good_connections(scenario, pod, more_than=known + 10)[known:-1]
    cluster.create(clip(namespace, "kept"))
    wait_for_clip(cluster, namespace, is_complete)
    ports = recorded_ports(cluster, namespace, "kept", pod)
    assert {line["client_port"] for line in around} <= ports  # the kernel's ring held them meanwhile

    def warnings() -> str:
        status = cluster.get("recording/app", "-n", namespace)["status"]
        return " ".join(status["nodes"][node]["warnings"])

    wait_for("a warning", lambda: "the writer ended" in warnings(), 10)


@pytest.mark.outage
def test_a_failure_while_the_api_server_is_away_has_its_clip_afterwards(
    scenario: Scenario, away: Callable[[], Callable[[], None]]
) -> None:
    cluster, namespace, pod = recorded_scenario(scenario)
    (proxy,) = cluster.items("pods", "-n", namespace, "-l", "app=proxy")
    order = f"http://{proxy['status']['podIP']}:8080/fail?misbehaviour=reset&times=1&client_ip="
    come_back = away()
    began_ns = time.time_ns()
    half, whole = (time.monotonic() + _OUTAGE_SECONDS * share for share in (0.5, 1))
    wait_for("half a minute", lambda: time.monotonic() > half, _OUTAGE_SECONDS)
    urllib.request.urlopen(order + pod["status"]["podIP"], timeout=10).close()
    wait_for("a minute", lambda: time.monotonic() > whole, _OUTAGE_SECONDS)
    come_back()
    back_ns = time.time_ns()
    (failed,) = wait_for("the failure", lambda: scenario.failed() or None)
    assert began_ns < failed["time_ns"] < back_ns
    found = wait_for_clip(cluster, namespace, is_complete)
    assert found["spec"]["trigger"]["client"]["port"] == failed["client_port"]
    assert gaps(found, pod) == []
    connections = diagnosis(cluster, namespace, found["metadata"]["name"])["connections"]
    ends = [each["client"]["port"] for each in connections if each["failed"]]
    assert failed["client_port"] in ends


@pytest.fixture
def away(cluster: Cluster, tools: Path) -> Callable[[], Callable[[], None]]:
    """Takes the API server away, as a power cut would; what it returns brings it back."""
    lab = Path(os.environ.get("PODCAM_LAB", "/opt/podcam-lab"))
    listing = lab / "run" / "kube-apiserver.pid"
    if not listing.exists():
        pytest.skip(f"the API server of this cluster is not a process of this machine: no {listing}")

    def come_back() -> None:
        subprocess.run([tools / "up"], check=True, capture_output=True)

    def go() -> Callable[[], None]:
        os.kill(int(listing.read_text().split()[0]), signal.SIGKILL)
        return come_back

    return go


def test_a_storm_of_failures_makes_few_clips_and_says_so(scenario: Scenario) -> None:
    cluster, namespace = scenario.cluster, scenario.namespace
    cluster.apply(recording(namespace, scope="pod", triggers={"after": "1s", "clipsPerHour": 1}))
    wait_until_recorded(cluster, namespace, 3)
    scenario.fail_next(times=1000)
    told = wait_for(
        "an event",
        lambda: [e for e in cluster.items("events", "-n", namespace) if e["reason"] == "ClipsSuppressed"],
        90,
    )
    assert told
    assert 1 <= len(cluster.items("clips.podcam.dev", "-n", namespace)) <= 2  # one per agent


def test_files_are_for_their_owner_alone(scenario: Scenario, tools: Path) -> None:
    recorded_scenario(scenario)
    others = on_node(tools, 1, "find /var/lib/podcam -perm /077 ! -type s | head -5")
    assert others == ""
