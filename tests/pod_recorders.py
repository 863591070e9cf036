"""What a recorder in a pod tells of itself."""

import json
from pathlib import Path
from typing import Any


def status_in(folder: Path) -> dict[str, Any]:
    """What its status.json says; nothing until it has written one."""
    try:
        found: dict[str, Any] = json.loads((folder / "status.json").read_bytes())
    except FileNotFoundError:
        return {}
    return found
