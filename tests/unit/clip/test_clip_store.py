"""Clips on disk: their manifest, their names, their budget."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podcam.clip import (
    COMPLETE,
    Clip,
    ClipPart,
    ClipStore,
    Manifest,
    open_clip,
    pin,
    read_manifest,
    remove,
    write_manifest,
)
from podcam.clip.store import Holding, in_turn
from podcam.errors import ClipError
from podcam.model.failure import Failure, ServerCounts
from podcam.model.point import Endpoint, Interface, Point, Window
from podcam.model.verdict import FailureClass
from podcam.ring import Totals

NOW = 1_700_000_000 * 10**9
FAILURE = Failure(
    time_ns=NOW,
    failure_class=FailureClass.RESET_EARLY,
    client=Endpoint("10.0.0.1", 40_000),
    server=Endpoint("2001:db8::5", 5432, "db.example"),
    by="server",
    start_ns=NOW - 5,
    client_bytes=83,
    client_acked=83,
    server_bytes=None,
)
MANIFEST = Manifest(
    id="",
    reason="a test",
    created_ns=NOW,
    window=Window(NOW - 60, NOW + 10),
    triggers=(FAILURE,),
    parts=(
        ClipPart(
            point=Point("web-1", "node-a", "/run/netns/web-1"),
            folder="web-1",
            segments=("00000001-1.seg",),
            totals=Totals(5, 1000, 1, NOW - 70, NOW),
            interfaces=(Interface(2, "eth0", 1),),
            filter={"text": "port 5432"},
            comparisons=(Window(NOW - 300, NOW - 290),),
            servers=(ServerCounts(FAILURE.server, NOW, 9, {FailureClass.RESET_EARLY: 1}, NOW - 300, NOW),),
            warnings=("write budget reached",),
        ),
    ),
)


@pytest.fixture
def store(tmp_path: Path) -> ClipStore:
    return ClipStore(tmp_path / "clips")


def clip_of(
    store: ClipStore, age: int, size: int, state: str = COMPLETE, recording: str | None = None
) -> Clip:
    manifest = replace(MANIFEST, created_ns=NOW - age * 10**9, state=state, recording=recording)
    clip = store.create(manifest, "reset-early")
    (clip.path / "data").write_bytes(bytes(size))
    return clip


def test_manifest_comes_back(store: ClipStore) -> None:
    clip = store.create(MANIFEST, "reset-early")
    assert clip.manifest.id == clip.path.name == "20231114-221320-reset-early"
    assert read_manifest(clip.path) == clip.manifest == replace(MANIFEST, id=clip.path.name)
    assert json.loads((clip.path / "manifest.json").read_text())["schema"] == "podcam.clip/1"
    assert clip.path.stat().st_mode & 0o777 == 0o700
    assert (clip.path / "manifest.json").stat().st_mode & 0o777 == 0o600


def test_rewriting_leaves_nothing_behind(store: ClipStore) -> None:
    clip = store.create(MANIFEST, "x")
    write_manifest(clip.path, replace(clip.manifest, state=COMPLETE))
    assert read_manifest(clip.path).state == COMPLETE
    assert [path.name for path in clip.path.iterdir()] == ["manifest.json"]


def test_same_second_same_label(store: ClipStore) -> None:
    names = [store.create(MANIFEST, "reset-early").path.name for _ in range(3)]
    assert names == [
        "20231114-221320-reset-early",
        "20231114-221320-reset-early-2",
        "20231114-221320-reset-early-3",
    ]


@given(st.text())
def test_label_is_safe_in_a_path(label: str) -> None:
    assert "/" not in ClipStore(Path("/nowhere")).name_of(NOW, label)


def test_listed_oldest_first(store: ClipStore) -> None:
    assert store.clips() == []
    new, old = clip_of(store, 1, 5), clip_of(store, 2, 5)
    (store.folder / "rubbish").mkdir()
    assert [clip.path for clip in store.clips()] == [old.path, new.path]


def test_found_by_id_prefix_and_path(store: ClipStore) -> None:
    clip = clip_of(store, 0, 5)
    clip_of(store, 100_000, 5)
    for name in (clip.manifest.id, clip.manifest.id[:10], str(clip.path)):
        assert store.find(name).path == clip.path
    with pytest.raises(ClipError, match="matches 2 clips"):
        store.find("2023")
    with pytest.raises(ClipError, match="is not a clip of"):
        store.find("2024")


def test_oldest_go_until_within_budget(store: ClipStore) -> None:
    clips = [clip_of(store, age, 10_000) for age in (3, 2, 1)]
    gone = store.remove_over(25_000)
    assert [clip.path for clip in gone] == [clips[0].path]
    assert [clip.path for clip in store.clips()] == [clips[1].path, clips[2].path]
    assert [path.name for path in store.folder.iterdir() if path.name.startswith(".")] == []


def test_pinned_and_open_clips_stay(store: ClipStore) -> None:
    oldest, middle, newest = (
        clip_of(store, 3, 10_000),
        clip_of(store, 2, 10_000, "open"),
        clip_of(store, 1, 10_000),
    )
    pin(oldest.path)
    assert open_clip(oldest.path).pinned
    assert [clip.path for clip in store.remove_over(0)] == [newest.path]
    pin(oldest.path, pinned=False)
    assert [clip.path for clip in store.remove_over(0)] == [oldest.path]
    assert [clip.path for clip in store.clips()] == [middle.path]


def test_who_takes_most_gives_first(store: ClipStore) -> None:
    quiet = clip_of(store, 9, 10_000, recording="quiet/web")
    loud = [clip_of(store, age, 10_000, recording=f"loud/{age}") for age in (4, 3, 2)]
    assert [clip.path for clip in store.remove_over(25_000)] == [loud[0].path, loud[1].path]
    assert [clip.path for clip in store.remove_over(15_000)] == [quiet.path]
    assert [clip.path for clip in store.clips()] == [loud[2].path]


def test_what_is_pinned_counts_for_whose_it_is(store: ClipStore) -> None:
    pinned, own = (clip_of(store, age, 10_000, recording="a/web") for age in (5, 1))
    pin(pinned.path)
    clip_of(store, 9, 15_000, recording="b/web")
    assert [clip.path for clip in store.remove_over(30_000)] == [own.path]


def test_nobody_gives_for_what_another_takes_in_a_clip_that_is_open_or_the_newest(store: ClipStore) -> None:
    greedy = clip_of(store, 1, 80_000, "open", recording="greedy/web")
    modest = [clip_of(store, age, 5_000, recording="modest/web") for age in (5, 4, 3, 2)]
    ended = []

    def end(clip_id: str) -> bool:
        ended.append(clip_id)
        return True

    assert store.remove_over(100_000, modest[-1].path.name, end) == []
    assert ended == [greedy.path.name]
    write_manifest(greedy.path, replace(greedy.manifest, state=COMPLETE))
    assert store.remove_over(100_000, greedy.path.name, end) == []
    assert [clip.path for clip in store.remove_over(100_000)] == [greedy.path]
    assert len(ended) == 1


def test_where_all_that_is_left_of_others_is_pinned_the_oldest_go(store: ClipStore) -> None:
    pin(clip_of(store, 1, 80_000, recording="greedy/web").path)
    modest = [clip_of(store, age, 5_000, recording="modest/web") for age in (5, 4, 3, 2)]
    assert [clip.path for clip in store.remove_over(100_000)] == [modest[0].path, modest[1].path]


def test_an_open_clip_goes_on_where_nobody_else_would_give_for_it(store: ClipStore) -> None:
    clip_of(store, 2, 80_000, "open")
    newest = clip_of(store, 1, 80_000)
    assert store.remove_over(100_000, newest.path.name, lambda _clip_id: pytest.fail("it was ended")) == []


def test_an_open_clip_that_nobody_keeps_any_more_counts_as_pinned(store: ClipStore) -> None:
    clip_of(store, 1, 80_000, "open", recording="greedy/web")
    modest = [clip_of(store, age, 15_000, recording="modest/web") for age in (3, 2)]
    gone = store.remove_over(100_000, end=lambda _clip_id: False)
    assert [clip.path for clip in gone] == [modest[0].path]


def test_a_complete_clip_is_read_once(store: ClipStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be a thousand, and whenever one more is complete all are looked at."""
    read: list[str] = []

    def read_manifest_of(path: Path) -> Manifest:
        read.append(path.name)
        return read_manifest(path)

    monkeypatch.setattr("podcam.clip.store.read_manifest", read_manifest_of)
    grown, growing = clip_of(store, 3, 1_000), clip_of(store, 2, 1_000, "open")
    pinned, taken = clip_of(store, 4, 1_000), clip_of(store, 1, 1_000)
    store.remove_over(50_000)
    assert len(read) == 4
    pin(pinned.path)
    remove(taken.path)
    (grown.path / "more").write_bytes(bytes(50_000))
    write_manifest(grown.path, replace(grown.manifest, interrupted=True))
    read.clear()
    assert [clip.path for clip in store.remove_over(50_000, end=lambda _clip_id: False)] == [grown.path]
    assert sorted(set(read)) == sorted([grown.path.name, growing.path.name])
    assert [clip.path for clip in store.clips()] == [pinned.path, growing.path]


def test_shared_segments_count_once(store: ClipStore) -> None:
    old, new = clip_of(store, 2, 10_000), clip_of(store, 1, 10)
    os.link(old.path / "data", new.path / "shared")
    assert store.remove_over(14_000) == []


@given(
    st.lists(st.dictionaries(st.integers(0, 9), st.integers(0, 100), max_size=5), max_size=6),
    st.integers(0, 600),
)
def test_no_more_clips_go_than_needed(clips: list[dict[int, int]], budget: int) -> None:
    sizes = {inode: size for clip in clips for inode, size in clip.items()}
    files = {str(n): {inode: sizes[inode] for inode in clip} for n, clip in enumerate(clips)}
    going = list(in_turn({name: Holding("", held) for name, held in files.items()}, budget))
    assert going == [str(n) for n in range(len(going))]

    def left(gone: int) -> int:
        return sum(
            {i: s for n, clip in enumerate(files.values()) if n >= gone for i, s in clip.items()}.values()
        )

    assert left(len(going)) <= budget
    assert not going or left(len(going) - 1) > budget


@given(
    st.lists(
        st.builds(
            Holding,
            st.sampled_from("abc"),
            st.sampled_from((10, 20, 80)).map(lambda size: {0: size}),
            stays=st.sampled_from((False, False, True)),
            later=st.booleans(),
        ),
        min_size=2,
        max_size=8,
    ),
    st.sampled_from((0.2, 0.5, 0.8)),
)
def test_who_takes_no_more_than_an_even_part_gives_only_for_what_is_pinned(
    held: list[Holding], fraction: float
) -> None:
    clips = {str(n): replace(clip, files={n: clip.files[0]}) for n, clip in enumerate(held)}
    left, owners = dict(clips), {clip.owner for clip in held}
    budget = int(sum(clip.files[0] for clip in held) * fraction)

    def taken(owner: str, *, pinned: bool = False) -> int:
        return sum(
            size
            for clip in left.values()
            if clip.owner == owner and (clip.stays or not pinned)
            for size in clip.files.values()
        )

    def go(clip_id: str) -> bool:
        owner = left[clip_id].owner
        if taken(owner) * len(owners) <= budget:
            beyond = {other for other in owners if taken(other) * len(owners) > budget}
            assert all(taken(other) == taken(other, pinned=True) for other in beyond)
        del left[clip_id]
        return True

    for clip_id in in_turn(clips, budget, end=go):
        assert not clips[clip_id].later
        go(clip_id)
    assert sum(map(taken, owners)) <= budget or all(clip.stays or clip.later for clip in left.values())


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"schema": "podcam.clip/9"}', '{"schema": "podcam.clip/1"}']
)
def test_bad_manifest(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ClipError, match=r"manifest\.json is not a manifest of a clip"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(("field", "value"), [("folder", ".."), ("segments", ["../../etc/passwd"])])
def test_manifest_leads_nowhere_else(store: ClipStore, field: str, value: object) -> None:
    """A clip may come from somebody else."""
    clip = store.create(MANIFEST, "x")
    body = clip.manifest.to_json()
    body["parts"][0][field] = value
    (clip.path / "manifest.json").write_text(json.dumps(body))
    with pytest.raises(ClipError, match="no plain name"):
        open_clip(clip.path)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="is not a clip: it has no manifest"):
        open_clip(tmp_path)


def test_clips_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ClipError, match="cannot make a clip in"):
        ClipStore(tmp_path / "file").create(MANIFEST, "x")


def test_a_clip_that_cannot_be_made_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk, where every further failure tries again."""
    store = ClipStore(tmp_path)
    manifest = Manifest(id="clip", reason="why", created_ns=NOW, window=Window(NOW, NOW + 1))

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ClipError, match="No space left"):
            store.create(manifest, "asked")
    assert list(tmp_path.iterdir()) == []
    assert store.create(manifest, "asked").path.name == "clip"
