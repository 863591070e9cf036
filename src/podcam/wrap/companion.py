"""The recorder beside an app: started, started again when it dies, and told when the app has ended.

It hears of the app's end by a line on its standard input, and of its own end by the end of that input. It
says on its standard output, in one line, that it records, or why it cannot.
"""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from podcam.errors import PodcamError
from podcam.wrap.capabilities import NET_RAW, take

_NICENESS = 10
"""The app goes first."""
_FIRST_TO_BE_KILLED = "1000"
"""oom_score_adj, see proc_pid_oom_score_adj(5)"""
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_WELL_SECONDS = 60.0
"""A recorder that lived so long begins with the first pause again."""
_MARGIN_SECONDS = 1.0
"""Of the pod's grace period, left for ending."""
_LEAST_SECONDS = 1.0
_START_SECONDS = 15.0


class BesideRecorder:
    """A recorder as `first_process.Companion`.

    Args:
        main: runs the recorder in a forked child, which so keeps the capabilities of the container's command;
            returns its exit code.
        command: starts the recorder by executing a program instead, as sudo.
        grace_seconds: what the pod gives its containers between SIGTERM and SIGKILL.
        required: the app is not to start unless it is recorded.
    """

    def __init__(
        self,
        main: Callable[[], int],
        *,
        command: Sequence[str] | None = None,
        grace_seconds: float = 30.0,
        required: bool = False,
    ) -> None:
        self._main = main
        self._command = command
        self._grace_seconds = grace_seconds
        self._required = required
        self._pid: int | None = None
        self._status: int | None = None
        self._lines = -1
        """The writing end of its standard input."""
        self._began_seconds = 0.0
        self._due_seconds: float | None = None
        self._pause_seconds = _FIRST_PAUSE_SECONDS

    def before_app(self) -> None:
        """Where the app requires it, start it and wait until it records.

        Raises:
            PodcamError: it cannot, and why.
        """
        if self._required:
            self._start_and_wait()

    def after_app(self) -> None:
        """Start it, where the app did not have to wait for it."""
        if not self._required:
            self._start_unheard()

    def _start_unheard(self) -> None:
        nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        self._start(nothing)
        os.close(nothing)

    def _start_and_wait(self) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        self._start(writing)
        os.close(writing)
        try:
            ready, _, _ = select.select([reading], [], [], _START_SECONDS)
            line = os.read(reading, 4096).decode("utf-8", "replace").strip() if ready else ""
        finally:
            os.close(reading)
        if line != RECORDING:
            why = line or ("it ended before it began" if ready else "it did not start in time")
            raise PodcamError(f"recording is required and cannot begin: {why}")

    def ended(self, pid: int, status: int) -> bool:
        """Take note of its end; it is started again after a pause that grows."""
        if pid != self._pid:
            return False
        self._pid, self._status = None, status
        os.close(self._lines)
        now = time.monotonic()
        if now - self._began_seconds > _WELL_SECONDS:
            self._pause_seconds = _FIRST_PAUSE_SECONDS
        code = os.waitstatus_to_exitcode(status)
        if code == CANNOT_RECORD:
            return True  # it has said why; nothing here will change that
        self._due_seconds = now + self._pause_seconds
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        tell(f"the recorder {how}; it is started again in {self._pause_seconds:.0f} s, the app goes on")
        self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
        return True

    def due_seconds(self) -> float | None:
        """When it is to be started again."""
        return None if self._due_seconds is None else self._due_seconds - time.monotonic()

    def act(self) -> None:
        """Start it again if it is time."""
        due = self.due_seconds()
        if due is not None and due <= 0:
            self._due_seconds = None
            self._start_unheard()

    def app_ended(self, code: int, signalled_seconds: float | None) -> None:
        """Tell it, and give it what is left of the grace period."""
        if self._pid is None:
            return
        with suppress(BrokenPipeError):
            os.write(self._lines, json.dumps({"ended": code}).encode() + b"\n")
        os.close(self._lines)
        began = time.monotonic() if signalled_seconds is None else signalled_seconds
        deadline = max(began + self._grace_seconds - _MARGIN_SECONDS, time.monotonic() + _LEAST_SECONDS)
        if not self._ends_by(deadline):
            tell("the recorder did not end within the grace period and is killed: its last packets are lost")
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def _ends_by(self, deadline: float) -> bool:
        assert self._pid is not None  # noqa: S101 - for mypy: asked only while it runs
        descriptor = os.pidfd_open(self._pid)
        try:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        finally:
            os.close(descriptor)
        if ready:
            os.waitpid(self._pid, 0)
        return bool(ready)

    def _start(self, output: int) -> None:
        reading, self._lines = os.pipe2(os.O_CLOEXEC)
        self._began_seconds = time.monotonic()
        self._pid = os.fork()
        if self._pid == 0:
            self._become(reading, output)
        os.close(reading)

    def _become(self, lines: int, output: int) -> NoReturn:
        code = 1
        try:
            os.setsid()
            os.dup2(lines, 0)
            os.dup2(output, 1)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                with suppress(OSError, ValueError):
                    signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            with suppress(OSError):
                Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_BE_KILLED, encoding="ascii")
            os.nice(_NICENESS)
            if self._command is not None:
                os.execvp(self._command[0], list(self._command))  # noqa: S606 - that is its purpose
            take(NET_RAW)
            code = self._main()
        except BaseException as error:  # noqa: BLE001 - the last frame of a process: told, then gone
            tell(f"the recorder cannot go on: {error!r}")
        finally:
            os._exit(code)


RECORDING = "recording"
"""What the recorder says on its standard output once it records."""
CANNOT_RECORD = 78
"""Its exit code when it never will: EX_CONFIG of sysexits.h."""


def tell(text: str) -> None:
    """One line among those of the app, on standard error."""
    with suppress(OSError):
        os.write(sys.stderr.fileno(), f"podcam: {text}\n".encode())
