"""The keys of agents and readers: X25519 (RFC 7748), raw, 32 bytes."""

import base64
import binascii
import os
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from podcam.errors import PodcamError

KEY_BYTES: Final = 32


class SealedError(PodcamError):
    """A key cannot be used, or what was received is not what an agent sealed for this reader."""


class PrivateKey:
    """One side's secret. Its `repr` does not show it."""

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise SealedError(f"a private key has {KEY_BYTES} bytes, not {len(raw)}")
        self._key = X25519PrivateKey.from_private_bytes(raw)
        self.public: Final = self._key.public_key().public_bytes_raw()
        """Its public half, 32 bytes."""

    @classmethod
    def new(cls) -> Self:
        """A key that nobody has had before."""
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def kept_in(cls, path: Path) -> Self:
        """The key in this file; a new one, which is on disk when this returns, where there is none.

        Raises:
            SealedError: it cannot be read or written, or is no key.
        """
        try:
            if path.exists():
                return cls(path.read_bytes())
            key = os.urandom(KEY_BYTES)
            _write(path, key)
            return cls(key)
        except OSError as error:
            raise SealedError(f"cannot keep a key in {path}: {error.strerror}") from error
        except SealedError as error:
            raise SealedError(
                f"{path} holds no key ({error}): remove it, and a new one is made; clips that were kept "
                "before it can be read as before"
            ) from error

    def shared_with(self, public: bytes) -> bytes:
        """The secret shared with the owner of that public key, 32 bytes.

        Raises:
            SealedError: it is no public key, or one that shares nothing secret (RFC 7748, 6.1).
        """
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            raise SealedError(f"{public_key_text(public)} is no public key that can be sealed for") from error


def public_key_text(public: bytes) -> str:
    """A public key as custom resources have it: base64."""
    return base64.b64encode(public).decode()


def public_key_from_text(text: str) -> bytes:
    """Reads what `public_key_text` gave.

    Raises:
        SealedError: it is something else.
    """
    try:
        public = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        public = b""
    if len(public) != KEY_BYTES:
        raise SealedError(f"{text[:60]!r} is no public key: one is {KEY_BYTES} bytes in base64")
    return public


def _write(path: Path, raw: bytes) -> None:
    """Whole or not at all, for the owner's eyes only, also after a power cut."""
    hidden = path.with_name(f".{path.name}.new")
    hidden.unlink(missing_ok=True)
    with os.fdopen(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    hidden.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
