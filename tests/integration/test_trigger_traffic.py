"""The wire detector on real connections, as the kernel's control sockets hear them."""

import contextlib
import select
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import network_lab as lab
from podcam.capture import (
    ControlRing,
    Namespace,
    Traffic,
    control_program,
    open_control_socket,
)
from podcam.model.failure import Failure
from podcam.trigger import Detector, Policy

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))

PORT = 5432
FRAMES = 4096
LOOPBACKS = ["127.0.0.1", "::1"]


@pytest.fixture
def pod() -> Iterator[Namespace]:
    with lab.namespace() as where:
        yield where


class Watch:
    """A detector behind a control socket."""

    def __init__(self, sock: socket.socket, policy: Policy) -> None:
        self._sock = sock
        self._ring = ControlRing(sock, FRAMES)
        self.detector = Detector(time.time_ns(), policy)
        self.failures: list[Failure] = []

    def read(self) -> None:
        for packets in self._ring.read(100_000):
            self.detector.feed_all(
                packets.times_ns,
                packets.lengths,
                packets.frames,
                packets.stride_bytes,
                packets.offset_bytes,
            )
        self.failures += self.detector.tick(time.time_ns())

    def until(self, *expected: str, within_s: float = 60) -> list[Failure]:
        """Watch until that many failures were told, which must be these."""
        end = time.monotonic() + within_s
        while len(self.failures) < len(expected):
            assert time.monotonic() < end, f"only {self.failures}"
            select.select([self._sock], [], [], 0.1)
            self.read()
        assert [f"{failure.failure_class} by {failure.by}" for failure in self.failures] == list(expected)
        return self.failures

    def settled(self) -> list[Failure]:
        """Everything that can be told of the past: as if the silence after it had lasted."""
        self.read()
        now_ns = time.time_ns()
        for seconds in range(1, 8):
            self.failures += self.detector.tick(now_ns + seconds * 1_000_000_000)
        return self.failures


@contextmanager
def watching(where: Namespace, policy: Policy | None = None) -> Iterator[Watch]:
    with open_control_socket(where, control_program(Traffic()), FRAMES) as sock:
        yield Watch(sock, policy or Policy())


def listen(
    where: Namespace, address: str = "127.0.0.1", port: int = PORT, backlog: int = 64
) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return lab.inside(where, lambda: socket.create_server((address, port), family=family, backlog=backlog))


def connect(
    where: Namespace, address: str = "127.0.0.1", port: int = PORT, timeout: float = 30
) -> socket.socket:
    return connected(client_socket(where, address, timeout), address, port)


def client_socket(where: Namespace, address: str, timeout: float = 30) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = lab.inside(where, lambda: socket.socket(family, socket.SOCK_STREAM))
    sock.settimeout(timeout)
    return sock


def connected(sock: socket.socket, address: str, port: int) -> socket.socket:
    try:
        sock.connect((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def reset_on_close(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def exchange(where: Namespace, listener: socket.socket, address: str = "127.0.0.1") -> None:
    """A good connection."""
    exchange_on(connect(where, address), listener)


def exchange_on(client: socket.socket, listener: socket.socket) -> None:
    with client:
        server, _ = listener.accept()
        with server:
            client.sendall(b"question")
            server.recv(100)
            server.sendall(b"answer" * 50)
            client.recv(1000)
            client.close()
            assert server.recv(1) == b""


@pytest.mark.parametrize("address", LOOPBACKS)
def test_a_server_that_closes_with_unread_bytes_resets(pod: Namespace, address: str) -> None:
    with listen(pod, address) as listener, watching(pod) as watch, connect(pod, address) as client:
        server, _ = listener.accept()
        client.sendall(b"s" * 83)
        select.select([server], [], [], 5)
        server.close()
        (failure,) = watch.until("reset-early by server")
    assert (failure.server.ip, failure.server.port) == (address, PORT)
    assert (failure.client_acked, failure.server_bytes) == (83, 0)


@pytest.mark.parametrize("address", LOOPBACKS)
def test_a_server_that_closes_without_an_answer(pod: Namespace, address: str) -> None:
    with listen(pod, address) as listener, watching(pod) as watch, connect(pod, address) as client:
        server, _ = listener.accept()
        client.sendall(b"s" * 83)
        assert len(server.recv(100)) == 83
        server.close()
        (failure,) = watch.until("closed-early by server")
    assert (failure.client_acked, failure.server_bytes) == (83, 0)


def test_counts_behind_large_segments_are_exact(pod: Namespace) -> None:
    """Segmentation offload hands over more than a packet holds."""
    policy = Policy(early_bytes=1 << 31)
    with listen(pod) as listener, watching(pod, policy) as watch, connect(pod) as client:
        server, _ = listener.accept()
        client.sendall(b"s" * 1000)
        server.recv(1000)
        sent = 0
        while sent < 5_000_000:
            sent += server.send(bytes(200_000))
            while select.select([client], [], [], 0)[0]:
                client.recv(1 << 20)
        reset_on_close(server)
        server.close()
        (failure,) = watch.until("reset-early by server")
    assert (failure.client_acked, failure.server_bytes) == (1000, sent)


@pytest.mark.parametrize("address", LOOPBACKS)
def test_a_closed_port(pod: Namespace, address: str) -> None:
    with watching(pod) as watch:
        with pytest.raises(ConnectionRefusedError):
            connect(pod, address)
        watch.until("refused by server")


def test_a_host_that_is_not_there(pod: Namespace) -> None:
    with lab.namespace() as other, watching(pod) as watch:
        lab.join(pod, other)
        with pytest.raises(OSError, match="No route to host"):
            connect(pod, "10.9.0.77", timeout=20)
        watch.until("unreachable by network")


def test_a_host_whose_answers_are_lost(pod: Namespace) -> None:
    with lab.namespace() as other, watching(pod) as watch:
        lab.join(pod, other)
        lab.ip("-n", other.name or "", "route", "add", "blackhole", "10.9.0.1/32")
        with listen(other, "10.9.0.2"), pytest.raises(TimeoutError):
            connect(pod, "10.9.0.2", timeout=4)
        watch.until("no-answer by nobody")


def test_an_accept_queue_that_is_full(pod: Namespace) -> None:
    with listen(pod, backlog=0), watching(pod) as watch, contextlib.ExitStack() as held:
        held.enter_context(connect(pod))  # a backlog of 0 is a queue of 1
        with pytest.raises(TimeoutError):
            connect(pod, timeout=1.5)
        watch.until("no-answer by nobody")


def test_what_every_cluster_is_full_of_is_no_failure(pod: Namespace) -> None:
    with listen(pod) as listener, listen(pod, "127.0.0.2") as other, watching(pod) as watch:
        for _ in range(20):
            exchange(pod, listener)
        for number in range(60):
            probe = connect(pod)
            if number % 2:
                reset_on_close(probe)
            probe.close()
            listener.accept()[0].close()
        for _ in range(10):
            # localhost is ::1 first; what comes half a second after a refusal is another connection.
            first, second = client_socket(pod, "::1"), client_socket(pod, "127.0.0.1")
            with pytest.raises(ConnectionRefusedError):
                connected(first, "::1", PORT)
            exchange_on(connected(second, "127.0.0.1", PORT), listener)
        pool = [(connect(pod, "127.0.0.2"), other.accept()[0]) for _ in range(200)]
        for client, server in pool:
            client.sendall(b"hello")
            server.sendall(b"welcome")
            client.recv(100)
        for client, server in pool:
            client.close()
            server.close()
        assert watch.settled() == []
        assert watch.detector.connections == 20 + 60 + 10 * 2 + 200


@pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft: apt-get install nftables")
def test_a_client_that_is_redirected_as_in_a_mesh(pod: Namespace) -> None:
    chain = "type nat hook output priority -100\n tcp dport 5432 redirect to :15001\n"
    rules = f"table ip mesh {{\n chain out {{\n {chain} }}\n}}\n"
    nft = ["ip", "netns", "exec", pod.name or "", "nft", "-f", "-"]
    subprocess.run(nft, input=rules, check=True, capture_output=True, text=True)
    with lab.namespace() as other, listen(pod, "0.0.0.0", 15001) as proxy, watching(pod) as watch:
        lab.join(pod, other)
        for _ in range(5):
            exchange(pod, proxy, "10.9.0.2")
        assert watch.settled() == []
        with connect(pod, "10.9.0.2") as client:
            server, _ = proxy.accept()
            client.sendall(b"s" * 83)
            select.select([server], [], [], 5)
            server.close()
            (failure,) = watch.until("reset-early by server")
    assert (failure.server.ip, failure.server.port, failure.client_acked) == ("10.9.0.2", PORT, 83)
