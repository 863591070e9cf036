"""What this node knows of the objects of its clips, on disk: there is one, or one is still to be made.

While the API server is away a clip that a failure made has no object, not even after a restart of the agent;
and a clip whose object was deleted has none any more. A mark per clip tells them apart.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from podcam.errors import ClipError

_FOLDER = "objects"


@dataclass(frozen=True, slots=True)
class Mark:
    """What is known of a clip's object."""

    uid: str | None = None
    """Its uid, once it exists."""
    body: Mapping[str, Any] | None = None
    """What it is to be made of, until then."""
    home: str | None = None
    """The uid of the namespace that it is to be made in; None where that was not known."""


class Marks:
    """A file per clip, in a folder of the agent's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / _FOLDER

    def of(self, clip_id: str) -> Mark:
        """The mark of a clip; an empty one where there is none, or none that can be read."""
        try:
            body = json.loads((self._folder / clip_id).read_bytes())
            return Mark(body.get("uid"), body.get("body"), body.get("home"))
        except (OSError, ValueError, AttributeError):
            return Mark()

    def put(self, clip_id: str, mark: Mark) -> None:
        """Replace the mark of a clip.

        Raises:
            ClipError: it cannot be written.
        """
        hidden = self._folder / f".{clip_id}"
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            with os.fdopen(os.open(hidden, flags, 0o600), "w") as file:
                json.dump(asdict(mark), file)
                file.flush()
                os.fsync(file.fileno())
            hidden.rename(self._folder / clip_id)
        except OSError as error:
            raise ClipError(f"cannot mark {clip_id} in {self._folder}: {error.strerror}") from error

    def remove(self, clip_id: str) -> None:
        """The clip is gone from the disk."""
        with suppress(OSError):
            (self._folder / clip_id).unlink()

    def all(self) -> set[str]:
        """The ids of all clips that have one."""
        try:
            return {path.name for path in self._folder.iterdir() if not path.name.startswith(".")}
        except OSError:
            return set()
