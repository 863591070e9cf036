"""Segments to streams: order, overlap, loss and wrap."""

from podcam.wire.stream import Data, Gap, Piece, Reassembler, Side, Span, Unparsed


def text(pieces: list[Piece]) -> bytes:
    return b"".join(piece.data if isinstance(piece, Data) else b"-" * piece.length for piece in pieces)


def test_bytes_in_order_come_out_at_once() -> None:
    stream = Reassembler(1000)
    assert stream.segment(1000, b"abc", 3) == [Data(0, b"abc")]
    assert stream.segment(1003, b"de", 2) == [Data(3, b"de")]


def test_a_late_segment_fills_the_hole() -> None:
    stream = Reassembler(1000)
    assert stream.segment(1003, b"def", 3) == []
    assert text(stream.segment(1000, b"abc", 3)) == b"abcdef"


def test_retransmitted_and_overlapping_bytes_come_out_once() -> None:
    stream = Reassembler(0)
    stream.segment(0, b"abcd", 4)
    assert stream.segment(0, b"abcd", 4) == []
    assert stream.segment(2, b"cdef", 4) == [Data(4, b"ef")]


def test_sequence_numbers_wrap() -> None:
    stream = Reassembler(0xFFFFFFFE)
    assert text(stream.segment(0xFFFFFFFE, b"abc", 3)) == b"abc"
    assert stream.segment(1, b"d", 1) == [Data(3, b"d")]
    assert stream.offset(0xFFFFFFFE) == 0


def test_what_was_acknowledged_and_never_seen_is_a_gap() -> None:
    stream = Reassembler(0)
    assert stream.segment(5, b"fgh", 3) == []
    assert stream.acknowledged(8) == [Gap(0, 5), Data(5, b"fgh")]


def test_an_acknowledgement_within_a_hole_gives_up_only_what_it_covers() -> None:
    stream = Reassembler(0)
    stream.segment(5, b"fgh", 3)
    assert stream.acknowledged(2) == [Gap(0, 2)]
    assert stream.segment(2, b"cde", 3) == [Data(2, b"cde"), Data(5, b"fgh")]


def test_a_snap_length_leaves_a_gap_behind_what_was_captured() -> None:
    assert Reassembler(0).segment(0, b"abc", 10) == [Data(0, b"abc"), Gap(3, 7)]


def test_a_hole_is_given_up_when_too_much_waits_for_it() -> None:
    stream = Reassembler(0)
    chunk = bytes(1 << 16)
    pieces = [piece for i in range(17) for piece in stream.segment(1 + (i << 16), chunk, len(chunk))]
    assert pieces[0] == Gap(0, 1)
    assert stream.next_offset == 1 + (17 << 16)


def test_the_end_gives_out_what_still_waits() -> None:
    stream = Reassembler(0)
    stream.segment(2, b"c", 1)
    stream.segment(4, b"e", 1)
    assert text(stream.finish()) == b"--c-e"


def test_unparsed_bytes_keep_their_place() -> None:
    held = Unparsed(Side.CLIENT, 10)
    held.append(b"abcdef")
    assert held.take(2) == Span(Side.CLIENT, 10, 12)
    assert (held.peek(2), held.peek(2, 1), held.offset, held.end) == (b"cd", b"de", 12, 16)


def test_bytes_taken_before_they_come_are_dropped_when_they_do() -> None:
    held = Unparsed(Side.CLIENT)
    held.append(b"abc")
    held.take(5)
    held.append(b"de")
    held.append(b"f")
    assert (held.peek(9), held.offset) == (b"f", 5)


def test_a_loss_counts_only_where_it_hurts() -> None:
    held = Unparsed(Side.SERVER)
    held.append(b"abc")
    held.take(10)
    assert held.lose(7) == 0
    held.append(b"xy")
    assert (held.lose(4), held.offset, len(held)) == (4, 16, 0)
