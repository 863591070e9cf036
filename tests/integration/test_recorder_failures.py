"""From a failure on the wire to its clip, and to the good connection that it is compared with."""

import concurrent.futures
import errno
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import network_lab as lab
from connections import (
    CLOSED_PORT,
    PORT,
    SIDES,
    Lab,
    Side,
    a_lab,
    client_socket,
    fail_to_connect,
    good,
    listen,
    refused,
    reset_at_startup,
)
from kept_clips import clips_of, completed, exported, shown
from numbered_datagrams import NumberedSender, numbers_in
from podcam.capture import Namespace
from podcam.model.verdict import FailureClass
from podcam.ring import segments_in
from recorders import SMALL_RING, recording, told_of

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))


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
        lambda: refused(where.pod, address=address),
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
    lab.ip("-n", where.database.name, "route", "add", "blackhole", f"{side.pod}/{side.prefix}")
    yield Failing(FailureClass.NO_ANSWER, "nobody", lambda: no_answer(where.pod, address), PORT, [SYN] * 3)


def void(_: object) -> None:
    return None


def route_to_nowhere(where: Lab, side: Side) -> None:
    """Through the database's host, which forwards, and has no way there."""
    network = "10.77.0.0/24" if side.prefix == 32 else "fd77::/64"
    lab.ip("-n", where.pod.name, "route", "add", network, "via", side.database)
    lab.ip("-n", where.database.name, "route", "add", "unreachable", network)
    forwarding = "net.ipv4.ip_forward" if side.prefix == 32 else "net.ipv6.conf.all.forwarding"
    lab.ip("netns", "exec", where.database.name, "sysctl", "-qw", f"{forwarding}=1")


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
    ring = tmp_path / "points" / here.name
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
    assert numbers_in(ring) < numbers_in(clip.path / here.name) >= set(range(sent_in_storm))
    assert len(clip.manifest.triggers) == 100
    (counts,) = clip.manifest.parts[0].servers
    assert counts.failures == {FailureClass.RESET_EARLY: rounds * each}
    assert any(f"of {rounds * each} failures" in warning for warning in clip.manifest.warnings)


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


# --- what it is compared with ---


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
        sender.send_all_to(tmp_path / "points" / here.name, 1600)
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
    assert len(part.segments) < len(segments_in(tmp_path / "points" / here.name))


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
        sender.send_all_to(tmp_path / "points" / here.name, 1600)
        reset_at_startup(here, listener, "127.0.0.1")
        clip = completed(recorder)
        recorder.stop()
    capture = exported(clip, tmp_path / "clip.pcapng")
    assert shown(capture, "tcp", "frame.number")
    assert not shown(capture, f"tcp.port == {last_good}", "frame.number")
