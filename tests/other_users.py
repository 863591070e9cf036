"""A test's own folder, for another user than the one who runs the tests."""

import os
import tempfile
from pathlib import Path


def let_others_in(folder: Path) -> None:
    """Let everybody enter a test's folder: those above it are this user's alone, as pytest makes them."""
    for place in (folder, *folder.parents):
        if place == Path(tempfile.gettempdir()) or place.stat().st_uid != os.geteuid():
            return
        place.chmod(place.stat().st_mode | 0o011)
