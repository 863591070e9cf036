"""The ring: bounded whatever happens, never truncating, going on after what is there."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kernel_blocks import Sent, block
from podcam.errors import SegmentError, StorageFullError, UsageError
from podcam.model.point import Interface, Point, Window
from podcam.ring import (
    NotKept,
    PacketsLost,
    Ring,
    RingGrew,
    RingShrunk,
    SegmentReader,
    Source,
    TornSegment,
    freeze,
    segments_in,
    sync,
)
from podcam.ring.segment import Metadata

SECOND = 10**9
NOW = 1_700_000_000 * SECOND
SOURCE = Source(Point("p", "n"), "boot", block_bytes=4096, interfaces=(Interface(1, "lo", 772),))


def ring_in(folder: Path, limit: int = 100_000, segment: int = 20_000, now_ns: int = NOW) -> Ring:
    return Ring(folder, SOURCE, limit_bytes=limit, segment_bytes=segment, now_ns=now_ns)


def numbered(*numbers: int, size: int = 1000) -> bytearray:
    """A block whose packets are stamped with their number, in seconds."""
    return block([Sent(NOW + n * SECOND, data=n.to_bytes(4, "big") + bytes(size)) for n in numbers])


def read(folder: Path) -> list[int]:
    """The numbers of all packets in a folder's segments."""
    return [
        int.from_bytes(packet.data[:4], "big")
        for path in segments_in(folder)
        for packet in SegmentReader(path).packets()
    ]


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_keeps_the_newest_within_its_limit(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    for n in range(500):
        ring.append([numbered(n)], now_ns=NOW + n * SECOND)
        assert on_disk(tmp_path) == ring.bytes <= 100_000
    kept = read(tmp_path)
    assert kept == list(range(kept[0], 500))
    assert ring.oldest_ns == NOW + kept[0] * SECOND
    assert len(kept) > 60, "a segment more than needed was evicted"
    assert ring.packets == 500


def test_evicted_segments_are_freed_by_whom_it_is_given_to(tmp_path: Path) -> None:
    given: list[int] = []
    ring = Ring(tmp_path, SOURCE, limit_bytes=60_000, segment_bytes=20_000, now_ns=NOW, close=given.append)
    ring.append([numbered(n) for n in range(100)], now_ns=NOW)
    assert given
    assert on_disk(tmp_path) <= 60_000
    for descriptor in given:
        assert os.fstat(descriptor).st_nlink == 0
        os.close(descriptor)


def test_many_blocks_in_one_append_span_segments(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    ring.append([numbered(n) for n in range(60)], now_ns=NOW)
    assert read(tmp_path) == list(range(60))
    assert all(path.stat().st_size <= 20_000 for path in tmp_path.iterdir())


def test_goes_on_after_what_is_there(tmp_path: Path) -> None:
    first = ring_in(tmp_path)
    first.append([numbered(1)], now_ns=NOW)
    first.close(NOW)
    second = ring_in(tmp_path)
    second.append([numbered(2)], now_ns=NOW)
    assert read(tmp_path) == [1, 2]
    assert second.oldest_ns == NOW + SECOND
    assert second.take_notices() == []


def test_smaller_limit_after_a_restart(tmp_path: Path) -> None:
    ring_in(tmp_path).append([numbered(n) for n in range(80)], now_ns=NOW)
    ring = ring_in(tmp_path, limit=40_000)
    assert on_disk(tmp_path) == ring.bytes <= 40_000
    assert read(tmp_path)[-1] == 79


def test_torn_segment_is_left_and_told(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    ring.append([numbered(1), numbered(2)], now_ns=NOW)
    (path,) = segments_in(tmp_path)
    torn = path.read_bytes()[:-100]
    path.write_bytes(torn)
    again = ring_in(tmp_path)
    again.append([numbered(3)], now_ns=NOW)
    assert read(tmp_path) == [1, 3]
    assert path.read_bytes() == torn
    (notice,) = again.take_notices()
    assert isinstance(notice, TornSegment)
    assert notice.path == path


def test_empty_segment_of_a_power_cut(tmp_path: Path) -> None:
    (tmp_path / f"00000004-{NOW}.seg").touch()
    ring = ring_in(tmp_path)
    ring.append([numbered(1)], now_ns=NOW)
    assert [path.name[:8] for path in segments_in(tmp_path)] == ["00000004", "00000005"]
    assert [type(n) for n in ring.take_notices()] == [TornSegment]


def test_drops_reach_the_next_block_written(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    ring.append([], now_ns=NOW, dropped=3)
    ring.append([numbered(1)], now_ns=NOW, dropped=4)
    ring.close(NOW)
    assert SegmentReader(segments_in(tmp_path)[0]).totals().dropped == 7 == ring.dropped


def test_changes_of_the_source_are_recorded(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    eth0 = Interface(2, "eth0", 1)
    ring.change_source(Source(SOURCE.point, "boot", 4096, (*SOURCE.interfaces, eth0), {"text": "new"}), NOW)
    ring.note("gap", {"reason": "rings replaced"}, NOW)
    reader = SegmentReader(segments_in(tmp_path)[0])
    assert [r.kind for r in reader.records() if isinstance(r, Metadata)] == [
        "segment", "interfaces", "filter", "gap",
    ]  # fmt: skip
    assert reader.interfaces[2] == eth0
    ring.append([numbered(1)], now_ns=NOW)
    ring.roll(NOW)
    header = SegmentReader(segments_in(tmp_path)[1]).header
    assert header is not None
    assert header.source.filter == {"text": "new"}


def test_metadata_alone_cannot_grow_the_ring(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    for _ in range(2000):
        ring.note("gap", {"reason": "x" * 200}, NOW)
        assert on_disk(tmp_path) <= 100_000


def test_roll_without_packets_makes_no_segment(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    ring.roll(NOW)
    assert len(segments_in(tmp_path)) == 1


def test_block_larger_than_a_segment(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    ring.append([numbered(1, size=50_000), numbered(2)], now_ns=NOW)
    assert read(tmp_path) == [1, 2]
    assert on_disk(tmp_path) <= 100_000


def test_block_larger_than_the_ring_is_counted_as_lost(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    ring.append([numbered(1), numbered(2, size=120_000), numbered(3)], now_ns=NOW)
    assert read(tmp_path) == [1, 3]
    assert ring.take_notices() == [PacketsLost(1)]
    assert ring.dropped == 1


@pytest.mark.parametrize(("limit", "segment"), [(9_000, 20_000), (100_000, 4_000)])
def test_ring_smaller_than_a_block(tmp_path: Path, limit: int, segment: int) -> None:
    with pytest.raises(UsageError, match="too small for kernel blocks of 4,096"):
        ring_in(tmp_path, limit, segment)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SegmentError, match=r"cannot record in .*: Not a directory"):
        ring_in(tmp_path / "file" / "ring")


def test_folder_and_files_are_private(tmp_path: Path) -> None:
    ring_in(tmp_path / "points" / "p")
    assert (tmp_path / "points" / "p").stat().st_mode & 0o777 == 0o700


def test_sync_takes_what_was_written_since(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    sync(ring.take_unsynced())
    assert ring.take_unsynced() == []
    ring.append([numbered(n) for n in range(40)], now_ns=NOW)
    unsynced = ring.take_unsynced()
    assert unsynced == [*segments_in(tmp_path), tmp_path]
    unsynced[0].unlink()
    sync(unsynced)


class TestFreezing:
    def test_links_what_overlaps(self, tmp_path: Path) -> None:
        ring = ring_in(tmp_path / "ring")
        for n in range(60):
            ring.append([numbered(n)], now_ns=NOW + n * SECOND)
        into = tmp_path / "clip" / "p"
        part = ring.freeze(into, [Window(NOW + 20 * SECOND, NOW + 25 * SECOND)], NOW + 60 * SECOND)
        kept = read(into)
        assert set(range(20, 26)) <= set(kept)
        assert len(kept) < 50
        assert part.how == "link"
        assert all((into / name).samefile(tmp_path / "ring" / name) for name in part.segments)
        assert part.totals.packets == len(kept)
        assert part.totals.bytes == on_disk(into)

    def test_takes_the_oldest_before_rolling_evicts_it(self, tmp_path: Path) -> None:
        ring = ring_in(tmp_path / "ring", limit=40_000)
        while ring.bytes < 39_200:
            ring.append([numbered(ring.packets, size=100)], now_ns=NOW)
        ring.freeze(tmp_path / "clip", [Window(NOW, NOW + 999 * SECOND)], NOW)
        assert read(tmp_path / "clip") == list(range(ring.packets))
        assert 0 not in read(tmp_path / "ring")

    def test_several_windows(self, tmp_path: Path) -> None:
        ring = ring_in(tmp_path / "ring")
        ring.append([numbered(n) for n in range(60)], now_ns=NOW)
        windows = [Window(NOW + n * SECOND, NOW + n * SECOND) for n in (0, 59)]
        ring.freeze(tmp_path / "clip", windows, NOW)
        kept = read(tmp_path / "clip")
        assert {0, 59} <= set(kept)
        assert 30 not in kept

    def test_goes_on_while_the_window_is_open(self, tmp_path: Path) -> None:
        """Segments are linked as they close, before eviction takes them."""
        ring = ring_in(tmp_path / "ring")
        into = tmp_path / "clip"
        ring.freeze(into, [Window(NOW, NOW + 150 * SECOND)], NOW)
        ring.append([numbered(n) for n in range(300)], now_ns=NOW)
        part = ring.release(into, NOW)
        ring.append([numbered(n) for n in range(150)], now_ns=NOW)
        kept = read(into)
        assert kept[:151] == list(range(151))
        assert kept[-1] < 300
        assert list(part.segments) == [path.name for path in segments_in(into)]

    def test_repeating_and_widening(self, tmp_path: Path) -> None:
        ring = ring_in(tmp_path / "ring")
        into = tmp_path / "clip"
        ring.append([numbered(n) for n in range(60)], now_ns=NOW)
        last = Window(NOW + 59 * SECOND, NOW + 59 * SECOND)
        narrow = ring.freeze(into, [last], NOW)
        assert ring.freeze(into, [last], NOW) == narrow
        wide = ring.freeze(into, [Window(NOW, NOW + 59 * SECOND)], NOW)
        assert set(narrow.segments) < set(wide.segments)
        assert list(wide.segments) == [path.name for path in segments_in(into)]
        assert read(into) == list(range(60))

    def test_another_recorder_goes_on_with_a_clip(self, tmp_path: Path) -> None:
        into = tmp_path / "clip"
        ring = ring_in(tmp_path / "ring")
        ring.append([numbered(n) for n in range(60)], now_ns=NOW)
        windows = [Window(NOW, NOW + 999 * SECOND)]
        ring.freeze(into, windows, NOW)
        again = ring_in(tmp_path / "ring")
        again.append([numbered(n) for n in range(60, 300)], now_ns=NOW)
        part = again.freeze(into, windows, NOW)
        assert set(range(60)) <= set(read(into))
        assert list(part.segments) == [path.name for path in segments_in(into)]
        assert part.totals.packets == len(read(into))

    def test_without_a_recorder(self, tmp_path: Path) -> None:
        ring = ring_in(tmp_path / "ring")
        ring.append([numbered(n) for n in range(60)], now_ns=NOW)
        window = Window(NOW + 57 * SECOND, NOW + 58 * SECOND)
        part = freeze(tmp_path / "ring", tmp_path / "clip", [window])
        assert {57, 58} <= set(read(tmp_path / "clip"))
        assert freeze(tmp_path / "ring", tmp_path / "clip", [window]) == part

    def test_nothing_in_the_window(self, tmp_path: Path) -> None:
        ring = ring_in(tmp_path / "ring")
        ring.append([numbered(5)], now_ns=NOW)
        part = ring.freeze(tmp_path / "clip", [Window(NOW, NOW + SECOND)], NOW)
        assert (dict(part.segments), part.totals.first_ns) == ({}, None)
        assert dict(freeze(tmp_path / "nothing", tmp_path / "clip", [Window(0, NOW)]).segments) == {}

    def test_recording_survives_a_clip_that_cannot_be_written(self, tmp_path: Path) -> None:
        ring = ring_in(tmp_path / "ring")
        into = tmp_path / "clip"
        ring.freeze(into, [Window(NOW, NOW + 99 * SECOND)], NOW)
        into.write_text("in the way")
        ring.append([numbered(n) for n in range(20)], now_ns=NOW)
        assert read(tmp_path / "ring") == list(range(20))
        assert [type(notice) for notice in ring.take_notices()] == [NotKept]
        with pytest.raises(SegmentError, match=r"cannot read .*: Not a directory"):
            ring.freeze(into, [Window(NOW, NOW + 99 * SECOND)], NOW)
        into.unlink()
        assert ring.freeze(into, [Window(NOW, NOW + 99 * SECOND)], NOW).totals.packets == 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root: run the tests as root")
    folder = tmp_path / "disk"
    folder.mkdir()
    command: list[str | Path] = ["mount", "-t", "tmpfs", "-o", "size=1m", "podcam", folder]
    mounted = subprocess.run(command, check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.decode().strip()}: grant CAP_SYS_ADMIN")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path) -> None:
    room = os.statvfs(disk)
    with (disk / "other").open("wb") as other:
        os.posix_fallocate(other.fileno(), 0, room.f_bavail * room.f_frsize)


class TestFullDisk:
    def test_goes_on_in_a_smaller_ring_and_grows_back(self, small_disk: Path) -> None:
        other = small_disk / "other"
        other.write_bytes(bytes(700_000))
        folder = small_disk / "ring"
        ring = ring_in(folder, limit=800_000, segment=50_000)
        for n in range(1000):
            ring.append([numbered(n)], now_ns=NOW)
        kept = read(folder)
        assert kept == list(range(kept[0], 1000)), "recording went on without a hole"
        notices = ring.take_notices()
        assert {type(n) for n in notices} == {RingShrunk}
        assert len(notices) < 5
        assert ring.limit_bytes < 400_000
        assert ring.dropped == 0

        other.unlink()
        for n in range(1000, 3000):
            ring.append([numbered(n)], now_ns=NOW)
        assert ring.bytes > 600_000
        grown = ring.take_notices()
        assert grown[-1] == RingGrew(ring.limit_bytes)
        assert len(grown) < 20
        assert read(folder)[-1] == 2999

    def test_torn_write_is_taken_back(self, small_disk: Path) -> None:
        """One write of many blocks that ends in the middle of one."""
        ring = ring_in(small_disk / "ring", limit=4_000_000, segment=2_000_000)
        ring.append([numbered(n) for n in range(1500)], now_ns=NOW)
        kept = read(small_disk / "ring")
        assert kept[-1] == 1499
        assert kept == list(range(kept[0], 1500))
        problems = [p for path in segments_in(small_disk / "ring") for p in SegmentReader(path).problems]
        assert problems == []

    def test_segments_of_a_clip_free_nothing(self, small_disk: Path) -> None:
        """All of the ring is held by a clip, too: packets are lost, counted, and recording comes back."""
        ring = ring_in(small_disk / "ring", limit=4_000_000, segment=50_000)
        into = small_disk / "clip"
        ring.freeze(into, [Window(NOW, NOW + 10_000 * SECOND)], NOW)
        ring.append([numbered(n) for n in range(1500)], now_ns=NOW)
        ring.append([numbered(1500)], now_ns=NOW)
        (lost,) = (n.packets for n in ring.take_notices() if isinstance(n, PacketsLost))
        assert lost == ring.dropped > 0
        in_clip = read(into)
        assert in_clip[: len(in_clip)] == list(range(len(in_clip)))

        ring.release(into, NOW)
        for path in segments_in(into)[:10]:
            path.unlink()
        ring.append([numbered(2000)], now_ns=NOW)
        ring.close(NOW)
        assert read(small_disk / "ring")[-1] == 2000
        assert sum(SegmentReader(p).totals().dropped for p in segments_in(small_disk / "ring")) == lost

    def test_no_room_to_begin_with(self, small_disk: Path) -> None:
        fill(small_disk)
        with pytest.raises(StorageFullError, match="full file system"):
            ring_in(small_disk)

    def test_restart_on_a_full_disk(self, small_disk: Path) -> None:
        folder = small_disk / "ring"
        ring = ring_in(folder, limit=900_000, segment=50_000)
        ring.append([numbered(n) for n in range(700)], now_ns=NOW)
        fill(small_disk)
        again = ring_in(folder, limit=900_000, segment=50_000)
        again.append([numbered(n) for n in range(700, 800)], now_ns=NOW)
        kept = read(folder)
        assert kept == list(range(kept[0], 800))
        assert {type(n) for n in again.take_notices()} == {RingShrunk}

    def test_copy_across_file_systems(self, small_disk: Path, tmp_path: Path) -> None:
        ring = ring_in(tmp_path / "ring")
        ring.append([numbered(1)], now_ns=NOW)
        part = ring.freeze(small_disk / "clip", [Window(NOW, NOW + 9 * SECOND)], NOW)
        assert part.how == "copy"
        assert read(small_disk / "clip") == [1]
        assert ring.freeze(small_disk / "clip", [Window(NOW, NOW + 9 * SECOND)], NOW).how == "copy"
        assert freeze(tmp_path / "ring", small_disk / "clip", [Window(NOW, NOW + 9 * SECOND)]).how == "copy"


# --- a limit that changes ---


def test_a_smaller_limit_evicts_at_once_and_a_larger_one_is_used(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    ring.append([numbered(n) for n in range(80)], now_ns=NOW)
    ring.limit(50_000, NOW)
    assert on_disk(tmp_path) == ring.bytes <= 50_000
    for n in range(80, 200):
        ring.append([numbered(n)], now_ns=NOW)
        assert ring.bytes <= 50_000
    assert read(tmp_path)[-1] == 199
    ring.limit(100_000, NOW)
    ring.append([numbered(n) for n in range(200, 300)], now_ns=NOW)
    assert 70_000 < on_disk(tmp_path) <= 100_000


def test_a_limit_below_the_open_segment_gives_that_up_too(tmp_path: Path) -> None:
    ring = ring_in(tmp_path, limit=400_000, segment=200_000)
    ring.append([numbered(n) for n in range(100)], now_ns=NOW)
    assert len(segments_in(tmp_path)) == 1
    ring.limit(50_000, NOW)
    assert on_disk(tmp_path) == ring.bytes <= 50_000
    ring.append([numbered(100)], now_ns=NOW)
    assert read(tmp_path) == [100]


def test_no_limit_is_too_small_for_what_is_recorded_next(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    ring.limit(1, NOW)
    ring.append([numbered(1)], now_ns=NOW)
    assert read(tmp_path) == [1]
    assert ring.limit_bytes < 20_000


def test_an_open_clip_keeps_what_a_smaller_limit_evicts(tmp_path: Path) -> None:
    ring, clip = ring_in(tmp_path / "ring"), tmp_path / "clip"
    ring.append([numbered(n) for n in range(60)], now_ns=NOW)
    ring.freeze(clip, [Window(NOW, NOW + 1000 * SECOND)], NOW)
    ring.append([numbered(n) for n in range(60, 80)], now_ns=NOW)
    ring.limit(1, NOW)
    ring.release(clip, NOW)
    assert read(clip) == list(range(80))


def test_a_clip_that_is_not_wanted_any_more_gets_nothing_more(tmp_path: Path) -> None:
    ring, clip = ring_in(tmp_path / "ring"), tmp_path / "clip"
    ring.append([numbered(1)], now_ns=NOW)
    ring.freeze(clip, [Window(NOW, NOW + 1000 * SECOND)], NOW)
    ring.forget(clip)
    ring.append([numbered(2)], now_ns=NOW)
    ring.close(NOW)
    assert read(clip) == [1]


def test_larger_blocks_stand_in_the_next_header(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    ring.append([numbered(1)], now_ns=NOW)
    ring.change_source(replace(SOURCE, block_bytes=8192), NOW)
    ring.roll(NOW)
    headers = [SegmentReader(path).header for path in segments_in(tmp_path)]
    assert [header.source.block_bytes for header in headers if header] == [4096, 8192]


def test_a_segment_tells_whether_it_was_closed(tmp_path: Path) -> None:
    ring = ring_in(tmp_path)
    ring.append([numbered(1)], now_ns=NOW)
    (path,) = segments_in(tmp_path)
    assert not SegmentReader(path).is_closed
    ring.close(NOW)
    assert SegmentReader(path).is_closed
