"""What every cluster is full of is no failure to the real recorder; and a flood is one at most."""

import contextlib
import json
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import network_lab as lab
from podcam.capture import Namespace
from podcam.clip import ClipStore
from podcam.ring import SegmentReader, segments_in
from recorders import podcam, recording

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))

PORT, HTTP_PORT, PROBED_PORT, POOL_PORT = 5432, 8080, 8081, 5433
POD, DATABASE = "10.9.0.1", "10.9.0.2"
POD_6, DATABASE_6, NOWHERE_6 = "fd09::1", "fd09::2", "fd09::dead"


@pytest.fixture
def pod() -> Iterator[Namespace]:
    with lab.namespace() as where:
        yield where


@pytest.fixture
def database(pod: Namespace) -> Iterator[Namespace]:
    with lab.namespace() as where:
        lab.join(pod, where)
        yield where


def tcp(where: Namespace, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    sock = lab.inside(where, lambda: socket.socket(family, socket.SOCK_STREAM))
    sock.settimeout(10)
    return sock


def connect(where: Namespace, address: str, port: int) -> socket.socket:
    return connected(tcp(where, family_of(address)), address, port)


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def connected(sock: socket.socket, address: str, port: int) -> socket.socket:
    try:
        sock.connect((address, port))
    except OSError:
        sock.close()
        raise
    return sock


class Service:
    """Accepts on an address, and gives each connection to a function, in a thread of its own."""

    def __init__(self, where: Namespace, address: str, port: int, serve: Any) -> None:
        make = lambda: socket.create_server((address, port), family=family_of(address), backlog=512)  # noqa: E731
        self._listener = lab.inside(where, make)
        self._serve = serve
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(ConnectionError):
                self._serve(connection)


def until_closed(connection: socket.socket) -> None:
    """A service that answers each request, and closes when its client has."""
    while request := connection.recv(4096):
        connection.sendall(b"answer to " + request)


def closing_http(connection: socket.socket) -> None:
    """Answers one request shortly, and closes first, as `Connection: close` asks."""
    if connection.recv(4096):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)


def keep_alive_http(connection: socket.socket) -> None:
    while connection.recv(4096):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def cancelling_postgres(connection: socket.socket) -> None:
    """A CancelRequest gets no answer but the end of the connection."""
    while len(request := connection.recv(4096)) not in (0, 16):
        connection.sendall(b"answer to " + request)


def probes(where: Namespace) -> None:
    """Health checks of TCP: open, and leave without a byte, by FIN or by RST."""
    for number in range(40):
        with connect(where, DATABASE, PORT) as probe:
            if number % 2:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def http_checks(where: Namespace) -> None:
    for _ in range(30):
        with connect(where, DATABASE, PROBED_PORT) as client:
            client.sendall(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
            while client.recv(4096):
                pass


def http_keep_alive(where: Namespace) -> None:
    for _ in range(5):
        with connect(where, DATABASE, HTTP_PORT) as client:
            for _ in range(10):
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                client.recv(4096)


def scan(where: Namespace) -> None:
    """Of open ports: full connects, and half-open ones, which the scanner's kernel resets."""
    for port in (PORT, HTTP_PORT, PROBED_PORT, POOL_PORT):
        for _ in range(5):
            connect(where, DATABASE, port).close()
            half_open(where, port)


def half_open(where: Namespace, port: int) -> None:
    with lab.inside(where, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)) as raw:
        raw.bind((POD, 0))
        raw.connect((DATABASE, 0))
        source = half_open.port = half_open.port + 1  # type: ignore[attr-defined]
        raw.send(segment(POD, DATABASE, source, port, 0x02))
        assert select.select([raw], [], [], 5)[0]


half_open.port = 20_000  # type: ignore[attr-defined]


def segment(source: str, target: str, source_port: int, port: int, flags: int) -> bytes:
    """A TCP header with a right checksum."""
    head = struct.pack(">HHIIBBHHH", source_port, port, source_port * 7919, 0, 0x50, flags, 1024, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack(">HH", 6, len(head))
    total = sum(struct.unpack(">16H", pseudo + head))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return head[:16] + struct.pack(">H", ~total & 0xFFFF) + head[18:]


def happy_eyeballs(where: Namespace) -> None:
    """IPv6 is tried first: refused there, or not answered, and IPv4 goes well.

    At once, with a socket that is there: what comes half a second after a refusal is another connection.
    """
    for _ in range(10):
        first, second = tcp(where, socket.AF_INET6), tcp(where)
        with pytest.raises(ConnectionRefusedError):
            connected(first, DATABASE_6, PORT)
        ask(connected(second, DATABASE, PORT))
    for _ in range(3):
        second = tcp(where)
        with tcp(where, socket.AF_INET6) as slow:
            slow.setblocking(False)
            slow.connect_ex((NOWHERE_6, PORT))
            assert not select.select([], [slow], [], 0.25)[1]
            ask(connected(second, DATABASE, PORT))


def talk(where: Namespace, address: str, port: int) -> None:
    ask(connect(where, address, port))


def ask(client: socket.socket) -> None:
    """One question and its answer, and the connection is closed."""
    with client:
        client.sendall(b"question")
        client.recv(4096)


def pool(where: Namespace) -> None:
    """Opens and closes by the hundred."""
    for _ in range(2):
        held = [connect(where, DATABASE, POOL_PORT) for _ in range(100)]
        for client in held:
            client.sendall(b"hello")
        for client in held:
            client.recv(100)
            client.close()


def cancels(where: Namespace) -> None:
    for _ in range(10):
        with connect(where, DATABASE, PORT) as client:
            client.sendall(struct.pack(">IIII", 16, 80877102, 4711, 42))
            assert client.recv(1) == b""


class Pooled:
    """A service whose connections stay open together: one thread for all of them."""

    def __init__(self, where: Namespace) -> None:
        make = lambda: socket.create_server((DATABASE, POOL_PORT), backlog=512)  # noqa: E731
        self._listener = lab.inside(where, make)
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._wake.close()
        self._thread.join()
        self._listener.close()
        self._woken.close()

    def _run(self) -> None:
        open_ones: list[socket.socket] = []
        while True:
            ready, _, _ = select.select([self._listener, self._woken, *open_ones], [], [])
            if self._woken in ready:
                break
            if self._listener in ready:
                open_ones.append(self._listener.accept()[0])
            for connection in [one for one in open_ones if one in ready]:
                if data := _received(connection):
                    connection.sendall(b"welcome " + data)
                else:
                    connection.close()
                    open_ones.remove(connection)
        for connection in open_ones:
            connection.close()


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4096)
    except ConnectionResetError:
        return b""


def test_an_everyday_namespace_gives_no_failure_no_clip_and_no_failed_verdict(
    pod: Namespace, database: Namespace, tmp_path: Path
) -> None:
    lab.ip("-n", str(database.name), "route", "add", "blackhole", NOWHERE_6)
    lab.ip("-n", str(pod.name), "neigh", "add", NOWHERE_6, "lladdr", "02:00:00:00:00:01", "dev", "eth0")
    with contextlib.ExitStack() as stack:
        for port, serve in (
            (PORT, cancelling_postgres),
            (PROBED_PORT, closing_http),
            (HTTP_PORT, keep_alive_http),
        ):
            stack.enter_context(contextlib.closing(Service(database, DATABASE, port, serve)))
        stack.enter_context(contextlib.closing(Pooled(database)))
        recorder = stack.enter_context(
            recording("--netns", pod.name, "--netns", database.name, "--dir", tmp_path)
        )
        for traffic in (probes, http_checks, http_keep_alive, scan, happy_eyeballs, pool, cancels):
            traffic(pod)
        silence = time.monotonic() + 4.5  # what silence could still bring: a SYN that is not answered
        recorder.wait_for(lambda _: time.monotonic() > silence)
        recorder.stop()
    assert recorder.of_kind("failure") == []
    assert recorder.of_kind("clip") == []
    assert ClipStore(tmp_path / "clips").clips() == []
    for namespace in (pod, database):
        assert failed_rows(tmp_path / "points" / str(namespace.name)) == []
    assert recorder.of_kind("stopped")[0]["connections"] >= 40 + 30 + 5 + 20 + 10 + 20 + 3 + 3 + 200 + 10


def failed_rows(ring: Path) -> list[dict[str, Any]]:
    done = podcam("diagnose", "--json", ring)
    assert done.returncode == 0, done.stderr
    diagnosis = json.loads(done.stdout)
    rows = [row for row in diagnosis["connections"] if row["failed"]]
    assert diagnosis["summary"]["failed"] == len(rows)
    assert diagnosis["summary"]["connections"] > 300
    return [{key: row[key] for key in ("verdict", "server", "summary")} for row in rows]


# --- floods ---

FLOOD = """
import socket, struct, sys, time
interface, port, count, source_mac, target_mac, target = sys.argv[1:]
frame = bytearray(bytes.fromhex(target_mac) + bytes.fromhex(source_mac) + b"\\x08\\0" + bytes(40))
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sock.bind((interface, 0))
ip, tcp = struct.Struct(">BBHHHBBHI4s").pack_into, struct.Struct(">HHIIBBHHH").pack_into
port, target = int(port), socket.inet_aton(target)
high, low = struct.unpack(">HH", target)
def checksum(total):
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
of_ip = 0x4500 + 40 + 0x4006 + high + low
of_tcp = high + low + 6 + 20 + port + 0x5002 + 512
begun = time.monotonic()
for number in range(int(count)):
    source, own = 0x0B000000 + number, 1024 + number % 60000  # 11.0.0.0/8: nobody has it
    of_source = (source >> 16) + (source & 0xFFFF)
    ip(frame, 14, 0x45, 0, 40, 0, 0, 64, 6, checksum(of_ip + of_source), source, target)
    seen = checksum(of_tcp + of_source + own + (number >> 16) + (number & 0xFFFF))
    tcp(frame, 34, own, port, number, 0, 0x50, 2, 512, seen, 0)
    sock.send(frame)
print(time.monotonic() - begun)
"""


def flood(sender: Namespace, receiver: Namespace, port: int, count: int) -> float:
    """SYNs from so many made-up addresses; returns how long that took, in seconds."""
    arguments = ["eth0", str(port), str(count), mac_of(sender), mac_of(receiver), DATABASE]
    done = subprocess.run(
        ["ip", "netns", "exec", str(sender.name), "python3", "-S", "-c", FLOOD, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return float(done.stdout)


def mac_of(where: Namespace) -> str:
    path = "/sys/class/net/eth0/address"
    done = subprocess.run(
        ["ip", "netns", "exec", str(where.name), "cat", path], capture_output=True, text=True, check=True
    )
    return done.stdout.strip().replace(":", "")


def status_of(process: int, field: str) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise AssertionError(f"no {field}")


def ran_s(process: int) -> float:
    tasks = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def flooding_syns(ring: Path, port: int) -> int:
    """SYNs to the port from the made-up addresses, each counted once."""
    found = set()
    for path in segments_in(ring):
        for packet in SegmentReader(path).packets():
            data = packet.data
            if data[26] == 11 and data[36:38] == port.to_bytes(2, "big") and data[47] == 2:
                found.add(bytes(data[26:30]))
    return len(found)


@pytest.mark.parametrize("port", [PORT, 5499], ids=["open port", "closed port"])
def test_a_syn_flood_costs_no_recorded_packet_and_little_of_anything_else(
    pod: Namespace, database: Namespace, tmp_path: Path, port: int
) -> None:
    count = 200_000
    lab.ip("-n", str(database.name), "route", "add", "11.0.0.0/8", "via", POD)
    with (
        contextlib.closing(Service(database, DATABASE, PORT, until_closed)),
        recording("--netns", database.name, "--dir", tmp_path, "--after", "2s") as recorder,
    ):
        detector, writer = recorder.child("detector"), recorder.child("writer")
        for _ in range(5):
            talk(pod, DATABASE, PORT)
        recorder.wait_for_packets(40)
        before_kb = status_of(detector, "VmRSS")
        ran, begun = ran_s(detector), time.monotonic()
        flood(pod, database, port, count)
        share = (ran_s(detector) - ran) / (time.monotonic() - begun)
        recorder.wait_for_packets(count)
        talk(pod, DATABASE, PORT)
        grown_mb = (status_of(detector, "VmHWM") - before_kb) / 1024
        assert status_of(writer, "VmRSS") < 100_000
        totals = recorder.stop()
    assert totals["dropped"] == 0
    assert flooding_syns(tmp_path / "points" / str(database.name), port) == count
    assert grown_mb < 60
    assert share < 0.7
    assert totals["clips"] <= 1
    assert len(ClipStore(tmp_path / "clips").clips()) <= 1
