"""What rings and clips take on the disk, measured no more often than it may change."""

import shutil
from pathlib import Path

import pytest

from podcam.agent.disk_use import ClipSizes, bytes_alone
from podcam.clip import COMPLETE, OPEN, Manifest, write_manifest
from podcam.model.point import Window

MB = 1 << 20
NOON = 1_795_000_000 * 10**9


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    return folder


def a_clip(clips: Path, name: str, state: str) -> Path:
    """The segment of a clip, of 1 MB."""
    segment = clips / name / "web-1" / "1.seg"
    segment.parent.mkdir(parents=True)
    segment.write_bytes(bytes([1]) * MB)
    say(clips / name, state)
    return segment


def say(clip: Path, state: str) -> None:
    window = Window(NOON, NOON + 1)
    write_manifest(clip, Manifest(clip.name, "why", NOON, window, state=state))


def grow(segment: Path) -> None:
    with segment.open("ab") as file:
        file.write(bytes([1]) * MB)


def whole_mb(sizes: ClipSizes) -> int:
    return sizes.total_bytes() // MB


def test_a_folder_that_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert ClipSizes(tmp_path / "clips").total_bytes() == 0
    assert bytes_alone(tmp_path / "ring") == 0


def test_a_complete_clip_is_measured_once_and_again_when_its_manifest_is_written(clips: Path) -> None:
    segment = a_clip(clips, "shop_a", COMPLETE)
    sizes = ClipSizes(clips)
    assert whole_mb(sizes) == 1
    grow(segment)  # nobody does: to see whether it is looked at
    assert whole_mb(sizes) == 1
    say(clips / "shop_a", OPEN)
    assert whole_mb(sizes) == 2
    grow(segment)
    assert whole_mb(sizes) == 3


@pytest.mark.parametrize("state", [OPEN, None])
def test_a_clip_that_grows_is_measured_each_time(clips: Path, state: str | None) -> None:
    segment = a_clip(clips, "shop_a", OPEN)
    if state is None:
        (clips / "shop_a" / "manifest.json").unlink()
    sizes = ClipSizes(clips)
    assert whole_mb(sizes) == 1
    grow(segment)
    assert whole_mb(sizes) == 2


def test_a_clip_that_goes_is_forgotten_and_another_of_its_name_measured(clips: Path) -> None:
    a_clip(clips, "shop_a", COMPLETE)
    sizes = ClipSizes(clips)
    assert whole_mb(sizes) == 1
    shutil.rmtree(clips / "shop_a")
    assert sizes.total_bytes() == 0
    grow(a_clip(clips, "shop_a", COMPLETE))
    assert whole_mb(sizes) == 2


def test_what_is_left_of_a_clip_that_is_being_removed_counts(clips: Path) -> None:
    segment = a_clip(clips, "shop_a", COMPLETE)
    sizes = ClipSizes(clips)
    half_removed = (clips / "shop_a").rename(clips / ".shop_a.removed")
    assert whole_mb(sizes) == 1
    (half_removed / "web-1" / segment.name).unlink()
    assert whole_mb(sizes) == 0


def test_a_file_that_clips_and_rings_share_counts_once_as_the_clips(clips: Path, tmp_path: Path) -> None:
    segment = a_clip(clips, "shop_a", COMPLETE)
    other = clips / "shop_b" / "web-1"
    other.mkdir(parents=True)
    (other / "1.seg").hardlink_to(segment)
    ring = tmp_path / "ring"
    ring.mkdir()
    (ring / "1.seg").hardlink_to(segment)
    sizes = ClipSizes(clips)
    for _ in range(2):
        assert (whole_mb(sizes), bytes_alone(ring)) == (1, 0)
    shutil.rmtree(clips / "shop_a")
    assert (whole_mb(sizes), bytes_alone(ring)) == (1, 0)
    shutil.rmtree(clips / "shop_b")
    assert (whole_mb(sizes), bytes_alone(ring) // MB) == (0, 1)
