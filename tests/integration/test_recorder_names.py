"""`podcam record --host NAME`: what is recorded, and what triggers, while the name moves."""

import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import network_lab as lab
from name_server import NameServer, name_server
from podcam.capture import Namespace
from podcam.clip import ClipStore
from podcam.ring import SegmentReader, segments_in
from podcam.ring.segment import Metadata
from recorders import Event, RunningRecorder, podcam, recording, ring_of

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))

PORT = 5432
NAME = "db.podcam.test"
PACKETS_OF_AN_EXCHANGE = 8
"""SYN, SYN-ACK, ACK; the payload and its ACK; FIN, FIN and the last ACK. Some ACKs ride along."""


@pytest.fixture
def server(here: Namespace) -> Iterator[NameServer]:
    with name_server(here) as running:
        yield running


def give(where: Namespace, *addresses: str) -> None:
    """Let the namespace have these addresses."""
    assert where.name
    for address in addresses:
        prefix = "/128" if ":" in address else "/32"
        extra = ["nodad"] if ":" in address else []
        lab.ip("-n", where.name, "address", "add", address + prefix, "dev", "lo", *extra)


def address_of(number: int) -> str:
    return f"10.50.0.{number}"


def exchange(where: Namespace, address: str) -> None:
    lab.exchange(where, where, address, PORT)


def packets_by_server(ring: Path) -> dict[str, int]:
    """TCP packets in a ring by the address of the side with the server's port."""
    found: dict[str, int] = {}
    for path in segments_in(ring):
        for packet in SegmentReader(path).packets():
            data = bytes(packet.data)
            v6 = data[12:14] == b"\x86\xdd"
            start, size, ports = (22, 16, 54) if v6 else (26, 4, 34)
            if data[20 if v6 else 23] != socket.IPPROTO_TCP:
                continue
            from_server = struct.unpack_from(">H", data, ports)[0] == PORT
            begin = start if from_server else start + size
            family = socket.AF_INET6 if v6 else socket.AF_INET
            address = socket.inet_ntop(family, data[begin : begin + size])
            found[address] = found.get(address, 0) + 1
    return found


def follows(recorder: RunningRecorder, address: str) -> Event:
    """The event that tells that the filter holds the address."""

    def holds(event: Event) -> bool:
        return event["event"] == "filter" and any(
            host.partition("/")[0] == address for host in event["hosts"]
        )

    return recorder.wait_for(holds)


def test_the_filter_follows_a_name_that_moves_and_keeps_its_old_addresses(
    here: Namespace, server: NameServer, tmp_path: Path
) -> None:
    moves = 20
    give(here, *map(address_of, range(moves + 1)), "10.51.0.1")
    server.addresses[NAME] = [address_of(0)]
    moved_ns: dict[str, tuple[int, int]] = {}
    with recording("--netns", here.name, "--dir", tmp_path, "--host", NAME) as recorder:
        exchange(here, address_of(0))
        for number in range(1, moves + 1):
            before_ns = time.time_ns()
            server.move(NAME, address_of(number))
            follows(recorder, address_of(number))
            moved_ns[address_of(number)] = before_ns, time.time_ns()
            exchange(here, address_of(number))
            exchange(here, "10.51.0.1")
        last = recorder.of_kind("filter")[-1]
        exchange(here, address_of(0))
        done = podcam("clip", "--dir", tmp_path)
        assert done.returncode == 0, done.stderr
        recorder.stop()
    packets = packets_by_server(ring_of(tmp_path, here))
    assert set(packets) == {address_of(number) for number in range(moves + 1)}
    assert packets.pop(address_of(0)) >= 2 * PACKETS_OF_AN_EXCHANGE - 2
    assert min(packets.values()) >= PACKETS_OF_AN_EXCHANGE - 1
    learned = {entry["address"]: entry for entry in last["learned"]}
    assert set(learned) == set(moved_ns)
    for address, (before_ns, after_ns) in moved_ns.items():
        assert learned[address]["name"] == NAME
        assert before_ns <= learned[address]["learned_ns"] <= learned[address]["swapped_ns"] <= after_ns
    assert metadata_of_filters(ring_of(tmp_path, here))[-1]["learned"] == last["learned"]
    (clip,) = ClipStore(tmp_path / "clips").clips()
    assert clip.manifest.parts[0].filter is not None
    assert clip.manifest.parts[0].filter["learned"] == last["learned"]


def metadata_of_filters(ring: Path) -> list[Event]:
    records = [record for path in segments_in(ring) for record in SegmentReader(path).records()]
    found = [record for record in records if isinstance(record, Metadata) and record.kind == "filter"]
    return [dict(record.body["filter"]) for record in found]  # type: ignore[call-overload]


def test_with_a_port_a_name_narrows_what_triggers_and_not_what_is_recorded(
    here: Namespace, server: NameServer, tmp_path: Path
) -> None:
    give(here, address_of(1), address_of(2), "10.51.0.1")
    server.addresses[NAME] = [address_of(1)]
    with recording(
        *("--netns", here.name, "--dir", tmp_path, "--host", NAME, "--port", PORT, "--after", "0s")
    ) as recorder:
        assert recorder.wait_for_kind("filter")["hosts"] == []
        exchange(here, address_of(2))  # before its first answer: nothing of it is lost
        server.move(NAME, address_of(2))
        refuse(here, "10.51.0.1")
        refuse(here, address_of(1))
        refuse(here, address_of(2))
        recorder.wait_for(partial(_failures, recorder, 2))
        totals = recorder.stop()
    failed = {event["server"]["ip"] for event in recorder.of_kind("failure")}
    assert failed == {address_of(1), address_of(2)}
    assert totals["failures"] == 2
    packets = packets_by_server(ring_of(tmp_path, here))
    assert packets["10.51.0.1"] == packets[address_of(1)] == 2
    assert packets[address_of(2)] >= PACKETS_OF_AN_EXCHANGE - 1 + 2


def _failures(recorder: RunningRecorder, count: int, _event: Event) -> bool:
    return len(recorder.of_kind("failure")) >= count


def refuse(where: Namespace, address: str) -> None:
    with (
        lab.inside(where, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as sock,
        contextlib.suppress(ConnectionRefusedError),
    ):
        sock.connect((address, PORT))


def test_narrow_lets_the_filter_follow_even_with_a_port(
    here: Namespace, server: NameServer, tmp_path: Path
) -> None:
    give(here, address_of(1), address_of(2), "10.51.0.1")
    server.addresses[NAME] = [address_of(1)]
    with recording(
        *("--netns", here.name, "--dir", tmp_path, "--host", NAME, "--port", PORT, "--narrow", "--on", "none")
    ) as recorder:
        server.move(NAME, address_of(2))
        follows(recorder, address_of(2))
        for address in (address_of(1), address_of(2), "10.51.0.1"):
            exchange(here, address)
        recorder.stop()
    assert set(packets_by_server(ring_of(tmp_path, here))) == {address_of(1), address_of(2)}


def test_names_with_dozens_of_addresses(here: Namespace, server: NameServer, tmp_path: Path) -> None:
    many = [f"10.52.0.{number}" for number in range(1, 61)] + [f"fd52::{number:x}" for number in range(1, 61)]
    some = [many[0], many[59], many[60], many[119]]
    give(here, *some, "10.51.0.1", "fd51::1")
    server.addresses[NAME] = many[:1]
    with recording("--netns", here.name, "--dir", tmp_path, "--host", NAME) as recorder:
        server.move(NAME, *many)
        for address in some:
            follows(recorder, address)
        for address in (*some, "10.51.0.1", "fd51::1"):
            exchange(here, address)
        recorder.stop()
    assert set(packets_by_server(ring_of(tmp_path, here))) == set(some)


def test_a_filter_too_long_for_the_kernel_stays_as_it_was_and_it_is_told(
    here: Namespace, server: NameServer, tmp_path: Path
) -> None:
    give(here, address_of(1), address_of(2))
    server.addresses[NAME] = [address_of(1)]
    with recording("--netns", here.name, "--dir", tmp_path, "--host", NAME) as recorder:
        server.move(NAME, address_of(2))
        follows(recorder, address_of(2))
        for third in range(30):  # no two of them share a network that holds nothing else
            server.move(NAME, *(f"10.53.{third}.{fourth}" for fourth in range(0, 256, 2)))
        warning = recorder.wait_for_kind("warning")
        assert "too long" in warning["text"]
        assert "stays as it was" in warning["text"]
        for address in (address_of(1), address_of(2)):
            exchange(here, address)
        recorder.stop()
    assert set(packets_by_server(ring_of(tmp_path, here))) == {address_of(1), address_of(2)}
    assert len(recorder.of_kind("warning")) == 1
    last = recorder.of_kind("filter")[-1]
    assert len(last["hosts"]) > 200
    assert not any(host.startswith("10.53.29.") for host in last["hosts"])


def test_a_detector_that_dies_forgets_no_address(here: Namespace, server: NameServer, tmp_path: Path) -> None:
    give(here, *map(address_of, range(1, 4)))
    server.addresses[NAME] = [address_of(1)]
    with recording("--netns", here.name, "--dir", tmp_path, "--host", NAME) as recorder:
        server.move(NAME, address_of(2))
        follows(recorder, address_of(2))
        first = recorder.child("detector")
        os.kill(first, signal.SIGKILL)
        recorder.wait_for_kind("warning")
        server.move(NAME, address_of(3))
        hosts = follows(recorder, address_of(3))["hosts"]
        for number in range(1, 4):
            exchange(here, address_of(number))
        recorder.stop()
    assert {host.partition("/")[0] for host in hosts} == {address_of(number) for number in range(1, 4)}
    assert set(packets_by_server(ring_of(tmp_path, here))) == {address_of(number) for number in range(1, 4)}


def test_a_name_is_looked_up_as_the_namespace_knows_it(
    here: Namespace, server: NameServer, tmp_path: Path
) -> None:
    """Nobody but the namespace's own name server knows it."""
    server.addresses[NAME] = [address_of(1), "fd50::1"]
    with recording("--netns", here.name, "--dir", tmp_path, "--host", NAME, "--on", "none") as recorder:
        hosts = recorder.wait_for_kind("filter")["hosts"]
        recorder.stop()
    assert set(hosts) == {f"{address_of(1)}/32", "fd50::1/128"}
    done = podcam("record", "--netns", here.name, "--dir", tmp_path, "--host", "other.podcam.test")
    assert done.returncode == 2
    assert "other.podcam.test" in done.stderr
    assert done.stderr.count("\n") == 1
