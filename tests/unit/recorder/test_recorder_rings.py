import json
import os
from pathlib import Path

import pytest

from podcam.model.point import Gap, Interface, Point
from podcam.recorder.folder import RecorderFolder
from podcam.recorder.rings import Owner, resting_ring, resting_rings, with_gap, write_owner
from podcam.recorder.settings import RecordingSettings, TriggerSettings
from podcam.ring import Ring, Source

SECOND = 1_000_000_000
OWNER = Owner("shop/checkout/web-7d", "shop/web-7d", "shop/checkout", "node-1", (Gap(1, 2, "why"),))


def a_ring(path: Path) -> Ring:
    source = Source(Point("shop/web-7d", "node-1"), "boot", 128 * 1024, (Interface(1, "lo", 772),), {})
    return Ring(path, source, limit_bytes=1_000_000, segment_bytes=500_000, now_ns=SECOND)


def test_a_ring_tells_whose_it_is(tmp_path: Path) -> None:
    folder = RecorderFolder(tmp_path)
    path = folder.ring(OWNER.id)
    write_owner(path, OWNER)
    ring = a_ring(path)
    (found,) = resting_rings(folder).values()
    assert (found.owner, found.path, found.closed) == (OWNER, path, False)
    ring.close(2 * SECOND)
    os.utime(next(path.glob("*.seg")), ns=(0, 7 * SECOND))
    (found,) = resting_rings(folder).values()
    assert (found.closed, found.last_ns, found.bytes) == (True, 7 * SECOND, ring.bytes)


def test_a_ring_of_an_older_recorder_is_known_by_its_folder(tmp_path: Path) -> None:
    folder = RecorderFolder(tmp_path)
    a_ring(folder.ring("pod/x")).close(SECOND)
    assert resting_rings(folder)["pod/x"].owner == Owner("pod/x", "pod/x", "", "")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": 1}', json.dumps({"id": "a", "gaps": [1]})])
def test_what_a_power_cut_left_of_the_owner_is_passed_over(tmp_path: Path, text: str) -> None:
    folder = RecorderFolder(tmp_path)
    path = folder.ring("local")
    a_ring(path).close(SECOND)
    (path / "point.json").write_text(text)
    assert resting_rings(folder)["local"].owner.name == "local"


def test_a_folder_without_segments_is_no_ring(tmp_path: Path) -> None:
    write_owner(tmp_path / "a", OWNER)
    assert resting_ring(tmp_path / "a") is None
    assert resting_ring(tmp_path / "b") is None


def test_a_removed_ring_is_gone_and_what_is_half_removed_with_it(tmp_path: Path) -> None:
    folder = RecorderFolder(tmp_path)
    for point in ("a", "b"):
        a_ring(folder.ring(point)).close(SECOND)
    folder.ring("b").rename(tmp_path / "points/.b.removed")
    folder.remove_ring("a")
    folder.remove_ring("never there")
    assert resting_rings(folder) == {}
    assert list((tmp_path / "points").iterdir()) == []


def test_what_stays_half_removed_keeps_no_other_ring_from_going(tmp_path: Path) -> None:
    folder = RecorderFolder(tmp_path)
    a_ring(folder.ring("a")).close(SECOND)
    stays = tmp_path / "points/.b.removed"
    stays.write_text("no folder")
    folder.remove_ring("a")
    assert list((tmp_path / "points").iterdir()) == [stays]


def test_long_ids_have_folders_of_their_own(tmp_path: Path) -> None:
    folder = RecorderFolder(tmp_path)
    ids = ["n" * 63 + "/" + "r" * 253 + "/" + "p" * 252 + last for last in "ab"]
    paths = [folder.ring(point_id) for point_id in ids]
    assert paths[0] != paths[1]
    for path, point_id in zip(paths, ids, strict=True):
        write_owner(path, Owner(point_id, "p", "r", "n"))
        a_ring(path).close(SECOND)
        path.with_name(f".{path.name}.removed").mkdir()
    assert set(resting_rings(folder)) == set(ids)


def test_the_latest_gaps_are_remembered() -> None:
    gaps: tuple[Gap, ...] = ()
    for number in range(150):
        gaps = with_gap(gaps, Gap(number, number + 1, "why"))
    assert (len(gaps), gaps[-1].since_ns) == (100, 149)


def test_the_last_sign_of_life_outlives_the_recorder(tmp_path: Path) -> None:
    folder = RecorderFolder(tmp_path)
    lock = folder.lock()
    assert folder.last_alive_ns is None
    folder.note_alive(lock)
    noted_ns = os.fstat(lock).st_mtime_ns
    os.close(lock)
    again = RecorderFolder(tmp_path)
    os.close(again.lock())
    assert again.last_alive_ns == noted_ns


def test_what_changes_how_packets_are_recorded() -> None:
    settings = RecordingSettings()
    assert settings.records_like(RecordingSettings(clips_per_hour=3))
    longer = TriggerSettings(frozenset(), before_ns=1, after_ns=1)
    assert settings.records_like(RecordingSettings(trigger=longer))
    exempting = TriggerSettings(frozenset(), exempt_habits=False)
    assert not settings.records_like(RecordingSettings(trigger=exempting))
