"""From a failure, or a person's wish, to a clip: `podcam record` and `podcam clip` on real connections."""

import concurrent.futures
import contextlib
import errno
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

import network_lab as lab
from other_users import let_others_in
from podcam.capture import Namespace
from podcam.clip import Clip, ClipStore, export, open_clip, open_packets, pin
from podcam.model.point import Window
from podcam.model.verdict import FailureClass
from podcam.recorder import RecordingSettings, RingSettings, TriggerSettings, ask_recorder
from podcam.ring import SegmentReader, segments_in
from recorders import PODCAM, Event, RunningRecorder, own_recorder, podcam, recording
from waiting import wait_until

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))

PORT, CLOSED_PORT = 5432, 5499
NUMBERED_PORT = 7000
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all")
SMALL_RING = ("--memory", "1MiB", "--ring", "4x500KB")
"""A small kernel ring has small blocks, and a segment has to hold two."""
NUMBER = struct.Struct("=Q")


@dataclass(frozen=True)
class Side:
    """The addresses of one family: of pod and database, and one to which the database has no route."""

    pod: str
    database: str
    nowhere: str
    prefix: int


SIDES = {
    "IPv4": Side("10.9.0.1", "10.9.0.2", "10.77.0.1", 32),
    "IPv6": Side("fd09::1", "fd09::2", "fd77::1", 128),
}


@dataclass(frozen=True)
class Lab:
    """A pod, and the database's host, which is the pod's way to everywhere else."""

    pod: Namespace
    database: Namespace


@contextmanager
def a_lab() -> Iterator[Lab]:
    with lab.namespace() as pod, lab.namespace() as database:
        lab.join(pod, database)
        yield Lab(pod, database)


@pytest.fixture
def where() -> Iterator[Lab]:
    with a_lab() as made:
        yield made


@pytest.fixture
def here() -> Iterator[Namespace]:
    with lab.namespace() as namespace:
        yield namespace


def listen(where: Namespace, address: str, port: int = PORT) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return lab.inside(where, lambda: socket.create_server((address, port), family=family, backlog=512))


def client_socket(where: Namespace, address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = lab.inside(where, lambda: socket.socket(family, socket.SOCK_STREAM))
    sock.settimeout(10)
    return sock


def connect(where: Namespace, address: str, port: int = PORT) -> socket.socket:
    sock = client_socket(where, address)
    try:
        sock.connect((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def fail_to_connect(where: Namespace, address: str, port: int, *errors: int) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - compared below
        connect(where, address, port)
    assert caught.value.errno in errors


def refused(where: Namespace, address: str = "127.0.0.1", port: int = CLOSED_PORT) -> None:
    fail_to_connect(where, address, port, errno.ECONNREFUSED)


def good(client_side: Namespace, listener: socket.socket, address: str) -> int:
    """A connection that goes well; returns the client's port."""
    with connect(client_side, address) as client:
        server, _ = listener.accept()
        with server:
            client.sendall(b"question")
            server.recv(100)
            server.sendall(b"answer" * 50)
            client.recv(1000)
            port: int = client.getsockname()[1]
            client.close()
            assert server.recv(1) == b""
    return port


def reset_at_startup(client_side: Namespace, listener: socket.socket, address: str) -> int:
    """The server's kernel acknowledges 83 bytes, and the server closes without having read them."""
    with connect(client_side, address) as client:
        server, _ = listener.accept()
        client.sendall(b"s" * 83)
        select.select([server], [], [], 5)
        port: int = client.getsockname()[1]
        server.close()
        with contextlib.suppress(ConnectionResetError):
            client.recv(1)
    return port


def completed(recorder: RunningRecorder, number: int = 1, timeout_s: float = 30) -> Clip:
    """The clip that was completed as the `number`th."""
    recorder.wait_for(partial(_told, recorder, "complete", number), timeout_s)
    return open_clip(Path(recorder.of_kind("complete")[number - 1]["path"]))


def clips_of(folder: Path) -> list[Clip]:
    return ClipStore(folder / "clips").clips()


def numbers_in(folder: Path, *, newest: int = 0) -> set[int]:
    """The numbered datagrams that lie in the (newest) segments of a folder, seen over loopback."""
    found = set()
    for path in segments_in(folder)[-newest:]:
        for packet in SegmentReader(path).packets():
            udp = bytes(packet.data[34:50])
            if len(udp) == 16 and udp[2:4] == NUMBERED_PORT.to_bytes(2, "big"):
                found.add(NUMBER.unpack(udp[8:])[0])
    return found


class NumberedSender:
    """Sends numbered datagrams of 1,000 bytes over the loopback of a namespace."""

    def __init__(self, where: Namespace) -> None:
        self.sent = 0
        self._socket = lab.udp_socket(where)
        self._sink = lab.udp_socket(where, port=NUMBERED_PORT)

    def send(self, count: int) -> None:
        for _ in range(count):
            self._socket.sendto(NUMBER.pack(self.sent) + bytes(992), ("127.0.0.1", NUMBERED_PORT))
            self.sent += 1

    def send_all_to(self, ring: Path, count: int) -> None:
        """Send so many, no more at once than a kernel ring of 1 MB takes, and wait until all are on disk."""
        for _ in range(0, count, 200):
            self.send(200)
            wait_until(lambda: self.sent - 1 in numbers_in(ring, newest=1))

    def close(self) -> None:
        self._socket.close()
        self._sink.close()


@pytest.fixture
def sender(here: Namespace) -> Iterator[NumberedSender]:
    with contextlib.closing(NumberedSender(here)) as numbered:
        yield numbered


def shown(capture: Path, display_filter: str, *fields: str) -> list[list[str]]:
    """What tshark shows of a file."""
    if shutil.which("tshark") is None:
        pytest.skip("tshark is missing: apt-get install tshark")
    command = ["tshark", "-r", str(capture), "-Y", display_filter, "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


def exported(clip: Clip, to: Path) -> Path:
    export(open_packets(clip.path), to)
    return to


# --- 1: from a failure on the wire to its clip ---


@dataclass
class Failing:
    """One way to fail, with what it must come to."""

    failure_class: FailureClass
    by: str
    fail: Callable[[], None]
    port: int
    flags: list[str]
    """TCP flags of the failing connection's packets, as tshark has them."""


SYN, SYN_ACK, ACK, PUSH, RESET_ACK = "0x0002", "0x0012", "0x0010", "0x0018", "0x0014"


def ways_to_fail(where: Lab, side: Side, listener: socket.socket) -> Iterator[Failing]:
    address = side.database
    yield Failing(
        FailureClass.REFUSED,
        "server",
        lambda: refused(where.pod, address),
        CLOSED_PORT,
        [SYN, RESET_ACK],
    )
    yield Failing(
        FailureClass.RESET_EARLY,
        "server",
        lambda: void(reset_at_startup(where.pod, listener, address)),
        PORT,
        [SYN, SYN_ACK, ACK, PUSH, ACK, RESET_ACK],
    )
    route_to_nowhere(where, side)
    yield Failing(
        FailureClass.UNREACHABLE,
        "network",
        lambda: fail_to_connect(where.pod, side.nowhere, PORT, errno.EHOSTUNREACH, errno.ENETUNREACH),
        PORT,
        [SYN],
    )
    lab.ip("-n", name_of(where.database), "route", "add", "blackhole", f"{side.pod}/{side.prefix}")
    yield Failing(FailureClass.NO_ANSWER, "nobody", lambda: no_answer(where.pod, address), PORT, [SYN] * 3)


def void(_: object) -> None:
    return None


def name_of(where: Namespace) -> str:
    assert where.name
    return where.name


def route_to_nowhere(where: Lab, side: Side) -> None:
    """Through the database's host, which forwards, and has no way there."""
    network = "10.77.0.0/24" if side.prefix == 32 else "fd77::/64"
    lab.ip("-n", name_of(where.pod), "route", "add", network, "via", side.database)
    lab.ip("-n", name_of(where.database), "route", "add", "unreachable", network)
    forwarding = "net.ipv4.ip_forward" if side.prefix == 32 else "net.ipv6.conf.all.forwarding"
    lab.ip("netns", "exec", name_of(where.database), "sysctl", "-qw", f"{forwarding}=1")


def no_answer(where: Namespace, address: str) -> None:
    with client_socket(where, address) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 2)
        client.settimeout(3.4)
        with pytest.raises(TimeoutError):
            client.connect((address, PORT))


def test_every_failure_of_connecting_gives_an_event_and_a_clip_with_its_packets(tmp_path: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for family in [pool.submit(fail_in_every_way, side, tmp_path / name) for name, side in SIDES.items()]:
            family.result()


def fail_in_every_way(side: Side, tmp_path: Path) -> None:
    with (
        a_lab() as where,
        recording(
            "--netns", where.pod.name, "--dir", tmp_path, "--before", "20s", "--after", "200ms"
        ) as recorder,
        listen(where.database, side.database) as listener,
    ):
        good(where.pod, listener, side.database)
        for number, way in enumerate(ways_to_fail(where, side, listener), 1):
            way.fail()
            clip = completed(recorder, number)
            event = recorder.of_kind("failure")[number - 1]
            manifest = clip.manifest
            (trigger,) = manifest.triggers
            assert (event["class"], event["by"]) == (way.failure_class, way.by)
            assert event["server"]["port"] == way.port
            assert trigger.failure_class is way.failure_class
            assert (trigger.client.port, trigger.time_ns) == (event["client"]["port"], event["failed_ns"])
            assert manifest.window.end_ns - trigger.time_ns == 200_000_000
            assert trigger.time_ns - manifest.window.start_ns == 20_000_000_000
            assert manifest.reason == event["text"]
            (part,) = manifest.parts
            assert part.how == "link"
            counts = next(c for c in part.servers if c.server == trigger.server)
            assert counts.failures[way.failure_class] == 1
            assert counts.connections >= 1
            of_it = shown(
                exported(clip, tmp_path / f"{number}.pcapng"),
                f"tcp.port == {trigger.client.port}",
                *("tcp.flags", "icmp.type", "icmpv6.type"),
            )
            seen = [flags for flags, *icmp in of_it if not any(icmp)]
            assert seen[: len(way.flags)] == way.flags
            assert set(seen) == set(way.flags)  # how many SYNs go out within 4 s depends on the kernel
            assert any(any(icmp) for _, *icmp in of_it) == (way.failure_class is FailureClass.UNREACHABLE)
        recorder.stop()
    assert len(recorder.of_kind("clip")) == len(recorder.of_kind("failure")) == 4
    assert [event["path"] for event in recorder.of_kind("clip")] == [str(c.path) for c in clips_of(tmp_path)]


def test_byte_counts_of_a_reset_are_told(where: Lab, tmp_path: Path) -> None:
    with (
        recording("--netns", where.pod.name, "--dir", tmp_path, "--after", "0s") as recorder,
        listen(where.database, "10.9.0.2") as listener,
    ):
        reset_at_startup(where.pod, listener, "10.9.0.2")
        failure = recorder.wait_for_kind("failure")
        recorder.stop()
    assert (failure["client_acked"], failure["server_bytes"]) == (83, 0)


def test_a_storm_of_failures_makes_one_growing_clip_and_then_a_pause(
    here: Namespace, tmp_path: Path, sender: NumberedSender
) -> None:
    """What the ring has long given up stays in the clip, from the first failure of the storm to the last."""
    rounds, each = 12, 40
    ring = tmp_path / "points" / name_of(here)
    with (
        recording(
            *("--netns", here.name, "--dir", tmp_path, *SMALL_RING, "--after", "5s", "--before", "10s")
        ) as recorder,
        listen(here, "127.0.0.1") as listener,
    ):
        for number in range(1, rounds + 1):
            for _ in range(each):
                reset_at_startup(here, listener, "127.0.0.1")
            sender.send_all_to(ring, 400)
            told_of(recorder, number * each)
        sent_in_storm = sender.sent
        clip = completed(recorder)
        reset_at_startup(here, listener, "127.0.0.1")
        told_of(recorder, rounds * each + 1)
        refused(here)  # of another class: no pause
        completed(recorder, 2)
        totals = recorder.stop()
    assert totals["dropped"] == 0
    assert totals["failures"] == rounds * each + 2
    assert totals["clips"] == 2
    assert len(recorder.of_kind("clip")) == 2
    assert sum(path.stat().st_size for path in segments_in(ring)) <= 2_000_000
    assert numbers_in(ring) < numbers_in(clip.path / name_of(here)) >= set(range(sent_in_storm))
    assert len(clip.manifest.triggers) == 100
    (counts,) = clip.manifest.parts[0].servers
    assert counts.failures == {FailureClass.RESET_EARLY: rounds * each}
    assert any(f"of {rounds * each} failures" in warning for warning in clip.manifest.warnings)


def told_of(recorder: RunningRecorder, failures: int) -> None:
    recorder.wait_for(partial(_told, recorder, "failure", failures))


def _told(recorder: RunningRecorder, kind: str, times: int, _event: Event) -> bool:
    return len(recorder.of_kind(kind)) >= times


def test_a_failure_right_before_the_end_is_told_and_kept(tmp_path: Path) -> None:
    """A command that fails to connect ends at once: nobody waits for a parallel connect to succeed."""
    connecting = f"import socket; socket.create_connection(('127.0.0.1', {CLOSED_PORT}))"
    with recording(
        *("--dir", tmp_path, "--interface", "lo", "--port", CLOSED_PORT),
        *("--", "python3", "-S", "-c", connecting),
    ) as recorder:
        assert recorder.wait() == 1
    assert [event["class"] for event in recorder.of_kind("failure")] == ["refused"]
    (clip,) = clips_of(tmp_path)
    assert clip.manifest.state == "complete"
    assert clip.manifest.parts[0].totals.packets >= 2


# --- 2: what it is compared with ---


def test_the_last_good_connection_is_kept_beside_the_window(
    here: Namespace, tmp_path: Path, sender: NumberedSender
) -> None:
    with (
        recording(
            "--netns",
            here.name,
            "--dir",
            tmp_path,
            "--memory",
            "1MiB",
            "--ring",
            "8x500KB",
            "--before",
            "0s",
            "--after",
            "0s",
        ) as recorder,
        listen(here, "127.0.0.1") as listener,
    ):
        good(here, listener, "127.0.0.1")
        last_good = good(here, listener, "127.0.0.1")
        recorder.wait_for_packets(16)
        # Segments enough for the good one to lie in none of the window's.
        sender.send_all_to(tmp_path / "points" / name_of(here), 1600)
        failed = reset_at_startup(here, listener, "127.0.0.1")
        clip = completed(recorder)
        recorder.stop()
    (part,) = clip.manifest.parts
    (compared,) = part.comparisons
    assert compared.end_ns < clip.manifest.window.start_ns
    capture = exported(clip, tmp_path / "clip.pcapng")
    ports = {port for pair in shown(capture, "tcp", "tcp.srcport", "tcp.dstport") for port in pair}
    assert {str(last_good), str(failed)} <= ports
    assert len(shown(capture, f"tcp.port == {last_good}", "frame.number")) >= 9
    assert not shown(capture, "udp", "frame.number")
    assert len(part.segments) < len(segments_in(tmp_path / "points" / name_of(here)))


def test_a_last_good_connection_that_left_the_ring_is_not_missed(
    here: Namespace, tmp_path: Path, sender: NumberedSender
) -> None:
    with (
        recording(
            "--netns",
            here.name,
            "--dir",
            tmp_path,
            "--memory",
            "1MiB",
            "--ring",
            "2x500KB",
            "--before",
            "0s",
            "--after",
            "0s",
        ) as recorder,
        listen(here, "127.0.0.1") as listener,
    ):
        last_good = good(here, listener, "127.0.0.1")
        sender.send_all_to(tmp_path / "points" / name_of(here), 1600)
        reset_at_startup(here, listener, "127.0.0.1")
        clip = completed(recorder)
        recorder.stop()
    capture = exported(clip, tmp_path / "clip.pcapng")
    assert shown(capture, "tcp", "frame.number")
    assert not shown(capture, f"tcp.port == {last_good}", "frame.number")


# --- 3: clips by hand ---


def test_a_running_recorder_answers_with_the_path_of_a_complete_clip(where: Lab, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40) / ("path" * 30)
    with (
        recording("--netns", where.pod.name, "--netns", where.database.name, "--dir", folder) as recorder,
        listen(where.database, "10.9.0.2") as listener,
    ):
        port = good(where.pod, listener, "10.9.0.2")
        done = podcam("clip", "--dir", folder, "--last", "1m", "--reason", "it felt slow")
        assert done.returncode == 0, done.stderr
        clip = open_clip(Path(done.stdout.splitlines()[-1]))
        assert clip.manifest.state == "complete"
        assert clip.manifest.reason == "it felt slow"
        assert {part.point.name for part in clip.manifest.parts} == {where.pod.name, where.database.name}
        assert {part.how for part in clip.manifest.parts} == {"link"}
        files = list(clip.path.rglob("*.seg"))
        assert files
        assert {path.stat().st_nlink for path in files} == {2}
        capture = exported(clip, tmp_path / "out.pcapng")
        assert len(shown(capture, f"tcp.port == {port}", "frame.number")) >= 2 * 9  # seen at both ends
        event = recorder.wait_for_kind("clip")
        assert (event["path"], event["reason"]) == (str(clip.path), "it felt slow")
        recorder.stop()


def test_what_happened_right_before_the_request_is_in_the_clip(
    here: Namespace, tmp_path: Path, sender: NumberedSender
) -> None:
    """The last packets lie in a block that the kernel has yet to hand over."""
    with recording("--netns", here.name, "--dir", tmp_path, "--on", "none") as recorder:
        for _ in range(3):
            sender.send(10)
            answer = ask_recorder(tmp_path, {"verb": "clip", "last_ns": 10**10, "reason": "now"})
            assert answer is not None
            assert numbers_in(Path(answer["clip"]) / name_of(here)) == set(range(sender.sent))
        recorder.stop()


def test_several_ask_at_once_and_each_gets_a_clip(here: Namespace, tmp_path: Path) -> None:
    with recording("--netns", here.name, "--dir", tmp_path, "--on", "none") as recorder:
        lab.exchange(here, here, "127.0.0.1", PORT)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(podcam, "clip", "--dir", tmp_path) for _ in range(4)]
            paths = {future.result().stdout.strip() for future in asked}
        assert paths == {str(clip.path) for clip in clips_of(tmp_path)}
        assert len(paths) == 4
        for clip in clips_of(tmp_path):
            assert clip.manifest.state == "complete"
            assert clip.manifest.parts[0].totals.packets >= 8
        recorder.stop()


def test_a_clip_of_a_ring_at_rest_counts_back_from_its_last_packet(here: Namespace, tmp_path: Path) -> None:
    with recording("--netns", here.name, "--dir", tmp_path) as recorder:
        port = lab.exchange(here, here, "127.0.0.1", PORT)
        recorder.stop()
    done = podcam("clip", "--dir", tmp_path, "--last", "10s")
    assert done.returncode == 0, done.stderr
    assert "no recorder is running" in done.stderr
    clip = open_clip(Path(done.stdout.splitlines()[-1]))
    assert clip.manifest.state == "complete"
    assert all(path.stat().st_nlink == 2 for path in clip.path.rglob("*.seg"))
    capture = exported(clip, tmp_path / "out.pcapng")
    assert len(shown(capture, f"tcp.port == {port}", "frame.number")) >= 8


def test_where_nothing_was_recorded_the_error_says_what_to_do(tmp_path: Path) -> None:
    a_file = tmp_path / "file"
    a_file.touch()
    for folder in (tmp_path, tmp_path / "nothing", a_file):
        done = podcam("clip", "--dir", folder)
        assert done.returncode == 1, done
        assert done.stderr.count("\n") == 1
        assert str(folder) in done.stderr
        assert "podcam record" in done.stderr


@pytest.mark.parametrize("running", [True, False])
def test_another_user_is_told_that_the_recording_is_not_theirs(
    here: Namespace, tmp_path: Path, running: bool
) -> None:
    let_others_in(tmp_path)
    folder = tmp_path / "recorder"
    with recording("--netns", here.name, "--dir", folder, "--on", "none") as recorder:
        if not running:
            recorder.stop()
        done = subprocess.run(
            [*NOBODY, *PODCAM, "clip", "--dir", str(folder)],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
    if "No module named" in done.stderr or (
        "Permission denied" in done.stderr and "Traceback" in done.stderr
    ):
        pytest.skip("the interpreter of these tests may not be run by another user")
    assert done.returncode == 1, done
    assert done.stderr.count("\n") == 1
    assert "run as the user who records there" in done.stderr


def test_a_request_that_is_none_is_refused_and_does_no_harm(here: Namespace, tmp_path: Path) -> None:
    with recording("--netns", here.name, "--dir", tmp_path, "--on", "none") as recorder:
        for request in (b"\n", b"{}\n", b"[1]\n", b'{"verb":"clip","last_ns":"x","reason":1}\n', b"\xff\n"):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(10)
                sock.connect(str(tmp_path / "control.sock"))
                sock.sendall(request)
                answer = sock.makefile("rb").readline()
            assert answer == b"" or "error" in json.loads(answer)
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(str(tmp_path / "control.sock"))
            assert podcam("clip", "--dir", tmp_path).returncode == 0
        recorder.stop()


# --- 4: through deaths ---


@pytest.mark.parametrize("victims", ["all", "supervisor"])
def test_a_clip_whose_recorder_was_killed_is_completed_by_the_next(
    here: Namespace, tmp_path: Path, victims: str, sender: NumberedSender
) -> None:
    arguments = ("--netns", here.name, "--dir", tmp_path, "--before", "10s", "--after", "60s")
    with recording(*arguments) as recorder:
        refused(here)
        path = Path(recorder.wait_for_kind("clip")["path"])
        assert open_clip(path).manifest.state == "open"
        sender.send(100)
        recorder.wait_for_packets(102)
        if victims == "all":
            recorder.kill_all()
        else:
            os.kill(recorder.process.pid, signal.SIGKILL)
            recorder.process.wait()
    with recording(*arguments, "--on", "none") as recorder:
        warning = recorder.wait_for_kind("warning")
        assert str(path) in warning["text"]
        recorder.stop()
    manifest = open_clip(path).manifest
    assert manifest.state == "complete"
    assert manifest.warnings
    (trigger,) = manifest.triggers
    assert trigger.failure_class is FailureClass.REFUSED
    assert trigger.time_ns in manifest.window
    assert numbers_in(path / name_of(here)) == set(range(100))


def test_a_recorder_killed_before_it_froze_anything_leaves_a_clip_to_complete(
    here: Namespace, tmp_path: Path
) -> None:
    with recording("--netns", here.name, "--dir", tmp_path, "--after", "60s") as recorder:
        writer = recorder.child("writer")
        good_port = lab.exchange(here, here, "127.0.0.1", PORT)
        recorder.wait_for_packets(8)
        os.kill(writer, signal.SIGSTOP)
        refused(here)
        recorder.wait_for_kind("failure")
        wait_until(lambda: clips_of(tmp_path))
        recorder.kill_all()
    with recording("--netns", here.name, "--dir", tmp_path, "--on", "none") as recorder:
        recorder.stop()
    (clip,) = clips_of(tmp_path)
    assert clip.manifest.state == "complete"
    assert len(clip.manifest.triggers) == 1
    capture = exported(clip, tmp_path / "out.pcapng")
    assert len(shown(capture, f"tcp.port == {good_port}", "frame.number")) >= 8


def test_a_killed_detector_is_replaced_and_sees_the_next_failure(here: Namespace, tmp_path: Path) -> None:
    with recording("--netns", here.name, "--dir", tmp_path, "--after", "0s") as recorder:
        refused(here)
        completed(recorder)
        first = recorder.child("detector")
        os.kill(first, signal.SIGKILL)
        warning = recorder.wait_for_kind("warning")
        assert "detector" in warning["text"]
        assert "signal 9" in warning["text"]
        assert recorder.child("detector") != first
        refused(here, port=CLOSED_PORT + 1)
        clip = completed(recorder, 2)
        totals = recorder.stop()
    assert clip.manifest.triggers[0].server.port == CLOSED_PORT + 1
    assert (totals["connections"], totals["failures"]) == (2, 2)


def test_a_detector_that_dies_again_and_again_does_not_end_the_recording(
    here: Namespace, tmp_path: Path
) -> None:
    with recording("--netns", here.name, "--dir", tmp_path) as recorder:
        for deaths in range(1, 7):
            os.kill(recorder.child("detector"), signal.SIGKILL)
            recorder.wait_for(partial(_told, recorder, "warning", deaths))
        assert "failures are not seen" in recorder.of_kind("warning")[-1]["text"]
        lab.exchange(here, here, "127.0.0.1", PORT)
        assert podcam("clip", "--dir", tmp_path).returncode == 0
        totals = recorder.stop()
    assert totals["packets"] >= 8


@pytest.mark.parametrize("at_once", [False, True], ids=["later", "at once"])
def test_a_writer_killed_while_a_window_is_open_loses_nothing_of_the_clip(
    at_once: bool, here: Namespace, tmp_path: Path, sender: NumberedSender
) -> None:
    with recording("--netns", here.name, "--dir", tmp_path, "--after", "1h") as recorder:
        refused(here)
        recorder.wait_for_kind("clip")
        sender.send(200)
        os.kill(recorder.child("writer"), signal.SIGKILL)
        sender.send(200)
        again_ns = recorder.wait_for_kind("warning")["time_ns"]
        if not at_once:
            recorder.wait_for(lambda event: event["event"] == "status" and event["time_ns"] > again_ns)
        recorder.stop()
        clip = completed(recorder)
    assert numbers_in(clip.path / name_of(here)) == set(range(400))
    assert clip.manifest.state == "complete"


def test_the_writer_goes_on_while_nobody_reads_the_events(
    here: Namespace, tmp_path: Path, sender: NumberedSender
) -> None:
    """A supervisor that is held (its output is a full pipe) holds neither writing nor detecting."""
    with recording("--netns", here.name, "--dir", tmp_path, "--after", "0s") as recorder:
        os.kill(recorder.process.pid, signal.SIGSTOP)
        refused(here)
        ring = tmp_path / "points" / name_of(here)
        for _ in range(5):
            sender.send(1000)
            wait_until(lambda: numbers_in(ring) >= set(range(sender.sent - 100)))
        os.kill(recorder.process.pid, signal.SIGCONT)
        completed(recorder)
        totals = recorder.stop()
    assert totals["dropped"] == 0
    assert numbers_in(ring) == set(range(5000))


# --- 5: the budget of all clips ---


def test_the_oldest_clips_go_when_the_budget_is_reached_but_for_pinned_and_open_ones(
    here: Namespace, tmp_path: Path, sender: NumberedSender
) -> None:
    with own_recorder(tmp_path, kernel_memory_bytes=1 << 20, clips_bytes=1_500_000) as own:

        def keep(name: str) -> None:
            """A clip of 450 KB, of which no other holds anything."""
            begun_ns = time.time_ns()
            sender.send(400)
            own.keep(name, window=Window(begun_ns, time.time_ns()))

        trigger = TriggerSettings(frozenset({FailureClass.REFUSED}), before_ns=0, after_ns=3600 * 10**9)
        own.recorder.define("web", RecordingSettings(ring=RingSettings(4, 500_000), trigger=trigger))
        own.add(here)
        keep("first")
        pin(tmp_path / "clips" / "first")
        keep("second")
        keep("third")
        refused(here)
        growing = own.until_event("clip", origin="wire")["clip"]
        assert own.of_kind("removed") == []
        keep("fourth")
        left = {clip.path.name: clip.manifest.state for clip in clips_of(tmp_path)}
        assert left == {"first": "complete", "third": "complete", growing: "open", "fourth": "complete"}
        assert [event["clip"] for event in own.of_kind("removed")] == ["second"]
        (warning,) = own.of_kind("warning")
        assert str(tmp_path / "clips" / "second") in warning["text"]


def test_a_growing_clip_ends_where_the_budget_does(
    here: Namespace, tmp_path: Path, sender: NumberedSender
) -> None:
    with recording(
        *("--netns", here.name, "--dir", tmp_path, *SMALL_RING),
        *("--clips", "2MB", "--after", "10m"),
    ) as recorder:
        refused(here)
        stop = threading.Event()
        load = threading.Thread(target=partial(_send_until, sender, stop))
        load.start()
        try:
            clip = completed(recorder)
        finally:
            stop.set()
            load.join()
        recorder.stop()
    assert any("budget" in warning for warning in clip.manifest.warnings)
    assert 2_000_000 < clip.bytes < 8_000_000
    assert clip.manifest.window.end_ns - clip.manifest.triggers[0].time_ns < 600_000_000_000


def _send_until(sender: NumberedSender, stop: threading.Event) -> None:
    while not stop.wait(0.05):
        sender.send(50)
