"""sudo as the way to a packet socket: one line that lets one user start one recorder. sudo(8), sudoers(5)."""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import NoReturn

from podcam.errors import RightsError

_SPECIAL = re.compile(r"([,:=\\*?\[\]!\"#()])")
"""What sudoers(5) reads as its own, or as a wildcard."""


def become_by_sudo(command: Sequence[str]) -> NoReturn:
    """Become this command, as root; `sudo -n`, which asks nobody for a password.

    Raises:
        RightsError: sudo does not let this user do that, and which line would.
    """
    if shutil.which("sudo") is None:
        raise RightsError("sudo is not installed in this image")
    if not sudo_allows(command):
        raise RightsError(
            "sudo does not allow it; this line in /etc/sudoers.d/podcam does: "
            + sudoers_line(_user_name(), command)
        )
    os.execvp("sudo", ["sudo", "-n", "--", *command])  # noqa: S606 - that is its purpose


def sudo_allows(command: Sequence[str]) -> bool:
    """Whether sudo lets this user start exactly this, without a password."""
    return _asked("-l", "--", *command) is not None


def sudo_allows_a_recorder() -> bool:
    """Whether one of the lines for this user lets it start `podcam wrap --beside`, with whatever options."""
    allowed = _asked("-l") or ""
    return any(" wrap --beside" in line or line.endswith("NOPASSWD: ALL") for line in allowed.splitlines())


def sudoers_line(user: str, command: Sequence[str]) -> str:
    """The line that lets a user start this command as root: these arguments, in this order, and no others."""
    words = (_SPECIAL.sub(r"\\\1", word) for word in command)
    return f"{user} ALL=(root) NOPASSWD: {' '.join(words)}"


def _asked(*question: str) -> str | None:
    """What `sudo -n` answers; None where it refuses."""
    if shutil.which("sudo") is None:
        return None
    asked = subprocess.run(
        ["sudo", "-n", *question], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return asked.stdout if asked.returncode == 0 else None


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"#{os.getuid()}"
