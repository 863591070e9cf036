"""The disk of a node, divided among rings and clips."""

import pytest

from podcam.agent.budget import Cause, Disk, EndedRing, LiveRing, Plan, Removal, plan, size

MB = 10**6
GB = 10**9
NOW_NS = 1_790_000_000 * 10**9
MINUTE_NS = 60 * 10**9
HOUR_NS = 60 * MINUTE_NS
ROOMY = Disk(free_bytes=80 * GB, budget_bytes=10 * GB, floor_bytes=20 * GB)


def ring(point: str, megabytes: int, asked: int = 250, segment: int = 25) -> LiveRing:
    return LiveRing(point, megabytes * MB, asked * MB, segment * MB)


def ended(point: str, megabytes: int, minutes_ago: int) -> EndedRing:
    return EndedRing(point, megabytes * MB, NOW_NS - minutes_ago * MINUTE_NS, HOUR_NS)


def budget(megabytes: int) -> Disk:
    return Disk(free_bytes=80 * GB, budget_bytes=megabytes * MB, floor_bytes=20 * GB)


def test_with_room_for_all_everybody_gets_what_was_asked_for() -> None:
    made = plan(ROOMY, [ring("a", 250), ring("b", 3, asked=1000)], [ended("c", 200, 59)], 500 * MB, NOW_NS)
    assert made == Plan(limits={"a": 250 * MB, "b": 1000 * MB}, clips_bytes=9900 * MB)


def test_a_ring_is_removed_when_its_retention_is_over() -> None:
    made = plan(ROOMY, [], [ended("new", 1, 59), ended("old", 1, 60)], 0, NOW_NS)
    assert made.removals == (Removal("old", Cause.RETENTION),)


def test_a_clock_that_was_set_back_removes_nothing() -> None:
    assert plan(ROOMY, [], [ended("a", 1, -600)], 0, NOW_NS).removals == ()


def test_rings_that_ended_first_go_first_and_no_more_than_needed() -> None:
    resting = [ended("second", 100, 20), ended("first", 100, 30), ended("third", 100, 10)]
    made = plan(budget(450), [ring("live", 250)], resting, 0, NOW_NS)
    assert made.removals == (Removal("first", Cause.BUDGET),)
    assert made.limits == {"live": 250 * MB}
    assert made.notes == ()


def test_a_ring_whose_files_are_all_in_clips_stays_as_its_end_would_free_nothing() -> None:
    made = plan(budget(250), [ring("live", 250)], [ended("first", 0, 30), ended("second", 5, 20)], 0, NOW_NS)
    assert made.removals == (Removal("second", Cause.BUDGET),)


def test_the_largest_rings_shrink_to_one_level_when_no_ended_ring_is_left() -> None:
    rings = [ring("a", 150, asked=150), ring("b", 1000, asked=1000), ring("c", 400, asked=750)]
    made = plan(budget(1000), rings, [ended("d", 1, 1)], 0, NOW_NS)
    assert made.removals == (Removal("d", Cause.BUDGET),)
    assert made.limits == {"a": 150 * MB, "b": 400 * MB, "c": 400 * MB}
    assert made.level_bytes == 400 * MB
    assert made.share == 0.5
    (note,) = made.notes
    assert note == (
        "the disk budget of the node, 1.0 GB, is used up: no ring gets more than 400 MB, "
        "and those of ended pods are not kept"
    )


def test_whoever_asks_for_more_than_there_is_cuts_nobody_else_s_ring() -> None:
    before = Plan()
    modest = [ring(f"modest-{number}", 250) for number in range(8)]
    for megabytes in (1_000, 5_000, 9_000, 15_000, 17_000):
        greedy = ring("greedy", megabytes, asked=1_000_000)
        before = plan(budget(20_000), [greedy, *modest], [], 0, NOW_NS, before=before)
        assert {before.limits[each.point] for each in modest} == {250 * MB}
    assert before.limits["greedy"] == 17_000 * MB


def test_the_note_is_true_of_a_ring_that_is_larger_than_the_others_at_its_smallest() -> None:
    rings = [ring("a", 250), ring("b", 250), ring("wide", 100, asked=300, segment=50)]
    made = plan(budget(200), rings, [], 0, NOW_NS)
    assert made.limits == {"a": 50 * MB, "b": 50 * MB, "wide": 100 * MB}
    assert "no ring gets more than 100 MB" in made.notes[0]


def test_nothing_is_cut_where_all_rings_asked_for_their_least() -> None:
    made = plan(budget(50), [ring("a", 50, asked=50), ring("b", 50, asked=50)], [], 0, NOW_NS)
    assert (made.limits, made.level_bytes, made.share) == ({"a": 50 * MB, "b": 50 * MB}, None, 1.0)


def test_a_ring_that_holds_little_leaves_its_part_to_the_others() -> None:
    made = plan(budget(300), [ring("busy", 200), ring("idle", 1)], [], 0, NOW_NS)
    assert made.limits == {"busy": 250 * MB, "idle": 250 * MB}


def test_no_ring_shrinks_below_two_segments_and_then_clips_have_to_give() -> None:
    made = plan(budget(150), [ring("a", 250), ring("b", 250)], [], 80 * MB, NOW_NS)
    assert made.limits == {"a": 50 * MB, "b": 50 * MB}
    assert made.clips_bytes == 50 * MB
    assert made.notes[1] == (
        "the disk budget of the node, 150 MB, is used up: 30 MB of clips have to go although all rings are "
        "at their smallest: pull what you need"
    )


def test_free_space_is_kept_free_whoever_fills_the_disk() -> None:
    disk = Disk(free_bytes=19 * GB, budget_bytes=10 * GB, floor_bytes=20 * GB)
    made = plan(disk, [ring("a", 1000, asked=1000), ring("b", 1000, asked=1000)], [], 0, NOW_NS)
    assert sum(made.limits.values()) <= 1 * GB
    assert made.notes[0].startswith("the node's disk is short: 20 GB of it have to stay free")


def test_rings_shrink_before_a_new_point_is_refused() -> None:
    made = plan(budget(110), [ring("a", 100)], [ended("b", 10, 1)], 0, NOW_NS, new=[ring("c", 0)])
    assert made.removals == (Removal("b", Cause.BUDGET),)
    assert made.limits == {"a": 54_500_000, "c": 54_500_000}
    assert made.refused == {}


def test_a_new_point_is_refused_when_all_others_are_at_their_smallest() -> None:
    coming = [ring("large", 0, segment=30), ring("small", 0, asked=40, segment=20), ring("late", 0)]
    made = plan(budget(100), [ring("a", 50)], [], 5 * MB, NOW_NS, new=coming)
    assert made.limits == {"a": 50_250_000, "small": 40 * MB}
    assert made.refused["large"] == (
        "the disk budget of the node, 100 MB, is used up: this point needs at least 60 MB for its ring, and "
        "45 MB are left with all other rings at their smallest: record fewer pods, ask for smaller segments, "
        "or give the agent more room"
    )
    assert "5.0 MB are left" in made.refused["late"]


def test_a_point_that_comes_back_goes_on_with_its_ring() -> None:
    made = plan(budget(400), [], [ended("a", 250, 50), ended("b", 200, 5)], 0, NOW_NS, new=[ring("a", 0)])
    assert made.limits == {"a": 250 * MB}
    assert made.removals == (Removal("b", Cause.BUDGET),)


def test_the_ring_of_a_point_that_is_refused_is_kept_as_one_that_ended() -> None:
    made = plan(budget(40), [], [ended("a", 30, 50)], 0, NOW_NS, new=[ring("a", 0)])
    assert list(made.refused) == ["a"]
    assert made.removals == ()


def test_a_little_more_room_changes_nothing_and_clearly_more_does() -> None:
    rings = [ring("a", 250), ring("b", 250)]
    first = plan(budget(400), rings, [], 0, NOW_NS)
    shrunk = [ring("a", 190), ring("b", 190)]
    assert (first.level_bytes, first.share) == (190 * MB, 0.76)
    assert plan(budget(420), shrunk, [], 0, NOW_NS, before=first) == Plan(
        limits={"a": 190 * MB, "b": 190 * MB},
        clips_bytes=320 * MB,
        notes=tuple(note.replace("400", "420") for note in first.notes),
        level_bytes=190 * MB,
        share=0.76,
        pressed=first.pressed,
    )
    assert plan(budget(480), shrunk, [], 0, NOW_NS, before=first).level_bytes == 228 * MB
    assert plan(budget(600), shrunk, [], 0, NOW_NS, before=first) == Plan(
        limits={"a": 250 * MB, "b": 250 * MB}, clips_bytes=500 * MB
    )


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1500, "1.5 kB"),
        (250 * MB, "250 MB"),
        (9_960_000, "10 MB"),
        (999_600_000, "1.0 GB"),
        (12 * 10**12, "12 TB"),
        (12_345 * 10**12, "12345 TB"),
    ],
)
def test_sizes_are_written_as_people_write_them(size_bytes: int, text: str) -> None:
    assert size(size_bytes) == text
