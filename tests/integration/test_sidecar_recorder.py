"""`podcam sidecar`: it records, hands out clips, ends when the pod does, and never is a reason to wait."""

import contextlib
import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import network_lab as lab
from other_users import let_others_in
from pod_recorders import status_in
from podcam.capture import Namespace
from podcam.clip import ClipStore
from podcam.wrap.http import READER
from waiting import wait_until

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))

_PODCAM = (sys.executable, "-I", "-m", "podcam")
_PORT = 9472
_AT_ONCE_S = 9
"""Neither has the grace period of 30 s been used up, nor has anybody been waited for who fetches clips."""
_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
_TALK = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    for _ in range(20):
        with socket.create_connection(server.getsockname()) as client, server.accept()[0] as other:
            client.sendall(b"question"); other.recv(100); other.sendall(bytes(20000)); client.recv(20000)
"""


class Sidecar:
    """One, in a pod's network."""

    def __init__(self, pod: Namespace, folder: Path, *options: str, before: tuple[str, ...] = ()) -> None:
        self.pod = pod
        self.folder = folder
        command = [*before, *_PODCAM, "sidecar", "--dir", str(folder), "--serve", str(_PORT), *options]
        self.process = lab.inside(
            pod,
            lambda: subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
            ),
        )

    @property
    def status(self) -> dict[str, Any]:
        return status_in(self.folder)

    @property
    def recorder(self) -> int:
        pid = self.process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)

    def wait_until_recorded(self) -> None:
        wait_until(lambda: self.status.get("state") == "recording", tell=lambda: self.status)

    def said(self) -> str:
        """Its next line."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def ends(self) -> float:
        """Seconds until it has ended, and well."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0
        return time.monotonic() - began

    def get(self, path: str) -> bytes:
        """From within the pod, over and over until it answers."""

        def ask() -> bytes:
            connection = http.client.HTTPConnection("127.0.0.1", _PORT, timeout=10)
            connection.request("GET", path, headers={READER: "1"})
            body = connection.getresponse().read()
            connection.close()
            return body

        return lab.inside(self.pod, ask)


@pytest.fixture
def pod() -> Iterator[Namespace]:
    with lab.namespace() as where:
        yield where


@pytest.fixture
def sidecar(pod: Namespace, tmp_path: Path) -> Iterator[Callable[..., Sidecar]]:
    started: list[Sidecar] = []

    def start(*options: str, before: tuple[str, ...] = ()) -> Sidecar:
        started.append(Sidecar(pod, tmp_path / "ring", *options, before=before))
        return started[-1]

    yield start
    for each in started:
        with contextlib.suppress(ProcessLookupError):
            each.process.kill()
        each.process.communicate()


def talk(pod: Namespace) -> None:
    lab.inside(pod, lambda: subprocess.run([sys.executable, "-c", _TALK], check=True, timeout=30))


def keep(beside: Sidecar) -> Path:
    """A clip of what was recorded until now."""
    command = [*_PODCAM, "clip", "--dir", str(beside.folder)]
    done = subprocess.run(command, check=True, timeout=30, capture_output=True, text=True)
    return Path(done.stdout.strip())


def check(folder: Path) -> int:
    """As a startup probe in the sidecar's container, whose first process is young."""
    probe = shlex.join([*_PODCAM, "sidecar", "--check", "--dir", str(folder)])
    return subprocess.run(
        ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", "sh", "-c", probe],
        check=False,
        timeout=30,
    ).returncode


def test_sigterm_ends_it_with_what_it_has_on_disk(sidecar: Callable[..., Sidecar]) -> None:
    beside = sidecar("--name", "shop/web-1")
    beside.wait_until_recorded()
    assert "can read its packets" in beside.said()
    talk(beside.pod)
    assert beside.ends() < _AT_ONCE_S
    assert beside.status["state"] == "ended"
    assert beside.status["point"] == "shop/web-1"
    assert beside.status["totals"]["packets"] >= 20 * 9


def test_what_it_hands_out_is_not_recorded_again(sidecar: Callable[..., Sidecar]) -> None:
    beside = sidecar()
    beside.wait_until_recorded()
    talk(beside.pod)
    folder = keep(beside)
    for _ in range(3):
        assert len(beside.get(f"/v1/clips/{folder.name}/files/0")) > 20 * 20_000
    beside.get("/status")
    again = keep(beside)
    beside.ends()
    clips = {clip.path.name: clip for clip in ClipStore(folder.parent).clips()}
    first, second = (clips[each.name].manifest.parts[0].totals for each in (folder, again))
    assert first.packets > 0
    assert second.packets == first.packets


def test_one_that_cannot_record_stays_and_says_why_once(
    sidecar: Callable[..., Sidecar], tmp_path: Path
) -> None:
    (tmp_path / "ring").mkdir()
    (tmp_path / "ring").chmod(0o777)
    let_others_in(tmp_path)
    beside = sidecar(before=_NOBODY)
    line = beside.said()
    assert line.startswith("podcam: not recording: ")
    assert "NET_RAW" in line
    wait_until(lambda: check(beside.folder) == 0)
    assert beside.process.poll() is None
    assert beside.ends() < _AT_ONCE_S


def test_one_that_is_started_wrongly_stays_too(sidecar: Callable[..., Sidecar]) -> None:
    for mistake in (("--ring", "nonsense"), ("--on", "exit-failure")):
        beside = sidecar(*mistake)
        assert "not recording: " in beside.said()
        assert beside.ends() < _AT_ONCE_S


def test_a_recorder_that_is_killed_is_started_again(sidecar: Callable[..., Sidecar]) -> None:
    beside = sidecar()
    beside.wait_until_recorded()
    os.kill(beside.recorder, signal.SIGKILL)
    wait_until(lambda: beside.status.get("restarts") == 1 and beside.status["state"] == "recording")
    assert beside.get("/status")
    beside.ends()


def test_a_port_that_the_app_has_is_left_to_it(sidecar: Callable[..., Sidecar], pod: Namespace) -> None:
    taken = lab.inside(pod, lambda: socket.create_server(("127.0.0.1", _PORT)))
    with taken:
        beside = sidecar()
        beside.wait_until_recorded()
        assert f"port {_PORT} of the pod cannot be had" in beside.said()
        talk(beside.pod)
        beside.ends()
    assert beside.status["totals"]["packets"] >= 20 * 9


def test_the_probe_holds_once_it_records(sidecar: Callable[..., Sidecar], tmp_path: Path) -> None:
    assert check(tmp_path / "ring") == 1
    beside = sidecar()
    beside.wait_until_recorded()
    assert check(beside.folder) == 0
