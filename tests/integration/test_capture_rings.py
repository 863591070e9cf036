"""Rings on real packet sockets in namespaces of their own."""

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

import network_lab as lab
from frames import ethernet, ipv4, tcp, udp
from podcam.capture import (
    PACKET_HEADER,
    FilterTooLongError,
    Geometry,
    MappedRing,
    Namespace,
    Program,
    Traffic,
    attach,
    geometry,
    hand_over,
    open_ring_socket,
    read_header,
    recording_program,
)
from podcam.capture.blocks import RELEASED_OFFSET
from podcam.errors import CaptureError
from waiting import wait_until

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))

EVERYTHING = recording_program(Traffic())
ROOMY = Geometry(block_bytes=1 << 17, blocks=64, retire_ms=50)
"""Packets that come one by one fill a block each in this time: it holds those of 3 s that nobody reads."""
OUTGOING, HOST = 4, 0
VLAN_VALID = 1 << 4
MOST_UNREAD = 3000
LINK_ADDRESS = struct.Struct("=HHiHBB")


@dataclass(frozen=True)
class Recorded:
    time_ns: int
    data: bytes
    original_bytes: int
    interface: int
    hardware_type: int
    packet_type: int
    vlan: int | None


def packets_of(block: memoryview) -> Iterator[Recorded]:
    header = read_header(block)
    offset = header.first_offset
    for _ in range(header.packets):
        step, s, ns, captured, original, status, link, _ = PACKET_HEADER.unpack_from(block, offset)
        _, _, interface, hardware_type, packet_type, _ = LINK_ADDRESS.unpack_from(block, offset + 48)
        vlan = struct.unpack_from("=I", block, offset + 32)[0] if status & VLAN_VALID else None
        data = bytes(block[offset + link : offset + link + captured])
        yield Recorded(s * 10**9 + ns, data, original, interface, hardware_type, packet_type, vlan)
        offset += step


class Reader:
    """A ring that is read and released as blocks come."""

    def __init__(self, sock: socket.socket, shape: Geometry, packets: list[Recorded] | None = None) -> None:
        self.sock = sock
        self.ring = MappedRing(sock, shape)
        self.packets = [] if packets is None else packets

    def read(self, wait_ms: int = 0) -> None:
        if wait_ms:
            waiting = select.poll()
            waiting.register(self.sock, select.POLLIN)
            waiting.poll(wait_ms)
        blocks = self.ring.ready()
        for block in blocks:
            self.packets.extend(packets_of(block))
            block.release()
        self.ring.release(len(blocks))

    def read_until(self, enough: Callable[[list[Recorded]], bool], within_s: float = 60) -> list[Recorded]:
        end = time.monotonic() + within_s
        while not enough(self.packets):
            assert time.monotonic() < end, f"only {len(self.packets)} packets came"
            self.read(wait_ms=100)
        return self.packets

    def close(self) -> None:
        self.ring.close()
        self.sock.close()


@contextmanager
def recording(where: Namespace, program: Program = EVERYTHING, shape: Geometry = ROOMY) -> Iterator[Reader]:
    reader = Reader(open_ring_socket(where, shape, program), shape)
    try:
        yield reader
    finally:
        reader.close()


@pytest.fixture
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    with lab.namespace() as left, lab.namespace() as right:
        lab.join(left, right)
        yield left, right


def sent_by(port: int) -> Callable[[Recorded], bool]:
    return lambda packet: packet.data.find(port.to_bytes(2), 34, 56) >= 0


@pytest.mark.parametrize(("address", "transport_offset"), [("10.9.0.2", 34), ("fd09::2", 54)])
def test_both_directions_of_a_connection(
    pair: tuple[Namespace, Namespace], address: str, transport_offset: int
) -> None:
    left, right = pair
    with recording(left, recording_program(Traffic(ports=(5432,)))) as reader:
        client_port = lab.exchange(left, right, address, 5432, b"hello")
        fins = lambda packets: sum(packet.data[transport_offset + 13] & 1 for packet in packets) == 2  # noqa: E731
        packets = reader.read_until(fins)
    assert packets[0].data[transport_offset + 13] == 0x02 | packets[0].data[transport_offset + 13] & 0xC0
    assert any(b"hello" in packet.data for packet in packets)
    for packet in packets:
        source_port = int.from_bytes(packet.data[transport_offset : transport_offset + 2])
        assert packet.packet_type == (OUTGOING if source_port == client_port else HOST)
        assert packet.hardware_type == 1
        assert packet.original_bytes == len(packet.data)
    assert [packet.time_ns for packet in packets] == sorted(packet.time_ns for packet in packets)


def test_loopback_once(here: Namespace) -> None:
    with recording(here) as reader, lab.udp_socket(here) as sender, lab.udp_socket(here) as receiver:
        for number in range(100):
            sender.sendto(struct.pack(">I", number), receiver.getsockname())
        packets = reader.read_until(lambda packets: len(packets) >= 100)
    assert [struct.unpack(">I", packet.data[-4:])[0] for packet in packets] == list(range(100))
    assert {(packet.hardware_type, packet.packet_type) for packet in packets} == {(772, HOST)}


def test_vlan_tags(pair: tuple[Namespace, Namespace]) -> None:
    left, right = pair
    chosen = ipv4(udp(1, 5432, b"chosen"), 17)
    other = ipv4(udp(1, 5433, b"other"), 17)
    program = recording_program(Traffic(ports=(5432,)))
    with recording(left, program) as going_out, recording(right, program) as coming_in:
        for packet in (other, chosen):
            lab.inject(left, ethernet(packet))
            lab.inject(left, ethernet(packet, 5))
            lab.inject(left, ethernet(packet, 7, 5))
        out = going_out.read_until(lambda packets: len(packets) >= 3)
        came = coming_in.read_until(lambda packets: len(packets) >= 3)
    assert [packet.data for packet in out] == [ethernet(chosen), ethernet(chosen, 5), ethernet(chosen, 7, 5)]
    assert [packet.vlan for packet in came] == [None, 5, 7]
    assert [packet.data for packet in came] == [ethernet(chosen), ethernet(chosen), ethernet(chosen, 5)]


def test_interfaces_without_a_link_header(here: Namespace) -> None:
    program = recording_program(Traffic(ports=(5432,), payload=4))
    with recording(here, program) as reader:
        tun = lab.open_tun(here)  # after the socket: it hears interfaces that come later
        try:
            os.write(tun, ipv4(tcp(1, 5433, 2), 6, "10.8.0.2", "10.8.0.1"))
            os.write(tun, ipv4(tcp(1, 5432, 2, b"12345678"), 6, "10.8.0.2", "10.8.0.1"))
            packets = reader.read_until(bool)
        finally:
            os.close(tun)
    assert [(packet.hardware_type, packet.packet_type) for packet in packets] == [(65534, HOST)]
    assert packets[0].data == ipv4(tcp(1, 5432, 2, b"12345678"), 6, "10.8.0.2", "10.8.0.1")[:44]
    assert packets[0].original_bytes == 48


def test_one_interface_of_several(pair: tuple[Namespace, Namespace]) -> None:
    left, _ = pair
    index = lab.inside(left, lambda: socket.if_nametoindex("eth0"))
    with recording(left, recording_program(Traffic(interfaces=(index,), ports=(7,)))) as reader:
        with lab.udp_socket(left) as sender:
            sender.sendto(b"loopback", ("127.0.0.1", 7))
        with lab.udp_socket(left, "10.9.0.1") as sender:
            sender.sendto(b"link", ("10.9.0.2", 7))
        packets = reader.read_until(lambda packets: len(packets) >= 2)  # the second: port unreachable
    assert {packet.interface for packet in packets} == {index}


@contextmanager
def numbered_datagrams(where: Namespace, port: int, read: list[Recorded]) -> Iterator[list[int]]:
    """Keep sending numbered datagrams over loopback; the list holds how many went out once this ends.

    Of what was not yet `read` there is never more than a ring of 1 MB holds twice over.
    """
    sent: list[int] = []
    stop = threading.Event()
    with lab.udp_socket(where) as sender, lab.udp_socket(where, port=port):
        sender.connect(("127.0.0.1", port))

        def send() -> None:
            number = 0
            while not stop.wait(0.0005):
                for _ in range(25 if number - len(read) < MOST_UNREAD else 0):
                    sender.send(struct.pack(">I", number))
                    number += 1
            sent.append(number)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield sent
        finally:
            stop.set()
            thread.join()


def numbers(packets: list[Recorded]) -> list[int]:
    return [struct.unpack(">I", packet.data[-4:])[0] for packet in packets]


def test_swapping_filters_loses_nothing(here: Namespace) -> None:
    programs = [recording_program(Traffic(ports=ports)) for ports in ((5000,), (5000, 6000))]
    with recording(here, programs[0]) as reader:
        with numbered_datagrams(here, 5000, reader.packets) as sent:
            for swap in range(300):
                attach(reader.sock, programs[swap % 2])
                reader.read()
        reader.read_until(lambda packets: len(packets) >= sent[0])
        assert reader.ring.statistics().dropped == 0
    assert numbers(reader.packets) == list(range(sent[0]))


def test_a_larger_ring_takes_over_without_losing_or_doubling_a_packet(here: Namespace) -> None:
    program = recording_program(Traffic(ports=(5000,)))
    shape: Geometry | None = geometry(1 << 20)
    assert shape is not None
    reader = Reader(open_ring_socket(here, shape, program), shape)
    packets = reader.packets
    grown = 0
    with numbered_datagrams(here, 5000, packets) as sent:
        reader.read_until(lambda packets: len(packets) > 100)
        while (shape := shape.doubled()) is not None:
            larger = Reader(open_ring_socket(here, shape, program, beside=reader.sock), shape, packets)
            before = len(packets)
            reader.read_until(lambda packets: len(packets) > before)  # noqa: B023 - called at once
            hand_over(larger.sock)
            reader.read()
            rest = reader.ring.rest()
            if rest is not None:
                packets.extend(packets_of(memoryview(rest)))
            assert reader.ring.statistics().dropped == 0
            reader.close()
            reader = larger
            grown += 1
    reader.read_until(lambda packets: len(packets) >= sent[0])
    assert reader.ring.statistics().dropped == 0
    reader.close()
    assert grown == 5
    assert numbers(packets) == list(range(sent[0]))


def test_what_the_kernel_was_still_filling_is_read_at_once(here: Namespace) -> None:
    shape = Geometry(block_bytes=1 << 17, blocks=8, retire_ms=60_000)
    program = recording_program(Traffic(ports=(5000,)))
    with recording(here, program, shape) as reader, lab.udp_socket(here, port=5000):
        assert reader.ring.rest() is None
        with lab.udp_socket(here) as sender:
            for number in range(3):
                sender.sendto(struct.pack(">I", number), ("127.0.0.1", 5000))
        with open_ring_socket(here, shape, program, beside=reader.sock) as successor:
            hand_over(successor)
        assert reader.ring.ready() == []
        rest = reader.ring.rest()
        assert rest is not None
        block = memoryview(rest)
        packets = list(packets_of(block))
        header = read_header(block)
    assert numbers(packets) == [0, 1, 2]
    assert (header.first_time_ns, header.last_time_ns) == (packets[0].time_ns, packets[-1].time_ns)
    assert PACKET_HEADER.unpack_from(rest, header.length - (header.length - header.first_offset) // 3)[0] == 0


def test_a_successor_that_cannot_be_opened_changes_nothing(here: Namespace) -> None:
    program = recording_program(Traffic(ports=(5000,)))
    with recording(here, program) as reader, lab.udp_socket(here, port=5000), lab.udp_socket(here) as sender:
        with pytest.raises(CaptureError, match="no memory"):
            open_ring_socket(here, Geometry(1 << 20, 1 << 20), program, beside=reader.sock)
        sender.sendto(struct.pack(">I", 7), ("127.0.0.1", 5000))
        assert numbers(reader.read_until(bool)) == [7]


@pytest.mark.parametrize(
    ("sent_blocks", "released"), [(sent, released) for sent in range(1, 5) for released in range(sent + 1)]
)
def test_a_reader_goes_on_where_another_ended(here: Namespace, sent_blocks: int, released: int) -> None:
    shape = Geometry(block_bytes=1 << 17, blocks=4, retire_ms=10)
    payload = bytes(65_507)  # one to a block
    sock = open_ring_socket(here, shape, recording_program(Traffic(ports=(5000,))))
    with lab.udp_socket(here) as sender, lab.udp_socket(here, port=5000):
        first = MappedRing(sock, shape)
        for _ in range(sent_blocks):
            sender.sendto(payload, ("127.0.0.1", 5000))
        wait_until(lambda: first.fill() == sent_blocks / 4)
        first.ready()
        first.release(released)
        first.close()
        second = Reader(sock, shape)
        sender.sendto(payload, ("127.0.0.1", 5000))
        no_room = released == 0 and sent_blocks == 4
        expected = sent_blocks - released + (0 if no_room else 1)
        second.read_until(lambda packets: len(packets) >= expected)
        assert len(second.packets) == expected
        assert second.ring.statistics().dropped == no_room
        second.close()


def test_a_block_whose_release_was_noted_but_not_made_is_not_read_twice(here: Namespace) -> None:
    with recording(here) as reader, lab.udp_socket(here) as sender, lab.udp_socket(here, port=9):
        sender.sendto(b"first", ("127.0.0.1", 9))
        wait_until(lambda: reader.ring.fill() > 0)
        (block,) = reader.ring.ready()
        struct.pack_into("=Q", block, RELEASED_OFFSET, read_header(block).sequence)
        block.release()
        reader.ring.close()
        reader.ring = MappedRing(reader.sock, ROOMY)
        assert reader.ring.fill() == 0
        sender.sendto(b"second", ("127.0.0.1", 9))
        packets = reader.read_until(lambda packets: any(b"second" in packet.data for packet in packets))
    assert not any(packet.data.endswith(b"first") for packet in packets)


def test_what_finds_no_room_is_counted(here: Namespace) -> None:
    only_full_blocks = Geometry(block_bytes=1 << 17, blocks=8, retire_ms=60_000)
    with (
        recording(here, recording_program(Traffic(ports=(5000,))), only_full_blocks) as reader,
        lab.udp_socket(here) as sender,
        lab.udp_socket(here, port=5000),
    ):
        for _ in range(100):
            sender.sendto(bytes(60_000), ("127.0.0.1", 5000))
        assert reader.ring.fill() == 1
        statistics = reader.ring.statistics()
        reader.read()
        assert len(reader.packets) == 16
        assert statistics.packets == 100
        assert statistics.dropped == 84
        assert statistics.freezes >= 1
        assert reader.ring.statistics() == (0, 0, 0)
        assert reader.ring.fill() == 0


def test_the_first_time_of_a_block_is_that_of_its_first_packet(here: Namespace) -> None:
    with recording(here) as reader, lab.udp_socket(here) as sender, lab.udp_socket(here, port=9):
        opened = time.time_ns()
        sender.sendto(b"first", ("127.0.0.1", 9))
        wait_until(lambda: reader.ring.fill() > 0)
        (block,) = reader.ring.ready()
        header = read_header(block)
        times = [packet.time_ns for packet in packets_of(block)]
        block.release()
    assert opened <= header.first_time_ns == times[0]
    assert header.last_time_ns == times[-1]


def test_a_large_packet_is_not_cut(here: Namespace) -> None:
    with recording(here) as reader, lab.udp_socket(here) as sender:
        sender.sendto(bytes(65_507), ("127.0.0.1", 9))
        packets = reader.read_until(bool)
    assert len(packets[0].data) == packets[0].original_bytes == 14 + 65_535


def test_a_namespace_that_was_made_anew_is_not_taken_for_the_old_one() -> None:
    with lab.namespace() as where:
        lab.ip("netns", "delete", where.name)
        with pytest.raises(CaptureError, match=f"{where.name} is gone"):
            open_ring_socket(where, ROOMY, EVERYTHING)
        lab.ip("netns", "add", where.name)
        with pytest.raises(CaptureError, match=f"{where.name} is gone"):
            open_ring_socket(where, ROOMY, EVERYTHING)


def test_a_ring_beyond_all_memory_is_refused(here: Namespace) -> None:
    with pytest.raises(CaptureError, match="no memory for a ring of 1048576 MB"):
        open_ring_socket(here, Geometry(1 << 20, 1 << 20), EVERYTHING)


def test_a_filter_too_long_leaves_no_socket_behind(here: Namespace) -> None:
    before = open_sockets()
    with pytest.raises(FilterTooLongError):
        open_ring_socket(here, ROOMY, Program(EVERYTHING.instructions * 1000))
    assert open_sockets() <= before  # what earlier tests of this process had open may go meanwhile


def open_sockets() -> set[str]:
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208 - a snapshot
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
    return {target for target in found if target.startswith("socket:")}
