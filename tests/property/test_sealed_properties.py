"""Whatever is done to sealed bytes on the way is noticed, and nothing plain is left in them."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from podcam.sealed import (
    CHUNK_BYTES,
    SEALED_CHUNK_BYTES,
    PrivateKey,
    Resource,
    Seal,
    SealedError,
    Unsealer,
    sealed_range,
    sealed_size,
)

AGENT, READER = PrivateKey.new(), PrivateKey.new()
RESOURCE = Resource("uid", "a/1.seg", "1")

# Sizes matter at the edges of chunks; the bytes themselves only have to differ everywhere.
sizes = st.builds(
    lambda chunks, rest: max(0, chunks * CHUNK_BYTES + rest), st.integers(0, 3), st.integers(-3, 70)
)


def plain_of(size: int) -> bytes:
    return b"".join(number.to_bytes(8, "big") for number in range(-(-size // 8)))[:size]


def sealed(plain: bytes, start: int = 0, stop: int | None = None, resource: Resource = RESOURCE) -> bytes:
    seal = Seal.by_agent(AGENT, READER.public, resource)
    stop = sealed_size(len(plain)) if stop is None else stop
    return b"".join(sealed_range(seal, lambda at, size: plain[at : at + size], len(plain), start, stop))


def received(pieces: Iterator[bytes], sealed_bytes: int) -> bytes:
    unsealer = Unsealer(Seal.by_reader(READER, AGENT.public, RESOURCE), sealed_bytes)
    plain = b"".join(map(unsealer.feed, pieces))
    unsealer.finish()
    return plain


@given(size=sizes, cuts=st.lists(st.integers(0, 4 * SEALED_CHUNK_BYTES), max_size=6))
def test_any_pieces_give_the_plain_bytes(size: int, cuts: list[int]) -> None:
    plain = plain_of(size)
    data = sealed(plain)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = (data[a:b] for a, b in pairwise(edges))
    assert received(pieces, len(data)) == plain


@given(
    size=sizes, ends=st.tuples(st.integers(0, 4 * SEALED_CHUNK_BYTES), st.integers(0, 4 * SEALED_CHUNK_BYTES))
)
def test_any_range_is_that_of_the_whole(size: int, ends: tuple[int, int]) -> None:
    plain = plain_of(size)
    data = sealed(plain)
    start, stop = sorted(min(end, len(data)) for end in ends)
    assert sealed(plain, start, stop) == data[start:stop]


@given(size=sizes, at=st.integers(0), bit=st.integers(0, 7))
def test_flipped_bit_is_noticed(size: int, at: int, bit: int) -> None:
    data = bytearray(sealed(plain_of(size)))
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(SealedError):
        received(iter([bytes(data)]), len(data))


@given(size=sizes, cut=st.integers(0), told=st.booleans())
def test_truncation_is_noticed(size: int, cut: int, told: bool) -> None:
    """Whether the size is told as it was, or as it became."""
    data = sealed(plain_of(size))
    short = data[: cut % len(data)]
    with pytest.raises(SealedError):
        received(iter([short]), len(short) if told else len(data))


@given(size=sizes, added=st.binary(min_size=1, max_size=40), told=st.booleans())
def test_addition_is_noticed(size: int, added: bytes, told: bool) -> None:
    data = sealed(plain_of(size))
    with pytest.raises(SealedError):
        received(iter([data + added]), len(data) + len(added) if told else len(data))


@given(data=st.data(), size=sizes)
def test_chunks_in_another_order_are_noticed(data: st.DataObject, size: int) -> None:
    whole = sealed(plain_of(size))
    chunks = [whole[at : at + SEALED_CHUNK_BYTES] for at in range(0, len(whole), SEALED_CHUNK_BYTES)]
    picked = data.draw(st.lists(st.sampled_from(range(len(chunks))), min_size=1, max_size=5))
    assume(picked != list(range(len(chunks))))
    other = b"".join(chunks[number] for number in picked)
    with pytest.raises(SealedError):
        received(iter([other]), len(other))


@given(
    size=sizes,
    fields=st.tuples(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5)),
    others=st.tuples(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5)),
)
def test_no_two_resources_share_a_key(
    size: int, fields: tuple[str, str, str], others: tuple[str, str, str]
) -> None:
    plain = plain_of(size)
    same = sealed(plain, resource=Resource(*fields)) == sealed(plain, resource=Resource(*others))
    assert same == (fields == others)


@given(junk=st.binary(max_size=300), sealed_bytes=st.integers(0, 400), first=st.integers(0, 3))
def test_anything_else_raises_nothing_but_the_declared_error(
    junk: bytes, sealed_bytes: int, first: int
) -> None:
    def read() -> None:
        unsealer = Unsealer(Seal.by_reader(READER, AGENT.public, RESOURCE), sealed_bytes, first)
        unsealer.feed(junk)
        unsealer.finish()

    with pytest.raises(SealedError):  # junk is by chance what was sealed once in 2^128
        read()


@given(size=st.integers(64, 2 * CHUNK_BYTES))
def test_nothing_plain_is_left(size: int) -> None:
    marker = b"a name nobody may read, 32 bytes"
    plain = (marker * (size // len(marker) + 1))[:size]
    assert marker[:8] not in sealed(plain)
