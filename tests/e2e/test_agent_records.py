"""The agents record the pods that a Recording covers, as they come and go, and keep a clip when one fails."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import Cluster, Object, wait_for
from e2e.scenario import Scenario

pytestmark = pytest.mark.usefixtures("agents")

SECOND_NS = 1_000_000_000


def recording(namespace: str, name: str = "app", **spec: Any) -> Object:
    """All pods of the app, port 5432, windows that end soon."""
    values = {
        "selector": {"matchLabels": {"app": "app"}},
        "ports": [5432],
        "ring": {"segments": 4, "segmentSize": "5M"},
        "triggers": {"after": "1s"},
    }
    return {
        "apiVersion": "podcam.dev/v1alpha1",
        "kind": "Recording",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**values, **spec},
    }


def clip(namespace: str, name: str, **spec: Any) -> Object:
    return {
        "apiVersion": "podcam.dev/v1alpha1",
        "kind": "Clip",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"recording": "app", "last": "60s", **spec},
    }


def points(cluster: Cluster, namespace: str, name: str = "app") -> dict[str, Object]:
    """What the recording's status says of each pod."""
    status = cluster.get(f"recording/{name}", "-n", namespace).get("status", {})
    return {point["pod"]: point for node in status.get("nodes", {}).values() for point in node["points"]}


def wait_until_recorded(cluster: Cluster, namespace: str, count: int, timeout_s: float = 30) -> None:
    def look() -> bool:
        states = [point["state"] for point in points(cluster, namespace).values()]
        return states.count("Recording") == count

    wait_for(f"{count} pods recorded", look, timeout_s)


def wait_for_clip(
    cluster: Cluster,
    namespace: str,
    is_it: Callable[[Object], bool] = lambda _: True,
    timeout_s: float = 60,
) -> Object:
    """The first clip that is it."""

    def look() -> Object | None:
        return next(filter(is_it, cluster.items("clips.podcam.dev", "-n", namespace)), None)

    return wait_for("a clip", look, timeout_s)


def is_complete(found: Object) -> bool:
    return bool(found.get("status", {}).get("state") == "Complete")


def diagnosis(cluster: Cluster, namespace: str, name: str) -> Object:
    told = cluster.kubectl("podcam", "diagnose", name, "-n", namespace, "--json", timeout_s=120)
    found: Object = json.loads(told)
    return found


def first_connection(scenario: Scenario, pod: Object) -> Object:
    """As the app's pod saw it, once it has one."""
    return wait_for("a connection", lambda: scenario.app_log(pod))[0]


def test_three_pods_are_recorded_within_three_seconds(scenario: Scenario) -> None:
    cluster, namespace = scenario.cluster, scenario.namespace
    began = time.monotonic()
    cluster.apply(recording(namespace))
    wait_until_recorded(cluster, namespace, 3, 3)
    assert time.monotonic() - began < 3
    wait_for("3/3", lambda: cluster.get("recording/app", "-n", namespace)["status"].get("points") == "3/3", 5)


def test_pods_that_start_later_are_recorded_before_their_first_connection(scenario: Scenario) -> None:
    cluster, namespace = scenario.cluster, scenario.namespace
    cluster.apply(recording(namespace))
    wait_until_recorded(cluster, namespace, 3)
    before = {pod["metadata"]["name"] for pod in scenario.pods()}
    scenario.scale(6)
    scenario.wait_until_scaled()
    new = [pod for pod in scenario.pods() if pod["metadata"]["name"] not in before]
    first = {(pod["status"]["podIP"], first_connection(scenario, pod)["client_port"]) for pod in new}
    cluster.create(clip(namespace, "kept"))
    wait_for_clip(cluster, namespace, is_complete)
    connections = diagnosis(cluster, namespace, "kept")["connections"]
    whole = {
        (found["client"]["ip"], found["client"]["port"])
        for found in connections
        if found["tcp"] and found["tcp"]["handshake_ns"] is not None
    }
    assert len(first) == 3
    assert first <= whole


def test_a_failure_becomes_a_clip_of_all_nodes_within_two_seconds(scenario: Scenario) -> None:
    cluster, namespace = scenario.cluster, scenario.namespace
    cluster.apply(recording(namespace))
    wait_until_recorded(cluster, namespace, 3)
    victim = scenario.pods()[0]
    scenario.fail_next(victim)
    (failed,) = scenario.wait_until_failed()
    found = wait_for_clip(cluster, namespace)
    seen_ns = time.time_ns()
    assert seen_ns - failed["time_ns"] < 2 * SECOND_NS
    assert "reset by the server" in found["spec"]["reason"]
    trigger = found["spec"]["trigger"]
    assert trigger["pod"] == victim["metadata"]["name"]
    assert trigger["client"] == {"ip": failed["client_ip"], "port": failed["client_port"]}
    parts = wait_for_clip(cluster, namespace, is_complete)["status"]["parts"]
    pods = {pod["pod"] for part in parts.values() for pod in part["pods"]}
    assert pods == {pod["metadata"]["name"] for pod in scenario.pods()}
    assert set(parts) == {pod["spec"]["nodeName"] for pod in scenario.pods()}


def test_with_scope_pod_the_clip_holds_that_pod_alone(scenario: Scenario) -> None:
    cluster, namespace = scenario.cluster, scenario.namespace
    cluster.apply(recording(namespace, scope="pod"))
    wait_until_recorded(cluster, namespace, 3)
    victim = scenario.pods()[0]
    scenario.fail_next(victim)
    found = wait_for_clip(cluster, namespace, is_complete)
    assert found["spec"]["pods"] == [victim["metadata"]["name"]]
    held = [pod["pod"] for part in found["status"]["parts"].values() for pod in part.get("pods", ())]
    assert held == [victim["metadata"]["name"]]


def test_the_packets_of_a_pod_that_is_gone_are_still_in_the_clip(scenario: Scenario) -> None:
    cluster, namespace = scenario.cluster, scenario.namespace
    cluster.apply(recording(namespace))
    wait_until_recorded(cluster, namespace, 3)
    victim = scenario.pods()[0]["metadata"]["name"]
    scenario.fail_next(scenario.pods()[0])
    (failed,) = scenario.wait_until_failed()
    cluster.kubectl("delete", "pod", victim, "-n", namespace, "--grace-period=1", "--wait=true")
    name = wait_for_clip(cluster, namespace, is_complete)["metadata"]["name"]
    cluster.create(clip(namespace, "afterwards", pods=[victim]))
    wait_for_clip(
        cluster, namespace, lambda found: found["metadata"]["name"] == "afterwards" and is_complete(found)
    )
    for each in (name, "afterwards"):
        ends = [
            found["client"] for found in diagnosis(cluster, namespace, each)["connections"] if found["failed"]
        ]
        assert (failed["client_ip"], failed["client_port"]) in [(end["ip"], end["port"]) for end in ends]


def test_a_recording_that_is_deleted_leaves_its_clips(scenario: Scenario) -> None:
    cluster, namespace = scenario.cluster, scenario.namespace
    cluster.apply(recording(namespace))
    wait_until_recorded(cluster, namespace, 3)
    cluster.create(clip(namespace, "kept"))
    wait_for_clip(cluster, namespace, is_complete)
    cluster.kubectl("delete", "recording", "app", "-n", namespace)
    assert diagnosis(cluster, namespace, "kept")["summary"]["connections"] > 0


def test_a_recording_of_a_name_that_was_used_before_begins_with_nothing(scenario: Scenario) -> None:
    cluster, namespace = scenario.cluster, scenario.namespace
    cluster.apply(recording(namespace))
    wait_until_recorded(cluster, namespace, 3)
    for pod in scenario.pods():
        first_connection(scenario, pod)
    cluster.kubectl("delete", "recording", "app", "-n", namespace)
    cluster.apply(recording(namespace))
    made = cluster.get("recording/app", "-n", namespace)["metadata"]["creationTimestamp"]
    wait_until_recorded(cluster, namespace, 3)
    cluster.create(clip(namespace, "later"))
    parts = wait_for_clip(cluster, namespace, is_complete)["status"]["parts"].values()
    begun = [pod["first"] for part in parts for pod in part["pods"] if pod["first"] is not None]
    assert not [moment for moment in begun if moment[:19] < made[:19]]


def test_what_a_node_has_of_a_clip_goes_with_its_object(scenario: Scenario, tools: Path) -> None:
    cluster, namespace = scenario.cluster, scenario.namespace
    cluster.apply(recording(namespace))
    wait_until_recorded(cluster, namespace, 3)
    cluster.create(clip(namespace, "kept"))
    wait_for_clip(cluster, namespace, is_complete)
    folder = f"/var/lib/podcam/clips/{namespace}_kept"
    assert on_node(tools, 1, f"ls {folder}")
    cluster.kubectl("delete", "clips.podcam.dev", "kept", "-n", namespace)
    wait_for("the files to go", lambda: not on_node(tools, 1, f"ls {folder} 2>/dev/null || true"), 10)


def test_a_pod_in_the_nodes_own_network_is_refused_with_a_sentence(cluster: Cluster, namespace: str) -> None:
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "hostly", "namespace": namespace, "labels": {"app": "app"}},
            "spec": {
                "hostNetwork": True,
                "containers": [
                    {"name": "idle", "image": "localhost/lab:latest", "command": ["sleep", "infinity"]}
                ],
                "terminationGracePeriodSeconds": 0,
            },
        },
        recording(namespace),
    )
    found = wait_for("a refusal", lambda: points(cluster, namespace).get("hostly"))
    assert (found["state"], found["reason"]) == ("Refused", "HostNetwork")
    told = wait_for(
        "an event",
        lambda: [e for e in cluster.items("events", "-n", namespace) if e["reason"] == "HostNetwork"],
    )
    assert "hostly is not recorded" in told[0]["message"]


def test_a_runtime_class_is_judged_by_its_handler(cluster: Cluster, namespace: str) -> None:
    plain = f"{namespace}-strict"
    runtime = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": plain},
        "handler": "kata-qemu",  # no node of the cluster has it: the pod is bound, and never runs
    }
    idle = {"name": "idle", "image": "localhost/lab:latest", "command": ["sleep", "infinity"]}
    hidden = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "hidden", "namespace": namespace, "labels": {"app": "app"}},
        "spec": {"runtimeClassName": plain, "containers": [idle], "terminationGracePeriodSeconds": 0},
    }
    try:
        cluster.apply(runtime)
        cluster.apply(hidden, recording(namespace))

        def refused() -> Object | None:
            point = points(cluster, namespace).get("hidden")
            return point if point is not None and point["state"] == "Refused" else None

        found = wait_for("a refusal", refused)
        assert found["reason"] == "RuntimeNotRecordable"
        assert plain in found["message"]
    finally:
        cluster.kubectl("delete", f"runtimeclass/{plain}", "--ignore-not-found")


def test_a_stateful_pod_made_anew_goes_on_in_the_same_ring(cluster: Cluster, namespace: str) -> None:
    node = cluster.items("nodes")[0]["metadata"]["name"]
    cluster.apply(recording(namespace), _talkers(namespace, node))
    wait_until_recorded(cluster, namespace, 1)
    first = cluster.get("pod/talker-0", "-n", namespace)["metadata"]["uid"]
    cluster.kubectl("delete", "pod", "talker-0", "-n", namespace, "--grace-period=1")
    wait_for(
        "the pod anew",
        lambda: (
            cluster.get("pod/talker-0", "-n", namespace, "--ignore-not-found")["metadata"]["uid"] != first
        ),
    )
    wait_until_recorded(cluster, namespace, 1)
    cluster.create(clip(namespace, "both"))
    (part,) = wait_for_clip(cluster, namespace, is_complete)["status"]["parts"].values()
    (pod,) = part["pods"]
    assert len(pod["gaps"]) == 1


_FLOOD = """
import socket, struct, time
def summed(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
ends = bytes((198, 51, 100, 7, 198, 51, 100, 8))
ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0, 64, 6, 0) + ends
ip = ip[:10] + summed(ip) + ip[12:]
tcp = struct.pack("!HHIIBBHHH", 40000, 5432, 1, 0, 0x50, 2, 65535, 0, 0)
tcp = tcp[:16] + summed(ends + struct.pack("!HH", 6, 20) + tcp) + tcp[18:]
while True:
    s.send(bytes.fromhex("020000000099") + s.getsockname()[4] + bytes.fromhex("0800") + ip + tcp)
    time.sleep(0.1)
"""
"""Sends SYNs to a link address that nobody has, as to a pod just deleted: the node's bridge floods them."""

_HEAR = """
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
while True:
    _, (_, _, kind, *_) = s.recvfrom(2000)
    if kind == 3:
        print("flooded", flush=True)
"""


def test_what_the_nodes_bridge_floods_into_a_pod_is_not_recorded(
    cluster: Cluster, make_namespace: Callable[[], str]
) -> None:
    """It may be of a namespace whose packets the reader of this one has no right to."""
    here, elsewhere = make_namespace(), make_namespace()
    node = cluster.items("nodes")[0]["metadata"]["name"]
    recorded = _talkers(here, node)
    listener = {"name": "listener", "image": "localhost/lab:latest", "command": ["python3", "-c", _HEAR]}
    recorded["spec"]["template"]["spec"]["containers"].append(listener)
    stranger = _talkers(elsewhere, node)
    stranger["spec"]["template"]["spec"]["containers"][0]["command"] = ["python3", "-c", _FLOOD]
    cluster.apply(recording(here), recorded)
    wait_until_recorded(cluster, here, 1)
    cluster.apply(stranger)
    wait_for(
        "flooded frames",
        lambda: "flooded" in cluster.run("logs", "-n", here, "talker-0", "-c", "listener").stdout,
    )
    cluster.create(clip(here, "kept"))
    wait_for_clip(cluster, here, is_complete)
    ends = {
        found[side]["ip"]
        for found in diagnosis(cluster, here, "kept")["connections"]
        for side in ("client", "server")
    }
    assert ends == {"127.0.0.1"}


def on_node(tools: Path, node: int, command: str) -> str:
    """What a command prints on a node."""
    return subprocess.run(
        [tools / "node-shell", str(node), "sh", "-c", command], capture_output=True, text=True, check=False
    ).stdout


def _talkers(namespace: str, node: str) -> Object:
    """One pod, talker-0, that stays on its node and connects to a port of its own, again and again."""
    program = (
        "import socket, time\n"
        "s = socket.create_server(('127.0.0.1', 5432))\n"
        "while True:\n"
        "    c = socket.create_connection(('127.0.0.1', 5432)); a, _ = s.accept()\n"
        "    a.sendall(b'hello'); c.recv(9); a.close(); c.close(); time.sleep(0.2)\n"
    )
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "talker", "namespace": namespace},
        "spec": {
            "serviceName": "talker",
            "selector": {"matchLabels": {"app": "app"}},
            "template": {
                "metadata": {"labels": {"app": "app"}},
                "spec": {
                    "nodeSelector": {"kubernetes.io/hostname": node},
                    "terminationGracePeriodSeconds": 1,
                    "containers": [
                        {
                            "name": "talker",
                            "image": "localhost/lab:latest",
                            "command": ["python3", "-c", program],
                        }
                    ],
                },
            },
        },
    }
