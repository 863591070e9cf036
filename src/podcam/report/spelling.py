"""How times, counts and addresses are written for a person."""

from datetime import UTC, datetime, timedelta

from podcam.model.point import Endpoint
from podcam.model.text import printable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def span(duration_ns: int) -> str:
    """A duration to about three digits: `0.412 ms`, `31.2 ms`, `3.00 s`, `2 min 5 s`, `8 h 2 min`."""
    milliseconds = duration_ns / 1e6
    if milliseconds < 999.5:
        decimals = (
            3 if milliseconds < 0.9995 else 2 if milliseconds < 9.995 else 1 if milliseconds < 99.95 else 0
        )
        return f"{milliseconds:.{decimals}f} ms"
    seconds = duration_ns / 1e9
    if seconds < 59.95:
        return f"{seconds:.{2 if seconds < 9.995 else 1}f} s"
    whole = round(seconds)
    for unit, smaller, size, smaller_size in (
        ("d", "h", 86400, 3600),
        ("h", "min", 3600, 60),
        ("min", "s", 60, 1),
    ):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def moment(time_ns: int, *, date: bool) -> str:
    """A time in UTC, cut to the millisecond: `02:14:31.204`, with its date in front if asked."""
    when = _EPOCH + timedelta(microseconds=time_ns // 1000)
    clock = when.strftime("%H:%M:%S") + f".{when.microsecond // 1000:03}"
    return f"{when.date().isoformat()} {clock}" if date else clock


def same_day(first_ns: int, last_ns: int) -> bool:
    """Whether both times lie on one day in UTC."""
    return first_ns // 86_400_000_000_000 == last_ns // 86_400_000_000_000


def number(count: int, noun: str) -> str:
    """`1 packet`, `4,812 packets`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def share(part: int, whole: int) -> str:
    """`1.2 %`; a small share never reads as nothing, nor a large one as all."""
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "under 0.1 %"
    if 99.9 < percent < 100:
        return "over 99.9 %"
    whole_number = percent in {0, 100} or 9.95 <= percent <= 90.05
    return f"{percent:.0f} %" if whole_number else f"{percent:.1f} %"


def named(endpoint: Endpoint) -> str:
    """An address with its port, behind its name where it has one."""
    return f"{printable(endpoint.name)} ({endpoint})" if endpoint.name else str(endpoint)
