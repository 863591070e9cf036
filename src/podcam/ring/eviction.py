"""Which segments have to go, decided from their sizes alone."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stored:
    """A closed segment as the file system has it."""

    name: str
    bytes: int
    links: int = 1
    """Names of its inode: with more than one, a clip holds it too, and unlinking it frees no space."""


def to_fit(oldest_first: Iterable[Stored], ring_bytes: int, limit_bytes: int) -> list[Stored]:
    """The segments that must leave for the ring to be within its limit; all of them if that is not enough.

    What a clip holds too leaves as well: from then on it counts against the budget of the clips alone.
    """
    gone = []
    for segment in oldest_first:
        if ring_bytes <= limit_bytes:
            break
        gone.append(segment)
        ring_bytes -= segment.bytes
    return gone


def to_free(oldest_first: Iterable[Stored], wanted_bytes: int) -> list[Stored]:
    """The segments whose end gives this much space back to a full file system, or as much as there is."""
    gone = []
    for segment in oldest_first:
        if wanted_bytes <= 0:
            break
        if segment.links == 1:
            gone.append(segment)
            wanted_bytes -= segment.bytes
    return gone
