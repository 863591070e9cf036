"""The division of a node's disk, whatever lies on it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count, pairwise, takewhile
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from podcam.agent.budget import Disk, EndedRing, LiveRing, Plan, plan

NOW_NS = 1_000_000

sizes = st.integers(0, 2_000)
disks = st.builds(Disk, free_bytes=sizes, budget_bytes=sizes, floor_bytes=st.integers(0, 1_000))


def _rings(names: str) -> st.SearchStrategy[list[LiveRing]]:
    segments = st.integers(1, 50)
    return st.lists(
        st.builds(
            lambda point, held, segment, count: LiveRing(point, held, segment * count, segment),
            st.sampled_from(names),
            st.integers(0, 800),
            segments,
            st.integers(2, 20),
        ),
        unique_by=lambda ring: ring.point,
        max_size=6,
    )


lives = _rings("abcdefgh")
news = _rings("stuvwxyz")
endeds = st.lists(
    st.builds(
        EndedRing,
        st.sampled_from("mnopqrst"),
        st.integers(0, 300),
        st.integers(0, NOW_NS + 9),
        st.integers(0, NOW_NS),
    ),
    unique_by=lambda ring: ring.point,
    max_size=6,
)
befores = st.builds(
    lambda level, pressed: Plan(level_bytes=level, pressed=frozenset() if level is None else pressed),
    st.none() | st.integers(0, 1_000),
    st.frozensets(st.sampled_from("abcdefgh")),
)


def _held(rings: Iterable[LiveRing | EndedRing]) -> int:
    return sum(ring.bytes for ring in rings)


def _allowed(disk: Disk, live: Sequence[LiveRing], ended: Sequence[EndedRing], clips: int) -> int:
    used = clips + _held(live) + _held(ended)
    return max(0, min(disk.budget_bytes, used + disk.free_bytes - disk.floor_bytes))


def _height(level_bytes: int | None) -> float:
    return inf if level_bytes is None else level_bytes


def _carried_out(
    made: Plan, live: Sequence[LiveRing], ended: Sequence[EndedRing], clips: int
) -> tuple[list[LiveRing], list[EndedRing], int]:
    """What lies on the disk once the plan has been followed."""
    gone = {removal.point for removal in made.removals}
    return (
        [replace(ring, bytes=min(ring.bytes, made.limits[ring.point])) for ring in live],
        [
            replace(ring, bytes=min(ring.bytes, made.limits.get(ring.point, ring.bytes)))
            for ring in ended
            if ring.point not in gone
        ],
        min(clips, made.clips_bytes),
    )


@given(disks, lives, endeds, st.integers(0, 500), news, befores)
def test_the_disk_is_never_over_its_budget_when_that_can_be_helped(
    disk: Disk, live: list[LiveRing], ended: list[EndedRing], clips: int, new: list[LiveRing], before: Plan
) -> None:
    made = plan(disk, live, ended, clips, NOW_NS, new=new, before=before)
    rings, resting, kept_clips = _carried_out(made, live, ended, clips)
    taken = kept_clips + _held(rings) + _held(resting)
    smallest = sum(min(ring.bytes, ring.least_bytes) for ring in live)
    assert taken <= max(_allowed(disk, live, ended, clips), smallest)


@given(disks, lives, endeds, st.integers(0, 500), news, befores)
def test_all_rings_may_double_at_once_and_nothing_overflows(
    disk: Disk, live: list[LiveRing], ended: list[EndedRing], clips: int, new: list[LiveRing], before: Plan
) -> None:
    made = plan(disk, live, ended, clips, NOW_NS, new=new, before=before)
    rings, resting, kept_clips = _carried_out(made, live, ended, clips)
    grown = sum(min(made.limits[ring.point], 2 * ring.bytes + ring.segment_bytes) for ring in rings)
    at_least = sum(ring.least_bytes for ring in live)
    assert grown + kept_clips + _held(resting) <= max(_allowed(disk, live, ended, clips), at_least)


@given(disks, lives, endeds, st.integers(0, 500), news, befores)
def test_ended_rings_go_before_live_ones_shrink_and_the_oldest_before_younger_ones(
    disk: Disk, live: list[LiveRing], ended: list[EndedRing], clips: int, new: list[LiveRing], before: Plan
) -> None:
    made = plan(disk, live, ended, clips, NOW_NS, new=new, before=before)
    gone = {removal.point for removal in made.removals}
    stayed = [
        ring for ring in ended if ring.point not in gone and ring.point not in made.limits and ring.bytes
    ]
    if _height(made.level_bytes) < _height(before.level_bytes):
        assert not stayed
    for ring in ended:
        if ring.point in gone and NOW_NS - ring.ended_ns < ring.retention_ns:
            assert all(ring.ended_ns <= other.ended_ns for other in stayed)
        if NOW_NS - ring.ended_ns >= ring.retention_ns:
            assert ring.point in gone or ring.point in made.limits


@given(disks, lives, endeds, st.integers(0, 500), news, befores)
def test_all_live_rings_above_a_level_shrink_to_it_and_none_below_two_segments(
    disk: Disk, live: list[LiveRing], ended: list[EndedRing], clips: int, new: list[LiveRing], before: Plan
) -> None:
    made = plan(disk, live, ended, clips, NOW_NS, new=new, before=before)
    rings = [*live, *(ring for ring in new if ring.point not in made.refused)]
    assert set(made.limits) == {ring.point for ring in rings}
    for ring in rings:
        level = max(2 * ring.segment_bytes, _height(made.level_bytes))
        assert made.limits[ring.point] == min(ring.asked_bytes, level)
    asked = sum(ring.asked_bytes for ring in rings)
    assert made.share == (sum(made.limits.values()) / asked if asked else 1)
    assert (made.level_bytes is None) == (made.share == 1)


@given(disks, lives, endeds, st.integers(0, 500), news, befores)
def test_a_ring_that_asked_for_no_more_than_its_even_part_gets_what_it_asked_for(
    disk: Disk, live: list[LiveRing], ended: list[EndedRing], clips: int, new: list[LiveRing], before: Plan
) -> None:
    """Whatever the others ask for. The even part: what each gets of the room without its reserve, in which
    nothing grows, if the others take as much, or what they need at least."""
    made = plan(disk, live, ended, clips, NOW_NS, new=new, before=before)
    gone = {removal.point for removal in made.removals}
    kept = _held(ring for ring in ended if ring.point not in gone | set(made.limits))
    room = (_allowed(disk, live, ended, clips) - clips - kept) * 85 // 100
    rings = [ring for ring in (*live, *new) if ring.point in made.limits]
    if not rings:
        return
    parts = takewhile(lambda part: sum(max(part, ring.least_bytes) for ring in rings) <= room, count())
    even = max(parts, default=-1)
    for ring in rings:
        if ring.asked_bytes <= even:
            assert made.limits[ring.point] == ring.asked_bytes


@given(disks, lives, endeds, st.integers(0, 500), news, befores)
def test_a_point_is_refused_only_where_the_smallest_rings_leave_no_place_for_it(
    disk: Disk, live: list[LiveRing], ended: list[EndedRing], clips: int, new: list[LiveRing], before: Plan
) -> None:
    made = plan(disk, live, ended, clips, NOW_NS, new=new, before=before)
    accepted = sum(ring.least_bytes for ring in (*live, *new) if ring.point in made.limits)
    allowed = _allowed(disk, live, ended, clips)
    for ring in new:
        if ring.point in made.refused:
            assert accepted + ring.least_bytes + clips > allowed
    if any(ring.point in made.limits for ring in new):
        assert accepted + clips <= allowed


@given(disks, lives, st.integers(0, 500), st.integers(0, 500))
def test_more_room_never_makes_a_ring_smaller(
    disk: Disk, live: list[LiveRing], clips: int, more: int
) -> None:
    larger = replace(disk, free_bytes=disk.free_bytes + more, budget_bytes=disk.budget_bytes + more)
    before, after = (plan(each, live, [], clips, NOW_NS).limits for each in (disk, larger))
    assert all(after[point] >= limit for point, limit in before.items())


@settings(deadline=None)
@given(disks, lives, endeds, st.integers(0, 500), befores)
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(
    disk: Disk, live: list[LiveRing], ended: list[EndedRing], clips: int, before: Plan
) -> None:
    """Rings fill what they were given, and that alone never moves a limit, or removes anything, again."""
    made = plan(disk, live, ended, clips, NOW_NS, before=before)
    free = disk.free_bytes
    for _ in range(30):
        rings, resting, kept_clips = _carried_out(made, live, ended, clips)
        used = clips + _held(live) + _held(ended)
        grown = [
            replace(
                ring, bytes=max(ring.bytes, min(made.limits[ring.point], 2 * ring.bytes + ring.segment_bytes))
            )
            for ring in rings
        ]
        free += used - kept_clips - _held(grown) - _held(resting)
        settled = grown == live and resting == ended and kept_clips == clips
        live, ended, clips = grown, resting, kept_clips
        last, made = made, plan(replace(disk, free_bytes=free), live, ended, clips, NOW_NS, before=made)
        if settled and made == last:
            break
    else:
        raise AssertionError("the limits never come to rest")


@given(lives, st.integers(100, 2_000), st.lists(st.integers(-20, 20), max_size=20))
def test_free_space_that_moves_by_little_moves_limits_at_most_once(
    live: list[LiveRing], budget: int, moves: list[int]
) -> None:
    """Within two hundredths of the budget around one level, whoever else writes there."""
    made = plan(Disk(10**6, budget, 0), live, [], 0, NOW_NS)
    live = [replace(ring, bytes=made.limits[ring.point]) for ring in live]
    levels = [made.level_bytes]
    for move in moves:
        made = plan(Disk(10**6, budget + budget * move // 1000, 0), live, [], 0, NOW_NS, before=made)
        live = [replace(ring, bytes=min(ring.bytes, made.limits[ring.point])) for ring in live]
        levels.append(made.level_bytes)
    changes = sum(first != second for first, second in pairwise(levels))
    assert changes <= 1, levels
