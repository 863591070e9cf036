"""Sixty pods on one node, recorded by one agent: what it takes. The figures go to docs/agent.md."""

import subprocess
import time
from pathlib import Path

import pytest

from e2e.cluster import SYSTEM, Cluster, Object, wait_for
from e2e.test_agent_records import points, recording
from e2e.test_agent_survives import agent_of

pytestmark = pytest.mark.usefixtures("agents")

PODS = 60
_SECONDS = 30

_FIGURES = """
for status in /proc/[0-9]*/status; do
    pid=${status#/proc/}; pid=${pid%/status}
    if tr '\\0' ' ' < /proc/$pid/cmdline 2>/dev/null | grep -q 'podcam agent'; then
        echo "$(grep VmRSS $status) $(cat /proc/$pid/stat)"
    fi
done
"""


def figures(tools: Path, node: str) -> tuple[float, float]:
    """Resident memory of the agent's processes in MB, and the processor's seconds that they have had."""
    number = node.rpartition("-")[2]
    told = subprocess.run(
        [tools / "node-shell", number, "sh", "-c", _FIGURES], capture_output=True, text=True, check=True
    ).stdout
    memory = seconds = 0.0
    for line in told.splitlines():
        head, _, stat = line.rpartition(") ")
        memory += int(head.split()[1]) / 1000
        seconds += (int(stat.split()[11]) + int(stat.split()[12])) / 100
    return memory, seconds


def _pods(namespace: str, node: str) -> Object:
    """Pods that connect to themselves now and then."""
    program = (
        "import socket, time\n"
        "s = socket.create_server(('127.0.0.1', 5432))\n"
        "while True:\n"
        "    c = socket.create_connection(('127.0.0.1', 5432)); a, _ = s.accept()\n"
        "    a.sendall(b'hello'); c.recv(9); a.close(); c.close(); time.sleep(1)\n"
    )
    container = {"name": "talker", "image": "localhost/lab:latest", "command": ["python3", "-c", program]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "many", "namespace": namespace},
        "spec": {
            "replicas": PODS,
            "selector": {"matchLabels": {"app": "app"}},
            "template": {
                "metadata": {"labels": {"app": "app"}},
                "spec": {
                    "nodeSelector": {"kubernetes.io/hostname": node},
                    "terminationGracePeriodSeconds": 0,
                    "containers": [container],
                },
            },
        },
    }


def test_one_agent_records_sixty_pods(cluster: Cluster, namespace: str, tools: Path) -> None:
    node = cluster.items("nodes")[-1]["metadata"]["name"]
    before, _ = figures(tools, node)
    cluster.apply(recording(namespace), _pods(namespace, node))

    def recorded() -> bool:
        states = [point["state"] for point in points(cluster, namespace).values()]
        return states.count("Recording") == PODS

    wait_for(f"{PODS} pods recorded", recorded, 240)
    wait_for(
        f"{PODS} pods running",
        lambda: cluster.get("deployment/many", "-n", namespace)["status"].get("readyReplicas") == PODS,
        240,
    )
    memory, begun = figures(tools, node)
    end = time.monotonic() + _SECONDS
    wait_for("half a minute", lambda: time.monotonic() > end, _SECONDS + 5)
    _, ended = figures(tools, node)
    share = 100 * (ended - begun) / _SECONDS
    agent = agent_of(cluster, node)["metadata"]["name"]
    log = cluster.kubectl("logs", "-n", SYSTEM, agent)
    opened = sorted(
        int(line.rpartition('"bound_to_open_ms": ')[2].rstrip("}"))
        for line in log.splitlines()
        if f"{namespace}/" in line and "bound_to_open_ms" in line
    )
    print(
        f"{PODS} pods: {memory:.0f} MB (before: {before:.0f}), {share:.1f} % of a processor, "
        f"bound to open {opened[len(opened) // 2]} ms median, {opened[-1]} ms at most"
    )
    assert memory < 512
    assert share < 25
