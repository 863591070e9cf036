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
    ControlRing,
    Namespace,
    Traffic,
    answers_program,
    control_program,
    dropped,
    open_answers_socket,
    open_control_socket,
    read_answers,
)

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))

FRAMES = 512
DATABASE = Traffic(ports=(5432,))


@pytest.fixture
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    with lab.namespace() as left, lab.namespace() as right:
        lab.join(left, right)
        yield left, right


@contextmanager
def hearing(where: Namespace, traffic: Traffic = DATABASE) -> Iterator["Hearing"]:
    with open_control_socket(where, control_program(traffic), FRAMES) as sock:
        yield Hearing(sock)


class Hearing:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.ring = ControlRing(sock, FRAMES)
        self.packets: list[tuple[int, bytes]] = []

    def until(self, count: int, within_s: float = 60) -> list[tuple[int, bytes]]:
        end = time.monotonic() + within_s
        while len(self.packets) < count:
            assert time.monotonic() < end, f"only {len(self.packets)} packets came"
            select.select([self.sock], [], [], 0.1)
            for packets in self.ring.read(1000):
                self.packets.extend(packets)
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
    assert [tcp_flags(data) & 0x17 for _, data in packets] == [0x02, 0x12, 0x11, 0x11]
    times = [packet[0] for packet in packets]
    assert began < times[0] <= times[1] <= times[2] <= times[3] < time.time_ns()
    assert max(len(data) for _, data in packets) <= 256 - 80


def test_loopback_is_heard_once() -> None:
    with lab.namespace() as where, hearing(where) as here:
        lab.exchange(where, where, "127.0.0.1", 5432)
        assert len(here.until(4)) == 4


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
        assert [data for _, data in receiver.until(4)] == [syn, syn, syn6, unreachable]
        assert [data for _, data in sender.until(4)] == [syn, syn, syn6, unreachable]


def test_interfaces_without_a_link_header() -> None:
    syn = ipv6(tcp(1, 5432, 2), 6)
    with lab.namespace() as where, hearing(where) as here:
        tun = lab.open_tun(where)
        try:
            os.write(tun, syn)
            ((_, data),) = here.until(1)
        finally:
            os.close(tun)
    assert data == syn


def test_dns_answers_are_heard_whole(pair: tuple[Namespace, Namespace]) -> None:
    left, right = pair
    answer = ipv4(udp(53, 4000, bytes((0, 7, 0x81, 0x80)) + bytes(range(200)) * 5), 17)
    question = ipv4(udp(4000, 53, bytes((0, 7, 0x01, 0x00)) + bytes(40)), 17)
    with open_answers_socket(right, answers_program(Traffic(hosts=(ip_network("10.1.1.1"),)))) as sock:
        before = time.time_ns()
        for frame in (ethernet(question), ethernet(answer), ethernet(answer, 7)):
            lab.inject(left, frame)
        heard: list[tuple[int, bytes]] = []
        while len(heard) < 2:
            assert select.select([sock], [], [], 10)[0]
            heard.extend(read_answers(sock, 100))
        after = time.time_ns()
    assert [packet for _, packet in heard] == [answer, answer]
    assert all(before <= time_ns <= after for time_ns, _ in heard)


def send_syns(where: Namespace, ports: range) -> None:
    with lab.inside(where, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sender:
        sender.bind(("eth0", 0))
        for port in ports:
            sender.send(ethernet(ipv4(tcp(port, 5432, 2), 6)))


def ports_of(packets: list[tuple[int, bytes]]) -> list[int]:
    return [int.from_bytes(data[20:22]) for _, data in packets]


def test_frames_are_read_in_order_around_the_ring(pair: tuple[Namespace, Namespace]) -> None:
    left, right = pair
    with hearing(right) as here:
        for first in range(1, 2001, 400):
            send_syns(left, range(first, first + 400))
            here.until(first + 399)
    assert ports_of(here.packets) == list(range(1, 2001))
    times = [time_ns for time_ns, _ in here.packets]
    assert times == sorted(times)


@pytest.mark.parametrize("waiting", [0, 1, 300, 512])
def test_a_reader_goes_on_where_another_ended(pair: tuple[Namespace, Namespace], waiting: int) -> None:
    left, right = pair
    with hearing(right) as first:
        send_syns(left, range(1, 401))
        first.until(400)
        send_syns(left, range(1000, 1000 + waiting))
        second = Hearing(first.sock)
        second.until(waiting)
        send_syns(left, range(5000, 5010))
        second.until(waiting + 10)
    assert ports_of(second.packets) == [*range(1000, 1000 + waiting), *range(5000, 5010)]


def test_a_flood_is_dropped_and_counted(pair: tuple[Namespace, Namespace]) -> None:
    left, right = pair
    sent = 5000
    with hearing(right) as here:
        send_syns(left, range(1, sent + 1))
        heard = here.until(FRAMES)
        assert dropped(here.sock) == sent - len(heard)
        assert dropped(here.sock) == 0
        assert ports_of(heard) == list(range(1, FRAMES + 1))
