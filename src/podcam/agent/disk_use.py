"""What rings and clips take on the disk."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from podcam.clip import COMPLETE, read_manifest
from podcam.errors import ClipError


@dataclass(frozen=True, slots=True)
class _Measured:
    """A clip whose files change no more."""

    changed: tuple[int, int]
    """Inode and time of change of its folder: its manifest is never written in place."""
    sizes: dict[int, int]


class ClipSizes:
    """What the clips of a folder take; those that are complete are measured once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._measured: dict[str, _Measured] = {}

    def total_bytes(self) -> int:
        """On disk, each file counted once however many clips hold it."""
        known, self._measured = self._measured, {}
        sizes: dict[int, int] = {}
        for clip in _entries(self._folder):
            sizes |= self._sizes_of(clip, known.get(clip.name))
        return sum(sizes.values())

    def _sizes_of(self, clip: os.DirEntry[str], before: _Measured | None) -> dict[int, int]:
        path = Path(clip.path)
        try:
            status = path.lstat()
        except FileNotFoundError:
            return {}
        changed = (status.st_ino, status.st_mtime_ns)
        if before is None or before.changed != changed:
            complete = not clip.name.startswith(".") and _is_complete(path)
            sizes = {status.st_ino: status.st_blocks * 512 for status in _statuses(path)}
            if not complete:
                return sizes
            before = _Measured(changed, sizes)
        self._measured[clip.name] = before
        return before.sizes


def bytes_alone(folder: Path) -> int:
    """On disk, without the files that a clip holds too: what would be free without it."""
    return sum(status.st_blocks * 512 for status in _statuses(folder) if status.st_nlink == 1)


def _is_complete(clip: Path) -> bool:
    try:
        return read_manifest(clip).state == COMPLETE
    except ClipError:
        return False


def _statuses(folder: Path) -> Iterator[os.stat_result]:
    """Of all files below a folder; those that go meanwhile are passed over."""
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _statuses(Path(entry.path))
        else:
            try:
                yield entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
