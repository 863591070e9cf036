"""TCP is found behind every link layer and every IP header, and nothing is made up where there is none."""

import struct
from pathlib import Path

import pytest

from podcam.columns import CaptureColumns, open_captures
from podcam.model.connection import IcmpError, Packet
from traces import ACK, PSH, START_NS, SYN, Talk, icmp_error, ip, tcp, write_pcap

CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 5432)
SEGMENT = tcp((40000, 5432), 7, 8, PSH | ACK, b"hello", window=99)
PACKET = ip(SEGMENT, 6, CLIENT[0], SERVER[0], ttl=61, ip_id=77)
PACKET6 = ip(SEGMENT, 6, "fd00::1", "fd00::2")
MACS = bytes(12)


def read(tmp_path: Path, *packets: bytes, link_type: int = 1) -> CaptureColumns:
    timed = [(START_NS + number, packet) for number, packet in enumerate(packets)]
    return open_captures([write_pcap(tmp_path / "a.pcap", timed, link_type=link_type)])[0]


def the_packet(capture: CaptureColumns) -> Packet:
    assert len(capture.connections) == 1
    (packet,) = capture.conversation(0).packets
    return packet


@pytest.mark.parametrize(
    ("link_type", "frame"),
    [
        (1, MACS + b"\x08\x00" + PACKET),
        (1, MACS + b"\x08\x00" + PACKET + bytes(11)),  # padding of short frames
        (1, MACS + b"\x81\x00\x00\x05\x08\x00" + PACKET),
        (1, MACS + b"\x88\xa8\x00\x05\x81\x00\x00\x06\x08\x00" + PACKET),
        (1, MACS + b"\x88\x47\x00\x01\x00\x40\x00\x01\x01\x40" + PACKET),  # two MPLS labels
        (1, MACS + b"\x88\x64\x11\x00\x00\x07\x00\x00\x00\x21" + PACKET),  # PPPoE
        (1, MACS + struct.pack("!H", len(PACKET) + 8) + b"\xaa\xaa\x03\0\0\0\x08\0" + PACKET),  # SNAP
        (0, b"\x02\0\0\0" + PACKET),
        (108, b"\0\0\0\x02" + PACKET),
        (9, b"\xff\x03\x00\x21" + PACKET),
        (12, PACKET),
        (101, PACKET),
        (228, PACKET),
        (113, bytes(14) + b"\x08\x00" + PACKET),
        (276, b"\x08\x00" + bytes(18) + PACKET),
        (276, b"\x81\x00" + bytes(18) + b"\x00\x05\x08\x00" + PACKET),
    ],
)
def test_link_layers(tmp_path: Path, link_type: int, frame: bytes) -> None:
    packet = the_packet(read(tmp_path, frame, link_type=link_type))
    assert packet == Packet(1, START_NS, True, PSH | ACK, 7, 8, 99, 61, 77, 5, b"hello")


@pytest.mark.parametrize(
    "packet",
    [
        PACKET6,
        PACKET6[:6]
        + b"\x00"
        + PACKET6[7:40]
        + b"\x06\x00"
        + bytes(6)
        + SEGMENT,  # hop-by-hop, length too short
        ip(b"\x3c\x00" + bytes(6) + b"\x06\x00" + bytes(6) + SEGMENT, 0, "fd00::1", "fd00::2"),
        ip(b"\x06\x01" + bytes(14) + SEGMENT, 43, "fd00::1", "fd00::2"),
        ip(b"\x06\x04" + bytes(22) + SEGMENT, 51, "fd00::1", "fd00::2"),
        ip(b"\x06\x00\x00\x00\x00\x00\x00\x09" + SEGMENT, 44, "fd00::1", "fd00::2"),  # atomic fragment
    ],
)
def test_ipv6_and_its_extension_headers(tmp_path: Path, packet: bytes) -> None:
    capture = read(tmp_path, packet, link_type=101)
    assert the_packet(capture).payload[:1] in {b"h", b""}
    assert the_packet(capture).seq == 7
    assert [end.ip for end in capture.endpoints(0)] == ["fd00::1", "fd00::2"]


def test_ipv4_options_are_skipped(tmp_path: Path) -> None:
    with_options = (
        b"\x46" + PACKET[1:2] + struct.pack("!H", len(PACKET) + 4) + PACKET[4:20] + bytes(4) + SEGMENT
    )
    assert the_packet(read(tmp_path, with_options, link_type=101)).payload == b"hello"


def test_segments_above_64_kb_have_length_zero(tmp_path: Path) -> None:
    big = tcp((40000, 5432), 7, 8, ACK, bytes(80_000))
    packet = ip(big[:100], 6, *("10.0.0.1", "10.0.0.2"))
    capture = read(tmp_path, packet[:2] + b"\0\0" + packet[4:20] + big, link_type=101)
    assert the_packet(capture).payload_bytes == 80_000


@pytest.mark.parametrize(
    "packet",
    [
        PACKET[:6] + b"\x20\x00" + PACKET[8:],  # first fragment
        PACKET[:6] + b"\x00\x05" + PACKET[8:],  # later fragment
        ip(b"\x06\x00\x00\x09\x00\x00\x00\x09" + SEGMENT, 44, "fd00::1", "fd00::2"),
        PACKET[:25],  # not even the ports are whole
        PACKET[:2] + b"\x00\x13" + PACKET[4:],  # total length below the header's
        b"\x44" + PACKET[1:],  # header length 16
        b"\x55" + PACKET[1:],
        PACKET6[:6] + b"\x2b" + PACKET6[7:],  # a routing header that is none, and runs out
        b"",
    ],
)
def test_what_is_no_whole_segment_is_no_connection(tmp_path: Path, packet: bytes) -> None:
    assert len(read(tmp_path, packet, link_type=101).connections) == 0


@pytest.mark.parametrize("version", [4, 6])
def test_icmp_error_belongs_to_the_connection_that_it_quotes(tmp_path: Path, version: int) -> None:
    ends = {"client_end": ("10.0.0.1", 40000), "server_end": ("10.0.0.2", 5432)}
    router, kind, code = "10.0.0.99", 3, 1
    if version == 6:
        ends = {"client_end": ("fd00::1", 40000), "server_end": ("fd00::2", 5432)}
        router, kind, code = "fd00::99", 1, 4
    talk = Talk(**ends)  # type: ignore[arg-type]
    syn = talk.client(SYN)
    error = icmp_error(syn, router, ends["client_end"][0], kind, code)
    conversation = read(tmp_path, syn, error, link_type=101).conversation(0)
    assert [packet.icmp for packet in conversation.packets] == [None, IcmpError(version, kind, code, router)]
    assert conversation.packets[1].from_client
    assert conversation.packets[1].has(SYN)
    assert conversation.client_packets == 1


def test_icmp_error_that_quotes_8_bytes_is_found_by_its_ports(tmp_path: Path) -> None:
    syn = Talk().client(SYN)
    error = icmp_error(syn[:28], "10.0.0.99", "10.0.0.1")
    assert len(read(tmp_path, error, link_type=101).connections) == 0
    capture = read(tmp_path, syn, error, link_type=101)
    assert capture.connections.table["icmp_errors"].tolist() == [1]
    assert capture.conversation(0).packets[1].seq == 1000


def test_icmp_error_alone_makes_the_connection_known(tmp_path: Path) -> None:
    error = icmp_error(Talk().client(SYN), "10.0.0.99", "10.0.0.1")
    capture = read(tmp_path, error, link_type=101)
    conversation = capture.conversation(0)
    assert (conversation.client.port, conversation.server.port) == (40000, 5432)
    assert (conversation.client_packets, conversation.syn_seen) == (0, False)
