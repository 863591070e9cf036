"""The recorder beside an app: started, started again when it dies, and told when the app has ended.

It hears by lines on its standard input: first why it was started again, if it was, then that the app has
ended; the end of that input means that whoever started it is gone. It says on its standard output that it
records, or why it does not.
"""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from podcam.errors import PodcamError, RightsError, UsageError

_NICENESS = 10
"""The app goes first."""
_FIRST_TO_BE_KILLED = "1000"
"""oom_score_adj, see proc_pid_oom_score_adj(5)"""
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 300.0
_WELL_SECONDS = 60.0
"""A recorder that lived so long begins with the first pause again."""
_MARGIN_SECONDS = 1.0
"""Of the pod's grace period, left for ending."""
_LEAST_SECONDS = 1.0
_START_SECONDS = 15.0
_KILLED_SECONDS = 1.0
_LONGEST_SAID_BYTES = 4096


class BesideRecorder:
    """A recorder as `first_process.Companion`.

    Args:
        main: runs the recorder in a forked child, which so keeps the capabilities of the container's command,
            or becomes another program that does; returns its exit code.
        grace_seconds: what the pod gives its containers between SIGTERM and SIGKILL.
        required: the app is not to start unless it is recorded.
    """

    def __init__(
        self,
        main: Callable[[], int],
        *,
        grace_seconds: float = 30.0,
        required: bool = False,
    ) -> None:
        self._main = main
        self._grace_seconds = grace_seconds
        self._required = required
        self._pid: int | None = None
        self._lines = self._said = -1
        """The writing end of its standard input, the reading end of its standard output."""
        self._restarts = 0
        self._why_again: str | None = None
        """Of the last start, if it was one after a death."""
        self._began_seconds = 0.0
        self._due_seconds: float | None = None
        self._pause_seconds = _FIRST_PAUSE_SECONDS

    def before_app(self) -> None:
        """Where the app requires it, start it and wait until it records.

        Raises:
            PodcamError: it cannot, and why.
        """
        if not self._required:
            return
        try:
            self._start()
        except OSError as error:
            raise PodcamError(f"recording is required and cannot begin: {_no_process(error)}") from None
        ready, _, _ = select.select([self._said], [], [], _START_SECONDS)
        line = self._heard()
        if line != RECORDING:
            why = line or ("it ended before it began" if ready else "it did not start in time")
            raise PodcamError(f"recording is required and cannot begin: {why}")

    def after_app(self) -> None:
        """Start it, where the app did not have to wait for it."""
        if not self._required:
            self._start_or_try_later()

    def ended(self, pid: int, status: int) -> bool:
        """Take note of its end; it is started again after a pause that grows."""
        if pid != self._pid:
            return False
        why = self._why(status)
        self._let_go()
        if os.waitstatus_to_exitcode(status) == CANNOT_RECORD:  # nothing here will change that
            tell(f"not recording: {why}; the app goes on")
            return True
        if time.monotonic() - self._began_seconds > _WELL_SECONDS:
            self._pause_seconds, self._why_again = _FIRST_PAUSE_SECONDS, None
        self._try_later(why)
        return True

    def due_seconds(self) -> float | None:
        """When it is to be started again."""
        return None if self._due_seconds is None else self._due_seconds - time.monotonic()

    def act(self) -> None:
        """Start it again if it is time."""
        due = self.due_seconds()
        if due is not None and due <= 0:
            self._due_seconds = None
            self._restarts += 1
            self._start_or_try_later()

    def app_ended(self, code: int, signalled_seconds: float | None) -> None:
        """Tell it, and give it what is left of the grace period."""
        if self._pid is None:
            return
        now = time.monotonic()
        began = now if signalled_seconds is None else signalled_seconds
        deadline = max(began + self._grace_seconds - _MARGIN_SECONDS, now + _LEAST_SECONDS)
        self._send({"ended": code, "within_seconds": deadline - now})
        status = self._ended_by(deadline)
        if status is None:
            tell("the recorder did not end within the grace period and is killed: its last packets are lost")
            with suppress(ProcessLookupError, PermissionError):  # sudo's is root's; it ends with this process
                os.kill(self._pid, signal.SIGKILL)
                self._ended_by(time.monotonic() + _KILLED_SECONDS)
        elif status != 0:
            tell(f"not recorded: {self._why(status)}")
        self._let_go()

    def _ended_by(self, deadline: float) -> int | None:
        """Wait for its end by the signal that tells of it, which is blocked here; reap what else ends."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 0
            if pid == self._pid:
                return status
            left = deadline - time.monotonic()
            if pid == 0 and (left <= 0 or signal.sigtimedwait([signal.SIGCHLD], left) is None):
                return None

    def _why(self, status: int) -> str:
        """What it said, or how it ended."""
        said = self._heard()
        if said not in {"", RECORDING}:
            return said
        code = os.waitstatus_to_exitcode(status)
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"the recorder {how}"

    def _start_or_try_later(self) -> None:
        try:
            self._start()
        except OSError as error:
            self._try_later(_no_process(error))

    def _try_later(self, why: str) -> None:
        """Say so, but only once of the same reason: this may go on as long as the app."""
        self._due_seconds = time.monotonic() + self._pause_seconds
        if why != self._why_again:
            tell(f"not recording: {why}; it is tried again in {self._pause_seconds:.0f} s, the app goes on")
        self._why_again = why
        self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)

    def _start(self) -> None:
        lines, self._lines = os.pipe2(os.O_CLOEXEC)
        self._said, output = os.pipe2(os.O_CLOEXEC)
        self._began_seconds = time.monotonic()
        try:
            self._pid = os.fork()
            if self._pid == 0:
                self._become(lines, output)
        except OSError:
            self._let_go()
            raise
        finally:
            os.close(lines)
            os.close(output)
        if self._restarts:
            self._send({"restarts": self._restarts, "why": self._why_again})

    def _send(self, line: dict[str, Any]) -> None:
        with suppress(OSError):
            os.write(self._lines, json.dumps(line).encode() + b"\n")

    def _heard(self) -> str:
        """The last line that it said; "" where it said none."""
        ready, _, _ = select.select([self._said], [], [], 0)
        said = os.read(self._said, _LONGEST_SAID_BYTES) if ready else b""
        return said.decode("utf-8", "replace").strip().rpartition("\n")[2]

    def _let_go(self) -> None:
        os.close(self._lines)
        os.close(self._said)
        self._pid = None

    def _become(self, lines: int, output: int) -> NoReturn:
        code = 1
        try:
            os.setsid()
            os.dup2(lines, 0)
            os.dup2(output, 1)
            _close_all_but_standard_streams()
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                with suppress(OSError, ValueError):
                    signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            with suppress(OSError):
                Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_BE_KILLED, encoding="ascii")
            os.nice(_NICENESS)
            code = self._main()
        except BaseException as error:  # noqa: BLE001 - the last frame of a process: told, then gone
            say(f"the recorder cannot go on: {error!r}")
        finally:
            os._exit(code)


RECORDING = "recording"
"""What the recorder says on its standard output once it records."""
CANNOT_RECORD = 78
"""Its exit code when it never will: EX_CONFIG of sysexits.h."""


def tell(text: str) -> None:
    """One line among those of the app, on standard error; none where that is full, as no app waits for it."""
    with suppress(OSError, ValueError):
        descriptor = sys.stderr.fileno()
        _, ready, _ = select.select([], [descriptor], [], 0)
        if ready:
            os.write(descriptor, f"podcam: {text}\n".encode(errors="replace")[: select.PIPE_BUF])


def say(line: str) -> None:
    """One line of the recorder to whoever started it."""
    with suppress(OSError):
        os.write(1, line.encode(errors="replace")[: _LONGEST_SAID_BYTES - 1] + b"\n")


def cannot_record(error: PodcamError) -> int:
    """Say why to whoever started this recorder; returns the exit code to end with."""
    say(str(error))
    return CANNOT_RECORD if isinstance(error, RightsError | UsageError) else 1


def _no_process(error: OSError) -> str:
    return f"no process can be started for it ({error.strerror}): the pod's or the node's limit is reached"


def _close_all_but_standard_streams() -> None:
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208 - a snapshot, as the listing itself holds one open
        if int(entry) > 2:
            with suppress(OSError):
                os.close(int(entry))
