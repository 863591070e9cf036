import pytest
from hypothesis import given
from hypothesis import strategies as st

from podcam.capture import geometry, geometry_for
from podcam.recorder.memory import KernelMemory

MIB = 1 << 20
BUDGET = 128 * MIB
LARGE = 100_000_000


@pytest.mark.parametrize("points", [1, 4, 8, 60, 110])
def test_expected_points_share_evenly(points: int) -> None:
    memory = KernelMemory(BUDGET, points)
    used = 0
    for number in range(1, points + 1):
        shape = memory.first(number, used, LARGE)
        assert shape == geometry_for(BUDGET, points)
        used += shape.ring_bytes
    assert used <= BUDGET


def test_a_point_beyond_the_expected_takes_a_quarter_of_what_is_free() -> None:
    memory = KernelMemory(BUDGET)
    assert memory.first(2, 32 * MIB, LARGE).ring_bytes == 16 * MIB
    assert memory.first(5, 80 * MIB, LARGE).ring_bytes == 8 * MIB
    assert memory.first(20, BUDGET, LARGE).ring_bytes == MIB


@pytest.mark.parametrize(("expected", "peak"), [(1, 169 * MIB), (30, 151 * MIB)])
def test_sixty_that_come_at_once_exceed_the_budget_less_where_many_were_expected(
    expected: int, peak: int
) -> None:
    memory, used = KernelMemory(BUDGET, expected), 0
    for number in range(1, 61):
        used += memory.first(number, used, LARGE).ring_bytes
    assert used == peak


def test_two_blocks_fit_into_a_segment() -> None:
    assert 2 * KernelMemory(BUDGET).first(1, 0, 600_000).block_bytes <= 600_000
    assert KernelMemory(BUDGET).grown(geometry(8 * MIB), 1, 8 * MIB, 300_000) is None


def test_a_ring_grows_while_there_is_room() -> None:
    memory = KernelMemory(BUDGET, 8)
    grown = memory.grown(geometry(8 * MIB), 8, 112 * MIB, LARGE)
    assert grown is not None
    assert grown.ring_bytes == 16 * MIB
    assert memory.grown(geometry(8 * MIB), 8, 113 * MIB, LARGE) is None
    assert memory.grown(geometry(8 * MIB), 9, 112 * MIB, LARGE) is None  # the last eighth is for new points
    assert memory.grown(geometry(32 * MIB), 1, 32 * MIB, LARGE) is None


def test_a_quiet_ring_goes_back_to_its_share() -> None:
    memory = KernelMemory(BUDGET)
    shrunk = memory.shrunk(geometry(32 * MIB), 16)
    assert shrunk is not None
    assert shrunk.ring_bytes == 8 * MIB
    assert memory.shrunk(geometry(4 * MIB), 16) is None


def test_nothing_gives_way_among_the_expected() -> None:
    shapes = [geometry(32 * MIB)] * 4
    assert KernelMemory(BUDGET, 4).relief(shapes, BUDGET) is None
    assert KernelMemory(BUDGET, 4).relief([*shapes, geometry(MIB)], BUDGET + MIB) is not None


@given(st.lists(st.sampled_from(["add", "end", "grow"]), max_size=200), st.integers(1, 40))
def test_whatever_comes_and_goes_the_budget_holds_once_rings_have_given_way(
    steps: list[str], expected: int
) -> None:
    """Up to 100 points, each of which may have to have 1 MB."""
    memory = KernelMemory(BUDGET, expected)
    rings = [memory.first(1, 0, LARGE)]

    def used() -> int:
        return sum(ring.ring_bytes for ring in rings)

    for step in steps:
        if step == "add" and len(rings) < 100:
            before = used()
            rings.append(memory.first(len(rings) + 1, before, LARGE))
            assert used() <= max(BUDGET, before + memory.share(len(rings)).ring_bytes)
        elif step == "end" and len(rings) > 1:
            rings.pop(0)
        elif step == "grow":
            grown = memory.grown(rings[-1], len(rings), used(), LARGE)
            if grown is not None:
                assert used() + grown.ring_bytes <= BUDGET
                rings[-1] = grown
        rounds = 0
        while (found := memory.relief(rings, used())) is not None:
            largest, smaller = found
            assert smaller.ring_bytes < largest.ring_bytes
            rings[rings.index(largest)] = smaller
            rounds += 1
            assert rounds < 1000
        assert used() <= BUDGET
