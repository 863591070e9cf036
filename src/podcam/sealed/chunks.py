"""Sealing and unsealing chunk by chunk. The format stands in this room's docstring."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from podcam.sealed.keys import PrivateKey, SealedError

CHUNK_BYTES: Final = 65_536
TAG_BYTES: Final = 16
SEALED_CHUNK_BYTES: Final = CHUNK_BYTES + TAG_BYTES

_FORMAT: Final = b"podcam.sealed/1"
_MORE: Final = b"\0"
_LAST: Final = b"\1"


@dataclass(frozen=True, slots=True)
class Resource:
    """What is sealed. Different bytes must never go by the same name and version under one grant."""

    grant_uid: str
    name: str
    version: str


class Seal:
    """The key of one resource, for one reader, at one agent."""

    def __init__(self, shared: bytes, agent: bytes, reader: bytes, resource: Resource) -> None:
        info = _FORMAT + b"".join(
            len(field).to_bytes(4, "big") + field
            for field in (
                agent,
                reader,
                resource.grant_uid.encode(),
                resource.name.encode(),
                resource.version.encode(),
            )
        )
        self._cipher = AESGCM(HKDF(SHA256(), 32, salt=None, info=info).derive(shared))

    @classmethod
    def by_agent(cls, own: PrivateKey, reader: bytes, resource: Resource) -> Self:
        """The agent's side: `reader` is the grant's public key.

        Raises:
            SealedError: that key cannot be sealed for.
        """
        return cls(own.shared_with(reader), own.public, reader, resource)

    @classmethod
    def by_reader(cls, own: PrivateKey, agent: bytes, resource: Resource) -> Self:
        """The reader's side: `agent` is the public key that the agent publishes.

        Raises:
            SealedError: that key is none.
        """
        return cls(own.shared_with(agent), agent, own.public, resource)

    def seal(self, number: int, plain: bytes, *, last: bool) -> bytes:
        """One chunk, sealed."""
        return self._cipher.encrypt(number.to_bytes(12, "big"), plain, _LAST if last else _MORE)

    def unseal(self, number: int, sealed: bytes, *, last: bool) -> bytes:
        """One chunk's plain bytes.

        Raises:
            SealedError: it is not this chunk of this resource, sealed by this agent for this reader.
        """
        try:
            return self._cipher.decrypt(number.to_bytes(12, "big"), sealed, _LAST if last else _MORE)
        except InvalidTag:
            raise SealedError(
                f"chunk {number} is not as the agent sealed it: changed on the way, or sealed by another"
            ) from None


def sealed_size(plain_bytes: int) -> int:
    """How many bytes so many become."""
    return plain_bytes + _chunks(plain_bytes) * TAG_BYTES


def sealed_range(
    seal: Seal, read: Callable[[int, int], bytes], plain_bytes: int, start: int, stop: int
) -> Iterator[bytes]:
    """The sealed bytes from `start` up to and without `stop`, at most a chunk at a time.

    Args:
        seal: of the resource.
        read: the plain bytes at an offset, as many as asked for.
        plain_bytes: how many there are.
        start: within the sealed bytes.
        stop: likewise; not above `sealed_size(plain_bytes)`.
    """
    last = _chunks(plain_bytes) - 1
    for number in range(start // SEALED_CHUNK_BYTES, -(-stop // SEALED_CHUNK_BYTES)):
        at = number * CHUNK_BYTES
        plain = read(at, min(CHUNK_BYTES, plain_bytes - at))
        sealed = seal.seal(number, plain, last=number == last)
        begin = number * SEALED_CHUNK_BYTES
        yield sealed[max(start - begin, 0) : stop - begin]


class Unsealer:
    """Takes the sealed bytes as they come, and gives the plain bytes that are proven.

    Args:
        seal: of the resource.
        sealed_bytes: how many there are of all of it. A wrong number is noticed at the last chunk.
        first: the number of the chunk to begin with: what is fed begins at its first byte.

    Raises:
        SealedError: nothing that is sealed has this size, or such a chunk.
    """

    def __init__(self, seal: Seal, sealed_bytes: int, first: int = 0) -> None:
        chunks, rest = divmod(sealed_bytes, SEALED_CHUNK_BYTES)
        if 0 < rest < TAG_BYTES or sealed_bytes < TAG_BYTES:
            raise SealedError(f"nothing that is sealed has {sealed_bytes} bytes")
        self._seal = seal
        self._next = first
        self._last = chunks - (rest == 0)
        if first > self._last:
            raise SealedError(f"what has {sealed_bytes} sealed bytes has no chunk {first}")
        self._last_bytes = rest or SEALED_CHUNK_BYTES
        self._pending = bytearray()

    def feed(self, data: bytes) -> bytes:
        """The plain bytes of the chunks that this completes.

        Raises:
            SealedError: they are not what the agent sealed, or there is more than the end.
        """
        self._pending += data
        plain = []
        while self._next <= self._last and len(self._pending) >= (size := self._size(self._next)):
            chunk = bytes(self._pending[:size])
            plain.append(self._seal.unseal(self._next, chunk, last=self._next == self._last))
            del self._pending[:size]
            self._next += 1
        if self._next > self._last and self._pending:
            raise SealedError("more was received than was sealed")
        return b"".join(plain)

    def finish(self) -> None:
        """Call it when nothing more comes.

        Raises:
            SealedError: the end is missing.
        """
        if self._next <= self._last:
            raise SealedError("the end is missing of what was sealed")

    def _size(self, number: int) -> int:
        return self._last_bytes if number == self._last else SEALED_CHUNK_BYTES


def _chunks(plain_bytes: int) -> int:
    return max(1, -(-plain_bytes // CHUNK_BYTES))
