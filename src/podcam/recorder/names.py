"""The recorder's own look-ups of names: at the start, and when no answer came by for long.

Otherwise addresses are learnt from the DNS answers that the recorded programs themselves receive.
"""

import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from podcam.capture import Namespace, open_inside
from podcam.errors import PodcamError, UsageError
from podcam.recorder.resolver import ResolverConfig, ask

_NAMED = Path("/run/netns")
_CONFIGS_OF_NAMED = Path("/etc/netns")
"""ip-netns(8): NAME/resolv.conf is what `ip netns exec NAME` shows as /etc/resolv.conf."""


def resolve(name: str, namespaces: Sequence[Namespace] = ()) -> frozenset[str]:
    """The addresses of a name, as programs in the recorded namespaces get them.

    Where a namespace has a resolver of its own (a container's, or one in /etc/netns), that is asked, from
    inside. Otherwise, or if none of them knows the name, the system's own is.

    Raises:
        UsageError: it has no address.
    """
    found: set[str] = set()
    configs = [(namespace, _config_of(namespace)) for namespace in namespaces]
    for namespace, config in configs:
        if config is not None:
            with suppress(PodcamError, ValueError):
                found |= ask(name, config, partial(open_inside, namespace))
    if found and all(config is not None for _, config in configs):
        return frozenset(found)
    try:
        return frozenset(found | _by_the_system(name))
    except UsageError:
        if found:
            return frozenset(found)
        raise


def _by_the_system(name: str) -> set[str]:
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"--host {name}: the name has no address ({reason}): check its spelling, or give an address"
        ) from None
    return {str(address[0]).partition("%")[0] for *_, address in answers}


def _config_of(namespace: Namespace) -> ResolverConfig | None:
    """What the namespace's programs read as /etc/resolv.conf; None when that is the recorder's own."""
    if namespace.path is None:
        return None
    path = Path(namespace.path)
    match path.parts:
        case ["/", "proc", pid, "ns", "net"]:
            path = Path("/proc", pid, "root/etc/resolv.conf")
        case _ if path.parent == _NAMED:
            path = _CONFIGS_OF_NAMED / path.name / "resolv.conf"
        case _:
            return None
    try:
        return ResolverConfig.parse(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None


class BackgroundLookup:
    """Looks names up in a thread; `fileno()` becomes readable when there is an answer."""

    def __init__(self, look_up: Callable[[str], frozenset[str]]) -> None:
        self._look_up = look_up
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._answers: dict[str, frozenset[str]] = {}
        self._thread: threading.Thread | None = None

    def fileno(self) -> int:
        """For a selector."""
        return self._reading

    def start(self, names: tuple[str, ...]) -> None:
        """Look these names up, unless the last look-up still waits for an answer."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = threading.Thread(target=self._run, args=(names,), name="resolver", daemon=True)
        self._thread.start()

    def take(self) -> dict[str, frozenset[str]]:
        """The answers that came since, by name; one that could not be resolved is left out."""
        os.read(self._reading, 64)
        answers, self._answers = self._answers, {}
        return answers

    def close(self) -> None:
        """Let go of the pipe; a look-up under way ends with the process."""
        os.close(self._reading)

    def _run(self, names: tuple[str, ...]) -> None:
        answers = {}
        for name in names:
            with suppress(UsageError):
                answers[name] = self._look_up(name)
        self._answers = answers
        os.write(self._writing, b"\0")
