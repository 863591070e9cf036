import pytest
from hypothesis import given
from hypothesis import strategies as st

from podcam.kube import format_duration, format_time, parse_duration, parse_quantity, parse_time

SECOND = 1_000_000_000
NOON = 1_795_435_200 * SECOND


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-23T12:00:00Z", NOON),
        ("2026-11-23T12:00:00.5Z", NOON + SECOND // 2),
        ("2026-11-23T12:00:00.123456Z", NOON + 123_456_000),
        ("2026-11-23T12:00:00.123456789Z", NOON + 123_456_789),
        ("2026-11-23T12:00:00.1234567899Z", NOON + 123_456_789),
        ("2026-11-23T13:30:00.000000001+01:30", NOON + 1),
        ("2026-11-23t12:00:00z", NOON),
        ("1969-12-31T23:59:59.9Z", -SECOND // 10),
    ],
)
def test_times_are_read_to_the_nanosecond(text: str, time_ns: int) -> None:
    assert parse_time(text) == time_ns


@pytest.mark.parametrize(
    "text", ["", "now", "2026-11-23", "2026-11-23T12:00:00", "2026-13-01T00:00:00Z", "2026-11-23T25:00:00Z"]
)
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_time(text)


@given(st.integers(-(10**18), 10**19))
def test_a_time_that_was_written_is_read_as_it_was(time_ns: int) -> None:
    assert parse_time(format_time(time_ns)) == time_ns


def test_times_are_written_short() -> None:
    assert format_time(NOON) == "2026-11-23T12:00:00Z"
    assert format_time(NOON + 120_000_000) == "2026-11-23T12:00:00.12Z"


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [("10s", 10), ("1m30s", 90), ("1h", 3600), ("0s", 0), ("2h0m1s", 7201), ("30s1m", 90)],
)
def test_durations(text: str, duration_ns: int) -> None:
    assert parse_duration(text) == duration_ns * SECOND


def test_a_duration_in_milliseconds_is_not_one_in_minutes() -> None:
    assert parse_duration("250ms") == SECOND // 4


@pytest.mark.parametrize("text", ["", "10", "s", "1.5h", "-1s", "1d", "10 s", "10s ", "٣s"])
def test_what_is_no_duration_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_a_duration_has_a_bound() -> None:
    with pytest.raises(ValueError, match="292 years"):
        parse_duration("999999999999h")


@given(st.integers(0, 10**9))
def test_a_duration_that_was_written_is_read_as_it_was(milliseconds: int) -> None:
    duration_ns = milliseconds * 1_000_000
    assert parse_duration(format_duration(duration_ns)) == duration_ns


def test_durations_are_written_short() -> None:
    assert format_duration(90 * SECOND) == "1m30s"
    assert format_duration(0) == "0s"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1000", 1000),
        ("25M", 25_000_000),
        ("25Mi", 25 * 1024 * 1024),
        ("1k", 1000),
        ("1Ki", 1024),
        ("1.5Gi", 3 * 2**29),
        ("100m", 1),
        ("1500m", 2),
        ("2E", 2 * 10**18),
        (".5k", 500),
    ],
)
def test_quantities(text: str, number: int) -> None:
    assert parse_quantity(text) == number


@pytest.mark.parametrize("text", ["", "M", "1K", "1 M", "-1", "1e", "1.M.", "25MB"])
def test_what_is_no_quantity_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(text)
