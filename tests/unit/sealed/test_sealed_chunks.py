"""The format, held against a second implementation written from its description."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

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

AGENT, READER = PrivateKey(bytes(range(32))), PrivateKey(bytes(range(32, 64)))
RESOURCE = Resource("5f0c-uid", "default_web/00000001-2.seg", "a-b-c")


def sealed(plain: bytes, resource: Resource = RESOURCE, reader: bytes = READER.public) -> bytes:
    seal = Seal.by_agent(AGENT, reader, resource)
    return b"".join(
        sealed_range(seal, lambda at, size: plain[at : at + size], len(plain), 0, sealed_size(len(plain)))
    )


def unsealed(data: bytes, seal: Seal) -> bytes:
    unsealer = Unsealer(seal, len(data))
    plain = unsealer.feed(data)
    unsealer.finish()
    return plain


def test_as_it_is_described() -> None:
    """As `podcam.sealed` describes it, with nothing of its code: this is what other readers build on."""
    plain = bytes(range(256)) * 300
    shared = AGENT.shared_with(READER.public)
    info = b"podcam.sealed/1"
    for field in (AGENT.public, READER.public, b"5f0c-uid", b"default_web/00000001-2.seg", b"a-b-c"):
        info += len(field).to_bytes(4, "big") + field
    extracted = hmac.digest(bytes(32), shared, hashlib.sha256)
    key = AESGCM(hmac.digest(extracted, info + b"\1", hashlib.sha256))
    expected = key.encrypt(bytes(12), plain[:65536], b"\0")
    expected += key.encrypt(bytes(11) + b"\1", plain[65536:], b"\1")
    assert sealed(plain) == expected


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
def test_sizes_around_a_chunk(size: int) -> None:
    plain = b"p" * size
    data = sealed(plain)
    assert len(data) == sealed_size(size)
    assert unsealed(data, Seal.by_reader(READER, AGENT.public, RESOURCE)) == plain


def test_resumed_at_a_chunk() -> None:
    plain = bytes(range(256)) * 1000
    data = sealed(plain)
    unsealer = Unsealer(Seal.by_reader(READER, AGENT.public, RESOURCE), len(data), first=2)
    assert unsealer.feed(data[2 * SEALED_CHUNK_BYTES :]) == plain[2 * CHUNK_BYTES :]
    unsealer.finish()


@pytest.mark.parametrize(
    "other",
    [
        Resource("other-uid", RESOURCE.name, RESOURCE.version),
        Resource(RESOURCE.grant_uid, "default_web/00000002-2.seg", RESOURCE.version),
        Resource(RESOURCE.grant_uid, RESOURCE.name, "a-b-d"),
        Resource(RESOURCE.grant_uid + RESOURCE.name[0], RESOURCE.name[1:], RESOURCE.version),
    ],
)
def test_another_grant_file_or_version_has_another_key(other: Resource) -> None:
    assert sealed(b"plain", other) != sealed(b"plain")
    with pytest.raises(SealedError, match="chunk 0 is not as the agent sealed it"):
        unsealed(sealed(b"plain", other), Seal.by_reader(READER, AGENT.public, RESOURCE))


def test_another_reader_and_another_agent() -> None:
    other = PrivateKey.new()
    with pytest.raises(SealedError, match="chunk 0"):
        unsealed(sealed(b"plain"), Seal.by_reader(other, AGENT.public, RESOURCE))
    with pytest.raises(SealedError, match="chunk 0"):
        unsealed(sealed(b"plain"), Seal.by_reader(READER, other.public, RESOURCE))


def test_agent_is_not_taken_for_a_reader() -> None:
    """The two sides share one secret; what one of them seals the other way round has another key."""
    with pytest.raises(SealedError, match="chunk 0"):
        unsealed(sealed(b"plain"), Seal.by_agent(READER, AGENT.public, RESOURCE))


@pytest.mark.parametrize("size", [0, 1, 15, SEALED_CHUNK_BYTES + 1, SEALED_CHUNK_BYTES + 15])
def test_size_that_nothing_sealed_has(size: int) -> None:
    with pytest.raises(SealedError, match=f"has {size} bytes"):
        Unsealer(Seal.by_reader(READER, AGENT.public, RESOURCE), size)
