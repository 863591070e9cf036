"""Segments and rings under arbitrary packets, cuts and appends."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_blocks import ETHERNET, NONE, STATUS_VLAN, Sent, block
from podcam.errors import SegmentError
from podcam.model.point import Point, Window
from podcam.ring import RecordedPacket, Ring, SegmentReader, SegmentWriter, Source, freeze, segments_in

SOURCE = Source(Point("p", "n"), "boot", block_bytes=2048)

packets = st.builds(
    Sent,
    time_ns=st.integers(0, 2**32 * 10**9 - 1),
    data=st.binary(min_size=14, max_size=200),
    link_bytes=st.sampled_from([0, 14]),
    interface=st.integers(1, 2**31 - 1),
    hardware_type=st.sampled_from([ETHERNET, NONE]),
    packet_type=st.integers(0, 4),
    status=st.sampled_from([1, 9, 129]),
    length=st.integers(200, 2**31),
)
damages = st.lists(
    st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=60)), min_size=1, max_size=5
)
batches = st.lists(st.lists(packets, min_size=1, max_size=8), max_size=8)


def write(folder: Path, batch: list[list[Sent]]) -> SegmentWriter:
    writer = SegmentWriter(folder, SOURCE, 1, 5)
    assert writer.append([block(each) for each in batch], written_ns=7) == len(batch)
    return writer


@given(batches, st.booleans())
def test_write_then_read_is_identity(batch: list[list[Sent]], closed: bool) -> None:
    with TemporaryDirectory() as folder:
        writer = write(Path(folder), batch)
        if closed:
            writer.close(9)
        reader = SegmentReader(writer.path)
        read = [
            Sent(
                p.time_ns,
                bytes(p.data),
                p.link_bytes,
                p.interface,
                p.hardware_type,
                p.packet_type,
                p.status,
                p.length,
            )
            for p in reader.packets()
        ]
        assert read == [packet for each in batch for packet in each]
        assert reader.totals() == writer.totals
        assert writer.totals.packets == len(read)
        assert reader.problems == []


def _as_sent(packet: RecordedPacket) -> Sent:
    time_ns, interface, hardware_type, packet_type, status, length, link_bytes, data = packet
    return Sent(time_ns, bytes(data), link_bytes, interface, hardware_type, packet_type, status, length)


@given(st.binary(min_size=14, max_size=60), st.integers(0, 0xFFFF), st.sampled_from([0x8100, 0x88A8]))
def test_vlan_tag_is_where_it_was(frame: bytes, tci: int, tpid: int) -> None:
    with TemporaryDirectory() as folder:
        sent = Sent(1, frame, status=1 | STATUS_VLAN, vlan_tci=tci, vlan_tpid=tpid)
        (packet,) = SegmentReader(write(Path(folder), [[sent]]).path).packets()
        data = bytes(packet.data)
        assert data[:12] + data[16:] == frame
        assert data[12:16] == tpid.to_bytes(2, "big") + tci.to_bytes(2, "big")


@given(batches, st.integers(0, 10_000))
def test_cut_segment_gives_every_whole_block(batch: list[list[Sent]], cut: int) -> None:
    with TemporaryDirectory() as folder:
        path = write(Path(folder), batch).path
        content = path.read_bytes()
        sizes = [len(block(each)) for each in batch]
        end = max(len(content) - sum(sizes), len(content) - cut)
        path.write_bytes(content[:end])
        whole, at = 0, len(content) - sum(sizes)
        for size, each in zip(sizes, batch, strict=True):
            at += size
            whole += len(each) if at <= end else 0
        reader = SegmentReader(path)
        assert len(list(reader.packets())) == whole
        assert len(reader.problems) == (end not in _ends(sizes, len(content)))


def _ends(sizes: list[int], total: int) -> set[int]:
    ends = {total}
    for size in reversed(sizes):
        total -= size
        ends.add(total)
    return ends


@given(batches, damages)
def test_garbled_segment_raises_nothing_but_its_error(
    batch: list[list[Sent]], damage_done: list[tuple[int, bytes]]
) -> None:
    with TemporaryDirectory() as folder:
        path = write(Path(folder), batch).path
        content = bytearray(path.read_bytes())
        for at, garbage in damage_done:
            content[at % len(content) : at % len(content) + len(garbage)] = garbage
        path.write_bytes(content)
        try:
            reader = SegmentReader(path)
        except SegmentError:
            return
        packets_read = list(reader.packets())
        assert len(packets_read) <= sum(map(len, batch))
        assert reader.totals().bytes == len(content)


@settings(max_examples=60)
@given(
    limit=st.integers(20_000, 120_000),
    segment=st.integers(10_000, 60_000),
    appends=st.lists(st.lists(st.integers(100, 2000), max_size=20), min_size=1, max_size=12),
    restart_at=st.integers(0, 12),
    roll_at=st.integers(0, 12),
    clip_at=st.integers(0, 12),
)
def test_ring_never_exceeds_its_limit(
    limit: int, segment: int, appends: list[list[int]], restart_at: int, roll_at: int, clip_at: int
) -> None:
    with TemporaryDirectory() as root:
        folder, clip = Path(root) / "ring", Path(root) / "clip"

        def start() -> Ring:
            return Ring(folder, SOURCE, limit_bytes=limit, segment_bytes=segment, now_ns=1)

        ring, number = start(), 0
        for step, sizes in enumerate(appends):
            blocks = []
            for size in sizes:
                blocks.append(block([Sent(number * 10**9, number.to_bytes(4, "big") + bytes(size))]))
                number += 1
            ring.append(blocks, now_ns=1)
            if step == clip_at:
                ring.freeze(clip, [Window(0, 2**63)], 1)
            if step == roll_at:
                ring.roll(1)
            if step == restart_at:
                if step % 2:
                    ring.close(1)
                ring = start()
            assert sum(path.stat().st_size for path in folder.iterdir()) == ring.bytes <= limit
        kept = [
            int.from_bytes(packet.data[:4], "big")
            for path in segments_in(folder)
            for packet in SegmentReader(path).packets()
        ]
        assert kept == list(range(number - len(kept), number))
        room = min(segment, limit // 2) - 2048 - 512
        assert len(kept) == number or sum(path.stat().st_size for path in folder.iterdir()) > room
        assert freeze(folder, Path(root) / "all", [Window(0, 2**63)]).totals.packets == len(kept)
