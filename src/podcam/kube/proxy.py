"""The API server of whoever is at the keyboard, through `kubectl proxy`.

Kubeconfigs hold client certificates, tokens, exec plugins, proxies: kubectl knows them all. It serves on a
unix socket in a folder that only this user may enter, for as long as it is needed.
"""

import ctypes
import io
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from podcam.errors import ForbiddenError, UnreachableError, UsageError
from podcam.kube.api import Api

_PR_SET_PDEATHSIG = 1  # linux/prctl.h, prctl(2)
_libc = ctypes.CDLL(None)

_START_SECONDS = 20.0
_END_SECONDS = 5.0
_PIECE_BYTES = 65_536
_SERVES = re.compile(rb"Starting to serve on .*\n")
_LOG_LINE = re.compile(rb"[EFIW]\d{4} |\d{4}/\d\d/\d\d ")
"""What kubectl itself logs (klog, and Go's own log); what it was to say stands in its answer too."""


class KubectlProxy:
    """Runs `kubectl proxy` as long as the context is open, and gives the Api behind it.

    Args:
        options: flags that say which cluster, and as whom: `["--context=prod", "--as=jane"]`.
        kubectl: the program.
    """

    def __init__(self, options: Sequence[str] = (), *, kubectl: str = "kubectl") -> None:
        self._kubectl = kubectl
        self._options = tuple(options)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._says: io.FileIO | None = None
        """What kubectl prints."""
        self._listener: threading.Thread | None = None
        self._api: Api | None = None

    def __enter__(self) -> Api:
        """Start it, and ask the API server for its version.

        Raises:
            UsageError: there is no kubectl, or it does not like its flags or its kubeconfig.
            KubernetesError: the cluster cannot be reached, or does not know who asks.
        """
        try:
            return self._start()
        except BaseException:
            self._end()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(self) -> Api:
        self._folder = tempfile.TemporaryDirectory(prefix="podcam-")  # mode 0700
        path = Path(self._folder.name, "api")
        # No path is to be rejected: a pod's proxy may well lead to one that looks like `exec`.
        command = [self._kubectl, *self._options, "proxy", f"--unix-socket={path}", "--reject-paths=^$"]
        self._says, its_end = map(io.FileIO, os.pipe(), "rw")
        with its_end:
            self._process = self._run(command, its_end)
        self._wait_until_it_serves(self._says)
        self._listener = threading.Thread(target=_pass_on, args=(self._says,), name="kubectl", daemon=True)
        self._listener.start()
        self._api = Api.at_socket(path)
        with suppress(ForbiddenError):  # it answers, and knows who asks
            self._api.get("/version")
        return self._api

    def _run(self, command: list[str], output: io.FileIO) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                command,
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

    def _wait_until_it_serves(self, says: io.FileIO) -> None:
        poll = select.poll()
        poll.register(says, select.POLLIN)
        deadline = time.monotonic() + _START_SECONDS
        said = b""
        while not _SERVES.search(said):
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise UnreachableError(f"`kubectl proxy` did not start within {_START_SECONDS:.0f} seconds")
            piece = says.read(_PIECE_BYTES)
            if not piece:
                complaint = said.decode(errors="replace").strip().removeprefix("error: ")
                raise UsageError(f"kubectl: {complaint or 'it ended without a word'}")
            said += piece

    def _end(self) -> None:
        if self._api is not None:
            self._api.close()
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
        if self._folder is not None:
            self._folder.cleanup()
        self._api = self._process = self._listener = self._says = self._folder = None


def _end_with_parent() -> None:
    """In the child: be ended with the thread that started it, also when SIGKILL leaves nobody to do so."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _pass_on(says: io.FileIO) -> None:
    """Let the user see what plugins for logging in have to say ("open this page …"), and no log lines."""
    while piece := says.read(_PIECE_BYTES):
        wanted = b"".join(line for line in piece.splitlines(keepends=True) if not _LOG_LINE.match(line))
        if wanted:
            sys.stderr.write(wanted.decode(errors="replace"))
            sys.stderr.flush()
