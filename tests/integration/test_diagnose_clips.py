"""Clips of a recorder, diagnosed: two points and what lies between them, gaps, and names that moved."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import network_lab as lab
from name_server import name_server
from podcam.capture import Namespace
from podcam.diagnose import diagnose
from podcam.diagnose.between import UNDERWAY_NS
from podcam.model.diagnosis import Diagnosis
from podcam.model.verdict import Fault
from podcam.report.view import outcomes
from recorders import podcam, recording

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))

SERVICE, SERVER = "10.96.0.7", "10.9.2.2"
PORT, SERVICE_PORT = 5432, 80


def filtered(router: Namespace, *arguments: str) -> None:
    if shutil.which("iptables") is None:
        pytest.skip("iptables is missing: apt-get install iptables")
    subprocess.run(["ip", "netns", "exec", str(router.name), "iptables", *arguments], check=True)


@pytest.fixture
def ends() -> Iterator[tuple[Namespace, Namespace, Namespace]]:
    """A client, a router that translates a Service's address as kube-proxy does, and a server."""
    with lab.namespace() as client, lab.namespace() as router, lab.namespace() as server:
        for number, (end, name) in enumerate(((client, "west"), (server, "east")), 1):
            link = ["link", "add", "eth0", "type", "veth", "peer", "name", name, "netns", router.name]
            lab.ip("-n", end.name, *link)
            lab.ip("-n", end.name, "address", "add", f"10.9.{number}.2/24", "dev", "eth0")
            lab.ip("-n", router.name, "address", "add", f"10.9.{number}.1/24", "dev", name)
            lab.ip("-n", end.name, "link", "set", "eth0", "up")
            lab.ip("-n", router.name, "link", "set", name, "up")
            lab.ip("-n", end.name, "route", "add", "default", "via", f"10.9.{number}.1")
        lab.inside(router, lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))
        translate = ["-d", SERVICE, "-p", "tcp", "--dport", str(SERVICE_PORT)]
        to = ["-j", "DNAT", "--to", f"{SERVER}:{PORT}"]
        filtered(router, "-t", "nat", "-A", "PREROUTING", *translate, *to)
        yield client, router, server


def ask(client: Namespace, listener: socket.socket) -> None:
    """One question and its answer through the Service."""
    with connected(client, listener) as (asking, answering):
        asking.sendall(b"question")
        assert answering.recv(100) == b"question"
        answering.sendall(b"answer")
        assert asking.recv(100) == b"answer"


@contextmanager
def connected(client: Namespace, listener: socket.socket) -> Iterator[tuple[socket.socket, socket.socket]]:
    with lab.inside(client, lambda: socket.create_connection((SERVICE, SERVICE_PORT), 20)) as asking:
        answering, _ = listener.accept()
        with answering:
            answering.settimeout(20)
            yield asking, answering
            asking.close()  # first, as clients do


def clip_of(folder: Path) -> Path:
    done = podcam("clip", "--dir", folder)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


def test_a_reset_made_between_two_points_is_not_laid_at_the_servers_door(
    ends: tuple[Namespace, Namespace, Namespace], tmp_path: Path
) -> None:
    client, router, server = ends
    points = [argument for end in (client, server) for argument in ("--netns", end.name)]
    reject = ["-p", "tcp", "--dport", str(PORT), "--tcp-flags", "PSH", "PSH"]
    reset = ["-j", "REJECT", "--reject-with", "tcp-reset"]
    with (
        lab.inside(server, lambda: socket.create_server((SERVER, PORT))) as listener,
        recording(*points, "--dir", tmp_path, "--on", "none") as recorder,
    ):
        listener.settimeout(20)
        for _ in range(3):
            ask(client, listener)
        filtered(router, "-I", "FORWARD", *reject, *reset)
        with connected(client, listener) as (asking, _):
            asking.sendall(b"question")
            with pytest.raises(ConnectionResetError):
                asking.recv(100)
        filtered(router, "-D", "FORWARD", *reject, *reset)
        until = time.monotonic() + 2 * UNDERWAY_NS / 1e9
        while time.monotonic() < until:
            ask(client, listener)
        clip = clip_of(tmp_path)
        recorder.stop()
    found = diagnose([clip]).diagnosis
    failed = [row for row in found.connections if row.verdict.failed]
    assert len({row.end_to_end for row in failed}) == 1
    (row,) = outcomes(failed)
    assert (row.point, row.server.ip, row.verdict.fault) == (client.name, SERVICE, Fault.NETWORK)
    assert f"arrived at {client.name}, never left {server.name}" in row.verdict.summary
    assert len({row.end_to_end for row in found.connections}) * 2 == len(found.connections)


def test_a_recorder_that_was_killed_leaves_a_gap_and_no_failures(
    ends: tuple[Namespace, Namespace, Namespace], tmp_path: Path
) -> None:
    client, _, server = ends
    arguments = ("--netns", client.name, "--dir", tmp_path, "--on", "none")
    with lab.inside(server, lambda: socket.create_server((SERVER, PORT))) as listener:
        listener.settimeout(20)
        with connected(client, listener) as (asking, answering):
            with recording(*arguments) as killed:
                ask(client, listener)
                killed.wait_for_packets(5)
                killed.kill_all()
            asking.sendall(b"not recorded")
            assert answering.recv(100)
            with recording(*arguments) as recorder:
                answering.sendall(b"recorded")
                assert asking.recv(100)
                ask(client, listener)
                clip = clip_of(tmp_path)
                recorder.stop()
    found = diagnose([clip]).diagnosis
    (warning,) = found.captures[0].warnings
    assert warning.startswith(f"nothing was recorded at {client.name} from ")
    assert warning.endswith("the recorder was not running")
    assert [row.verdict.failed for row in found.connections] == [False] * len(found.connections)
    assert shown(clip, 'frame.comment contains "nothing was recorded"', tmp_path) == 1


def shown(clip: Path, wanted: str, folder: Path) -> int:
    """How many frames of the clip's export tshark shows."""
    if shutil.which("tshark") is None:
        pytest.skip("tshark is missing: apt-get install tshark")
    target = folder / "export.pcapng"
    assert podcam("export", clip, "-o", target).returncode == 0
    command = ["tshark", "-r", str(target), "-Y", wanted]
    return len(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())


def test_a_name_that_moved_is_told_with_what_may_be_missing(tmp_path: Path) -> None:
    with lab.namespace() as here, name_server(here) as server:
        for address in ("10.50.0.1", "10.50.0.2"):
            lab.ip("-n", here.name, "address", "add", f"{address}/32", "dev", "lo")
        server.addresses["db.podcam.test"] = ["10.50.0.1"]
        with recording("--netns", here.name, "--dir", tmp_path, "--host", "db.podcam.test") as recorder:
            lab.exchange(here, here, "10.50.0.1", PORT)
            server.move("db.podcam.test", "10.50.0.2")
            recorder.wait_for(lambda event: event["event"] == "filter" and bool(event["learned"]))
            lab.exchange(here, here, "10.50.0.2", PORT)
            clip = clip_of(tmp_path)
            recorder.stop()
    found: Diagnosis = diagnose([clip]).diagnosis
    (warning,) = found.captures[0].warnings
    told = (
        f"first packets of connections to 10.50.0.2 may be missing at {here.name}: db.podcam.test moved there"
    )
    assert warning.startswith(told)
