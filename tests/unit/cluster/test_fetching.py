"""Fetching from somebody who lies: a pod's recorder may be anything."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from podcam.clip import read_manifest
from podcam.cluster.fetching import Fetching, File, PartError, index_of
from served_clips import keep_clip, packet

FILE = File(0, "web-1", "1.seg", size=4, modified_ns=10**18, version="a-4-b")


class Liar:
    """Has other bytes than it said."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self.pause: Callable[[float], None] = lambda _seconds: None

    def content(self, file: File, start: int) -> Iterator[bytes]:
        yield from self._pieces

    def prove(self, file: File, copy: Path) -> None:
        pass


@pytest.mark.parametrize("pieces", [(b"12345",), (b"123", b"45"), (b"1234", b"5")])
def test_no_more_is_taken_than_there_is(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    fetching = Fetching(lambda _there, _total: None)
    with pytest.raises(PartError, match=r"more came of web-1/1\.seg than there is of it"):
        fetching.fetch(Liar(*pieces), FILE, tmp_path / "web-1")
    assert fetching.fetched_bytes <= FILE.size
    assert not (tmp_path / "web-1" / "1.seg").exists()


def test_what_is_there_is_taken(tmp_path: Path) -> None:
    Fetching(lambda _there, _total: None).fetch(Liar(b"12", b"34"), FILE, tmp_path / "web-1")
    assert (tmp_path / "web-1" / "1.seg").read_bytes() == b"1234"
    assert (tmp_path / "web-1" / "1.seg").stat().st_mtime_ns == FILE.modified_ns


@pytest.mark.parametrize("modified_ns", [2**63, -1, "1", 1.5, None])
def test_a_file_has_a_time_that_file_systems_know(tmp_path: Path, modified_ns: Any) -> None:
    manifest = read_manifest(keep_clip(tmp_path, "c", "node-1", {"web-1": [[packet(1)]]}))
    ((name,),) = [part.segments for part in manifest.parts]
    entry = {"folder": "web-1", "name": name, "bytes": 4, "modified_ns": modified_ns, "version": "a"}
    with pytest.raises(ValueError, match="no time of a file"):
        index_of({"manifest": manifest.to_json(), "files": [entry]})
