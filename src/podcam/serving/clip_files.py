"""The files of a clip's folder, as whoever hands them out numbers, describes and reads them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from podcam.clip import COMPLETE, Manifest, read_manifest
from podcam.errors import ClipError
from podcam.serving.server import Refusal


class GoneError(OSError):
    """A file of a complete clip is not what it was when it was opened."""


def version_of(status: os.stat_result) -> str:
    """What tells the content of a file from any other under its name. `podcam.sealed` builds on this."""
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def complete_clip(folder: Path, name: str, now_ns: int) -> Manifest:
    """The manifest of a clip's folder, of which nothing will change any more.

    Raises:
        Refusal: it cannot be read, or its window is still open.
    """
    try:
        manifest = read_manifest(folder)
    except ClipError as error:
        raise Refusal(
            HTTPStatus.SERVICE_UNAVAILABLE, f"what is kept here of clip {name} cannot be read"
        ) from error
    if manifest.state != COMPLETE:
        end_ns = manifest.window.end_ns
        seconds = max(1, -(-(end_ns - now_ns) // 1_000_000_000))
        raise Refusal(
            HTTPStatus.CONFLICT,
            f"clip {name} is still being kept, until "
            f"{datetime.fromtimestamp(end_ns // 1_000_000_000, UTC):%H:%M:%S} UTC: ask again then",
            {"Retry-After": str(seconds)},
        )
    return manifest


def files_of(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Folder and name of each file, in the order that numbers them."""
    for part in manifest.parts:
        for name in part.segments:
            yield part.folder, name


def entries_of(folder: Path, manifest: Manifest) -> list[dict[str, Any]]:
    """The files as an index has them; one that is gone keeps its number, without a size."""
    return [_entry(folder, *names) for names in files_of(manifest)]


def _entry(folder: Path, part: str, name: str) -> dict[str, Any]:
    try:
        status = (folder / part / name).lstat()
    except OSError:
        return {"folder": part, "name": name, "bytes": None, "modified_ns": None, "version": None}
    return {
        "folder": part,
        "name": name,
        "bytes": status.st_size,
        "modified_ns": status.st_mtime_ns,
        "version": version_of(status),
    }


@contextmanager
def opened(folder: Path, manifest: Manifest, number: int, clip: str) -> Iterator[tuple[str, int]]:
    """The file with this number: `FOLDER/NAME`, and a descriptor.

    Raises:
        Refusal: there is none.
    """
    files = list(files_of(manifest))
    if number >= len(files):
        raise Refusal(
            HTTPStatus.NOT_FOUND, f"this part of clip {clip} has {len(files)} files, and none {number}"
        )
    try:
        descriptor = os.open(folder.joinpath(*files[number]), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise Refusal(
            HTTPStatus.NOT_FOUND, f"file {number} of clip {clip} is gone: {error.strerror}"
        ) from error
    try:
        yield "/".join(files[number]), descriptor
    finally:
        os.close(descriptor)


def read_unchanged(descriptor: int) -> Callable[[int, int], bytes]:
    """Reads so many bytes from a place on.

    The function raises GoneError where they are not there, or the file is not what it is now.
    """
    version = version_of(os.fstat(descriptor))

    def read(at: int, size: int) -> bytes:
        data = read_at(descriptor, at, size)
        if len(data) != size or version_of(os.fstat(descriptor)) != version:
            raise GoneError
        return data

    return read


def read_at(descriptor: int, at: int, size: int) -> bytes:
    """As many of these bytes as there are."""
    data = os.pread(descriptor, size, at)
    while len(data) < size and (more := os.pread(descriptor, size - len(data), at + len(data))):
        data += more
    return data
