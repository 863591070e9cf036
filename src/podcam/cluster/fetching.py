"""Fetching the files of a clip into a folder of one's own, from whoever has them.

What has come is kept in the user's cache, so that a fetch that was cut goes on where it was: of a file on its
way all is kept that is surely on disk, under a name that tells its version.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from podcam.clip import Manifest
from podcam.errors import ClipError, PodcamError, UnreachableError
from podcam.kube import Object
from podcam.sealed import CHUNK_BYTES

Tell = Callable[[int, int], None]
"""Takes how many bytes are there, of how many."""

Pause = Callable[[float], None]
"""Waits for so many seconds."""

_LATEST_NS: Final = 2**63
_LONGEST_FOLDER: Final = 200
_LONGEST_CLIP: Final = 120
_SYNC_BYTES: Final = 256 * CHUNK_BYTES
"""So much of a file at most comes again after a power cut."""
_MOST_CUTS: Final = 5
"""In a row, without a byte between them."""
_CUT_PAUSE_SECONDS: Final = 1.0


class PartError(PodcamError):
    """What one recorder keeps of a clip cannot be had; what the others keep can."""


@dataclass(frozen=True, slots=True)
class File:
    """A segment of a part, as an index has it."""

    number: int
    folder: str
    name: str
    size: int
    modified_ns: int
    version: str
    """What tells its content from any other under its name."""


@dataclass(frozen=True, slots=True)
class Index:
    """What a recorder keeps of a clip."""

    manifest: Manifest
    files: tuple[File, ...]
    gone: tuple[str, ...]
    """Segments that the manifest names and it no longer has."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A part that could not be had."""

    node: str
    why: str


@dataclass(frozen=True, slots=True)
class Pulled:
    """A clip that was fetched."""

    folder: Path
    """A clip's folder like any other."""
    manifest: Manifest
    missing: tuple[Missing, ...]
    fetched_bytes: int
    """What came this time."""


class Source(Protocol):
    """Who has the files of a clip."""

    pause: Pause

    def content(self, file: File, start: int) -> Iterator[bytes]:
        """The file's bytes from `start` on, 0 or where an earlier piece of it ended.

        Raises:
            PartError: the file is gone, or another one.
            UnreachableError: the way was cut: go on from where it was.
        """

    def prove(self, file: File, copy: Path) -> None:
        """See to it that a copy is what the source has.

        Raises:
            PartError: it is not.
            UnreachableError: the way was cut.
        """


class Fetching:
    """Files on their way.

    Args:
        tell: takes the progress.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._there = 0
        self._total = 0
        self.fetched_bytes = 0
        """What came, and had not been here before."""

    def expect(self, index: Index) -> None:
        """Count the files of an index among those that are to come."""
        self._total += sum(file.size for file in index.files)

    def fetch(self, source: Source, file: File, folder: Path) -> None:
        """Bring one file into a folder; nothing comes of one that is there.

        Raises:
            PartError: it is gone, or what came is not what its source has.
            KubernetesError: there is no way to its source.
        """
        folder.mkdir(mode=0o700, exist_ok=True)
        target = folder / file.name
        if _is(target, file):
            self._arrived(file.size, came=False)
            return
        with _Partial(target, file) as partial:
            self._arrived(partial.size, came=False)
            cuts, proven = 0, False
            while not proven:
                before = partial.size
                try:
                    self._go_on(source, file, partial)
                    self._prove(source, file, partial)
                    proven = True
                except UnreachableError:
                    cuts = 0 if partial.size > before else cuts + 1
                    if cuts >= _MOST_CUTS:
                        raise
                    source.pause(_CUT_PAUSE_SECONDS)
            partial.finish()

    def _go_on(self, source: Source, file: File, partial: "_Partial") -> None:
        while partial.size < file.size:
            for plain in source.content(file, partial.size):
                if partial.size + len(plain) > file.size:
                    raise PartError(f"more came of {file.folder}/{file.name} than there is of it")
                partial.write(plain)
                self._arrived(len(plain))

    @staticmethod
    def _prove(source: Source, file: File, partial: "_Partial") -> None:
        try:
            source.prove(file, partial.flushed())
        except PartError:
            partial.forget()
            raise

    def _arrived(self, count: int, *, came: bool = True) -> None:
        self._there += count
        self.fetched_bytes += count if came else 0
        self._tell(self._there, self._total)


def file_name(clip: str, namespace: str, created_ns: int) -> str:
    """`CLIP-NAMESPACE-TIME.pcapng`, which every file system takes."""
    moment = datetime.fromtimestamp(created_ns // 1_000_000_000, UTC)
    name = f"{clip[:_LONGEST_CLIP]}-{namespace}".replace(".", "-")  # `con.x` is a device to some
    return f"{name}-{moment:%Y%m%d-%H%M%SZ}.pcapng"


def short(name: str) -> str:
    """A name that every file system takes, made of one that may be too long."""
    if len(name.encode()) <= _LONGEST_FOLDER:
        return name
    return hashlib.sha256(name.encode()).hexdigest()


def told(index: Index) -> Manifest:
    """The manifest of an index, with what its source no longer has."""
    warnings = [
        *index.manifest.warnings,
        *(f"{name} was gone when the clip was pulled" for name in index.gone),
    ]
    return replace(index.manifest, warnings=tuple(warnings))


def kept(note: Path) -> Manifest | None:
    """The manifest in a note, where an earlier fetch has brought all that it names."""
    try:
        return Manifest.from_json(json.loads(note.read_bytes()))
    except (FileNotFoundError, KeyError, TypeError, ValueError, AttributeError):
        return None


def keep(note: Path, manifest: Manifest) -> None:
    """Note that all that the manifest names is here, and on disk."""
    hidden = note.with_name(f"{note.name}.new")
    with os.fdopen(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(manifest.to_json(), file)
        file.flush()
        os.fsync(file.fileno())
    hidden.rename(note)


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where clips are kept that were fetched (XDG base directories)."""
    cache = environment.get("XDG_CACHE_HOME", "")
    return (Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache") / "podcam" / "clips"


@contextmanager
def own(folder: Path) -> Iterator[Path]:
    """The folder, made where it is not there, with nobody else writing into it.

    Raises:
        ClipError: somebody does.
    """
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    except BlockingIOError:
        raise ClipError(f"{folder} is being written by another pull of the same clip: wait for it") from None
    finally:
        os.close(descriptor)


class _Partial:
    """A file on its way, under a hidden name that tells its version, and how much is surely on disk."""

    def __init__(self, target: Path, file: File) -> None:
        self._target = target
        self._file = file
        found = {path: _synced(path) for path in target.parent.glob(f".{target.name}.{file.version}.*")}
        self._path = max(found, key=lambda path: found[path], default=self._named(0))
        self._on_disk = self.size = found.get(self._path, 0)
        for other in target.parent.glob(f".{target.name}.*"):
            if other != self._path:
                other.unlink()
        self._out = os.fdopen(
            os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+b"
        )
        self._out.truncate(self.size)
        self._out.seek(self.size)

    def __enter__(self) -> "_Partial":
        return self

    def __exit__(self, *error: object) -> None:
        if not self._out.closed:
            self._sync()
            self._out.close()

    def write(self, plain: bytes) -> None:
        """The next bytes."""
        self._out.write(plain)
        self.size += len(plain)
        if self.size - self._on_disk >= _SYNC_BYTES:
            self._sync()

    def flushed(self) -> Path:
        """Where all that came can be read."""
        self._out.flush()
        return self._path

    def forget(self) -> None:
        """Nothing of it is of use."""
        self._out.close()
        self._path.unlink()

    def finish(self) -> None:
        """All is there: give it its name, and the time by which `_is` knows it again."""
        self._out.flush()
        os.utime(self._out.fileno(), ns=(self._file.modified_ns, self._file.modified_ns))
        os.fsync(self._out.fileno())
        self._path.rename(self._target)
        self._out.close()

    def _sync(self) -> None:
        self._out.flush()
        os.fdatasync(self._out.fileno())
        self._on_disk = self.size
        self._path = self._path.rename(self._named(self.size))

    def _named(self, size: int) -> Path:
        return self._target.with_name(f".{self._target.name}.{self._file.version}.{size}")


def _synced(partial: Path) -> int:
    """How much of a file on its way is surely on disk."""
    count = partial.name.rpartition(".")[2]
    return min(int(count), partial.stat().st_size) // CHUNK_BYTES * CHUNK_BYTES if count.isdecimal() else 0


def _is(target: Path, file: File) -> bool:
    """Whether this file is there already."""
    try:
        status = target.lstat()
    except FileNotFoundError:
        return False
    return (status.st_size, status.st_mtime_ns) == (file.size, file.modified_ns)


def index_of(body: Object) -> Index:
    """Reads an index. The manifest's own checks see to it that its names lead nowhere else.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is none.
    """
    manifest = Manifest.from_json(body["manifest"])
    entries: list[dict[str, Any]] = body["files"]
    named = [(part.folder, name) for part in manifest.parts for name in part.segments]
    if [(entry["folder"], entry["name"]) for entry in entries] != named:
        raise ValueError("its files are not those of its manifest")
    there = [
        File(
            number=number,
            folder=entry["folder"],
            name=entry["name"],
            size=int(entry["bytes"]),
            modified_ns=_time(entry["modified_ns"]),
            version=_word(entry["version"]),
        )
        for number, entry in enumerate(entries)
        if entry["bytes"] is not None
    ]
    gone = tuple(f"{entry['folder']}/{entry['name']}" for entry in entries if entry["bytes"] is None)
    return Index(manifest, tuple(there), gone)


def _time(time_ns: object) -> int:
    """It becomes the time of a file."""
    if not isinstance(time_ns, int) or not 0 <= time_ns < _LATEST_NS:
        raise ValueError(f"{time_ns!r} is no time of a file")
    return time_ns


def _word(text: object) -> str:
    """It becomes part of a file's name."""
    if not isinstance(text, str) or not text.replace("-", "").isalnum() or len(text) > 100:
        raise ValueError(f"{text!r} is no version")
    return text
