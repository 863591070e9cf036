"""A recording with names in it, on a cluster: what is kept while a name moves, and what look-ups cost."""

import re
import secrets
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from e2e.cluster import AGENTS, SYSTEM, Cluster, Object, wait_for
from e2e.scenario import MOVING_NAME, Scenario, deploy_scenario
from e2e.test_agent_records import (
    clip,
    diagnosis,
    is_complete,
    points,
    recording,
    wait_for_clip,
    wait_until_recorded,
)

pytestmark = pytest.mark.usefixtures("agents")

needs_tshark = pytest.mark.skipif(
    shutil.which("tshark") is None, reason="needs tshark: apt-get install tshark"
)

PORT = 5432
MOVES = 50
FOLLOWERS = 12
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC"


class Server(NamedTuple):
    """Whom a pod connected to, and from which port."""

    client_ip: str
    client_port: int
    ip: str


@pytest.fixture
def moving(cluster: Cluster, namespace: str) -> Scenario:
    """The scenario, whose app reaches the proxy by a name that moves."""
    return deploy_scenario(cluster, namespace, moving_name=True)


def move(scenario: Scenario, address: str, pod: Object) -> None:
    """Let the name move there, and wait until the pod has followed."""
    scenario.move_name(address)

    def followed() -> bool:
        return any(line["server_ip"] == address and line["error"] is None for line in scenario.app_log(pod))

    wait_for(f"a connection to {address}", followed)


def connections_since(scenario: Scenario, since: dict[str, int]) -> set[Server]:
    """What the app's pods say to have connected to behind so many lines of their logs: all went well."""
    found = set()
    for pod in scenario.pods():
        lines = scenario.app_log(pod)[since[pod["metadata"]["name"]] :]
        assert [line["error"] for line in lines if line["error"] is not None] == []
        found |= {Server(pod["status"]["podIP"], line["client_port"], line["server_ip"]) for line in lines}
    return found


def lines_of_logs(scenario: Scenario) -> dict[str, int]:
    return {pod["metadata"]["name"]: len(scenario.app_log(pod)) for pod in scenario.pods()}


def pulled(cluster: Cluster, namespace: str, name: str, folder: Path) -> Path:
    target = folder / f"{name}.pcapng"
    cluster.kubectl("podcam", "pull", name, "-n", namespace, "-o", target)
    return target


def tshark(capture: Path, display_filter: str, *fields: str) -> list[list[str]]:
    """The fields of the packets that pass, as Wireshark reads them."""
    columns = [word for field in fields for word in ("-e", field)]
    done = subprocess.run(
        ["tshark", "-r", capture, "-Y", display_filter, "-T", "fields", *columns],
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split("\t") for line in done.stdout.splitlines()]


def whole_connections(capture: Path) -> set[Server]:
    """Those with SYN, SYN-ACK, the first byte of both sides' data, FINs, and nothing missing between."""
    packets = tshark(
        capture,
        f"tcp.port == {PORT}",
        *("tcp.stream", "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport"),
        *("tcp.flags", "tcp.seq", "tcp.len", "tcp.analysis.lost_segment", "tcp.analysis.ack_lost_segment"),
    )
    seen: dict[tuple[str, Server], set[str]] = {}
    for stream, source, source_port, target, target_port, flags, seq, length, *missing in packets:
        up = int(target_port) == PORT
        client = (source, int(source_port), target) if up else (target, int(target_port), source)
        marks = seen.setdefault((stream, Server(*client)), set())
        side = "client" if up else "server"
        bits = int(flags, 16)
        marks |= {f"{side} {name}" for name, bit in (("SYN", 2), ("FIN", 1)) if bits & bit}
        marks |= {f"{side} data"} if seq == "1" and int(length) else set()
        marks |= {"missing"} if any(missing) else set()
    whole = {f"{side} {what}" for side in ("client", "server") for what in ("SYN", "data", "FIN")}
    return {server for (_, server), marks in seen.items() if marks == whole}


@needs_tshark
def test_with_a_port_every_connection_to_a_new_address_is_recorded_whole(
    moving: Scenario, tmp_path: Path
) -> None:
    cluster, namespace = moving.cluster, moving.namespace
    addresses = moving.make_addresses(MOVES)
    cluster.apply(recording(namespace, hosts=[MOVING_NAME]))
    wait_until_recorded(cluster, namespace, 3)
    since = {name: lines + 1 for name, lines in lines_of_logs(moving).items()}
    pod = moving.pods()[0]
    for address in addresses:
        move(moving, address, pod)
    expected = connections_since(moving, since)
    cluster.create(clip(namespace, "moved", last="20m"))
    wait_for_clip(cluster, namespace, is_complete)
    whole = whole_connections(pulled(cluster, namespace, "moved", tmp_path))
    assert expected - whole == set()
    assert {server.ip for server in whole if server.client_ip == pod["status"]["podIP"]} >= set(addresses)
    assert len(set(addresses)) == MOVES


def test_with_the_name_alone_the_clip_says_which_first_packets_may_be_missing(moving: Scenario) -> None:
    cluster, namespace = moving.cluster, moving.namespace
    addresses = moving.make_addresses(5)
    asked = recording(namespace, hosts=[MOVING_NAME])
    del asked["spec"]["ports"]
    cluster.apply(asked)
    wait_until_recorded(cluster, namespace, 3)
    pods = moving.pods()
    for address in addresses:
        for pod in pods:
            move(moving, address, pod)
    cluster.create(clip(namespace, "moved", last="20m"))
    wait_for_clip(cluster, namespace, is_complete)
    told = diagnosis(cluster, namespace, "moved")
    (capture,) = told["captures"]
    for pod in pods:
        point = f"{namespace}/{pod['metadata']['name']}"
        for address in addresses:
            sentence = (
                f"first packets of connections to {re.escape(address)} may be missing at {point}: "
                rf"{MOVING_NAME} moved there at {TIME}, the filter [\d.]+ ms later"
            )
            assert any(re.fullmatch(sentence, warning) for warning in capture["warnings"]), sentence
    beheaded = [
        (found["point"], found["server"]["ip"])
        for found in told["connections"]
        if found["tcp"]["handshake_ns"] is None
    ]
    warned = " ".join(capture["warnings"])
    assert all(f"connections to {ip} may be missing at {point}:" in warned for point, ip in beheaded)
    assert {found["server"]["ip"] for found in told["connections"]} >= set(addresses)


@pytest.fixture
def agents_recorded(cluster: Cluster, agents: None) -> Iterator[str]:
    """A recording of what the agents themselves ask name servers."""
    name = f"e2e-{secrets.token_hex(3)}"
    spec = {"selector": {"matchLabels": dict([AGENTS.split("=")])}, "ports": [53]}
    cluster.apply(recording(SYSTEM, name, **spec))
    nodes = len(cluster.items("nodes"))

    def recorded() -> bool:
        states = [point["state"] for point in points(cluster, SYSTEM, name).values()]
        return states.count("Recording") == nodes

    wait_for("agents recorded", recorded)
    yield name
    cluster.kubectl("delete", "clips.podcam.dev", "-n", SYSTEM, "-l", f"podcam.dev/recording={name}")
    cluster.kubectl("delete", "recording", name, "-n", SYSTEM)


@needs_tshark
def test_looking_up_costs_the_same_for_one_pod_and_for_many(
    cluster: Cluster, make_namespace: Callable[[], str], agents_recorded: str, tmp_path: Path
) -> None:
    """Nobody knows the name, which is the dearest case, and no pod asks for it, so the agents have to."""
    name = f"db-{secrets.token_hex(4)}.example"
    namespace = make_namespace()
    cluster.apply(_followers(namespace, 2))
    for each in ("app", "app-too"):
        cluster.apply(recording(namespace, each, hosts=[name]))
    wait_until_recorded(cluster, namespace, 2)

    def asked(clip_name: str) -> Counter[tuple[str, ...]]:
        """How often each agent asked for each name and type."""
        kept = clip(SYSTEM, clip_name, recording=agents_recorded, last="10m")
        kept["metadata"]["labels"] = {"podcam.dev/recording": agents_recorded}
        cluster.create(kept)
        wait_for_clip(
            cluster, SYSTEM, lambda found: found["metadata"]["name"] == clip_name and is_complete(found)
        )
        capture = pulled(cluster, SYSTEM, clip_name, tmp_path)
        asked = tshark(
            capture,
            f'dns.flags.response == 0 && dns.qry.name contains "{name}"',
            *("ip.src", "dns.qry.name", "dns.qry.type"),
        )
        return Counter(map(tuple, asked))

    few = asked(f"{agents_recorded}-few")
    cluster.kubectl("scale", "deployment/app", "-n", namespace, f"--replicas={FOLLOWERS}")
    wait_until_recorded(cluster, namespace, FOLLOWERS, 60)
    many = asked(f"{agents_recorded}-many")
    nodes = {pod["spec"]["nodeName"] for pod in cluster.items("pods", "-n", namespace)}
    assert len({agent for agent, *_ in few}) == len(nodes) > 0
    assert set(few.values()) == {1}
    assert many == few


def _followers(namespace: str, replicas: int) -> Object:
    """Pods, on every node, that do nothing."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "app", "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "app"}},
            "template": {
                "metadata": {"labels": {"app": "app"}},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "automountServiceAccountToken": False,
                    "topologySpreadConstraints": [
                        {
                            "maxSkew": 1,
                            "topologyKey": "kubernetes.io/hostname",
                            "whenUnsatisfiable": "DoNotSchedule",
                            "labelSelector": {"matchLabels": {"app": "app"}},
                        }
                    ],
                    "containers": [
                        {
                            "name": "idle",
                            "image": "localhost/lab:latest",
                            "imagePullPolicy": "IfNotPresent",
                            "command": ["sleep", "infinity"],
                        }
                    ],
                },
            },
        },
    }
