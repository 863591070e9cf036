"""A pod with a mesh's proxy: the app is redirected to it by nftables, and both halves are recorded."""

import contextlib
import itertools
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import network_lab as lab
from conversations import QUERY, ROWS, TERMINATE, WELCOME, startup
from podcam.capture import Namespace
from podcam.diagnose import diagnose
from podcam.model.diagnosis import DiagnosedConnection, LegEnd
from podcam.model.verdict import VerdictId
from recorders import podcam, recording

pytestmark = [
    pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not())),
    pytest.mark.skipif(shutil.which("nft") is None, reason="nft is missing: apt-get install nftables"),
]

PORT, OTHER_PORT, PROXY_PORT, PROXY_UID = 5432, 8080, 15001, 1337
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # socket(7): SO_LINGER
RULES = f"""
table inet mesh {{
  chain output {{
    type nat hook output priority -100; policy accept;
    meta skuid {PROXY_UID} return
    oifname "lo" return
    meta l4proto tcp redirect to :{PROXY_PORT}
  }}
}}
"""
"""What Istio's init container sets up for outgoing connections, as nftables says it."""


@dataclass
class Database:
    """A server that speaks enough of PostgreSQL, and resets those that it is told to."""

    listener: socket.socket
    reset_next: threading.Event = field(default_factory=threading.Event)

    def serve(self) -> None:
        with contextlib.suppress(OSError):  # the listener is shut down at the end
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._talk, args=(connection,)).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            connection.recv(4096)
            if self.reset_next.is_set():
                self.reset_next.clear()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                return
            connection.sendall(WELCOME)
            while asked := connection.recv(4096):
                if asked.endswith(TERMINATE):
                    return
                connection.sendall(ROWS)


@dataclass
class Pod:
    """A network namespace with an app, a proxy, and databases beyond."""

    namespace: Namespace
    address: str
    database: Database

    def ask(self, port: int = PORT) -> int:
        """One session of the app; its port. Ends early when the connection does."""
        made = lab.inside(self.namespace, lambda: socket.create_connection((self.address, port), timeout=10))
        with made as connection, contextlib.suppress(ConnectionError):
            connection.sendall(startup())
            if connection.recv(4096):
                connection.sendall(QUERY)
                connection.recv(4096)
                connection.sendall(TERMINATE)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(4096)
            return int(connection.getsockname()[1])
        raise AssertionError("the app's connection broke off")


@pytest.fixture(params=["10.9.0.2", "fd09::2"])
def pod(request: pytest.FixtureRequest) -> Iterator[Pod]:
    address = request.param
    with contextlib.ExitStack() as stack:
        here, there = (stack.enter_context(lab.namespace()) for _ in range(2))
        lab.join(here, there)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        inside = ["ip", "netns", "exec", str(here.name)]
        subprocess.run([*inside, "nft", "-f", "-"], input=RULES, text=True, check=True)
        databases = []
        for port in (PORT, OTHER_PORT):
            listener = stack.enter_context(
                lab.inside(there, lambda port=port: socket.create_server((address, port), family=family))  # type: ignore[misc]
            )
            databases.append(Database(listener))
            thread = threading.Thread(target=databases[-1].serve)
            thread.start()
            stack.callback(thread.join)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
        stack.enter_context(_proxy(inside))
        yield Pod(here, address, databases[0])


@contextlib.contextmanager
def _proxy(inside: list[str]) -> Iterator[None]:
    program = [sys.executable, "-m", "e2e.scenario.programs.mesh", str(PROXY_PORT), str(PROXY_UID)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen([*inside, *program], stdout=subprocess.PIPE, text=True, env=environment) as proxy:
        try:
            assert proxy.stdout is not None
            assert proxy.stdout.readline() == "ready\n"
            yield
        finally:
            proxy.terminate()


def recorded(pod: Pod, folder: Path, *options: object, failing: int = 3) -> list[DiagnosedConnection]:
    """Six sessions, of which one is reset by the server, and as many to another port."""
    where = ("--netns", pod.namespace.name, "--dir", folder, "--on", "none")
    with recording(*where, *options) as recorder:
        for number in range(6):
            if number == failing:
                pod.database.reset_next.set()
            pod.ask()
            pod.ask(OTHER_PORT)
        done = podcam("clip", "--dir", folder)
        assert done.returncode == 0, done.stderr
        recorder.stop()
    return list(diagnose([done.stdout.splitlines()[-1]]).diagnosis.connections)


def joined(rows: list[DiagnosedConnection]) -> list[tuple[DiagnosedConnection, DiagnosedConnection]]:
    by_id = {row.id: row for row in rows}
    return [
        (row, by_id[row.leg.connection])
        for row in rows
        if row.leg is not None and row.leg.towards is LegEnd.SERVER
    ]


@pytest.mark.parametrize("options", [(), ("--port", PORT), ("--port", PORT, "--port", PROXY_PORT)])
def test_both_halves_are_recorded_and_joined_as_a_guess(
    pod: Pod, tmp_path: Path, options: tuple[object, ...]
) -> None:
    rows = [row for row in recorded(pod, tmp_path, *options) if row.server.port == PORT]
    pairs = joined(rows)
    assert len(rows) == 12
    assert len(pairs) == 6
    for near, far in pairs:
        assert near.proxy is not None
        assert near.proxy.ip in {"127.0.0.1", "::1"}
        assert near.proxy.port == PROXY_PORT
        assert (near.server, near.client.ip) == (far.server, far.client.ip)
        assert (near.client_bytes, near.server_bytes) == (far.client_bytes, far.server_bytes)
        assert near.tcp is not None
        assert near.tcp.handshake_ns is not None
    assert all(one.start_ns < other.start_ns for (one, _), (other, _) in itertools.pairwise(pairs))
    failed_near, failed_far = pairs[3]
    assert failed_far.verdict.id is VerdictId.RESET_DURING_STARTUP
    assert failed_near.verdict.failed
    assert failed_near.leg is not None
    assert failed_near.leg.began is LegEnd.SERVER
    assert "As a guess" in failed_near.verdict.summary
    assert [row.verdict.failed for pair in pairs for row in pair].count(True) == 2


def test_of_other_ports_the_headers_towards_the_proxy_are_kept_and_nothing_is_said(
    pod: Pod, tmp_path: Path
) -> None:
    rows = recorded(pod, tmp_path, "--port", PORT)
    others = [row for row in rows if row.server.port != PORT]
    assert len(others) == 6
    assert all(row.proxy == row.server and row.verdict.id is VerdictId.PARTIAL for row in others)
    clips = (tmp_path / "clips").rglob("*")
    kept = b"".join(path.read_bytes() for path in clips if path.is_file())
    assert kept.count(startup()) == 6  # of the legs to the server, and of nothing on lo


def test_the_detector_sees_the_apps_half_fail_and_no_other(pod: Pod, tmp_path: Path) -> None:
    with recording("--netns", pod.namespace.name, "--dir", tmp_path, "--port", PORT) as recorder:
        for _ in range(3):
            pod.ask()
            pod.ask(OTHER_PORT)
        pod.database.reset_next.set()
        port = pod.ask()
        recorder.wait_for(lambda event: event["event"] == "failure" and event["client"]["port"] == port)
        recorder.stop()
    failures = recorder.of_kind("failure")
    assert {event["server"]["port"] for event in failures} == {PORT}
    assert sorted(event["class"] for event in failures) == ["closed-early", "reset-early"]
