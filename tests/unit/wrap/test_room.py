import pytest

from podcam.wrap.room import limit_for

MB = 1_000_000


@pytest.mark.parametrize(
    ("taken_mb", "free_mb", "limit_mb"),
    [
        (0, 1000, 200),  # there is room
        (50, 150, 150),  # 1000 / 20 = 50 stay free
        (100, 0, 50),  # the app wrote the rest: the ring gives way
        (20, 0, 8),  # less is no ring
    ],
)
def test_a_twentieth_of_the_volume_stays_free(taken_mb: int, free_mb: int, limit_mb: int) -> None:
    limit = limit_for(200 * MB, taken_mb * MB, free_mb * MB, 1000 * MB, 8 * MB)
    assert limit == limit_mb * MB


def test_it_is_never_more_than_was_asked_for() -> None:
    assert limit_for(4 * MB, 0, 10 * MB, 10 * MB, 8 * MB) == 4 * MB
