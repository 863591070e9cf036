"""Clips as sets of packets: trimmed, merged, exported; tshark as a second opinion."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_blocks import NONE, OUTGOING, STATUS_CSUM_NOT_READY, STATUS_VLAN, Sent, block
from podcam.clip import ClipPart, ClipStore, export, open_packets
from podcam.clip.parts import merged
from podcam.errors import ClipError
from podcam.model.point import Point, Window
from podcam.pcap import BlockType, read_blocks
from podcam.ring import FLAG_PAYLOAD_CUT, Ring, Source, Totals, segments_in
from recorded_clips import (
    ETHERNET_UDP,
    INTERFACES,
    IPV4_UDP,
    NOW,
    SECOND,
    at,
    clip_of,
    recorded,
    run,
    tshark,
)


def seconds(path: Path) -> list[tuple[str, float]]:
    packets = open_packets(path)
    return [(packets.parts[p.part].point.name, (p.packet.time_ns - NOW) / SECOND) for p in packets.packets()]


def test_trimmed_to_the_window_and_what_it_is_compared_with(tmp_path: Path) -> None:
    part = recorded(tmp_path, "a", *at(*range(20)))
    part = replace(part, comparisons=(Window(NOW + 2 * SECOND, NOW + 3 * SECOND),))
    clip = clip_of(tmp_path, part, window=Window(NOW + 10 * SECOND, NOW + 12 * SECOND))
    assert [s for _, s in seconds(clip)] == [2, 3, 10, 11, 12]


def test_parts_are_merged_by_time(tmp_path: Path) -> None:
    a = recorded(tmp_path, "a", *at(1, 3, 5))
    b = recorded(tmp_path, "b", *at(2, 3, 4))
    assert seconds(clip_of(tmp_path, a, b)) == [("a", 1), ("b", 2), ("a", 3), ("b", 3), ("b", 4), ("a", 5)]


def test_clock_set_back_does_not_reorder_a_part(tmp_path: Path) -> None:
    a = recorded(tmp_path, "a", *at(5, 1, 2))
    b = recorded(tmp_path, "b", *at(3, 6))
    assert seconds(clip_of(tmp_path, a, b)) == [("b", 3), ("a", 5), ("a", 1), ("a", 2), ("b", 6)]


@given(st.lists(st.lists(st.integers(0, 20), max_size=10), max_size=4))
def test_merging_keeps_each_part_and_follows_the_rule(parts: list[list[int]]) -> None:
    result = list(
        merged([iter([(n, t) for t in times]) for n, times in enumerate(parts)], lambda item: item[1])
    )
    for number, times in enumerate(parts):
        assert [t for n, t in result if n == number] == times
    latest = [0] * len(parts)
    keys = []
    for number, time in result:
        latest[number] = max(latest[number], time)
        keys.append((latest[number], number))
    assert keys == sorted(keys)


def test_rings_and_segments_are_read_alike(tmp_path: Path) -> None:
    recorded(tmp_path / "points", "a", *at(1, 2))
    segment = next((tmp_path / "points" / "a").iterdir())
    assert seconds(tmp_path / "points" / "a") == seconds(segment) == [("a", 1), ("a", 2)]
    recorded(tmp_path / "points", "b", *at(1.5))
    assert [name for name, _ in seconds(tmp_path / "points")] == ["a", "b", "a"]


def test_missing_segment_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    part = recorded(tmp_path, "a", *at(1))
    clip = clip_of(tmp_path, replace(part, segments=("00000000-1.seg", *part.segments)))
    exported = export(open_packets(clip), tmp_path / "out.pcapng")
    assert exported.packets == 1
    assert "No such file" in exported.warnings[0]


def test_empty_segment_among_others(tmp_path: Path) -> None:
    recorded(tmp_path, "a", *at(1))
    (tmp_path / "a" / "00000000-1.seg").touch()
    packets = open_packets(tmp_path / "a")
    assert packets.parts[0].point.name == "a"
    assert len(list(packets.packets())) == 1
    assert packets.parts[0].problems == ["00000000-1.seg: nothing of it is left"]


def test_cut_payload_is_told(tmp_path: Path) -> None:
    source = Source(Point("a", "node-a"), "boot", 4096, INTERFACES)
    ring = Ring(tmp_path / "a", source, limit_bytes=1_000_000, segment_bytes=10_000, now_ns=NOW)
    ring.append([block(at(1))], now_ns=NOW)
    ring.append([block(at(2))], now_ns=NOW, flags=FLAG_PAYLOAD_CUT)
    packets = open_packets(tmp_path / "a")
    assert len(list(packets.packets())) == 2
    (problem,) = packets.parts[0].problems
    assert "payload is cut" in problem
    part = ClipPart(source.point, "a", (segments_in(tmp_path / "a")[0].name,), Totals())
    untouched = open_packets(clip_of(tmp_path, part, window=Window(NOW, NOW + SECOND)))
    assert len(list(untouched.packets())) == 1
    assert untouched.parts[0].problems == []


def test_neither_clip_nor_segments(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="holds neither a clip nor segments"):
        open_packets(tmp_path)
    with pytest.raises(ClipError, match="No such file"):
        open_packets(tmp_path / "nothing")


def test_target_that_cannot_be_written(tmp_path: Path) -> None:
    clip = clip_of(tmp_path, recorded(tmp_path, "a", *at(1)))
    with pytest.raises(ClipError, match="cannot write"):
        export(open_packets(clip), tmp_path / "none" / "out.pcapng")
    (tmp_path / "file").touch()
    with pytest.raises(ClipError, match=r"cannot write .*Not a directory"):
        export(open_packets(clip), tmp_path / "file" / "out.pcapng")
    with pytest.raises(ClipError, match=r"cannot write .*Is a directory"):
        export(open_packets(clip), Path())


def test_a_target_that_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    clip = clip_of(tmp_path, recorded(tmp_path, "a", *at(1)))
    null = tmp_path / "null"
    null.symlink_to("/dev/null")
    export(open_packets(clip), null)
    assert null.is_symlink()


def test_an_export_that_is_interrupted_leaves_nothing_behind(tmp_path: Path) -> None:
    clip = clip_of(tmp_path, recorded(tmp_path, "a", *at(1)))

    def interrupt(_written: int) -> None:
        raise KeyboardInterrupt

    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        export(open_packets(clip), tmp_path / "out.pcapng", progress=interrupt)
    assert set(tmp_path.iterdir()) == before


def test_what_cannot_even_be_looked_at(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"cannot read .*too long"):
        open_packets(tmp_path / ("x" * 300))
    with pytest.raises(ClipError, match="is not a clip"):
        ClipStore(tmp_path).find("x" * 300)


class TestExport:
    @pytest.fixture
    def clip(self, tmp_path: Path) -> Path:
        vlan = Sent(NOW + 3, ETHERNET_UDP, status=1 | STATUS_VLAN, vlan_tci=100, vlan_tpid=0x8100)
        a = recorded(
            tmp_path,
            "web-1",
            Sent(NOW + 1, ETHERNET_UDP),
            Sent(NOW + 2, ETHERNET_UDP, packet_type=OUTGOING, status=1 | STATUS_CSUM_NOT_READY),
            vlan,
            Sent(NOW + 4, IPV4_UDP, 0, 3, NONE, OUTGOING, length=9000),
            dropped=7,
        )
        b = recorded(tmp_path, "web-2", Sent(NOW + 2, ETHERNET_UDP, 14, 1, 772))
        return clip_of(tmp_path, a, b)

    def test_statistics_tell_drops_once_per_point(self, clip: Path, tmp_path: Path) -> None:
        exported = export(open_packets(clip), tmp_path / "out.pcapng")
        assert (exported.packets, exported.dropped, exported.warnings) == (5, 7, ())
        with (tmp_path / "out.pcapng").open("rb") as file:
            told = [dict(b.options()) for b in read_blocks(file) if b.kind == BlockType.INTERFACE_STATISTICS]
        drops = [struct.unpack("<Q", each[5])[0] for each in told if 5 in each]
        assert len(told) == 3
        assert sorted(drops) == [0, 7]

    def test_as_tshark_sees_it(self, clip: Path, tmp_path: Path) -> None:
        target = tmp_path / "out.pcapng"
        export(open_packets(clip), target, comments={3: ["proof", "and more"]})
        fields = ("frame.interface_name", "frame.time_epoch", "frame.len", "frame.packet_flags_direction")
        assert tshark(target, *fields) == [
            ["web-1/eth0", "1700000000.000000001", "45", "0x00000001"],
            ["web-1/eth0", "1700000000.000000002", "45", "0x00000002"],
            ["web-2/lo", "1700000000.000000002", "45", "0x00000001"],
            ["web-1/eth0", "1700000000.000000003", "49", "0x00000001"],
            ["web-1/tun0", "1700000000.000000004", "9000", "0x00000002"],
        ]
        more = ("frame.interface_description", "vlan.id", "ip.src", "udp.payload", "frame.comment")
        assert tshark(target, *more)[2:] == [
            ["lo of web-2 on node-a", "", "192.0.2.1", "616263", "proof,and more"],
            ["eth0 of web-1 on node-a", "100", "192.0.2.1", "616263", ""],
            ["tun0 of web-1 on node-a", "", "192.0.2.1", "616263", ""],
        ]

    def test_section_says_what_it_is(self, clip: Path, tmp_path: Path) -> None:
        target = tmp_path / "out.pcapng"
        export(open_packets(clip), target)
        with target.open("rb") as file:
            section = next(read_blocks(file))
        comment = dict(section.options())[1].decode().splitlines()
        assert comment[0] == "Podcam clip c-1: it broke"
        assert "192.0.2.1:12345 → 192.0.2.2:4660 refused: SYN answered by RST" in comment
        assert "mind this" in comment
        assert "web-1 on node-a: 7 packets were lost while recording" in comment
        data = json.loads(dict(section.options())[2988][4:])
        assert (data["schema"], data["clip"]) == ("podcam.export/1", "c-1")
        assert "Interface #2" in run("capinfos", str(target))

    def test_names_resolve(self, clip: Path, tmp_path: Path) -> None:
        target = tmp_path / "out.pcapng"
        export(open_packets(clip), target)
        assert "db.example" in run(
            "tshark", "-N", "n", "-r", str(target), "-T", "fields", "-e", "ip.dst_host"
        )

    def test_one_link_type_for_libpcap(self, clip: Path, tmp_path: Path) -> None:
        target = tmp_path / "out.pcapng"
        export(open_packets(clip), target, all_ethernet=True)
        assert len(run("tcpdump", "-nr", str(target)).splitlines()) == 5
        assert tshark(target, "eth.type", "ip.dst", "frame.len")[-1] == ["0x0800", "192.0.2.2", "9014"]

    def test_progress(self, clip: Path, tmp_path: Path) -> None:
        told: list[int] = []
        export(open_packets(clip), tmp_path / "out.pcapng", progress=told.append)
        assert told == [5]


def test_jumbo_packet_stays_readable(tmp_path: Path) -> None:
    """The recorder's snap length and a tag put back exceed what Wireshark takes."""
    frame = ETHERNET_UDP[:14] + bytes(262_144 - 14)
    jumbo = Sent(NOW, frame, status=1 | STATUS_VLAN, vlan_tci=5, vlan_tpid=0x8100)
    recorded(tmp_path, "a", jumbo)
    export(open_packets(tmp_path / "a"), tmp_path / "out.pcapng")
    assert tshark(tmp_path / "out.pcapng", "frame.len", "frame.cap_len") == [["262148", "262144"]]
