"""What the agents ask of the API server, as its own audit log tells: one watch per kind, and nothing else."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import AGENTS, SYSTEM, Cluster, Object, wait_for
from e2e.scenario import Scenario
from e2e.test_agent_records import recording, wait_until_recorded

pytestmark = pytest.mark.usefixtures("agents")

WATCHED = {"recordings", "clips", "packetgrants", "pods", "namespaces"}
_AGENT = f"system:serviceaccount:{SYSTEM}:podcam-agent"
_IDLE_SECONDS = 40
_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
  - level: Metadata
    users: ["{agent}"]
  - level: None
"""


@pytest.fixture
def audit_log(cluster: Cluster, tools: Path, tmp_path: Path) -> Iterator[Path]:
    """The API server, started anew, writes into this file what the agents ask of it."""
    lab = Path(os.environ.get("PODCAM_LAB", "/opt/podcam-lab"))
    listing = lab / "run" / "kube-apiserver.pid"
    if not listing.exists():
        pytest.skip(f"the API server of this cluster is not a process of this machine: no {listing}")
    policy, log = tmp_path / "policy.yaml", tmp_path / "audit.log"
    policy.write_text(_POLICY.format(agent=_AGENT))

    def start_anew(arguments: str) -> None:
        os.kill(int(listing.read_text().split()[0]), signal.SIGKILL)
        environment = os.environ | {"KUBE_APISERVER_ARGS": arguments}
        subprocess.run([tools / "up"], env=environment, check=True, capture_output=True)

    start_anew(f"--audit-policy-file={policy} --audit-log-path={log}")
    try:
        yield log
    finally:
        start_anew("")


def _events(log: Path) -> list[Object]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def _pod_of(event: Object) -> str:
    (name,) = event["user"]["extra"]["authentication.kubernetes.io/pod-name"]
    return str(name)


def _open_watches(events: list[Object]) -> Counter[tuple[str, str]]:
    """How many watches each agent has open, by what is watched."""
    begun = {e["auditID"]: e for e in events if e["verb"] == "watch" and e["stage"] == "ResponseStarted"}
    ended = {e["auditID"] for e in events if e["stage"] in {"ResponseComplete", "Panic"}}
    return Counter(
        (_pod_of(event), event["objectRef"]["resource"])
        for number, event in begun.items()
        if number not in ended
    )


def _requests(events: list[Object]) -> tuple[int, str]:
    """How many there were, and the last of them."""
    received = [event for event in events if event["stage"] == "RequestReceived"]
    return len(received), str(received[-1]["requestURI"]) if received else ""


def _wait_until_quiet(log: Path) -> None:
    since, last = time.monotonic(), _requests(_events(log))

    def quiet() -> bool:
        nonlocal since, last
        now = _requests(_events(log))
        if now != last:
            since, last = time.monotonic(), now
        return time.monotonic() - since > _IDLE_SECONDS

    try:
        wait_for(f"{_IDLE_SECONDS} s without a request", quiet, 4 * _IDLE_SECONDS)
    except AssertionError as error:
        raise AssertionError(f"{error}; the last request was {last}") from None


@pytest.mark.outage
def test_one_watch_per_kind_and_agent_and_nothing_else_while_idle(
    scenario: Scenario, audit_log: Path
) -> None:
    cluster, namespace = scenario.cluster, scenario.namespace
    cluster.apply(recording(namespace, ports=[9]))  # nothing goes there: no failure, no clip
    wait_until_recorded(cluster, namespace, 3)
    _wait_until_quiet(audit_log)
    agents = {pod["metadata"]["name"] for pod in cluster.items("pods", "-n", SYSTEM, "-l", AGENTS)}
    assert _open_watches(_events(audit_log)) == {(agent, kind): 1 for agent in agents for kind in WATCHED}
