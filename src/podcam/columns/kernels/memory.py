"""Loads from memory, widened to 64 bits."""

from collections.abc import Sequence

int64 = int

Memory = Sequence[int]
"""Bytes: a numpy array of uint8 for compiled kernels, a memoryview for plain ones."""


def big16(data: Memory, at: int) -> int:
    """The 16-bit number at `at`, in network order."""
    return int64(data[at]) << 8 | int64(data[at + 1])


def big32(data: Memory, at: int) -> int:
    """The 32-bit number at `at`, in network order."""
    return int64(data[at]) << 24 | int64(data[at + 1]) << 16 | int64(data[at + 2]) << 8 | int64(data[at + 3])


def little32(data: Memory, at: int) -> int:
    """The 32-bit number at `at`, lowest byte first."""
    return int64(data[at]) | int64(data[at + 1]) << 8 | int64(data[at + 2]) << 16 | int64(data[at + 3]) << 24


def either16(data: Memory, at: int, big: int) -> int:
    """The 16-bit number at `at` in the byte order of a file."""
    if big:
        return big16(data, at)
    return int64(data[at]) | int64(data[at + 1]) << 8


def either32(data: Memory, at: int, big: int) -> int:
    """The 32-bit number at `at` in the byte order of a file."""
    if big:
        return big32(data, at)
    return little32(data, at)


def big64(data: Memory, at: int) -> int:
    """The 64-bit number at `at`, in network order (as its two's complement when compiled)."""
    return big32(data, at) << 32 | big32(data, at + 4)
