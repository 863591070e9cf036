"""The command that is recorded while it runs: `podcam record -- COMMAND`."""

import os
import shutil
import signal
from collections.abc import Sequence

from podcam.errors import UsageError

_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""They would stay ignored in the command; what the recorder handles, exec(3) sets back."""


def check_command(argv: Sequence[str]) -> None:
    """Raise UsageError when there is no such command."""
    if shutil.which(argv[0]) is None:
        raise UsageError(f"{argv[0]}: no such command, or it may not be executed")


def in_foreground() -> bool:
    """Whether a terminal's Ctrl-C goes to this process and to what it started: tcgetpgrp(3)."""
    try:
        return os.tcgetpgrp(2) == os.getpgrp()
    except OSError:
        return False


class Command:
    """A running command, with the recorder's own standard streams and environment."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.code: int | None = None
        """Its exit code once it has ended, as a shell tells it: 128 and the signal that ended it."""
        self._pid = os.posix_spawnp(argv[0], list(argv), os.environ, setsigdef=_IGNORED_BY_PYTHON)
        self.pidfd = os.pidfd_open(self._pid)

    def ended(self) -> int:
        """Wait for its end, and return its exit code."""
        if self.code is None:
            _pid, status = os.waitpid(self._pid, 0)
            code = os.waitstatus_to_exitcode(status)
            self.code = 128 - code if code < 0 else code
        return self.code

    def end(self) -> None:
        """Tell it to end (SIGTERM), as the recorder was told."""
        if self.code is None:
            signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)
