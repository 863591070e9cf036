"""Keys: kept for their owner alone, and refused where nothing can be sealed for them."""

import base64
import os
from pathlib import Path

import pytest

from podcam.sealed import PrivateKey, Resource, Seal, SealedError, public_key_from_text, public_key_text


def test_kept_for_its_owner_alone_and_the_same_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "key"
    before = os.umask(0)
    try:
        key = PrivateKey.kept_in(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert PrivateKey.kept_in(path).public == key.public
    assert [p.name for p in tmp_path.iterdir()] == ["key"]


def test_left_over_by_one_that_was_killed(tmp_path: Path) -> None:
    (tmp_path / ".key.new").write_bytes(b"half")
    key = PrivateKey.kept_in(tmp_path / "key")
    assert PrivateKey.kept_in(tmp_path / "key").public == key.public


def test_file_that_holds_no_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(SealedError, match=r"key holds no key .*: remove it"):
        PrivateKey.kept_in(tmp_path / "key")


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SealedError, match=r"cannot keep a key in .*No such file"):
        PrivateKey.kept_in(tmp_path / "no" / "key")


def test_secret_is_not_shown() -> None:
    raw = os.urandom(32)
    key = PrivateKey(raw)
    assert raw.hex() not in repr(key)
    assert repr(raw) not in repr(key)


def test_public_key_as_text() -> None:
    public = PrivateKey.new().public
    assert len(public_key_text(public)) == 44
    assert public_key_from_text(public_key_text(public)) == public


@pytest.mark.parametrize("text", ["", "abc", "*" * 44, base64.b64encode(bytes(31)).decode(), "é" * 44])
def test_text_that_is_no_public_key(text: str) -> None:
    with pytest.raises(SealedError, match="no public key"):
        public_key_from_text(text)


@pytest.mark.parametrize(
    "public",
    [
        bytes(32),
        (1).to_bytes(32, "little"),
        (2**255 - 19 - 1).to_bytes(32, "little"),
        (325606250916557431795983626356110631294008115727848805560023387167927233504).to_bytes(32, "little"),
        b"short",
    ],
)
def test_public_key_that_shares_nothing_secret(public: bytes) -> None:
    with pytest.raises(SealedError, match="no public key that can be sealed for"):
        Seal.by_agent(PrivateKey.new(), public, Resource("uid", "a", "1"))
