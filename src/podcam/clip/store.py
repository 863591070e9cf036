"""The clips of one recorder: made, listed, pinned, and kept within their budget."""

import os
import re
import shutil
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from podcam.clip.manifest import COMPLETE, MANIFEST, Manifest, read_manifest, write_manifest
from podcam.errors import ClipError

_PINNED: Final = "pinned"
"""A file and not a field of the manifest: the recorder and a person write at the same time."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip on disk."""

    path: Path
    manifest: Manifest
    pinned: bool
    bytes: int
    """Of its files, the ones that it shares with a ring or another clip included."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What a clip takes of the budget."""

    owner: str
    files: Mapping[int, int]
    """The size in bytes of each of its inodes, of which clips of one owner may share some."""
    stays: bool = False
    """It is pinned."""
    later: bool = False
    """It can go once it is complete, or not the newest any more."""


class ClipStore:
    """The folder that holds all clips of a recorder, one folder each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._complete: dict[str, _Stock] = {}
        """Of which neither manifest nor files have to be read again, by id."""

    def create(self, manifest: Manifest, label: str) -> Clip:
        """Makes the folder of a new clip, with its first manifest.

        Its id is `manifest.id`; where that is empty, it is made of the time of creation and `label`. Where
        there is such a clip already, the id gets a number behind it.

        Raises:
            ClipError: it cannot be made.
        """
        stem = manifest.id or self.name_of(manifest.created_ns, label)
        number = 1
        while True:
            clip_id = stem if number == 1 else f"{stem}-{number}"
            path = self.folder / clip_id
            try:
                path.mkdir(mode=0o700, parents=True)
            except FileExistsError:
                number += 1
                continue
            except OSError as error:
                raise ClipError(f"cannot make a clip in {self.folder}: {error.strerror}") from error
            manifest = replace(manifest, id=clip_id)
            try:
                write_manifest(path, manifest)
            except ClipError:  # as on a full disk; a folder without a manifest would stay for ever
                shutil.rmtree(path, ignore_errors=True)
                raise
            return Clip(path, manifest, pinned=False, bytes=0)

    def remove_unbegun(self) -> None:
        """Removes the folders of clips whose maker was killed before their first manifest was there.

        Such a folder holds nothing else; whatever somebody has put beside the clips stays.
        """
        for path in self._folders():
            if not (path / MANIFEST).exists():
                with suppress(OSError):
                    (path / f".{MANIFEST}").unlink(missing_ok=True)
                    path.rmdir()

    @staticmethod
    def name_of(created_ns: int, label: str) -> str:
        """The id of a clip, but for the number that tells it from others of the same second."""
        moment = datetime.fromtimestamp(created_ns // 1_000_000_000, UTC)
        return f"{moment:%Y%m%d-%H%M%S}-{re.sub(r'[^A-Za-z0-9]+', '-', label).strip('-')[:40] or 'clip'}"

    def clips(self) -> list[Clip]:
        """All clips with a readable manifest, oldest first."""
        clips = []
        for path in self._folders():
            with suppress(ClipError):
                clips.append(open_clip(path))
        return sorted(clips, key=lambda clip: (clip.manifest.created_ns, clip.manifest.id))

    def unreadable(self) -> list[str]:
        """Why those are not among the clips that have a manifest which cannot be read."""
        told = []
        for path in self._folders():
            try:
                read_manifest(path)
            except ClipError as error:
                if error.__cause__ is not None:  # there is a manifest; what has none is no clip, or just went
                    told.append(str(error))
        return told

    def find(self, name: str) -> Clip:
        """The clip with this id, or with an id that begins so, or in this folder.

        Raises:
            ClipError: there is none, or more than one.
        """
        with suppress(OSError):  # not to be read, or too long for a path: then it may be an id
            if (Path(name) / MANIFEST).exists():
                return open_clip(Path(name))
        ids = [path.name for path in self._folders()]
        found = [clip_id for clip_id in ids if clip_id == name] or [
            i for i in ids if name and i.startswith(name)
        ]
        if len(found) != 1:
            what = f"matches {len(found)} clips" if found else "is not a clip"
            raise ClipError(f"{name or repr(name)} {what} of {self.folder}: `podcam clips` lists them")
        return open_clip(self.folder / found[0])

    def remove_over(
        self, budget_bytes: int, spared: str = "", end: Callable[[str], bool] = lambda _clip_id: True
    ) -> list[Clip]:
        """Removes clips, neither pinned nor open, until all take no more than this; what went.

        They go as `in_turn` says. The one whose id is `spared` stays: the newest is what somebody is about to
        look at, however large. `end` is asked to end an open clip that would have to go, by its id; where it
        returns False nobody keeps that clip any more, and it stays like one that is pinned.

        Raises:
            ClipError: one cannot be removed.
        """
        for half_removed in self.folder.glob(".*.removed"):
            shutil.rmtree(half_removed, ignore_errors=True)
        holdings = {
            clip_id: Holding(
                stock.owner,
                stock.files,
                stays=_is_pinned(self.folder / clip_id),
                later=stock.state != COMPLETE or clip_id == spared,
            )
            for clip_id, stock in self._take_stock().items()
        }
        gone = []
        for clip_id in in_turn(holdings, budget_bytes, end=lambda clip_id: clip_id == spared or end(clip_id)):
            gone.append(open_clip(self.folder / clip_id))
            remove(gone[-1].path)
        return gone

    @staticmethod
    def owner_of(recording: str | None) -> str:
        """The namespace, where recordings are named NAMESPACE/NAME; "" on a machine, where all are one's."""
        return (recording or "").rpartition("/")[0]

    def _take_stock(self) -> dict[str, "_Stock"]:
        """What there is, oldest first. Complete clips are read once: with many, that takes seconds."""
        there = {}
        for path in self._folders():
            with suppress(ClipError, OSError):
                known = self._complete.get(path.name)
                version = _version(path)
                there[path.name] = known if known and known.version == version else _read(path, version)
        self._complete = {clip_id: stock for clip_id, stock in there.items() if stock.state == COMPLETE}
        return dict(sorted(there.items(), key=lambda item: (item[1].created_ns, item[0])))

    def _folders(self) -> Iterable[Path]:
        try:
            folders = (path for path in self.folder.iterdir() if not path.name.startswith("."))
            return sorted(folders, key=lambda path: path.name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise ClipError(f"cannot list the clips of {self.folder}: {error.strerror}") from error


def open_clip(path: Path) -> Clip:
    """The clip in this folder.

    Raises:
        ClipError: there is none.
    """
    manifest = read_manifest(path)
    return Clip(path, manifest, _is_pinned(path), sum(_files(path).values()))


def pin(clip: Path, *, pinned: bool = True) -> None:
    """Keeps a clip whatever the budget says, or no longer.

    Raises:
        ClipError: the clip's folder cannot be written.
    """
    mark = clip / _PINNED
    try:
        if pinned:
            mark.touch(mode=0o600)
        else:
            mark.unlink(missing_ok=True)
    except OSError as error:
        raise ClipError(f"cannot pin {clip}: {error.strerror}") from error


def remove(clip: Path) -> None:
    """Removes a clip. Its folder is renamed first: nobody sees half a clip.

    Raises:
        ClipError: it cannot be removed.
    """
    try:
        shutil.rmtree(clip.rename(clip.with_name(f".{clip.name}.removed")))
    except OSError as error:
        raise ClipError(f"cannot remove {clip}: {error.strerror}") from error


def in_turn(
    clips: Mapping[str, Holding], budget_bytes: int, end: Callable[[str], bool] = lambda _clip_id: True
) -> Iterator[str]:
    """The clips that have to go now for all to be within the budget, the first to go first.

    Each time it is the oldest of the owner whose clips take most; where that owner has only such as can go
    later, these end and count as gone, so that nobody within an even part of the budget gives for what
    another takes beyond that, unless it is pinned.

    Args:
        clips: all that there are, the oldest first.
        budget_bytes: what they may take, each inode of an owner counted once.
        end: is told of each that is to go later, in place of another's; where it returns False, it stays.
    """
    shares: defaultdict[str, _Share] = defaultdict(_Share)
    for clip_id, clip in clips.items():
        shares[clip.owner].add(clip_id, clip)
    while (
        any(share.now for share in shares.values())
        and sum(share.bytes for share in shares.values()) > budget_bytes
    ):
        share = max(shares.values(), key=lambda share: (share.may_give, share.bytes))
        if share.now:
            clip_id = share.now.popleft()
            share.give(clips[clip_id])
            yield clip_id
        else:
            clip_id = share.later.popleft()
            if end(clip_id):
                share.give(clips[clip_id])


@dataclass(slots=True)
class _Share:
    """What the clips of one owner take, and which of them can go, the oldest first."""

    bytes: int = 0
    names: dict[int, int] = field(default_factory=dict)
    """How many clips hold an inode."""
    now: deque[str] = field(default_factory=deque)
    later: deque[str] = field(default_factory=deque)

    @property
    def may_give(self) -> bool:
        return bool(self.now or self.later)

    def add(self, clip_id: str, clip: Holding) -> None:
        for inode, size in clip.files.items():
            names = self.names.get(inode, 0)
            self.names[inode] = names + 1
            self.bytes += 0 if names else size
        if not clip.stays:
            (self.later if clip.later else self.now).append(clip_id)

    def give(self, clip: Holding) -> None:
        for inode, size in clip.files.items():
            self.names[inode] -= 1
            self.bytes -= 0 if self.names[inode] else size


@dataclass(frozen=True, slots=True)
class _Stock:
    """What a clip is to the budget. Once it is complete its files change only if it is gone on with."""

    version: tuple[int, int]
    created_ns: int
    owner: str
    state: str
    files: Mapping[int, int]


def _read(clip: Path, version: tuple[int, int]) -> _Stock:
    manifest = read_manifest(clip)
    owner = ClipStore.owner_of(manifest.recording)
    return _Stock(version, manifest.created_ns, owner, manifest.state, _files(clip))


def _version(clip: Path) -> tuple[int, int]:
    """Another one each time the manifest is written."""
    status = (clip / MANIFEST).stat()
    return status.st_ino, status.st_mtime_ns


def _is_pinned(clip: Path) -> bool:
    return (clip / _PINNED).exists()


def _files(folder: Path) -> dict[int, int]:
    """The sizes of all files below a folder, by inode; what goes meanwhile takes nothing."""
    sizes: dict[int, int] = {}
    with suppress(FileNotFoundError, PermissionError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                sizes |= _files(Path(entry.path))
                continue
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                sizes[status.st_ino] = status.st_size
    return sizes
