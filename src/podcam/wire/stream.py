"""TCP segments to byte streams, and the places in a stream that parsers speak of.

An eavesdropper sees segments out of order, twice, cut by a snap length, or not at all: `Reassembler` puts the
bytes of one side in order and says where some are missing, as soon as the other side's acknowledgement (or
the end) shows that they will not come.
"""

from bisect import insort
from dataclasses import dataclass
from enum import StrEnum

MAX_BUFFERED_BYTES = 1 << 20
"""Bytes that wait for a missing segment before it is given up: more than a receive window usually holds."""

_SEQUENCE_SPACE = 1 << 32


class Side(StrEnum):
    """Who sent something."""

    CLIENT = "client"
    SERVER = "server"

    @property
    def other(self) -> "Side":
        """Who received it."""
        return Side.SERVER if self is Side.CLIENT else Side.CLIENT


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of what one side sent: stream offsets, the byte at `end` not included.

    Offset 0 is the byte after the SYN, or the first byte seen where the SYN was not.
    """

    side: Side
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Malformed:
    """Bytes that the protocol does not allow here. The parser goes on at the next place that makes sense."""

    span: Span
    reason: str


@dataclass(frozen=True, slots=True)
class Data:
    """The next bytes of a stream."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """The next `length` bytes of a stream were sent, but are not in the capture."""

    offset: int
    length: int


Piece = Data | Gap


class Reassembler:
    """The bytes of one side of a connection, in order (RFC 9293, section 3.4).

    Args:
        first_seq: sequence number of the first byte: the initial sequence number plus one.
    """

    def __init__(self, first_seq: int) -> None:
        self._first_seq = first_seq
        self._next = 0
        self._waiting: list[tuple[int, int, bytes]] = []
        self._waiting_bytes = 0

    @property
    def next_offset(self) -> int:
        """Offset of the first byte that has not been given out."""
        return self._next

    def offset(self, seq: int) -> int:
        """Where a sequence number lies in the stream: the place nearest to what was seen last."""
        distance = (seq - self._first_seq - self._next) % _SEQUENCE_SPACE
        if distance >= _SEQUENCE_SPACE // 2:
            distance -= _SEQUENCE_SPACE
        return self._next + distance

    def segment(self, seq: int, data: bytes, length: int) -> list[Piece]:
        """Take the segment at `seq`, which had `length` bytes on the wire, of which `data` was captured."""
        start = self.offset(seq)
        if length <= 0 or start + length <= self._next:
            return []
        insort(self._waiting, (start, length, data))
        self._waiting_bytes += length
        pieces = self._drain(self._next)
        if self._waiting_bytes > MAX_BUFFERED_BYTES:
            pieces += self._drain(self._waiting[0][0])
        return pieces

    def acknowledged(self, ack: int) -> list[Piece]:
        """The other side has received everything before `ack`: what is missing there will not come again."""
        end = self.offset(ack)
        if not self._waiting or end <= self._next:
            return []
        return self._drain(end)

    def skip(self, length: int) -> list[Piece]:
        """The next `length` bytes were sent and will not come."""
        if length <= 0 or self._waiting:
            return []
        gap = Gap(self._next, length)
        self._next += length
        return [gap]

    def finish(self) -> list[Piece]:
        """The capture is over: give out what still waits."""
        return self._drain(self._waiting[-1][0]) if self._waiting else []

    def _drain(self, given_up: int) -> list[Piece]:
        """Give out what is in order; holes that begin before `given_up` become gaps."""
        pieces: list[Piece] = []
        while self._waiting:
            start, length, data = self._waiting[0]
            if start > self._next:
                if self._next >= given_up:
                    break
                hole = min(start, given_up) - self._next
                pieces.append(Gap(self._next, hole))
                self._next += hole
                continue
            del self._waiting[0]
            self._waiting_bytes -= length
            pieces += self._give_out(start, length, data)
        return pieces

    def _give_out(self, start: int, length: int, data: bytes) -> list[Piece]:
        end = start + length
        if end <= self._next:
            return []
        pieces: list[Piece] = []
        fresh = data[self._next - start : length]
        if fresh:
            pieces.append(Data(self._next, fresh))
            self._next += len(fresh)
        if end > self._next:
            pieces.append(Gap(self._next, end - self._next))
            self._next = end
        return pieces


class Unparsed:
    """Bytes of one side that a parser has not used up, with their place in the stream."""

    def __init__(self, side: Side, offset: int = 0) -> None:
        self.side = side
        self.offset = offset
        """Of the first byte held."""
        self._bytes = bytearray()
        self._skip = 0

    def __len__(self) -> int:
        return len(self._bytes)

    @property
    def end(self) -> int:
        """Offset behind the last byte held."""
        return self.offset + len(self._bytes)

    def append(self, data: bytes) -> None:
        """Hold more bytes, less those that are to be skipped."""
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        if not self._bytes:
            self.offset += skipped
        self._bytes += data[skipped:]

    def peek(self, count: int, start: int = 0) -> bytes:
        """Up to `count` bytes from `start` on, left where they are."""
        return bytes(self._bytes[start : start + count])

    def take(self, count: int) -> Span:
        """Use up `count` bytes, those still to come included."""
        span = Span(self.side, self.offset, self.offset + count)
        held = min(count, len(self._bytes))
        del self._bytes[:held]
        self.offset += held
        self._skip += count - held
        return span

    def lose(self, count: int) -> int:
        """The `count` bytes behind those held are missing, and what is held can no longer be completed.

        Returns how many of them were not to be skipped anyway.
        """
        skipped = min(self._skip, count)
        self._skip -= skipped
        self.offset = self.end + count
        self._bytes.clear()
        return count - skipped
