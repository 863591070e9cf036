"""Requests to the API server: one thread, the newest per object, again and again until it answers.

What an object's status should say only matters as it is now: so a request that waits is replaced by a newer
one for the same thing, and an agent that was cut off for an hour catches up with one request per object.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from podcam.agent.log import Log
from podcam.errors import KubernetesError, NotFoundError, NotInstalledError, UnreachableError
from podcam.kube import Api

_SHORTEST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 30.0
"""Between two attempts while the API server is away."""
_TOO_MANY_REQUESTS = 429
_CANNOT_NOW = frozenset({500, 502, 503, 504})
"""Answers of an API server that is there and cannot do this now: what else there is to do may still go."""
_LONGEST_REFUSED_SECONDS = 300.0
"""Between two attempts at what it refuses: somebody may grant a right, or mend a schema."""

_MOST_OPTIONAL = 100
"""Of requests that are not insisted on, so many wait."""


class Outbox(Protocol):
    """Where requests to the API server are put."""

    def put(
        self, key: str, send: Callable[[Api], None], *, delay_seconds: float = 0.0, insist: bool = True
    ) -> None:
        """Send this, in place of what waits under the same key."""

    def drop(self, key: str) -> None:
        """Do not send what waits under this key."""


@dataclass(slots=True)
class _Waiting:
    send: Callable[[Api], None]
    due_seconds: float
    insist: bool
    refused: int = 0
    failed: int = 0
    """How often the API server could not do it."""
    held_until: float = 0.0
    """Not to be sent before, whatever is due; what takes its place is held as long."""


class Writes:
    """A queue of requests, sent by a thread of its own.

    Args:
        api: where to.
        log: for what is refused.
        now: the monotonic clock, in seconds.
        jitter: 0 to 1, so that not every agent comes back in the same moment.
    """

    def __init__(
        self,
        api: Api,
        log: Log,
        *,
        now: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._api = api
        self._log = log
        self._now = now
        self._jitter = jitter
        self._news = threading.Condition()
        self._waiting: dict[str, _Waiting] = {}
        self._sending: str | None = None
        """The key of the request that is under way."""
        self._unwanted = False
        """Whether that was dropped meanwhile: it is not tried again."""
        self._pause_seconds = 0.0
        """How long the API server was last left alone; 0 while it answers."""
        self._paused_until = 0.0
        self._ending: float | None = None
        self._thread = threading.Thread(target=self._run, name="writes", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def put(
        self, key: str, send: Callable[[Api], None], *, delay_seconds: float = 0.0, insist: bool = True
    ) -> None:
        """Send this, in place of what waits under the same key.

        Args:
            key: what the request is about.
            send: makes the request, in the sending thread. Called again if the API server is not there.
            delay_seconds: how long to wait for something newer; what waits already is not put off by it.
            insist: try again what the API server refuses; somebody may mend that.
        """
        with self._news:
            if not insist:
                self._make_room()
            before = self._waiting.get(key)
            due = self._now() + delay_seconds
            if before is not None and not before.refused:
                due = min(due, before.due_seconds)
            self._waiting[key] = request = _Waiting(send, due, insist)
            if before is not None:
                request.failed, request.held_until = before.failed, before.held_until
            self._news.notify()

    def _make_room(self) -> None:
        """Forget the oldest of what is not insisted on, where much of it waits: in an outage it piles up."""
        waiting = [key for key, request in self._waiting.items() if not request.insist]
        for key in waiting[: max(0, len(waiting) + 1 - _MOST_OPTIONAL)]:
            del self._waiting[key]

    def drop(self, key: str) -> None:
        """Do not send what waits under this key, nor send it again: its object is gone."""
        with self._news:
            self._waiting.pop(key, None)
            self._unwanted |= key == self._sending

    @property
    def waiting(self) -> int:
        """How many requests wait, or are under way."""
        with self._news:
            return len(self._waiting) + (self._sending is not None)

    def finish(self, timeout_seconds: float) -> bool:
        """Send what waits, without delays, for so long at most; whether all of it went."""
        with self._news:
            self._ending = self._now() + timeout_seconds
            self._news.notify()
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive() and not self._waiting

    def _run(self) -> None:
        while (next_one := self._take()) is not None:
            self._try(*next_one)
            with self._news:
                self._sending, self._unwanted = None, False

    def _take(self) -> tuple[str, _Waiting] | None:
        """The next request that is due, once it is; None at the end."""
        with self._news:
            while True:
                now = self._now()
                if self._ending is not None and (not self._waiting or now >= self._ending):
                    return None
                key = min(self._waiting, key=self._due, default=None)
                if key is None:
                    self._news.wait()
                    continue
                due = max(self._due(key), self._paused_until)
                if due <= now:
                    self._sending = key
                    return key, self._waiting.pop(key)
                self._news.wait(due - now)

    def _due(self, key: str) -> float:
        request = self._waiting[key]
        return (
            request.held_until if self._ending is not None else max(request.due_seconds, request.held_until)
        )

    def _try(self, key: str, request: _Waiting) -> None:
        try:
            request.send(self._api)
            self._answered()
        except KubernetesError as error:
            if isinstance(error, UnreachableError) or error.status == _TOO_MANY_REQUESTS:
                self._unreachable(key, request, error)
                return
            self._answered()
            if error.status in _CANNOT_NOW:
                self._failed(key, request, error)
            elif not isinstance(error, NotFoundError) or isinstance(error, NotInstalledError):
                self._refused(key, request, error)  # else the object is gone, and what there was to say of it
        except Exception as error:  # noqa: BLE001 - a defect in one request must not end all others
            self._refused(key, request, error)

    def _answered(self) -> None:
        if self._pause_seconds:
            self._log.info("the API server answers again")
        self._pause_seconds = self._paused_until = 0.0

    def _unreachable(self, key: str, request: _Waiting, error: Exception) -> None:
        if not self._pause_seconds:
            self._log.warning("the API server cannot be reached: what there is to report waits", why=error)
        self._pause_seconds = min(
            max(_SHORTEST_PAUSE_SECONDS, 2 * self._pause_seconds), _LONGEST_PAUSE_SECONDS
        )
        self._paused_until = self._now() + self._pause_seconds * (0.5 + 0.5 * self._jitter())
        self._again(key, request)

    def _failed(self, key: str, request: _Waiting, error: Exception) -> None:
        """The API server could not do it: this request is held, and no other."""
        if not request.failed:
            self._log.warning("the API server cannot do this now: it is tried again", request=key, why=error)
        pause = min(_SHORTEST_PAUSE_SECONDS * _doubled(request.failed), _LONGEST_PAUSE_SECONDS)
        request.failed += 1
        request.held_until = self._now() + pause * (0.5 + 0.5 * self._jitter())
        self._again(key, request)

    def _again(self, key: str, request: _Waiting) -> None:
        """Send it once more, or what has come in its place."""
        with self._news:
            newer = self._waiting.get(key)
            if newer is not None:
                newer.failed, newer.held_until = request.failed, request.held_until
            elif not self._unwanted:
                self._waiting[key] = request

    def _refused(self, key: str, request: _Waiting, error: Exception) -> None:
        request.refused += 1
        pause = min(_doubled(request.refused - 1), _LONGEST_REFUSED_SECONDS)
        if request.refused <= 3 or pause == _LONGEST_REFUSED_SECONDS:
            self._log.error(
                "the API server refused a request", request=key, why=error, error=type(error).__name__
            )
        request.due_seconds = self._now() + pause * (0.5 + 0.5 * self._jitter())
        if request.insist and self._ending is None:
            self._again(key, request)


def _doubled(times: int) -> float:
    """1, doubled so often; after days of attempts no more than a float holds."""
    return 2.0 ** min(times, 32)
