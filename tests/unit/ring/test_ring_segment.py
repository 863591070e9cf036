"""The segment format: what is written comes back, and damage costs only what is damaged."""

import struct
from pathlib import Path

import pytest

from kernel_blocks import NONE, OUTGOING, STATUS_CSUM_NOT_READY, STATUS_VLAN, Sent, block
from podcam.errors import SegmentError
from podcam.model.point import Interface, Point
from podcam.ring import SegmentReader, SegmentWriter, Source
from podcam.ring.segment import Block, Metadata, metadata_record, parse_segment_name, segment_name

NOW = 1_700_000_000_123_456_789
SOURCE = Source(
    point=Point("web-1", "node-a", "/run/netns/web-1"),
    boot_id="0b7e",
    block_bytes=1 << 17,
    interfaces=(Interface(1, "lo", 772), Interface(2, "eth0", 1)),
    filter={"text": "port 5432", "ports": [5432]},
)


@pytest.fixture
def writer(tmp_path: Path) -> SegmentWriter:
    return SegmentWriter(tmp_path, SOURCE, sequence=7, created_ns=NOW)


def frames(*times_ns: int) -> list[Sent]:
    return [Sent(t, data=b"\x02" * 12 + b"\x08\x00" + t.to_bytes(8, "big")) for t in times_ns]


def test_name_tells_sequence_and_time() -> None:
    assert segment_name(7, NOW) == f"00000007-{NOW}.seg"
    assert parse_segment_name(segment_name(123_456_789, 5)) == (123_456_789, 5)
    assert parse_segment_name("manifest.json") is None


def test_what_is_written_is_read(writer: SegmentWriter) -> None:
    sent = frames(NOW + 1, NOW + 2, NOW + 3)
    assert writer.append([block(sent[:2]), block(sent[2:])], written_ns=NOW + 9, dropped=4) == 2
    writer.close(NOW + 10)

    reader = SegmentReader(writer.path)
    packets = list(reader.packets())
    assert [(p.time_ns, bytes(p.data), p.interface, p.length) for p in packets] == [
        (s.time_ns, s.data, 2, len(s.data)) for s in sent
    ]
    assert reader.header == writer.header
    assert reader.header is not None
    assert reader.header.source == SOURCE
    assert reader.totals() == writer.totals
    assert (writer.totals.packets, writer.totals.dropped) == (3, 4)
    assert (writer.totals.first_ns, writer.totals.last_ns) == (NOW + 1, NOW + 3)
    assert writer.path.stat().st_size == writer.totals.bytes
    assert writer.path.stat().st_mode & 0o777 == 0o600
    assert reader.problems == []


def test_drops_are_told_by_the_first_block_alone(writer: SegmentWriter) -> None:
    writer.append([block(frames(1)), block(frames(2))], written_ns=NOW, dropped=4, flags=1)
    blocks = [r for r in SegmentReader(writer.path).records() if isinstance(r, Block)]
    assert [(b.dropped, b.written_ns, b.flags) for b in blocks] == [(4, NOW, 1), (0, NOW, 1)]


def test_time_is_that_of_the_packets_and_not_of_the_block(writer: SegmentWriter) -> None:
    """A block of a quiet ring was opened long before its first packet came."""
    writer.append([block(frames(NOW), opened_ns=NOW - 3600 * 10**9)], written_ns=NOW)
    assert writer.totals.first_ns == NOW


def test_clock_set_back_within_a_block(writer: SegmentWriter) -> None:
    writer.append([block(frames(NOW + 9, NOW + 4))], written_ns=NOW)
    assert (writer.totals.first_ns, writer.totals.last_ns) == (NOW + 4, NOW + 9)


def test_vlan_tag_is_put_back(writer: SegmentWriter) -> None:
    frame = bytes(range(12)) + b"\x08\x00" + b"payload"
    tagged = Sent(NOW, frame, status=1 | STATUS_VLAN, vlan_tci=0x2064, vlan_tpid=0x88A8)
    writer.append([block([tagged])], written_ns=NOW)
    (packet,) = SegmentReader(writer.path).packets()
    assert bytes(packet.data) == bytes(range(12)) + b"\x88\xa8\x20\x64\x08\x00payload"
    assert packet.length == len(frame) + 4
    assert packet.link_bytes == 18


def test_packet_without_link_layer(writer: SegmentWriter) -> None:
    sent = Sent(NOW, b"E" * 21, 0, 3, NONE, OUTGOING, 1 | STATUS_CSUM_NOT_READY, length=999)
    writer.append([block([sent])], written_ns=NOW)
    (packet,) = SegmentReader(writer.path).packets()
    assert packet == (NOW, 3, NONE, OUTGOING, 1 | STATUS_CSUM_NOT_READY, 999, 0, b"E" * 21)


def test_interfaces_follow_changes(writer: SegmentWriter) -> None:
    writer.append([block(frames(NOW))], written_ns=NOW)
    new = {"index": 9, "name": "tun0", "hardware_type": NONE}
    assert writer.write_metadata("interfaces", NOW, {"interfaces": [new]})
    reader = SegmentReader(writer.path)
    kinds = [r.kind if isinstance(r, Metadata) else "block" for r in reader.records()]
    assert kinds == ["segment", "block", "interfaces"]
    assert reader.interfaces[9] == Interface(9, "tun0", NONE)
    assert reader.interfaces[2].name == "eth0"


def test_totals_without_end_record_come_from_the_blocks(writer: SegmentWriter) -> None:
    writer.append([block(frames(5, 6)), block(frames(3))], written_ns=NOW, dropped=2)
    totals = SegmentReader(writer.path).totals()
    assert totals == writer.totals
    assert (totals.packets, totals.dropped, totals.first_ns, totals.last_ns) == (3, 2, 3, 6)


def test_torn_last_block_is_skipped_and_told(writer: SegmentWriter) -> None:
    last = block(frames(3))
    writer.append([block(frames(1, 2)), last], written_ns=NOW)
    whole = writer.path.read_bytes()
    for cut in (1, 8, len(last) - 1):
        writer.path.write_bytes(whole[:-cut])
        reader = SegmentReader(writer.path)
        assert [p.time_ns for p in reader.packets()] == [1, 2]
        assert reader.problems == [
            f"{len(last) - cut} bytes at {len(whole) - len(last)} are torn or garbled and were skipped"
        ]


def test_zeroed_block_in_the_middle_costs_only_itself(writer: SegmentWriter) -> None:
    first, middle, last = (block(frames(t)) for t in (1, 2, 3))
    writer.append([first, middle, last], written_ns=NOW)
    content = bytearray(writer.path.read_bytes())
    start = len(content) - len(last) - len(middle)
    content[start : start + len(middle)] = bytes(len(middle))
    writer.path.write_bytes(content)
    reader = SegmentReader(writer.path)
    assert [p.time_ns for p in reader.packets()] == [1, 3]
    assert len(reader.problems) == 1


def test_garbled_packet_ends_its_block(writer: SegmentWriter) -> None:
    broken = block(frames(1, 2, 3))
    struct.pack_into("=I", broken, 72, 12)  # tp_next_offset of the first packet
    writer.append([broken, block(frames(4))], written_ns=NOW)
    reader = SegmentReader(writer.path)
    assert [p.time_ns for p in reader.packets()] == [1, 4]
    assert reader.problems[0].endswith("2 of its packets were skipped")


def test_block_of_another_segment_in_a_payload_is_no_record(tmp_path: Path, writer: SegmentWriter) -> None:
    """Somebody copies segments over the network that is recorded, and the copy's frame is damaged."""
    other = SegmentWriter(tmp_path, SOURCE, sequence=8, created_ns=NOW)
    quoted = block(frames(666))
    other.append([quoted], written_ns=NOW)
    frame = bytes(14) + bytes(2) + bytes(quoted)  # 8-byte aligned within the block, as records are
    writer.append([block([Sent(1, frame)]), block(frames(2))], written_ns=NOW)
    content = bytearray(writer.path.read_bytes())
    at = content.index(b"PCB1") - 48
    content[at] = 99
    writer.path.write_bytes(content)
    assert [p.time_ns for p in SegmentReader(writer.path).packets()] == [2]


def test_lost_header_leaves_the_packets(writer: SegmentWriter) -> None:
    writer.append([block(frames(1))], written_ns=NOW)
    content = bytearray(writer.path.read_bytes())
    content[:64] = bytes(64)
    writer.path.write_bytes(content)
    reader = SegmentReader(writer.path)
    assert reader.header is None
    assert [p.time_ns for p in reader.packets()] == [1]
    assert reader.problems


@pytest.mark.parametrize("content", [b"", b"\xd4\xc3\xb2\xa1" + bytes(20), b"PCBM", bytes(4096)])
def test_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.seg"
    path.write_bytes(content)
    with pytest.raises(SegmentError, match=r"foreign\.seg is not a segment"):
        SegmentReader(path)


@pytest.mark.parametrize("content", [b"", bytes(4096)])
def test_segment_of_which_nothing_is_left(tmp_path: Path, content: bytes) -> None:
    """Its recorder was killed before the header was written, or the power went."""
    path = tmp_path / segment_name(3, NOW)
    path.write_bytes(content)
    reader = SegmentReader(path)
    assert (reader.header, list(reader.packets()), reader.totals().bytes) == (None, [], len(content))
    assert "nothing of it is left" in reader.problems


def test_newer_format_is_refused(tmp_path: Path, writer: SegmentWriter) -> None:
    path = tmp_path / "new.seg"
    path.write_bytes(metadata_record("segment", NOW, writer.header.to_json() | {"format": 2}))
    with pytest.raises(SegmentError, match="format 2"):
        SegmentReader(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SegmentError, match="No such file"):
        SegmentReader(tmp_path / "gone.seg")


def test_big_endian_segment_is_read(writer: SegmentWriter) -> None:
    """Written on s390x, read here."""
    writer.append([block(frames(NOW + 5))], written_ns=NOW)
    content = writer.path.read_bytes()
    writer.path.write_bytes(swapped(content))
    reader = SegmentReader(writer.path)
    assert reader.header == writer.header
    assert [p.time_ns for p in reader.packets()] == [NOW + 5]
    assert reader.totals() == writer.totals


def swapped(content: bytes) -> bytes:
    """The same segment in the other byte order: a header and one block with one packet."""
    result = bytearray(content)

    def swap(format_: str, at: int) -> None:
        struct.pack_into(">" + format_, result, at, *struct.unpack_from("<" + format_, content, at))

    at = 0
    while at < len(content):
        swap("6IQ4I", at)
        is_block = content[at : at + 4] != b"PCBM"
        if is_block:
            swap("4sIQII", at + 48)
            swap("6I2H2IH2x8x", at + 72)
            swap("HHiHBB8s", at + 72 + 48)
        at += struct.unpack_from("<I", content, at + 20)[0]
    return bytes(result)
