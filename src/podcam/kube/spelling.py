"""How Kubernetes spells times, durations and quantities. Pure.

Times are integer nanoseconds since 1970 UTC, durations nanoseconds, quantities whole numbers. What is spelled
wrong raises ValueError with a sentence.
"""

import re
from datetime import UTC, datetime
from fractions import Fraction

_SECOND_NS = 1_000_000_000

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
"""RFC 3339; digits beyond nanoseconds are let go."""

_DURATION = re.compile(r"(\d+)(ms|s|m|h)", re.ASCII)
_UNITS_NS = {"h": 3600 * _SECOND_NS, "m": 60 * _SECOND_NS, "s": _SECOND_NS, "ms": _SECOND_NS // 1000}
_LONGEST_NS = 2**63 - 1

_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?", re.ASCII)
_FACTORS: dict[str | None, Fraction] = {
    None: Fraction(1),
    "m": Fraction(1, 1000),
    **{letter: Fraction(1000) ** (power + 1) for power, letter in enumerate("kMGTPE")},
    **{f"{letter}i": Fraction(1024) ** (power + 1) for power, letter in enumerate("KMGTPE")},
}


def parse_time(text: str) -> int:
    """`2026-11-23T06:44:55.123456789Z`, with any fraction, as nanoseconds since 1970 UTC."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a time, such as 2026-11-23T06:44:55Z")
    day, clock, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError:
        raise ValueError(f"{text!r} is not a time: there is no such day or hour") from None
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    seconds = since.days * 86_400 + since.seconds
    return seconds * _SECOND_NS + int((fraction or "").ljust(9, "0"))


def format_time(time_ns: int) -> str:
    """The shortest spelling that loses nothing: `2026-11-23T06:44:55Z`, `2026-11-23T06:44:55.12Z`."""
    seconds, fraction = divmod(time_ns, _SECOND_NS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{fraction:09d}".rstrip("0") + "Z" if fraction else f"{text}Z"


def parse_duration(text: str) -> int:
    """`90s`, `1m30s`, `250ms`, as nanoseconds."""
    parts = _DURATION.findall(text)
    if not parts or "".join(map("".join, parts)) != text:
        raise ValueError(f"{text!r} is not a duration, such as 90s, 1m30s or 250ms")
    duration_ns = sum(int(number) * _UNITS_NS[unit] for number, unit in parts)
    if duration_ns > _LONGEST_NS:
        raise ValueError(f"{text!r} is longer than 292 years")
    return duration_ns


def format_duration(duration_ns: int) -> str:
    """The shortest spelling, down to milliseconds: `1m30s`, `0s`."""
    text = ""
    for unit, unit_ns in _UNITS_NS.items():
        number, duration_ns = divmod(duration_ns, unit_ns)
        text += f"{number}{unit}" if number else ""
    return text or "0s"


def parse_quantity(text: str) -> int:
    """`25M`, `1.5Gi`, `1000`, as a whole number, rounded up: resource.Quantity of k8s.io/apimachinery."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a quantity, such as 25M, 1.5Gi or 1000")
    number, suffix = found.groups()
    exact = Fraction(number) * _FACTORS[suffix]
    return -(-exact.numerator // exact.denominator)
