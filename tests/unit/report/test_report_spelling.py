import pytest
from hypothesis import given
from hypothesis import strategies as st

from podcam.model.point import Endpoint
from podcam.model.text import printable
from podcam.report.spelling import moment, named, number, same_day, share, span

MS, S = 10**6, 10**9


@pytest.mark.parametrize(
    ("duration_ns", "spelling"),
    [
        (0, "0.000 ms"),
        (412_000, "0.412 ms"),
        (999_400, "0.999 ms"),
        (999_600, "1.00 ms"),
        (1_800_000, "1.80 ms"),
        (9_996_000, "10.0 ms"),
        (31_200_000, "31.2 ms"),
        (351 * MS, "351 ms"),
        (999_600_000, "1.00 s"),
        (3 * S, "3.00 s"),
        (59_940 * MS, "59.9 s"),
        (59_960 * MS, "1 min"),
        (125 * S, "2 min 5 s"),
        (8 * 3600 * S + 120 * S, "8 h 2 min"),
        (3600 * S, "1 h"),
        (3599 * S + 600 * MS, "1 h"),
        (76 * 3600 * S, "3 d 4 h"),
    ],
)
def test_durations(duration_ns: int, spelling: str) -> None:
    assert span(duration_ns) == spelling


def test_moments_are_cut_and_not_rounded() -> None:
    time_ns = 1_763_863_200_999_999_999
    assert moment(time_ns, date=True) == "2025-11-23 02:00:00.999"
    assert moment(time_ns, date=False) == "02:00:00.999"
    assert same_day(time_ns, time_ns + 20 * 3600 * S)
    assert not same_day(time_ns, time_ns + 23 * 3600 * S)


@pytest.mark.parametrize(
    ("part", "whole", "spelling"),
    [
        (0, 240, "0 %"),
        (3, 240, "1.2 %"),
        (1, 100_000, "under 0.1 %"),
        (99_999, 100_000, "over 99.9 %"),
        (239, 240, "99.6 %"),
        (24, 240, "10 %"),
        (240, 240, "100 %"),
    ],
)
def test_shares(part: int, whole: int, spelling: str) -> None:
    assert share(part, whole) == spelling


def test_counts() -> None:
    assert number(1, "packet") == "1 packet"
    assert number(0, "packet") == "0 packets"
    assert number(4812, "packet") == "4,812 packets"


def test_endpoints() -> None:
    assert named(Endpoint("10.0.0.5", 5432)) == "10.0.0.5:5432"
    assert named(Endpoint("fd00::5", 5432, "db.example")) == "db.example ([fd00::5]:5432)"


@given(st.text())
def test_nothing_that_is_printed_can_steer_a_terminal(text: str) -> None:
    assert printable(text).isprintable()


def test_what_can_be_printed_stays() -> None:
    assert printable("Grüße, 世界 → ok") == "Grüße, 世界 → ok"
    assert printable("\x1b[31mred\n\u202e") == "\\x1b[31mred\\n\\u202e"
