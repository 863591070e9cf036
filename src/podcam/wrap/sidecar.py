"""Process 1 of a sidecar: it keeps the recorder, and stays whatever becomes of that.

A sidecar that ended would be started again and again: the pod's other containers wait for its first start,
and the pod is not ready meanwhile.
"""

import os
import signal
import time
from pathlib import Path
from typing import Final

from podcam.wrap.first_process import Companion

STARTING_SECONDS: Final = 10.0
"""Nobody waits longer than that for the recorder."""

_ENDS: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_WATCHED: Final = _ENDS | {signal.SIGCHLD}


def hold_signals() -> None:
    """Let those that come from now on wait for `keep`: process 1 would not even be ended by them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)


def keep(companion: Companion) -> int:
    """Keep the companion until a signal says that the pod ends; returns the exit code 0."""
    hold_signals()
    companion.before_app()
    companion.after_app()
    while True:
        due = companion.due_seconds()
        got = signal.sigwaitinfo(_WATCHED) if due is None else signal.sigtimedwait(_WATCHED, max(0.0, due))
        if got is None:
            companion.act()
        elif got.si_signo in _ENDS:
            companion.app_ended(0, time.monotonic())
            return 0
        _reap(companion)


def _reap(companion: Companion) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        companion.ended(pid, status)


def age_seconds(proc: Path = Path("/proc")) -> float:
    """Since the first process of this container was started; see proc_pid_stat(5)."""
    after_name = (proc / "1/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
    started = int(after_name.split()[19]) / os.sysconf("SC_CLK_TCK")
    up = float((proc / "uptime").read_text(encoding="ascii").split()[0])
    return up - started
