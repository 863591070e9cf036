"""Whether sudo lets this user start the recorder: sudo(8), sudoers(5)."""

import shutil
import subprocess
from collections.abc import Sequence


def sudo_allows(command: Sequence[str]) -> bool:
    """Whether sudo lets this user start exactly this, without a password."""
    if shutil.which("sudo") is None:
        return False
    asked = subprocess.run(
        ["sudo", "-n", "-l", "--", *command], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return asked.returncode == 0
