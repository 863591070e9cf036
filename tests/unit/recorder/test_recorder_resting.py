"""Clips that a recorder left open, and what rings hold while nobody records."""

import shutil
from pathlib import Path

import pytest

from kernel_blocks import Sent, block
from podcam.clip import Clip, ClipPart, ClipStore, Manifest, write_manifest
from podcam.model.point import Gap, Interface, Point, Window
from podcam.recorder.folder import RecorderFolder
from podcam.recorder.resting import clip_at_rest, complete_left_open
from podcam.recorder.rings import Owner, write_owner
from podcam.ring import Ring, Source, Totals, freeze, segments_in

SECOND = 10**9
NOON = 1_700_000_000 * SECOND
WINDOW = Window(NOON - 60 * SECOND, NOON + 10 * SECOND)
GAP = Gap(NOON - 2 * SECOND, NOON - SECOND, "the recorder was not running")


@pytest.fixture
def folder(tmp_path: Path) -> RecorderFolder:
    made = RecorderFolder(tmp_path)
    made.create()
    return made


def a_ring(folder: RecorderFolder, point_id: str, recording: str) -> Path:
    path = folder.ring(point_id)
    write_owner(path, Owner(point_id, f"ns/{point_id}", recording, "node", (GAP,)))
    source = Source(Point(f"ns/{point_id}", "node"), "boot", 4096, (Interface(1, "lo", 772),), {})
    ring = Ring(path, source, limit_bytes=100_000, segment_bytes=20_000, now_ns=NOON)
    ring.append([block([Sent(NOON, data=bytes(100))])], now_ns=NOON)
    ring.close(NOON)
    return path


def left_open(folder: RecorderFolder, *parts: ClipPart, points: tuple[str, ...] | None = None) -> Clip:
    manifest = Manifest("ns_clip", "why", NOON, WINDOW, parts=parts, recording="web", points=points)
    return ClipStore(folder.clips).create(manifest, "")


def completed(folder: RecorderFolder) -> Manifest:
    warnings: list[str] = []
    complete_left_open(folder, warnings.append)
    assert len(warnings) == 1
    (clip,) = ClipStore(folder.clips).clips()
    assert (clip.manifest.state, clip.manifest.interrupted) == ("complete", True)
    return clip.manifest


def test_it_is_completed_with_the_rings_of_its_recording(folder: RecorderFolder) -> None:
    for point_id, recording in (("a", "web"), ("b", "web"), ("c", "db")):
        a_ring(folder, point_id, recording)
    left_open(folder)
    parts = completed(folder).parts
    assert [part.point.name for part in parts] == ["ns/a", "ns/b"]
    assert [part.gaps for part in parts] == [(GAP,), (GAP,)]


def test_it_is_completed_with_the_points_that_were_asked_for(folder: RecorderFolder) -> None:
    for point_id in "ab":
        a_ring(folder, point_id, "web")
    left_open(folder, points=("b",))
    assert [part.point.name for part in completed(folder).parts] == ["ns/b"]


def test_a_part_whose_ring_is_gone_stays(folder: RecorderFolder) -> None:
    ring = a_ring(folder, "a", "web")
    clip = left_open(folder)
    frozen = freeze(ring, clip.path / "a", [WINDOW])
    part = ClipPart(Point("ns/a", "node"), "a", tuple(frozen.segments), Totals(packets=1), gaps=(GAP,))
    other = freeze(a_ring(folder, "b", "web"), clip.path / "b", [WINDOW])  # of which no manifest tells yet
    write_manifest(clip.path, Manifest("ns_clip", "why", NOON, WINDOW, parts=(part,), recording="web"))
    shutil.rmtree(folder.points)
    parts = completed(folder).parts
    assert [(part.point.name, part.totals.packets) for part in parts] == [("ns/a", 1), ("ns/b", 1)]
    assert parts[0].gaps == (GAP,)
    assert tuple(other.segments) == parts[1].segments
    assert all(segments_in(clip.path / part.folder) for part in parts)


def test_one_that_had_no_manifest_yet_can_be_asked_for_again(folder: RecorderFolder) -> None:
    for name in ("ns_clip", "ns_other"):
        (folder.clips / name).mkdir()
    (folder.clips / "ns_clip" / ".manifest.json").write_text("{")
    (folder.clips / "somebody's").mkdir()
    (folder.clips / "somebody's" / "notes").touch()
    complete_left_open(folder, pytest.fail)
    assert [path.name for path in folder.clips.iterdir()] == ["somebody's"]
    assert left_open(folder).path.name == "ns_clip"


def test_a_clip_at_rest_counts_back_from_the_last_packet(folder: RecorderFolder) -> None:
    a_ring(folder, "a", "web")
    clip = clip_at_rest(folder, 5 * SECOND, "by hand")
    assert clip.manifest.window == Window(NOON - 5 * SECOND, NOON)
    assert [part.gaps for part in clip.manifest.parts] == [(GAP,)]
