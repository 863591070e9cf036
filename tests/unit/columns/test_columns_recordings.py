"""Segments, rings and clips: the frames are those of an export, and the packets the same."""

import resource
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kernel_blocks import ETHERNET, LOOPBACK, NONE, STATUS_VLAN, Sent, block
from podcam.clip import ClipPart, Manifest, export, open_packets, write_manifest
from podcam.columns import CaptureColumns, open_captures
from podcam.columns.sets import compiled, plain
from podcam.errors import CaptureFileError
from podcam.model.point import Interface, Point, Window
from podcam.ring import SegmentWriter, Source
from traces import ACK, MS, PSH, START_NS, SYN, Talk, Timed, ethernet

WEB, PROXY = Point("web-1", "node-a"), Point("proxy", "node-b")


def talk_of(port: int, now_ns: int = START_NS) -> Talk:
    talk = Talk(client_end=("10.0.0.1", port), now_ns=now_ns).open()
    talk.client(PSH | ACK, b"hello")
    return talk


def sent(packets: Sequence[Timed], hardware_type: int = ETHERNET) -> list[Sent]:
    if hardware_type == NONE:
        return [Sent(t, data, link_bytes=0, hardware_type=NONE, interface=3) for t, data in packets]
    return [Sent(t, ethernet(data), hardware_type=hardware_type) for t, data in packets]


def write_segment(folder: Path, point: Point, blocks: Sequence[Sequence[Sent]], sequence: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    source = Source(point, "boot", 1 << 17, (Interface(2, "eth0", 1), Interface(3, "tun0", NONE)))
    writer = SegmentWriter(folder, source, sequence, START_NS + sequence)
    writer.append([block(packets) for packets in blocks], written_ns=START_NS, dropped=sequence)
    writer.close(START_NS)
    return writer.path


def read(path: Path) -> CaptureColumns:
    return open_captures([path])[0]


def assert_frames_as_exported(path: Path, tmp_path: Path) -> CaptureColumns:
    """The same rows as from the pcapng file that an export makes of it."""
    recorded = read(path)
    export(open_packets(path), tmp_path / "export.pcapng")
    exported = read(tmp_path / "export.pcapng")
    assert recorded.packets["time_ns"].tolist() == exported.packets["time_ns"].tolist()
    assert recorded.packets["events"].tolist() == exported.packets["events"].tolist()
    assert len(recorded.connections) == len(exported.connections)
    for row in range(len(recorded.connections)):
        ours, theirs = recorded.conversation(row), exported.conversation(row)
        assert (ours.packets, ours.point, ours.tcp_stream) == (
            theirs.packets,
            theirs.point,
            theirs.tcp_stream,
        )
    assert sorted(recorded.summary.points) == sorted(exported.summary.points)
    assert recorded.summary.link_types == exported.summary.link_types
    assert recorded.summary.dropped == exported.summary.dropped
    return recorded


@pytest.mark.parametrize("hardware_type", [ETHERNET, LOOPBACK, NONE])
def test_a_segment(tmp_path: Path, hardware_type: int) -> None:
    packets = sent(talk_of(40000).packets, hardware_type)
    path = write_segment(tmp_path, WEB, [packets[:1], packets[1:]])
    capture = assert_frames_as_exported(path, tmp_path)
    assert capture.points == ("web-1",)
    assert capture.summary.dropped == 1
    assert capture.conversation(0).packets[-1].payload == b"hello"


@pytest.mark.parametrize("kernels", [plain, compiled])
def test_blocks_larger_than_a_chunk(tmp_path: Path, kernels: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podcam.columns.analyser.PLAIN_PACKETS", 3)
    packets = sent(talk_of(40000).packets * 5)
    path = write_segment(tmp_path, WEB, [packets[:11], packets[11:]])
    capture = open_captures([path], kernels=kernels())[0]  # type: ignore[operator]
    assert capture.packets["time_ns"].tolist() == [packet.time_ns for packet in packets]


def test_a_tag_that_the_kernel_took_off_changes_nothing(tmp_path: Path) -> None:
    packets = [
        replace(s, status=STATUS_VLAN | 1, vlan_tci=5, vlan_tpid=0x8100) for s in sent(talk_of(1).packets)
    ]
    assert_frames_as_exported(write_segment(tmp_path, WEB, [packets]), tmp_path)


def test_a_ring_of_segments(tmp_path: Path) -> None:
    packets = sent(talk_of(40000).packets)
    ring = tmp_path / "ring"
    for sequence, packet in enumerate(packets, 1):
        write_segment(ring, WEB, [[packet]], sequence)
    capture = assert_frames_as_exported(ring, tmp_path)
    assert capture.summary.dropped == 1 + 2 + 3 + 4
    assert len(capture.connections) == 1


def test_rings_of_several_points_are_merged_by_time(tmp_path: Path) -> None:
    """The same connection at two points: two rows, one stream, and no retransmissions."""
    rings = tmp_path / "points"
    packets = talk_of(40000).packets
    late = [(time_ns + MS // 2, data) for time_ns, data in packets]
    write_segment(rings / "proxy", PROXY, [sent(late)])
    write_segment(rings / "web-1", WEB, [sent(packets[:2]), sent(packets[2:])])
    capture = assert_frames_as_exported(rings, tmp_path)
    assert capture.points == ("proxy", "web-1")
    table = capture.connections.table
    assert table["stream"].tolist() == [0, 0]
    assert table["point"].tolist() == [1, 0]
    assert table["packets"].tolist() == [4, 4]
    assert capture.connections.client["retransmissions"].tolist() == [0, 0]
    assert [packet.frame for packet in capture.conversation(0).packets] == [1, 3, 5, 7]


def test_more_segments_than_files_may_be_open(tmp_path: Path) -> None:
    packets = sent(talk_of(40000).packets)
    for sequence in range(80):
        write_segment(tmp_path / "ring", WEB, [packets], sequence)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name.name) for name in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 30, hard))
    try:
        assert read(tmp_path / "ring").summary.packets == 80 * 4
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_clock_set_back_does_not_reorder_a_point(tmp_path: Path) -> None:
    rings = tmp_path / "points"
    packets = talk_of(40000).packets
    jumping = [packets[0], (packets[1][0] - 100 * MS, packets[1][1]), *packets[2:]]
    write_segment(rings / "a", WEB, [sent(jumping)])
    write_segment(rings / "b", PROXY, [sent(talk_of(40001, START_NS + MS // 2).packets)])
    capture = assert_frames_as_exported(rings, tmp_path)
    assert [packet.frame for packet in capture.conversation(0).packets] == [1, 2, 5, 7]


def make_clip(folder: Path, window: Window, comparisons: tuple[Window, ...] = ()) -> Path:
    early, late = talk_of(40000), talk_of(40001, START_NS + 1000 * MS)
    paths = [
        write_segment(folder / "web-1", WEB, [sent(early.packets)], 1),
        write_segment(folder / "web-1", WEB, [sent(late.packets)], 2),
    ]
    totals = open_packets(paths[1]).parts[0]
    assert totals.segments == (paths[1],)
    part = ClipPart(
        point=WEB,
        folder="web-1",
        segments=tuple(path.name for path in paths),
        totals=replace(_totals(paths[1]), dropped=7),
        comparisons=comparisons,
    )
    write_manifest(folder, Manifest("clip", "why", START_NS, window, parts=(part,)))
    return folder


def _totals(path: Path):  # type: ignore[no-untyped-def]
    from podcam.ring import read_totals  # noqa: PLC0415

    return read_totals(path)


def test_a_clip_is_trimmed_to_its_windows(tmp_path: Path) -> None:
    window = Window(START_NS + 900 * MS, START_NS + 2000 * MS)
    clip = make_clip(tmp_path / "clip", window)
    capture = assert_frames_as_exported(clip, tmp_path)
    assert capture.summary.packets == 4
    assert capture.summary.dropped == 7
    assert capture.endpoints(0)[0].port == 40001
    assert read(clip / "manifest.json").summary.packets == 4


def test_a_clip_holds_the_connections_to_compare_with(tmp_path: Path) -> None:
    window = Window(START_NS + 900 * MS, START_NS + 2000 * MS)
    clip = make_clip(tmp_path / "clip", window, (Window(START_NS, START_NS + MS),))
    assert assert_frames_as_exported(clip, tmp_path).summary.packets == 6


def test_a_torn_segment_gives_the_rest(tmp_path: Path) -> None:
    first, second = sent(talk_of(40000).packets), sent(talk_of(40001, START_NS + 50 * MS).packets)
    path = write_segment(tmp_path, WEB, [first, second])
    content = bytearray(path.read_bytes())
    at = content.index(b"PCB1") - 48
    content[at : at + 200] = bytes(200)
    path.write_bytes(content)
    capture = read(path)
    assert capture.summary.packets == 4
    assert capture.endpoints(0)[0].port == 40001
    assert any("torn or garbled" in warning for warning in capture.summary.warnings)


def test_a_garbled_block_gives_the_packets_before(tmp_path: Path) -> None:
    path = write_segment(tmp_path, WEB, [sent(talk_of(40000).packets)])
    content = bytearray(path.read_bytes())
    second = content.index(b"PCB1") + 24
    second += int.from_bytes(content[second : second + 4], "little")
    content[second + 12 : second + 16] = b"\xff\xff\xff\x7f"  # its captured length
    path.write_bytes(content)
    capture = read(path)
    assert capture.summary.packets == 1
    assert capture.summary.warnings == ("web-1: 3 packets of a garbled block were skipped",)


def test_a_missing_segment_costs_only_its_packets(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip", Window(START_NS, START_NS + 2000 * MS))
    missing = next((clip / "web-1").glob("00000001-*"))
    missing.unlink()
    capture = read(clip)
    assert capture.summary.packets == 4
    assert capture.summary.warnings == (f"{missing.name} is missing",)


def test_a_manifest_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(CaptureFileError, match="is not a manifest"):
        read(tmp_path)


def test_syn_of_talks_is_one(tmp_path: Path) -> None:
    """Guards the tests above: the conversations that they write are whole."""
    capture = read(write_segment(tmp_path, WEB, [sent(talk_of(40000).packets)]))
    assert capture.connections.client["flags"].tolist() == [SYN | ACK | PSH]
