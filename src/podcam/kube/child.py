"""A kubectl that runs as long as we need it: `kubectl proxy`, `kubectl port-forward`."""

import ctypes
import io
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from podcam.errors import PodcamError, UnreachableError, UsageError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h, prctl(2)
_libc = ctypes.CDLL(None)

_START_SECONDS = 20.0
_END_SECONDS = 5.0
_PIECE_BYTES = 65_536
_MOST_SAID_BYTES = 65_536
_LOG_LINE = re.compile(rb"[EFIW]\d{4} |\d{4}/\d\d/\d\d ")
"""What kubectl itself logs (klog, and Go's own log); what it was to say stands in its answer too."""


class KubectlChild:
    """One kubectl, from `start` until `end`.

    Args:
        arguments: kubectl's, the verb included.
        serves: what it prints once it does what it is there for.
        idle: lines that it prints then, and nobody is to see.
        complain: makes an error of what it said before it ended instead.
        kubectl: the program.
        start_seconds: how long it may take; None for as long as a login may.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        serves: re.Pattern[bytes],
        *,
        idle: re.Pattern[bytes] | None = None,
        complain: Callable[[str], PodcamError] = UsageError,
        kubectl: str = "kubectl",
        start_seconds: float | None = None,
    ) -> None:
        self._arguments = list(arguments)
        self._serves = serves
        self._idle = idle
        self._complain = complain
        self._kubectl = kubectl
        self._start_seconds = _START_SECONDS if start_seconds is None else start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._says: io.FileIO | None = None
        """What kubectl prints."""
        self._listener: threading.Thread | None = None
        self.logged = b""
        """The last of what it logged since it serves."""
        self.has_logged = threading.Event()

    def start(self) -> re.Match[bytes]:
        """Start it, and wait until it serves: what it says then.

        It ends with the thread that calls this, also when SIGKILL leaves nobody to end it.

        Raises:
            UsageError: there is no kubectl.
            UnreachableError: it does not serve in time.
            PodcamError: it ended, and what `complain` makes of that.
        """
        self._says, its_end = map(io.FileIO, os.pipe(), "rw")
        with its_end:
            self._process = self._run(its_end)
        served = self._wait_until_it_serves(self._says)
        self._listener = threading.Thread(
            target=self._pass_on, args=(self._says,), name="kubectl", daemon=True
        )
        self._listener.start()
        return served

    @property
    def running(self) -> bool:
        """Whether it does what it was started for."""
        return self._process is not None and self._process.poll() is None

    def end(self) -> None:
        """End it, if it was started."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._listener is not None:
            self._listener.join(_END_SECONDS)
        if self._says is not None:
            self._says.close()
        self._process = self._listener = self._says = None

    def _run(self, output: io.FileIO) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                [self._kubectl, *self._arguments],
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for us: there may be something left to tidy up
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - one call
            )
        except FileNotFoundError:
            raise UsageError(
                f"there is no {self._kubectl} on the PATH, which podcam uses to reach the cluster: "
                "see https://kubernetes.io/docs/tasks/tools/"
            ) from None
        except OSError as error:
            raise UsageError(f"{self._kubectl} cannot be run: {error.strerror}") from None

    def _wait_until_it_serves(self, says: io.FileIO) -> re.Match[bytes]:
        poll = select.poll()
        poll.register(says, select.POLLIN)
        deadline = time.monotonic() + self._start_seconds
        said = b""
        while not (served := self._serves.search(said)):
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                verb = next(each for each in self._arguments if not each.startswith("-"))
                raise UnreachableError(
                    f"`kubectl {verb}` did not start within {self._start_seconds:.0f} seconds"
                )
            piece = says.read(_PIECE_BYTES)
            if not piece:
                self._complain_of(said)
            said += piece
        return served

    def _complain_of(self, said: bytes) -> NoReturn:
        complaint = said.decode(errors="replace").strip().removeprefix("error: ")
        raise self._complain(complaint or "it ended without a word")

    def _pass_on(self, says: io.FileIO) -> None:
        """Let the user see what plugins for logging in have to say ("open this page …"), and no log lines."""
        while piece := says.read(_PIECE_BYTES):
            lines = [line for line in piece.splitlines(keepends=True) if not self._is_idle(line)]
            wanted = b"".join(line for line in lines if not _LOG_LINE.match(line))
            logged = b"".join(line for line in lines if _LOG_LINE.match(line))
            if logged:
                self.logged = (self.logged + logged)[-_MOST_SAID_BYTES:]
                self.has_logged.set()
            if wanted:
                sys.stderr.write(wanted.decode(errors="replace"))
                sys.stderr.flush()

    def _is_idle(self, line: bytes) -> bool:
        return self._idle is not None and bool(self._idle.match(line))


def _end_with_parent() -> None:
    """In the child: be ended with the thread that started it, also when SIGKILL leaves nobody to do so."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
