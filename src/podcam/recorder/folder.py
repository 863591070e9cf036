"""What a recorder has on disk, and the lock that makes it the only one there.

DIR/lock             held by the recorder's processes; holds the supervisor's process id, and its time of
                     change is the last second in which that was alive
DIR/control.sock     how `podcam clip` reaches it
DIR/points/POINT/    the ring of a point, and point.json, which says whose it is
DIR/clips/CLIP/      a clip: its manifest, and a folder of segments per point
"""

import fcntl
import hashlib
import os
import re
import shutil
import time
from pathlib import Path
from urllib.parse import unquote

from podcam.errors import PodcamError, RightsError, SegmentError, UsageError

_LOCK_PATIENCE_SECONDS = 3.0
"""A recorder that was killed leaves a writer that writes what it has before it ends."""

_LONGEST_NAME = 240
"""Of 255 bytes that a file system takes, as the folder of a ring that is being removed has a longer name."""


class RecorderFolder:
    """The paths in a recorder's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.points = path / "points"
        self.clips = path / "clips"
        self.last_alive_ns: int | None = None
        """When the recorder before was last known to run; from `lock` on."""

    def ring(self, point_id: str) -> Path:
        """The folder of a point's ring. Two ids that differ only in strange characters stay two."""
        safe = re.sub(r"[^A-Za-z0-9._-]", lambda match: f"%{ord(match[0]):02X}", point_id)
        safe = f"%2E{safe[1:]}" if safe.startswith(".") else safe
        if len(safe) > _LONGEST_NAME:
            digest = hashlib.sha256(point_id.encode()).hexdigest()[:16]
            safe = f"{safe[: _LONGEST_NAME - 17]}~{digest}"
        return self.points / safe

    @staticmethod
    def point_of(ring: Path) -> str:
        """The id of the point whose ring lies in this folder, as far as its name tells."""
        return unquote(ring.name)

    def rings(self) -> list[Path]:
        """The rings that are there, of points recorded now or before."""
        if not self.points.is_dir():
            return []
        return sorted(p for p in self.points.iterdir() if p.is_dir() and not p.name.startswith("."))

    def remove_ring(self, point_id: str) -> None:
        """Remove the ring of a point that is not recorded any more; nothing where there is none.

        What clips hold of it stays theirs.

        Raises:
            SegmentError: it cannot be removed.
        """
        ring = self.ring(point_id)
        hidden = ring.with_name(f".{ring.name}.removed")
        for half_removed in self.points.glob(".*.removed"):
            shutil.rmtree(half_removed, ignore_errors=True)
        try:
            ring.rename(hidden)
            shutil.rmtree(hidden)
        except FileNotFoundError:
            return
        except OSError as error:
            raise SegmentError(f"cannot remove the ring in {ring}: {error.strerror}") from error

    def create(self) -> None:
        """Make the folders, readable by their owner alone.

        Raises:
            RightsError: they cannot be made here.
            UsageError: something else lies in their place.
        """
        for folder in (self.path, self.points, self.clips):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except FileExistsError:
                raise UsageError(f"{folder} is not a folder: choose another with --dir") from None
            except NotADirectoryError:
                raise UsageError(f"{folder} lies below a file: choose another with --dir") from None
            except OSError as error:
                raise RightsError(
                    f"cannot make {folder}: {error.strerror}: choose a folder of your own with --dir"
                ) from None
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise RightsError(f"{self.path}: you may not write there: choose a folder of your own with --dir")

    def lock(self) -> int:
        """Become the only recorder of this folder; returns the descriptor that holds the lock.

        Forked processes inherit it, so that the folder stays locked until the last of them has ended.

        Raises:
            PodcamError: another one records here, or the disk is full.
            RightsError: somebody else recorded here before, or nothing can be written here.
        """
        path = self.path / "lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise RightsError(
                f"cannot open {path}: {error.strerror}: choose a folder of your own with --dir"
            ) from None
        deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
                    os.close(descriptor)
                    raise PodcamError(
                        f"another recorder (process {holder}) records into {self.path}: "
                        "stop it, or choose another folder with --dir"
                    ) from None
                time.sleep(0.02)
        status = os.fstat(descriptor)
        self.last_alive_ns = status.st_mtime_ns if status.st_size else None
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(descriptor)
            raise PodcamError(
                f"cannot write {path}: {error.strerror}: make room there, or choose another folder with --dir"
            ) from None
        return descriptor

    @staticmethod
    def note_alive(lock: int) -> None:
        """Let whoever comes after a sudden death know that the recorder still ran now."""
        os.utime(lock)
