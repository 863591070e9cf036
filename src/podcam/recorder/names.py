"""The recorder's own look-ups of names: at the start, and when no answer came by for long.

Otherwise addresses are learnt from the DNS answers that the recorded programs themselves receive.
"""

import os
import socket
import threading
from collections.abc import Callable

from podcam.errors import UsageError


def resolve(name: str) -> frozenset[str]:
    """The addresses of a name, by this system's resolver.

    Raises:
        UsageError: it has none.
    """
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"--host {name}: the name has no address ({reason}): check its spelling, or give an address"
        ) from None
    return frozenset(str(address[0]).partition("%")[0] for *_, address in found)


class BackgroundLookup:
    """Looks names up in a thread; `fileno()` becomes readable when there is an answer."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._answers: list[tuple[str, frozenset[str]]] = []
        self._thread: threading.Thread | None = None

    def fileno(self) -> int:
        """For a selector."""
        return self._reading

    def start(self, names: tuple[str, ...], look_up: Callable[[str], frozenset[str]] = resolve) -> None:
        """Look these names up, unless the last look-up still waits for an answer."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = threading.Thread(target=self._run, args=(names, look_up), name="resolver", daemon=True)
        self._thread.start()

    def take(self) -> list[tuple[str, frozenset[str]]]:
        """The answers that came since; a name that could not be resolved is left out."""
        os.read(self._reading, 64)
        answers, self._answers = self._answers, []
        return answers

    def close(self) -> None:
        """Let go of the pipe; a look-up under way ends with the process."""
        os.close(self._reading)

    def _run(self, names: tuple[str, ...], look_up: Callable[[str], frozenset[str]]) -> None:
        for name in names:
            try:
                self._answers.append((name, look_up(name)))
            except UsageError:
                continue
        os.write(self._writing, b"\0")
