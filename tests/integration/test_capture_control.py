"""Control sockets in namespaces of their own: what the detector hears, and when it hears too much."""

import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network

import pytest

import network_lab as lab
from frames import ethernet, icmp, ipv4, ipv6, tcp, udp
from podcam.capture import (
    ControlPacket,
    ControlReader,
    Namespace,
    Traffic,
    control_program,
    dropped,
    open_control_socket,
)

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))

OUTGOING, HOST = 4, 0
DATABASE = Traffic(ports=(5432,))


@pytest.fixture
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    with lab.namespace() as left, lab.namespace() as right:
        lab.join(left, right)
        yield left, right


@contextmanager
def hearing(where: Namespace, traffic: Traffic = DATABASE, *, dns: bool = False) -> Iterator["Hearing"]:
    sock = open_control_socket(where, control_program(traffic, dns=dns))
    with sock:
        yield Hearing(sock)


class Hearing:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reader = ControlReader()
        self.packets: list[ControlPacket] = []

    def until(self, count: int, within_s: float = 10) -> list[ControlPacket]:
        end = time.monotonic() + within_s
        while len(self.packets) < count:
            assert time.monotonic() < end, f"only {len(self.packets)} packets came"
            select.select([self.sock], [], [], 0.1)
            self.packets.extend(self.reader.read(self.sock, 1000))
        assert len(self.packets) == count
        return self.packets


def tcp_flags(packet: bytes) -> int:
    return packet[33] if packet[0] >> 4 == 4 else packet[53]


@pytest.mark.parametrize("address", ["10.9.0.2", "fd09::2"])
def test_a_connection_is_heard_from_its_syn_to_its_last_fin(
    pair: tuple[Namespace, Namespace], address: str
) -> None:
    left, right = pair
    began = time.time_ns()
    with hearing(left) as here:
        lab.exchange(left, right, address, 5432, bytes(100_000))
        packets = here.until(4)
    assert [(packet_type, tcp_flags(data) & 0x17) for _, _, packet_type, _, data in packets] == [
        (OUTGOING, 0x02),
        (HOST, 0x12),
        (OUTGOING, 0x11),
        (HOST, 0x11),
    ]
    times = [packet[0] for packet in packets]
    assert began < times[0] <= times[1] <= times[2] <= times[3] < time.time_ns()
    assert {hardware_type for _, hardware_type, *_ in packets} == {1}
    assert max(len(data) for *_, data in packets) <= 224 - 14


def test_loopback_is_heard_once() -> None:
    with lab.namespace() as where, hearing(where) as here:
        lab.exchange(where, where, "127.0.0.1", 5432)
        packets = here.until(4)
    assert {(hardware_type, packet_type) for _, hardware_type, packet_type, *_ in packets} == {(772, HOST)}


def test_everything_begins_at_the_network_header(pair: tuple[Namespace, Namespace]) -> None:
    left, right = pair
    syn = ipv4(tcp(1, 5432, 2), 6)
    syn6 = ipv6(tcp(1, 5432, 2), 6)
    unreachable = ipv4(icmp(3, 1, ipv4(tcp(1, 5432, 2), 6)), 1)
    with hearing(left) as sender, hearing(right) as receiver:
        for frame in (
            ethernet(syn),
            ethernet(syn, 5),
            ethernet(syn6, 7, 5),
            ethernet(unreachable),
            ethernet(ipv4(tcp(1, 5432, 0x18), 6)),
        ):
            lab.inject(left, frame)
        assert [data for *_, data in receiver.until(4)] == [syn, syn, syn6, unreachable]
        assert [data for *_, data in sender.until(4)] == [syn, syn, syn6, unreachable]


def test_interfaces_without_a_link_header() -> None:
    syn = ipv6(tcp(1, 5432, 2), 6)
    with lab.namespace() as where, hearing(where) as here:
        tun = lab.open_tun(where)
        try:
            os.write(tun, syn)
            ((_, hardware_type, _, _, data),) = here.until(1)
        finally:
            os.close(tun)
    assert (hardware_type, data) == (65534, syn)


def test_dns_answers_are_heard_whole(pair: tuple[Namespace, Namespace]) -> None:
    left, right = pair
    answer = bytes((0, 7, 0x81, 0x80)) + bytes(range(200)) * 5
    with hearing(right, Traffic(hosts=(ip_network("10.1.1.1"),)), dns=True) as here:
        lab.inject(left, ethernet(ipv4(udp(53, 4000, answer), 17)))
        ((*_, data),) = here.until(1)
    assert data == ipv4(udp(53, 4000, answer), 17)


def test_more_than_a_batch_and_no_more_than_asked_for(pair: tuple[Namespace, Namespace]) -> None:
    left, right = pair
    with hearing(right) as here:
        with lab.inside(left, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sender:
            sender.bind(("eth0", 0))
            for number in range(200):
                sender.send(ethernet(ipv4(tcp(number + 1, 5432, 2), 6)))
        first = list(here.reader.read(here.sock, 70))
        here.packets.extend(first)
        packets = here.until(200)
    assert len(first) == 70
    assert [int.from_bytes(data[20:22]) for *_, data in packets] == list(range(1, 201))


def test_a_flood_is_dropped_and_counted(pair: tuple[Namespace, Namespace]) -> None:
    left, right = pair
    sent = 5000
    with open_control_socket(right, control_program(DATABASE), receive_buffer_bytes=64 << 10) as sock:
        with lab.inside(left, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sender:
            sender.bind(("eth0", 0))
            for _ in range(sent):
                sender.send(ethernet(ipv4(tcp(1, 5432, 2), 6)))
        heard = len(list(ControlReader().read(sock, sent)))
        lost = dropped(sock)
        assert 0 < heard < sent
        assert heard + lost == sent
        assert dropped(sock) == 0
