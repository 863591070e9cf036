"""Our filter programs against libpcap's for the same choice, and against arbitrary bytes."""

import ctypes.util
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbpf import Skb, run
from frames import ethernet, icmp, ipv4, ipv6, tcp, udp
from podcam.capture import Network, Traffic, answers_program, control_program, recording_program
from podcam.capture.libpcap import compile_expression

HOSTS = [f"10.0.{i}.{j}" for i in range(4) for j in range(4)]
HOSTS6 = [f"fd0{i}:{j}::{k}" for i in range(2) for j in range(3) for k in range(3)]
_LONGEST_HEADERS = 14 + 40 + 4 * 256 * 8 + 60
"""Ethernet, IPv6 with four extension headers, TCP: all that is kept of what is redirected to a proxy."""
PORTS = [53, 443, 5432, 6432, 40000]


def networks(addresses: list[str], widest: int) -> "st.SearchStrategy[Network]":
    longest = ip_address(addresses[0]).max_prefixlen
    return st.builds(
        lambda address, bits: ip_network(f"{address}/{bits}", strict=False),
        st.sampled_from(addresses),
        st.one_of(st.just(longest), st.integers(widest, longest)),
    )


traffic = st.builds(
    Traffic,
    hosts=st.none() | st.lists(networks(HOSTS, 8) | networks(HOSTS6, 8), min_size=1, max_size=8).map(tuple),
    ports=st.none() | st.lists(st.sampled_from(PORTS), min_size=1, max_size=3).map(tuple),
)
port = st.sampled_from(PORTS)
transport = st.one_of(
    st.builds(lambda src, dst: (tcp(src, dst), 6), port, port),
    st.builds(lambda src, dst: (udp(src, dst), 17), port, port),
    st.builds(lambda src, dst: (tcp(src, dst), 132), port, port),
    st.just((icmp(8), 1)),
    st.just((bytes(20), 47)),
)
packets = st.one_of(
    st.builds(
        lambda body, src, dst, options: ipv4(body[0], body[1], src, dst, options=options),
        transport,
        st.sampled_from(HOSTS),
        st.sampled_from(HOSTS),
        st.integers(0, 10),
    ),
    st.builds(
        lambda body, src, dst: ipv6(body[0], body[1], src, dst), transport, *[st.sampled_from(HOSTS6)] * 2
    ),
)


def expression(chosen: Traffic) -> str:
    """The same choice in libpcap's language."""
    parts = []
    if chosen.hosts is not None:
        parts.append(" or ".join(f"net {host}" for host in chosen.hosts))
    if chosen.ports is not None:
        parts.append(" or ".join(f"port {number}" for number in chosen.ports))
    return " and ".join(f"({part})" for part in parts)


@pytest.mark.skipif(
    not ctypes.util.find_library("pcap"), reason="libpcap is missing: apt-get install libpcap0.8"
)
@given(traffic, st.lists(packets, min_size=1, max_size=10))
def test_the_same_packets_pass_as_with_libpcap(chosen: Traffic, sent: list[bytes]) -> None:
    on_frames, on_packets = compile_expression(expression(chosen))
    ours = recording_program(chosen)
    for packet in sent:
        protocol = {4: 0x0800, 6: 0x86DD}[packet[0] >> 4]
        frame = Skb(ethernet(packet), protocol=protocol)
        assert (run(ours, frame) > 0) == (run(on_frames, frame) > 0)
        bare = Skb(packet, 0, protocol, hardware_type=65534)
        assert (run(ours, bare) > 0) == (run(on_packets, bare) > 0)


@given(
    traffic,
    st.binary(max_size=120),
    st.sampled_from([0x0800, 0x86DD, 0x8100, 0x0806]),
    st.sampled_from([1, 772, 65534]),
)
def test_arbitrary_bytes_are_kept_or_dropped(
    chosen: Traffic, data: bytes, protocol: int, hardware_type: int
) -> None:
    link = b"" if hardware_type == 65534 else bytes(12) + protocol.to_bytes(2)
    skb = Skb(link + data, len(link), protocol, hardware_type=hardware_type)
    kept = run(recording_program(chosen), skb)
    assert kept in {0, chosen.snaplen} or (chosen.narrows and kept < _LONGEST_HEADERS)
    assert run(control_program(chosen), skb) in {0, 224}
    assert run(answers_program(chosen), skb) in {0, 4096}
