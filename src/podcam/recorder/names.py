"""The recorder's own look-ups of names: at the start, and when no answer came by for long.

Otherwise addresses are learnt from the DNS answers that the recorded programs themselves receive.
"""

import functools
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from podcam.capture import Namespace, open_inside
from podcam.errors import PodcamError, UsageError
from podcam.recorder.loop import Loop
from podcam.recorder.resolver import ResolverConfig, ask
from podcam.recorder.settings import PointSettings

_OWN_CONFIG = Path("/etc/resolv.conf")
_NDOTS_OF_CLUSTERS = 5
"""What Kubernetes sets for pods: names with fewer dots are tried with the search domains first."""
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


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for a name, and so which addresses it has: points with equal ones share an answer."""

    config: ResolverConfig | None = None
    """Name servers and search domains; None for what the system's own resolver knows."""
    inside: Namespace | None = None
    """Where the name servers are reached; None for the recorder's own namespace."""

    def look_up(self, name: str) -> frozenset[str]:
        """The addresses of the name; none when nobody knows it, or nobody answers."""
        found: frozenset[str] = frozenset()
        if self.config is not None:
            with suppress(PodcamError, ValueError):
                found = ask(name, self.config, self._open)
        if found or (self.config is not None and self.inside is None):
            return found
        with suppress(UsageError):
            return frozenset(_by_the_system(name))
        return found

    def _open(self, make: Callable[[], socket.socket]) -> socket.socket:
        return make() if self.inside is None else open_inside(self.inside, make)


def asker_of(point: PointSettings) -> Asker:
    """How the programs at a point get the addresses of a name.

    Where their search domains are given, the recorder's own name servers are asked with these: points with
    equal search domains share one look-up, however many they are.
    """
    if point.search:
        return Asker(_own_config(point.search))
    config = _config_of(point.namespace)
    return Asker() if config is None else Asker(config, point.namespace)


@functools.lru_cache(maxsize=256)
def _own_config(search: tuple[str, ...]) -> ResolverConfig:
    try:
        own = ResolverConfig.parse(_OWN_CONFIG.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        own = ResolverConfig(())
    return replace(own, search=search, ndots=max(own.ndots, _NDOTS_OF_CLUSTERS))


class Lookups:
    """Looks names up in a thread of its own, one after the other, each name once per asker and a while.

    Args:
        loop: where `found` is called.
        found: takes a name, who asked for it, and its addresses: none when nobody knows it.
        good_seconds: how long an answer is good for.
    """

    def __init__(
        self, loop: Loop, found: Callable[[str, Asker, frozenset[str]], None], good_seconds: float
    ) -> None:
        self._loop = loop
        self._found = found
        self._good_seconds = good_seconds
        self._questions: queue.SimpleQueue[tuple[str, Asker] | None] = queue.SimpleQueue()
        self._waiting: set[tuple[str, Asker]] = set()
        self._answers: dict[tuple[str, Asker], tuple[float, frozenset[str]]] = {}
        self._thread: threading.Thread | None = None

    def ask(self, name: str, asker: Asker) -> None:
        """Have `found` called with an answer, soon: the last one while it is good, a new one otherwise."""
        question = (name, asker)
        answered_seconds, addresses = self._answers.get(question, (float("-inf"), frozenset()))
        if question in self._waiting:
            return
        if time.monotonic() - answered_seconds < self._good_seconds:
            self._loop.call(functools.partial(self._found, name, asker, addresses))
            return
        self._waiting.add(question)
        self._questions.put(question)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="resolver", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ask no more; a look-up under way is not waited for."""
        self._questions.put(None)

    def _run(self) -> None:
        while (question := self._questions.get()) is not None:
            name, asker = question
            addresses = asker.look_up(name)
            self._loop.call(functools.partial(self._answered, name, asker, addresses))

    def _answered(self, name: str, asker: Asker, addresses: frozenset[str]) -> None:
        now = time.monotonic()
        old = [key for key, (then, _) in self._answers.items() if now - then > self._good_seconds]
        for question in old:
            del self._answers[question]
        self._waiting.discard((name, asker))
        self._answers[name, asker] = (now, addresses)
        self._found(name, asker, addresses)
