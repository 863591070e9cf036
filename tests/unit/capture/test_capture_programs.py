"""Filter programs against packets, by an interpreter; `tests/integration` has the kernel run them."""

from collections.abc import Callable
from ipaddress import ip_network

import pytest

from cbpf import Skb, run
from frames import ethernet, extension, fragment_header, icmp, ipv4, ipv6, tcp, udp
from podcam.capture import Program, Traffic, answers_program, control_program, recording_program

OTHERHOST, OUTGOING = 3, 4
TUN = 65534
WHOLE = 262144

DATABASE = Traffic(
    hosts=(
        ip_network("10.0.0.2"),
        ip_network("192.168.0.0/20"),
        ip_network("fd00::2"),
        ip_network("fd01::/36"),
    ),
    ports=(5432, 6432),
)


def seen(packet: bytes, *tags: int, link: str = "ethernet", packet_type: int = 0, interface: int = 2) -> Skb:
    """The packet as a SOCK_RAW packet socket gets it."""
    protocol = {4: 0x0800, 6: 0x86DD}[packet[0] >> 4]
    if link == "tun":
        return Skb(packet, 0, protocol, packet_type, interface, TUN)
    hardware_type = {"ethernet": 1, "loopback": 772}[link]
    return Skb(ethernet(packet, *tags), 14, protocol, packet_type, interface, hardware_type)


CHOSEN = [
    ipv4(tcp(40000, 5432), 6),
    ipv4(tcp(6432, 40000), 6, "10.0.0.2", "10.9.9.9"),
    ipv4(udp(40000, 5432), 17),
    ipv4(tcp(40000, 5432), 132),
    ipv4(tcp(40000, 5432), 6, dst="192.168.15.255"),
    ipv4(tcp(40000, 5432), 6, options=10),
    ipv4(b"anything", 6, fragment=100),
    ipv6(tcp(40000, 5432), 6),
    ipv6(tcp(5432, 40000), 6, "fd00::2", "fd00::9"),
    ipv6(tcp(40000, 5432), 6, dst="fd01:0:f:1::"),
    ipv6(extension(extension(tcp(40000, 5432), 6, words=3), 60), 0),
    ipv6(extension(fragment_header(tcp(40000, 5432), 6), 44), 43),
    ipv6(fragment_header(b"anything", 6, offset=100), 44),
    ipv4(icmp(3, 1, ipv4(tcp(40000, 5432), 6)), 1, "10.7.7.7", "10.8.8.8"),
    ipv4(icmp(11), 1, "10.7.7.7", "10.8.8.8"),
    ipv6(icmp(1, 4), 58, "fd99::1", "fd99::2"),
    ipv6(extension(icmp(2), 58), 0, "fd99::1", "fd99::2"),
]

OTHER = [
    ipv4(tcp(40000, 5433), 6),
    ipv4(tcp(40000, 5432), 6, dst="10.0.0.3"),
    ipv4(tcp(40000, 5432), 6, dst="192.168.16.0"),
    ipv4(b"anything", 6, dst="10.0.0.3", fragment=100),
    ipv4(tcp(40000, 5432), 47),
    ipv4(icmp(8), 1),
    ipv6(tcp(40000, 5433), 6),
    ipv6(tcp(40000, 5432), 6, dst="fd00::3"),
    ipv6(tcp(40000, 5432), 6, dst="fd01:0:1000::"),
    ipv6(icmp(128), 58),
    ipv6(icmp(135), 58),
    ipv6(fragment_header(b"anything", 6, offset=100), 44, dst="fd00::3"),
]


@pytest.mark.parametrize("link", ["ethernet", "loopback", "tun"])
def test_a_recording_keeps_what_was_chosen_on_every_link(link: str) -> None:
    program = recording_program(DATABASE)
    assert [run(program, seen(packet, link=link)) for packet in CHOSEN] == [WHOLE] * len(CHOSEN)
    assert [run(program, seen(packet, link=link)) for packet in OTHER] == [0] * len(OTHER)


@pytest.mark.parametrize("tags", [(5,), (5, 6)])
def test_a_recording_looks_behind_vlan_tags(tags: tuple[int, ...]) -> None:
    program = recording_program(DATABASE)
    assert [run(program, seen(packet, *tags)) for packet in CHOSEN] == [WHOLE] * len(CHOSEN)
    assert [run(program, seen(packet, *tags)) for packet in OTHER] == [0] * len(OTHER)


@pytest.mark.parametrize("build", [recording_program, control_program])
def test_what_a_bridge_flooded_can_be_left_out(build: Callable[[Traffic], Program]) -> None:
    syn = ipv4(tcp(40000, 5432, flags=0x02), 6)
    assert run(build(Traffic()), seen(syn, packet_type=OTHERHOST)) != 0
    assert run(build(Traffic(own_only=True)), seen(syn, packet_type=OTHERHOST)) == 0
    assert run(build(Traffic(own_only=True)), seen(syn)) != 0


@pytest.mark.parametrize("build", [recording_program, control_program])
def test_what_the_recorder_hands_out_on_loopback_is_left_out(build: Callable[[Traffic], Program]) -> None:
    program = build(Traffic(own_port=9472))
    for own in (tcp(40000, 9472, flags=0x02), tcp(9472, 40000, flags=0x12)):
        assert run(build(Traffic()), seen(ipv4(own, 6), link="loopback")) != 0
        assert run(program, seen(ipv4(own, 6), link="loopback")) == 0
        assert run(program, seen(ipv4(own, 6))) != 0  # another host's port of this number
    for other in (tcp(40000, 5432, flags=0x02), tcp(9473, 9471, flags=0x02)):
        assert run(program, seen(ipv4(other, 6), link="loopback")) != 0
        assert run(program, seen(ipv6(other, 6), link="loopback")) != 0
    assert run(recording_program(Traffic(own_port=9472)), seen(ipv4(b"", 17), link="loopback")) != 0


def test_loopback_is_kept_once() -> None:
    for traffic in (Traffic(), DATABASE):
        program = recording_program(traffic)
        assert run(program, seen(CHOSEN[0], link="loopback", packet_type=OUTGOING)) == 0
        assert run(program, seen(CHOSEN[0], link="loopback")) == WHOLE
        assert run(program, seen(CHOSEN[0], packet_type=OUTGOING)) == WHOLE


REDIRECTED = [
    (ipv4(tcp(40000, 15001, flags=0x02) + b"secret", 6, "10.9.9.9", "127.0.0.1"), 14 + 20 + 20),
    (ipv4(tcp(40000, 4140, flags=0x11) + b"secret", 6, "10.9.9.9", "127.1.2.3", options=10), 14 + 60 + 20),
    (ipv6(tcp(40000, 15001, flags=0x04) + b"secret", 6, "fd00::9", "::1"), 14 + 40 + 20),
]
NOT_REDIRECTED = [
    ipv4(tcp(40000, 15001, flags=0x02), 6, "127.0.0.1", "127.0.0.1"),
    ipv4(tcp(15001, 40000, flags=0x12), 6, "127.0.0.1", "10.9.9.9"),
    ipv4(udp(40000, 15001), 17, "10.9.9.9", "127.0.0.1"),
    ipv6(tcp(40000, 15001, flags=0x02), 6, "::1", "::1"),
    ipv6(tcp(40000, 15001, flags=0x02), 6, "fd00::9", "::2"),
]


@pytest.mark.parametrize(
    "traffic",
    [DATABASE, Traffic(ports=(5432,)), Traffic(hosts=DATABASE.hosts), Traffic(hosts=(), payload=4)],
)
def test_of_what_is_redirected_to_a_proxy_on_its_host_the_headers_are_kept(traffic: Traffic) -> None:
    kept, heard = recording_program(traffic), control_program(traffic)
    for packet, headers in REDIRECTED:
        assert run(kept, seen(packet, link="loopback")) == headers
        assert run(heard, seen(packet, link="loopback")) == 224
    for packet in NOT_REDIRECTED:
        assert run(kept, seen(packet, link="loopback")) == 0
        assert run(heard, seen(packet, link="loopback")) == 0


def test_the_port_of_a_proxy_can_be_chosen_as_any() -> None:
    packet, _ = REDIRECTED[0]
    assert run(recording_program(Traffic(ports=(5432, 15001))), seen(packet, link="loopback")) == WHOLE
    assert run(recording_program(Traffic()), seen(packet, link="loopback")) == WHOLE


def test_chosen_interfaces() -> None:
    program = recording_program(Traffic(interfaces=(3, 7)))
    assert [run(program, seen(CHOSEN[0], interface=index)) > 0 for index in (2, 3, 4, 7)] == [
        False,
        True,
        False,
        True,
    ]
    assert run(recording_program(Traffic(interfaces=())), seen(CHOSEN[0])) == 0


def test_hosts_alone_keep_every_protocol_of_theirs() -> None:
    program = recording_program(Traffic(hosts=DATABASE.hosts))
    assert run(program, seen(ipv4(icmp(8), 1))) == WHOLE
    assert run(program, seen(ipv4(b"", 47))) == WHOLE
    assert run(program, seen(ipv4(icmp(8), 1, dst="10.0.0.3"))) == 0
    assert run(program, seen(ipv6(icmp(135), 58))) == WHOLE


def test_nothing_matches_no_hosts_yet_but_errors_do() -> None:
    program = recording_program(Traffic(hosts=()))
    assert run(program, seen(CHOSEN[0])) == run(program, seen(CHOSEN[7])) == 0
    assert run(program, seen(ipv4(icmp(3), 1))) == WHOLE


def test_without_a_choice_everything_is_kept_up_to_the_snap_length() -> None:
    program = recording_program(Traffic(snaplen=100))
    arp = Skb(ethernet(bytes(28), ethertype=0x0806), protocol=0x0806)
    assert run(program, arp) == 100
    assert run(program, seen(OTHER[0])) == 100
    assert run(recording_program(DATABASE), arp) == 0


@pytest.mark.parametrize(("link", "before"), [("ethernet", 14), ("tun", 0)])
def test_payload_is_counted_from_behind_the_transport_header(link: str, before: int) -> None:
    program = recording_program(Traffic(payload=16))
    data = b"x" * 100
    assert run(program, seen(ipv4(tcp(1, 2, 0x10, data), 6), link=link)) == before + 20 + 20 + 16
    assert (
        run(program, seen(ipv4(tcp(1, 2, 0x10, data, options=10), 6, options=2), link=link))
        == before + 28 + 60 + 16
    )
    assert run(program, seen(ipv6(udp(1, 2, data), 17), link=link)) == before + 40 + 8 + 16
    assert run(program, seen(ipv6(extension(udp(1, 2, data), 17), 0), link=link)) == before + 48 + 8 + 16
    assert run(program, seen(ipv4(icmp(8, 0, data), 1), link=link)) == WHOLE
    assert run(program, seen(ipv4(data, 6, fragment=10), link=link)) == WHOLE


def test_payload_counts_from_behind_vlan_tags_and_never_exceeds_the_snap_length() -> None:
    packet = ipv4(tcp(1, 2), 6)
    assert run(recording_program(Traffic(payload=0)), seen(packet, 5, 6)) == 14 + 8 + 40
    assert run(recording_program(Traffic(payload=1000, snaplen=60)), seen(packet)) == 60
    not_ip = Skb(ethernet(bytes(28), ethertype=0x0806), protocol=0x0806)
    assert run(recording_program(Traffic(payload=0)), not_ip) == WHOLE


def test_the_detector_hears_how_connections_begin_and_end() -> None:
    program = control_program(DATABASE)
    for flags, kept in {0x02: 224, 0x12: 224, 0x11: 224, 0x04: 224, 0x14: 224, 0x10: 0, 0x18: 0}.items():
        assert run(program, seen(ipv4(tcp(40000, 5432, flags), 6))) == kept
        assert run(program, seen(ipv6(extension(tcp(5432, 40000, flags), 6), 60, "fd00::2"))) == kept
    assert run(program, seen(ipv4(tcp(40000, 5433, 0x02), 6))) == 0
    assert run(program, seen(ipv4(tcp(40000, 5432, 0x02), 6, dst="10.0.0.3"))) == 0
    assert run(program, seen(ipv4(tcp(40000, 5432, 0x02), 6, fragment=9))) == 0


def test_the_detector_hears_errors_that_quote_tcp_to_a_chosen_port() -> None:
    program = control_program(DATABASE)
    to_port, to_other = tcp(40000, 5432), tcp(40000, 80)
    assert run(program, seen(ipv4(icmp(3, 1, ipv4(to_port, 6, options=3)), 1, "10.7.7.7"))) == 224
    assert run(program, seen(ipv4(icmp(3, 1, ipv4(to_other, 6, options=3)), 1, "10.7.7.7"))) == 0
    assert run(program, seen(ipv4(icmp(3, 1, ipv4(to_port, 17)), 1))) == 0
    assert run(program, seen(ipv4(icmp(8, 0, ipv4(to_port, 6)), 1))) == 0
    assert run(program, seen(ipv6(icmp(1, 0, ipv6(to_port, 6)), 58, "fd99::1"))) == 224
    assert run(program, seen(ipv6(icmp(1, 0, ipv6(to_other, 6)), 58, "fd99::1"))) == 0
    assert run(program, seen(ipv6(icmp(128, 0, ipv6(to_port, 6)), 58))) == 0


def test_dns_answers_have_a_program_of_their_own() -> None:
    answer, question = bytes((0, 7, 0x81, 0x80)) + bytes(40), bytes((0, 7, 0x01, 0x00)) + bytes(40)
    answers, others = answers_program(DATABASE), control_program(DATABASE)
    for packet in (ipv4(udp(53, 40000, answer), 17), ipv6(udp(53, 40000, answer), 17)):
        assert run(answers, seen(packet)) == 4096
        assert run(others, seen(packet)) == 0
    assert run(answers, seen(ipv4(udp(40000, 53, question), 17))) == 0
    assert run(answers, seen(ipv4(udp(53, 40000, question), 17))) == 0


@pytest.mark.parametrize("tags", [(5,), (5, 6)])
def test_the_detector_looks_behind_vlan_tags(tags: tuple[int, ...]) -> None:
    program = control_program(DATABASE)
    for build in (ipv4, ipv6):
        assert run(program, seen(build(tcp(40000, 5432, 2), 6), *tags)) == 224
        assert run(program, seen(build(tcp(40000, 5433, 2), 6), *tags)) == 0


@pytest.mark.parametrize("link", ["loopback", "tun"])
def test_the_detector_hears_every_link_once(link: str) -> None:
    program = control_program(DATABASE)
    assert run(program, seen(ipv6(tcp(40000, 5432, 2), 6), link=link)) == 224
    outgoing = seen(ipv6(tcp(40000, 5432, 2), 6), link=link, packet_type=OUTGOING)
    assert run(program, outgoing) == (0 if link == "loopback" else 224)


def test_hundreds_of_hosts_stay_cheap() -> None:
    scattered = [f"10.{i % 200}.{i}.1" for i in range(1, 200)] + [f"fd00:{i:x}::{i * i:x}" for i in range(50)]
    hosts = tuple(map(ip_network, scattered + [f"fd77::{i}:1" for i in range(150)]))
    program = recording_program(Traffic(hosts=hosts, ports=(5432,)))
    assert len(program) < 2500
    for host in hosts:
        build = ipv4 if host.version == 4 else ipv6
        address = str(host.network_address)
        assert run(program, seen(build(tcp(1, 5432), 6, dst=address))) == WHOLE
    assert run(program, seen(ipv4(tcp(1, 5432), 6, dst="10.3.4.1"))) == 0
    assert run(program, seen(ipv6(tcp(1, 5432), 6, dst="fd00:3::8"))) == 0
