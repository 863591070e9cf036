"""What people write for sizes, rates, durations and rings, as numbers: the `type=` of flags.

Each raises `argparse.ArgumentTypeError`, so that argparse names the flag. A number without a unit is refused
where the unit could be guessed wrong.
"""

import ipaddress
import os
import re
from argparse import ArgumentTypeError
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

_SIZE_UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_DURATION_UNITS_NS = {
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}
_LONGEST_NS = 3650 * _DURATION_UNITS_NS["d"]
_LARGEST_PACKET_BYTES = 262_144
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]?i?B)", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:us|ms|s|m|h|d))+", re.ASCII)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}\.?", re.IGNORECASE | re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class RingSize:
    """`10x100MB`: bounds the bytes of a ring and the size of one segment, not the number of segments."""

    segments: int
    segment_bytes: int

    @property
    def limit_bytes(self) -> int:
        """What the whole ring may take."""
        return self.segments * self.segment_bytes

    def __str__(self) -> str:
        return f"{self.segments}x{format_size(self.segment_bytes)}"


def size(text: str) -> int:
    """`100MB` (100,000,000), `1.5GB`, `64KiB` (65,536): bytes."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ArgumentTypeError(f"{text!r} is not a size: write a number and KB, MB, GB or MiB, as in 100MB")
    return int(Decimal(match[1]) * _SIZE_UNITS[match[2].upper()])


def rate(text: str) -> int:
    """`20MB/s`: bytes per second."""
    amount, slash, second = text.strip().rpartition("/")
    if not slash or second != "s":
        raise ArgumentTypeError(f"{text!r} is not a rate: write a size per second, as in 20MB/s")
    if (bytes_per_s := size(amount)) == 0:
        raise ArgumentTypeError(f"{text!r} would let nothing through: write more than 0")
    return bytes_per_s


def duration(text: str) -> int:
    """`500ms`, `60s`, `8h`, `1h30m`: nanoseconds. Ten years at most: windows stay in the calendar."""
    text = text.strip()
    if _DURATION.fullmatch(text) is None:
        raise ArgumentTypeError(f"{text!r} is not a duration: write numbers and ms, s, m, h or d, as in 60s")
    duration_ns = sum(
        int(Decimal(number) * _DURATION_UNITS_NS[unit]) for number, unit in _DURATION_PART.findall(text)
    )
    if duration_ns > _LONGEST_NS:
        raise ArgumentTypeError(f"{text!r} is more than ten years")
    return duration_ns


def ring_size(text: str) -> RingSize:
    """`10x100MB`: ten segments of 100 MB."""
    count, times, segment = text.strip().lower().partition("x")
    if not times or not count.isascii() or not count.isdigit():
        raise ArgumentTypeError(f"{text!r} is not a ring: write segments times their size, as in 10x100MB")
    ring = RingSize(int(count), size(segment))
    if ring.limit_bytes == 0:
        raise ArgumentTypeError(
            f"{text!r} holds nothing: write how many segments of what size, as in 10x100MB"
        )
    return ring


def port(text: str) -> int:
    """A TCP, UDP or SCTP port, 1 to 65535."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ArgumentTypeError(f"{text!r} is not a port: write a number from 1 to 65535")
    return int(text)


def host(text: str) -> str:
    """A name, an address or a network, as the user wrote it."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        if _NAME.fullmatch(text) is None or text.replace(".", "").isdigit():
            raise ArgumentTypeError(
                f"{text!r} is not a host: write a name, an address, or a network, as in 10.0.0.0/8"
            ) from None
    return text


def count(text: str) -> int:
    """A whole number, zero or more."""
    if not (text.isascii() and text.isdigit()):
        raise ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def snaplen(text: str) -> int:
    """Bytes to keep of a packet: 0 means all of it, as with tcpdump, and so does more than any packet has."""
    return min(count(text), _LARGEST_PACKET_BYTES) or _LARGEST_PACKET_BYTES


def payload(text: str) -> int:
    """Bytes to keep behind the transport header; more than any packet has are all of them."""
    return min(count(text), _LARGEST_PACKET_BYTES)


def folder(text: str) -> Path:
    """A folder; "" is none: it would be the one that the user is in, because a variable is unset."""
    if not text:
        raise ArgumentTypeError("the folder's name is empty: write a path, or . for the one you are in")
    return Path(text)


def format_size(size_bytes: int) -> str:
    """`100MB`, `1.5GB`: bytes to one decimal, in a spelling that `size` reads."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f}".removesuffix(".0") + unit
    return f"{size_bytes}B"


def default_folder() -> Path:
    """`/var/lib/podcam` for root, `$XDG_STATE_HOME/podcam` (`~/.local/state/podcam`) for anybody else."""
    if os.geteuid() == 0:
        return Path("/var/lib/podcam")
    try:
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "podcam"
    except RuntimeError:  # a user of a container that no passwd knows has no home: --dir will be needed
        return Path("/var/lib/podcam")
