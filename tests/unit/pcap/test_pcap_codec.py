"""The pcapng codec against itself and against other tools."""

import io
import struct
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podcam.errors import CaptureFileError
from podcam.pcap import (
    COMMENT_BYTES,
    BlockType,
    Direction,
    InterfaceOption,
    LinkType,
    Option,
    PcapngWriter,
    Reception,
    StatisticsOption,
    block,
    custom,
    options,
    packet_flags,
    read_blocks,
    read_pcap,
)


def written() -> tuple[io.BytesIO, PcapngWriter]:
    file = io.BytesIO()
    return file, PcapngWriter(file, [(Option.COMMENT, "one"), (Option.COMMENT, "two")])


def test_a_file_block_by_block() -> None:
    file, writer = written()
    interface = writer.add_interface(LinkType.RAW, [(InterfaceOption.NAME, "web-1/tun0")])
    writer.add_names({"192.0.2.1": ["db", "db.example"], "2001:db8::1": ["db"]})
    writer.add_packet(
        interface, (1 << 32) + 7, b"abcde", 99, packet_flags(Direction.OUTBOUND), ["why", "how"]
    )
    writer.add_statistics(interface, 9, received=1, dropped=2, first_ns=3, last_ns=4)
    section, description, names, packet, statistics = read_blocks(io.BytesIO(file.getvalue()))

    assert list(section.options()) == [(1, b"one"), (1, b"two")]
    assert struct.unpack_from("<H", description.body)[0] == LinkType.RAW
    assert list(description.options()) == [(2, b"web-1/tun0"), (9, b"\x09")]
    assert names.kind == BlockType.NAME_RESOLUTION
    assert b"\xc0\x00\x02\x01db\0db.example\0" in names.body
    assert packet.is_packet
    assert struct.unpack_from("<5I", packet.body) == (interface, 1, 7, 5, 99)
    assert packet.body[20:25] == b"abcde"
    assert list(packet.options()) == [(1, b"why"), (1, b"how"), (2, struct.pack("<I", 2))]
    told = dict(statistics.options())
    assert told[StatisticsOption.RECEIVED] == struct.pack("<Q", 1)
    assert told[StatisticsOption.DROPPED] == struct.pack("<Q", 2)


@given(
    st.lists(
        st.tuples(
            st.binary(max_size=70),
            st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=3),
        ),
        max_size=5,
    )
)
def test_packets_come_back(packets: list[tuple[bytes, list[str]]]) -> None:
    file, writer = written()
    writer.add_interface(LinkType.ETHERNET)
    for data, comments in packets:
        writer.add_packet(0, 5, data, len(data), 0, comments)
    blocks = list(read_blocks(io.BytesIO(file.getvalue())))[2:]
    assert len(blocks) == len(packets)
    for read, (data, comments) in zip(blocks, packets, strict=True):
        assert read.body[20 : 20 + len(data)] == data
        assert [value.decode() for code, value in read.options() if code == Option.COMMENT] == comments
        assert read.content == block(read.kind, read.body)


def test_flags_of_the_draft() -> None:
    assert packet_flags(Direction.INBOUND, Reception.BROADCAST) == 0b01101
    assert packet_flags(Direction.OUTBOUND, checksum_not_ready=True) == 0x202


def test_long_comment_is_cut_between_characters() -> None:
    encoded = options([(Option.COMMENT, "é" * COMMENT_BYTES)])
    length = struct.unpack_from("<HH", encoded)[1]
    assert length == COMMENT_BYTES
    encoded[4 : 4 + length].decode()
    assert options([]) == b""


def test_custom_data_is_never_cut() -> None:
    with pytest.raises(ValueError, match="65,531"):
        custom("x" * 65_532)


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders(order: Literal["<", ">"]) -> None:
    section = block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    packet = struct.pack(f"{order}5I", 0, 0, 0, 3, 3) + b"abc\0" + options([(1, "x")], order)
    (_, read) = read_blocks(io.BytesIO(section + block(6, packet, order)))
    assert (read.order, read.is_packet, list(read.options())) == (order, True, [(1, b"x")])


def test_byte_order_changes_with_the_section() -> None:
    def section(order: Literal["<", ">"]) -> bytes:
        return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)

    content = section("<") + block(5, bytes(12)) + section(">") + block(5, bytes(12), ">")
    assert [b.order for b in read_blocks(io.BytesIO(content))] == ["<", "<", ">", ">"]


def test_cut_file_ends_before_the_torn_block() -> None:
    file, writer = written()
    writer.add_interface(LinkType.ETHERNET)
    writer.add_packet(0, 5, b"abcd", 4, 0)
    content = file.getvalue()
    for cut in range(1, 40):
        assert len(list(read_blocks(io.BytesIO(content[:-cut])))) == 2


@given(st.binary(max_size=200), st.integers(0, 100))
def test_garbled_blocks_raise_nothing_but_their_error(garbage: bytes, at: int) -> None:
    file, writer = written()
    writer.add_interface(LinkType.ETHERNET)
    writer.add_packet(0, 5, b"abcd", 4, 0, ["x"])
    content = bytearray(file.getvalue())
    content[at : at + len(garbage)] = garbage
    try:
        for read in read_blocks(io.BytesIO(content)):
            list(read.options())
    except CaptureFileError:
        pass


@pytest.mark.parametrize("content", [b"", b"\x0a", b"#!/bin/sh\n" * 5, b"\x0a\x0d\x0d\x0a" + bytes(60)])
def test_foreign_files(content: bytes) -> None:
    with pytest.raises(CaptureFileError):
        list(read_blocks(io.BytesIO(content)))
    with pytest.raises(CaptureFileError, match="not a pcap file"):
        read_pcap(io.BytesIO(content))


@pytest.mark.parametrize(
    ("magic", "order", "fraction_ns"),
    [(0xA1B2C3D4, "<", 1000), (0xA1B2C3D4, ">", 1000), (0xA1B23C4D, "<", 1), (0xA1B23C4D, ">", 1)],
)
def test_pcap(magic: int, order: str, fraction_ns: int) -> None:
    content = struct.pack(f"{order}IHHIIII", magic, 2, 4, 0, 0, 262144, 1)
    content += (
        struct.pack(f"{order}4I", 10, 20, 3, 60) + b"abc" + struct.pack(f"{order}4I", 11, 0, 9, 9) + b"cut"
    )
    header, packets = read_pcap(io.BytesIO(content))
    assert (header.link_type, header.snap_length, header.order) == (1, 262144, order)
    (packet,) = packets
    assert (packet.time_ns, packet.length, packet.data) == (10 * 10**9 + 20 * fraction_ns, 60, b"abc")
