"""Which capture a person means: a path, or the id of a clip."""

from pathlib import Path

from podcam.cli.arguments import default_folder
from podcam.clip import ClipStore
from podcam.errors import ClipError, UsageError


def capture(name: str) -> Path:
    """The path that this is; else that of the clip in the default folder that has this id, or one like it.

    What has a slash in it is a path, whether it is there or not: whoever reads it says so.

    Raises:
        UsageError: the name is empty.
        ClipError: nothing here has this name, and none of the clips, or several, an id that begins so.
    """
    if not name:
        raise UsageError(
            "the name of what to read is empty: give a file, or a clip (`podcam clips` lists them)"
        )
    path = Path(name)
    if path.exists() or path.name != name:
        return path
    from podcam.recorder.folder import RecorderFolder  # noqa: PLC0415 # only where it is needed: not on macOS

    try:
        return ClipStore(RecorderFolder(default_folder()).clips).find(name).path
    except ClipError as error:
        raise ClipError(f"there is no {name} here, and {error}") from error
