from argparse import ArgumentTypeError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podcam.cli.arguments import (
    RingSize,
    count,
    duration,
    format_size,
    host,
    payload,
    port,
    rate,
    ring_size,
    size,
    snaplen,
)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("100MB", 100_000_000),
        ("100mb", 100_000_000),
        ("100 MB", 100_000_000),
        ("64KiB", 65_536),
        ("1.5GB", 1_500_000_000),
        ("0.1GB", 100_000_000),
        ("2TiB", 2 * 2**40),
        ("512B", 512),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "100", "MB", "-1MB", "1e3MB", "10MBB", "10 megabytes", "٣MB", "1.MB"])
def test_what_is_not_a_size(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="as in 100MB"):
        size(text)


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("500ms", 500_000_000),
        ("60s", 60_000_000_000),
        ("0s", 0),
        ("8h", 8 * 3600 * 10**9),
        ("1h30m", 5400 * 10**9),
        ("1.5m", 90 * 10**9),
        ("2d", 2 * 86400 * 10**9),
        ("0.1s", 100_000_000),
        ("7us", 7_000),
    ],
)
def test_durations(text: str, duration_ns: int) -> None:
    assert duration(text) == duration_ns


@pytest.mark.parametrize("text", ["", "60", "s", "-5s", "5 s", "5sec", "1h30", "1,5s", "5s "[::-1] + "x"])
def test_what_is_not_a_duration(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="as in 60s"):
        duration(text)


@pytest.mark.parametrize(
    "text",
    ["db", "db.shop.svc.cluster.local.", "_ldap.corp", "DB-1", "10.0.0.1", "10.0.0.1/8", "fe80::/10", "::1"],
)
def test_hosts(text: str) -> None:
    assert host(text) == text


@pytest.mark.parametrize(
    "text", ["", " ", "a b", "a..b", "-a", "a/b", "db:5432", "10.0.0.256", "10.0.0.0/33", "1.2.3", "fe80::g"]
)
def test_what_is_not_a_host(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="as in 10"):
        host(text)


def test_rings() -> None:
    assert ring_size("10x100MB") == RingSize(segments=10, segment_bytes=100_000_000)
    assert ring_size("10X64KiB").limit_bytes == 655_360
    assert str(ring_size("4x2.5MB")) == "4x2.5MB"


@pytest.mark.parametrize(
    "text", ["", "100MB", "x100MB", "10x", "10x100", "-1x1MB", "1.5x1MB", "0x100MB", "10x0MB"]
)
def test_what_is_not_a_ring(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        ring_size(text)


def test_rates() -> None:
    assert rate("20MB/s") == 20_000_000
    for text in ("20MB", "20/s", "20MB/m", "/s", "0MB/s", "20MB/s/s"):
        with pytest.raises(ArgumentTypeError):
            rate(text)


def test_ports_and_counts() -> None:
    assert port("5432") == 5432
    assert count("0") == 0
    for text in ("0", "65536", "postgresql", "-1", ""):
        with pytest.raises(ArgumentTypeError):
            port(text)
    for text in ("-1", "1.5", ""):
        with pytest.raises(ArgumentTypeError):
            count(text)


@given(st.integers(0, 10**16))
def test_a_written_size_is_read_back_to_within_its_digits(size_bytes: int) -> None:
    assert size(format_size(size_bytes)) == pytest.approx(size_bytes, rel=0.06)


def test_a_duration_stays_within_the_calendar() -> None:
    assert duration("3650d") == 3650 * 86400 * 10**9
    with pytest.raises(ArgumentTypeError, match="ten years"):
        duration("3651d")


def test_no_length_makes_a_filter_that_keeps_nothing() -> None:
    assert [snaplen(text) for text in ("0", "96", "262144", "4294967296")] == [262_144, 96, 262_144, 262_144]
    assert [payload(text) for text in ("0", "64", "4294967296")] == [0, 64, 262_144]
