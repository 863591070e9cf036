"""Numbers and names in sentences."""

from podcam.model.point import Endpoint

_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"))


def duration(nanoseconds: int) -> str:
    """A time span with three digits at most: `1.25 ms`, `350 s`."""
    for size, unit in _UNITS:
        if nanoseconds >= size:
            value = nanoseconds / size
            return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    return f"{nanoseconds} ns"


def byte_count(count: int) -> str:
    """`no byte`, `1 byte`, `1,448 bytes`."""
    return "no byte" if count == 0 else "1 byte" if count == 1 else f"{count:,} bytes"


def times(count: int) -> str:
    """`once`, `twice`, `3 times`."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def called(endpoint: Endpoint) -> str:
    """An address with its port, behind its name where it has one."""
    return f"{endpoint.name} ({endpoint})" if endpoint.name else str(endpoint)
