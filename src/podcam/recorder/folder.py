"""What a recorder has on disk, and the lock that makes it the only one there.

DIR/lock             held by the recorder's processes; holds the supervisor's process id
DIR/control.sock     how `podcam clip` reaches it
DIR/points/POINT/    the ring of a point
DIR/clips/CLIP/      a clip: its manifest, and a folder of segments per point
"""

import fcntl
import os
import re
import time
from pathlib import Path

from podcam.errors import PodcamError, RightsError, UsageError

_LOCK_PATIENCE_SECONDS = 3.0
"""A recorder that was killed leaves a writer that writes what it has before it ends."""


def default_folder() -> Path:
    """`/var/lib/podcam` for root, `$XDG_STATE_HOME/podcam` (`~/.local/state/podcam`) for anybody else."""
    if os.geteuid() == 0:
        return Path("/var/lib/podcam")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "podcam"


class RecorderFolder:
    """The paths in a recorder's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.points = path / "points"
        self.clips = path / "clips"

    def ring(self, point: str) -> Path:
        """The folder of a point's ring. Two names that differ only in strange characters stay two."""
        safe = re.sub(r"[^A-Za-z0-9._-]", lambda match: f"%{ord(match[0]):02X}", point)
        return self.points / (f"%2E{safe[1:]}" if safe.startswith(".") else safe)

    def rings(self) -> list[Path]:
        """The rings that are there, of points recorded now or before."""
        return sorted(path for path in self.points.iterdir() if path.is_dir()) if self.points.is_dir() else []

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
            PodcamError: another one records here.
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
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor
