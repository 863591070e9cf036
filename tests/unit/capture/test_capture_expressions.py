"""A person's own expression, by libpcap, together with ours."""

import ctypes.util

import pytest

from cbpf import Skb, run
from frames import ethernet, icmp, ipv4, ipv6, tcp
from podcam.capture import Traffic, control_program, libpcap, recording_program
from podcam.errors import UsageError

pytestmark = pytest.mark.skipif(
    not ctypes.util.find_library("pcap"), reason="libpcap is missing: apt-get install libpcap0.8"
)


def on_ethernet(packet: bytes) -> Skb:
    return Skb(ethernet(packet), protocol=0x0800 if packet[0] >> 4 == 4 else 0x86DD)


def on_tun(packet: bytes) -> Skb:
    return Skb(packet, 0, 0x0800 if packet[0] >> 4 == 4 else 0x86DD, hardware_type=65534)


SYN, PUSH = 0x02, 0x18


def test_an_expression_and_a_choice_both_have_to_hold() -> None:
    program = recording_program(Traffic(ports=(5432,), expression="host 10.0.0.2 or ip6"))
    for seen in (on_ethernet, on_tun):
        assert run(program, seen(ipv4(tcp(1, 5432), 6)))
        assert run(program, seen(ipv6(tcp(1, 5432), 6)))
        assert not run(program, seen(ipv4(tcp(1, 5433), 6)))
        assert not run(program, seen(ipv4(tcp(1, 5432), 6, dst="10.0.0.3")))


def test_an_expression_alone() -> None:
    program = recording_program(Traffic(expression="udp", snaplen=100))
    assert not run(program, on_ethernet(ipv4(tcp(1, 5432), 6)))
    assert run(program, on_ethernet(ipv4(bytes(8), 17))) == 100


def test_the_payload_is_counted_behind_an_expression() -> None:
    program = recording_program(Traffic(expression="tcp[13] & 8 != 0", payload=2))
    assert run(program, on_ethernet(ipv4(tcp(1, 2, PUSH, b"12345"), 6))) == 14 + 40 + 2


def test_link_addresses_mean_nothing_without_a_link_header() -> None:
    program = recording_program(Traffic(expression="ether host 00:00:00:00:00:00"))
    assert run(program, on_ethernet(ipv4(tcp(1, 2), 6)))
    assert not run(program, on_tun(ipv4(tcp(1, 2), 6)))


def test_the_detector_hears_what_the_expression_holds_for_and_every_error() -> None:
    program = control_program(Traffic(expression="port 5432"))
    assert run(program, on_ethernet(ipv4(tcp(1, 5432, SYN), 6)))
    assert not run(program, on_ethernet(ipv4(tcp(1, 5432, PUSH), 6)))
    assert not run(program, on_ethernet(ipv4(tcp(1, 5433, SYN), 6)))
    assert run(program, on_ethernet(ipv4(icmp(3, 1, ipv4(tcp(1, 5433, SYN), 6)), 1)))


def test_a_mistake_is_told_in_libpcaps_words() -> None:
    with pytest.raises(UsageError, match=r"--bpf 'tcp prot 80': .*syntax error"):
        recording_program(Traffic(expression="tcp prot 80"))


def test_what_can_never_match_is_refused() -> None:
    with pytest.raises(UsageError, match="takes VLAN tags off"):
        recording_program(Traffic(expression="vlan 5 and tcp"))


def test_without_libpcap_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libpcap, "_NAMES", ("libpcap-of-no-system.so",))
    with pytest.raises(UsageError, match=r"libpcap0\.8"):
        recording_program(Traffic(expression="tcp port 4711"))
