"""The clips of one recorder: made, listed, pinned, and kept within their budget."""

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
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


class ClipStore:
    """The folder that holds all clips of a recorder, one folder each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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

    def remove_over(self, budget_bytes: int, spared: str = "") -> list[Clip]:
        """Removes clips, neither pinned nor open, until all take no more than this; what went.

        They go one by one: each time the oldest of the owner whose clips take most. The one whose id is
        `spared` stays: the newest is what somebody is about to look at, however large.

        Raises:
            ClipError: one cannot be removed.
        """
        for half_removed in self.folder.glob(".*.removed"):
            shutil.rmtree(half_removed, ignore_errors=True)
        clips = self.clips()
        files = {clip.path.name: _files(clip.path) for clip in clips}
        owners = {clip.path.name: _owner(clip) for clip in clips}
        removable = [clip.path.name for clip in clips if _may_go(clip) and clip.path.name != spared]
        going = clips_over(files, in_turn(removable, owners, files), budget_bytes)
        gone = [clip for clip in clips if clip.path.name in going]
        for clip in gone:
            remove(clip.path)
        return gone

    def _folders(self) -> Iterable[Path]:
        try:
            return sorted(path for path in self.folder.iterdir() if not path.name.startswith("."))
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
    return Clip(path, manifest, (path / _PINNED).exists(), sum(_files(path).values()))


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


def clips_over(
    files: Mapping[str, Mapping[int, int]], removable: Iterable[str], budget_bytes: int
) -> set[str]:
    """Which clips have to go for all to be within the budget; all that may, where that is not enough.

    Args:
        files: per clip, the size in bytes of each of its inodes; clips may share some.
        removable: those that may go, the first to go first.
        budget_bytes: what the inodes of all clips may take, each counted once.
    """
    going: set[str] = set()
    for candidate in removable:
        kept = {
            inode: size
            for clip, inodes in files.items()
            if clip not in going
            for inode, size in inodes.items()
        }
        if sum(kept.values()) <= budget_bytes:
            break
        going.add(candidate)
    return going


def in_turn(
    removable: Iterable[str], owners: Mapping[str, str], files: Mapping[str, Mapping[int, int]]
) -> Iterator[str]:
    """The order in which clips go: each time the first of the owner whose clips take most.

    So nobody pushes out the clips of others by making many.

    Args:
        removable: those that may go, the oldest first.
        owners: of every clip.
        files: per clip, as in `clips_over`.
    """
    left = set(owners)
    waiting = dict.fromkeys(removable)
    while waiting:
        held: dict[str, dict[int, int]] = {}
        for clip in left:
            held.setdefault(owners[clip], {}).update(files[clip])
        taken = {owner: sum(inodes.values()) for owner, inodes in held.items()}
        clip = max(waiting, key=lambda clip: taken[owners[clip]])
        yield clip
        left.remove(clip)
        del waiting[clip]


def _owner(clip: Clip) -> str:
    """The namespace, where recordings are named NAMESPACE/NAME; "" on a machine, where all are one's."""
    return (clip.manifest.recording or "").rpartition("/")[0]


def _may_go(clip: Clip) -> bool:
    return not clip.pinned and clip.manifest.state == COMPLETE


def _files(clip: Path) -> dict[int, int]:
    sizes = {}
    for path in clip.rglob("*"):
        with suppress(FileNotFoundError):
            status = path.lstat()
            if not path.is_dir():
                sizes[status.st_ino] = status.st_size
    return sizes
