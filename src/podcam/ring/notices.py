"""What a ring has to tell the people who record."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RingShrunk:
    """The file system is full: the ring goes on within `limit_bytes`."""

    limit_bytes: int


@dataclass(frozen=True, slots=True)
class RingGrew:
    """The file system has room again: the ring may use `limit_bytes`."""

    limit_bytes: int


@dataclass(frozen=True, slots=True)
class PacketsLost:
    """The file system is full and the ring has nothing left to give up: these were not written."""

    packets: int


@dataclass(frozen=True, slots=True)
class TornSegment:
    """A segment that was there before is damaged; it stays as it is."""

    path: Path
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotKept:
    """A clip lacks a segment that it should hold; no more are kept for it until it is frozen again."""

    into: Path
    reason: str


Notice = RingShrunk | RingGrew | PacketsLost | TornSegment | NotKept
