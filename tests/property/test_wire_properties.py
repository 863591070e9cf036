"""Parsers hear the same however the bytes are cut, and nothing that a capture holds makes them raise."""

from collections.abc import Callable

from hypothesis import example, given
from hypothesis import strategies as st

from conversations import QUERY, ROWS, SASL, SASL_RESPONSE, TERMINATE, WELCOME, message, startup
from podcam.diagnose.dialogue import Dialogue
from podcam.wire.postgres import PostgresParser
from podcam.wire.stream import Data, Piece, Reassembler, Side
from podcam.wire.tls import TlsParser

CLIENT, SERVER = Side.CLIENT, Side.SERVER
SSL_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)
SESSION = [
    (CLIENT, SSL_REQUEST),
    (SERVER, b"N"),
    (CLIENT, startup()),
    (SERVER, SASL),
    (CLIENT, SASL_RESPONSE),
    (SERVER, WELCOME),
    (CLIENT, QUERY),
    (SERVER, ROWS),
    (CLIENT, message(b"P", bytes(300)) + message(b"S")),
    (SERVER, message(b"1") + ROWS),
    (CLIENT, TERMINATE),
]
sides = st.sampled_from(Side)
noise = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([data for _, data in SESSION]),
    st.binary(max_size=30).map(lambda tail: b"\x16\x03\x01" + tail),
)
Heard = list[tuple[Side, bytes | int]]
"""What a side said, or how many of its bytes are missing."""
steps = st.lists(st.one_of(st.tuples(sides, noise), st.tuples(sides, st.integers(0, 5000))), max_size=12)


@given(st.data())
def test_any_chunking_of_a_session_gives_the_same_events(data: st.DataObject) -> None:
    whole, chunked = PostgresParser(), PostgresParser()
    for side, said in SESSION:
        cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(said) - 1)), max_size=6)))
        pieces = [said[start:end] for start, end in zip([0, *cuts], [*cuts, len(said)], strict=True)]
        expected = whole.feed(side, said)
        assert [event for piece in pieces for event in chunked.feed(side, piece)] == expected


@given(st.lists(st.integers(0, 59), max_size=8), st.permutations(range(6)))
def test_segments_in_any_order_and_twice_give_the_same_bytes(again: list[int], order: list[int]) -> None:
    sent = bytes(range(60))
    stream = Reassembler(0xFFFFFFF0)
    pieces: list[Piece] = []
    for start in [index * 10 for index in order] + again:
        segment = sent[start : start + 10]
        pieces += stream.segment((0xFFFFFFF0 + start) % (1 << 32), segment, len(segment))
    assert b"".join(piece.data for piece in pieces if isinstance(piece, Data)) == sent


def _hear(feed: Callable[[Side, bytes], object], gap: Callable[[Side, int], object], heard: Heard) -> None:
    for side, what in heard:
        if isinstance(what, bytes):
            feed(side, what)
        else:
            gap(side, what)


@given(steps)
@example([(CLIENT, SSL_REQUEST), (SERVER, b"S"), (CLIENT, 3), (SERVER, b"\x15\x03\x03\0\x02\x02\x28")])
def test_no_bytes_make_the_postgresql_parser_raise(heard: Heard) -> None:
    for from_start in (True, False):
        parser = PostgresParser(from_start=from_start)
        _hear(parser.feed, parser.gap, heard)


@given(steps)
def test_no_bytes_make_the_tls_parser_raise(heard: Heard) -> None:
    parser = TlsParser()
    _hear(parser.feed, parser.gap, heard)


@given(steps)
def test_every_dialogue_has_a_standing(heard: Heard) -> None:
    for from_start in (True, False):
        dialogue = Dialogue(from_start=from_start)
        _hear(dialogue.hear, dialogue.miss, heard)
        dialogue.standing()
