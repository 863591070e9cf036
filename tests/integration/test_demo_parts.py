"""The parts of the demo with a real PostgreSQL and a real network, seen by tcpdump as a second opinion."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from podcam.demo.app import AppError, Login, run_app
from podcam.demo.certificate import make_certificate
from podcam.demo.lab import Lab, open_lab
from podcam.demo.postgres import DATABASE, PASSWORD, USER, Server, run_postgres
from podcam.demo.proxy import Misbehaviour, Proxy
from waiting import wait_until

pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0, reason="opens packet sockets and namespaces: run the tests as root"
    ),
    pytest.mark.skipif(shutil.which("tcpdump") is None, reason="needs tcpdump: apt-get install tcpdump"),
    pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark: apt-get install tshark"),
]

_PORT = 5433
_EVERY = 3
_ACK = ("server", "A", 0)
_CONNECTIONS = 6
_LAST_WORDS = b"this is the last packet"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with run_postgres() as server:
        yield server


@contextlib.contextmanager
def _tcpdump(lab: Lab, file: Path) -> Iterator[None]:
    command = [
        "tcpdump",
        "-Z",
        "root",
        "-U",
        "--immediate-mode",
        "-B",
        "65536",
        "-i",
        "any",
        "-w",
        str(file),
        f"port {_PORT}",
    ]
    process = lab.app.call(lambda: subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    try:
        assert process.stderr is not None
        assert any("listening on" in line for line in process.stderr)
        yield
        # It drops what it has not read when it is told to end.
        with lab.app.call(lambda: socket.socket(_family_of(lab), socket.SOCK_DGRAM)) as last:
            last.sendto(_LAST_WORDS, (lab.service.address, _PORT))
        wait_until(lambda: _LAST_WORDS in file.read_bytes())
    finally:
        process.terminate()
        process.communicate()


def _family_of(lab: Lab) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in lab.service.address else socket.AF_INET


def _play(
    postgres: Server,
    folder: Path,
    misbehaviour: Misbehaviour,
    *,
    ipv6: bool = False,
    tls: bool = False,
    timeout_s: float = 60.0,
) -> tuple[Proxy, list[AppError]]:
    """Gives the proxy after the app's last connection, and the app's errors; the capture is `seen.pcap`."""
    server_tls = client_tls = None
    if tls:
        certificate = make_certificate(folder, "db.test")
        server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server_tls.load_cert_chain(certificate.certificate, certificate.key)
        client_tls = ssl.create_default_context(cafile=certificate.certificate)
    proxy = Proxy(
        postgres.socket_path,
        misbehaviour=misbehaviour,
        every=_EVERY,
        log=folder / "proxy.jsonl",
        tls=server_tls,
    )
    errors: list[AppError] = []
    with open_lab(ipv6=ipv6) as lab, _tcpdump(lab, folder / "seen.pcap"), proxy.serving(lab.service, _PORT):
        login = Login(lab.service.address, _PORT, USER, PASSWORD, DATABASE, client_tls, "db.test", timeout_s)
        lab.app.call(
            lambda: run_app(
                login,
                connections=_CONNECTIONS,
                interval_s=0,
                stop=threading.Event(),
                progress=lambda _, error: errors.append(error) if error else None,
            )
        )
    return proxy, errors


def _frames(folder: Path, port: int) -> list[tuple[str, str, int]]:
    """For each packet of the client's port: who sent it, the flags as tshark writes them, payload bytes."""
    fields = ["tcp.srcport", "tcp.flags.str", "tcp.len"]
    command = ["tshark", "-r", str(folder / "seen.pcap"), "-Y", f"tcp.port == {port}", "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split("\t") for line in lines]
    return [
        ("client" if int(src) == port else "server", flags.replace("·", ""), int(n)) for src, flags, n in rows
    ]


def _without_acks(frames: list[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """The kernel may acknowledge once more when the proxy reads."""
    return [frame for frame in frames if frame != _ACK]


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_the_kernel_acknowledges_the_startup_message_before_the_reset(
    postgres: Server, tmp_path: Path, ipv6: bool
) -> None:
    proxy, errors = _play(postgres, tmp_path, Misbehaviour.RESET, ipv6=ipv6)

    assert [error.number for error in errors] == [3, 6]
    assert [error.port for error in errors] == [failed.client_port for failed in proxy.failed]
    assert {error.message for error in errors} == {
        "could not receive data from server: Connection reset by peer"
    }
    for failed in proxy.failed:
        startup, acknowledgement, *rest = _frames(tmp_path, failed.client_port)[3:]
        assert startup[:2] == ("client", "AP")
        assert acknowledgement == _ACK
        assert _without_acks(rest) == [("server", "AR", 0)]


def test_with_tls_the_reset_comes_after_the_first_encrypted_record(postgres: Server, tmp_path: Path) -> None:
    proxy, errors = _play(postgres, tmp_path, Misbehaviour.RESET, tls=True)

    assert [error.port for error in errors] == [failed.client_port for failed in proxy.failed]
    for failed in proxy.failed:
        frames = _frames(tmp_path, failed.client_port)
        *_, (who, _, size), reset = _without_acks(frames)
        assert who == "client"
        assert size > 0
        assert frames[-2] == _ACK
        assert reset == ("server", "AR", 0)


def test_a_proxy_that_closes(postgres: Server, tmp_path: Path) -> None:
    proxy, errors = _play(postgres, tmp_path, Misbehaviour.CLOSE)

    assert {error.message for error in errors} == {"server closed the connection unexpectedly"}
    for failed in proxy.failed:
        frames = _frames(tmp_path, failed.client_port)
        assert frames[4] == _ACK
        assert _without_acks(frames[4:])[0] == ("server", "AF", 0)
        assert not any("R" in flags for _, flags, _ in frames)


def test_a_proxy_that_stays_silent(postgres: Server, tmp_path: Path) -> None:
    proxy, errors = _play(postgres, tmp_path, Misbehaviour.SILENT, timeout_s=5.0)

    assert {error.message for error in errors} == {"could not receive data from server: timeout expired"}
    for failed in proxy.failed:
        frames = _frames(tmp_path, failed.client_port)
        assert frames[4] == _ACK
        assert _without_acks(frames[4:])[0] == ("client", "AF", 0)


def test_good_connections_end_without_a_reset(postgres: Server, tmp_path: Path) -> None:
    proxy, _ = _play(postgres, tmp_path, Misbehaviour.CLOSE)

    failed = {one.client_port for one in proxy.failed}
    command = [
        "tshark",
        "-r",
        str(tmp_path / "seen.pcap"),
        "-Y",
        f"tcp.dstport == {_PORT} && tcp.flags.syn == 1",
    ]
    command += ["-T", "fields", "-e", "tcp.srcport"]
    seen = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    good = {int(port) for port in seen} - failed
    assert len(good) == _CONNECTIONS - len(failed)
    for port in good:
        flags = [flags for _, flags, _ in _frames(tmp_path, port)]
        assert sum("F" in each for each in flags) == 2
        assert not any("R" in each for each in flags)
