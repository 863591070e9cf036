"""Which segments go: oldest first, no more than needed."""

from hypothesis import given
from hypothesis import strategies as st

from podcam.ring.eviction import Stored, to_fit, to_free

SEGMENTS = [Stored("1", 10, links=2), Stored("2", 20), Stored("3", 30)]


def test_nothing_goes_while_it_fits() -> None:
    assert to_fit(SEGMENTS, ring_bytes=60, limit_bytes=60) == []


def test_oldest_go_first_and_no_more_than_needed() -> None:
    assert [s.name for s in to_fit(SEGMENTS, 61, 60)] == ["1"]
    assert [s.name for s in to_fit(SEGMENTS, 71, 60)] == ["1", "2"]


def test_what_a_clip_holds_too_frees_no_space() -> None:
    assert [s.name for s in to_free(SEGMENTS, 5)] == ["2"]
    assert [s.name for s in to_free(SEGMENTS, 21)] == ["2", "3"]
    assert to_free(SEGMENTS[:1], 5) == []


@given(st.lists(st.integers(1, 100)), st.integers(0, 500), st.integers(0, 500))
def test_fits_afterwards_or_is_empty(sizes: list[int], extra: int, limit: int) -> None:
    segments = [Stored(str(n), size) for n, size in enumerate(sizes)]
    wanted = sum(sizes) + extra
    gone = to_fit(segments, wanted, limit)
    left = wanted - sum(s.bytes for s in gone)
    assert gone == segments[: len(gone)]
    assert left <= limit or gone == segments
    assert not gone or left + gone[-1].bytes > limit
