"""The watches of an agent: one thread per kind of objects, each handing what it hears to the agent's own."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from podcam.agent.log import Log
from podcam.agent.metrics import WatchFigures
from podcam.kube import Api, Change, Kind, Listed, Lost, list_then_watch

_AGAIN_SECONDS = 5.0


@dataclass(slots=True)
class _Heard:
    """What became of one watch so far."""

    connected: bool = False
    last_seconds: float | None = None
    lists: int = 0


class Watches:
    """Watches that begin together and end together.

    Args:
        api: the API server; closed by `close`, as nothing else ends a watch at once.
        call: runs a function in the agent's thread.
        log: for what is lost.
        monotonic: the clock, in seconds.
    """

    def __init__(
        self,
        api: Api,
        call: Callable[[Callable[[], None]], None],
        log: Log,
        monotonic: Callable[[], float],
    ) -> None:
        self._api = api
        self._call = call
        self._log = log
        self._monotonic = monotonic
        self._stop = threading.Event()
        self._heard: dict[str, _Heard] = {}

    def start(self, kind: Kind, take: Callable[[Change], None], *, field_selector: str | None = None) -> None:
        """Watch a kind of objects: `take` is called in the agent's thread."""
        heard = self._heard[kind.plural] = _Heard()

        def hear(change: Change) -> None:
            heard.last_seconds = self._monotonic()
            heard.connected = not isinstance(change, Lost)
            if isinstance(change, Listed):
                heard.lists += 1
            if isinstance(change, Lost):
                self._log.warning("a watch was lost", kind=kind.plural, why=change.why)
            self._call(lambda: take(change))

        def watch() -> None:
            while not self._stop.is_set():
                try:
                    list_then_watch(
                        self._api, kind, handle=hear, stop=self._stop, field_selector=field_selector
                    )
                except Exception as error:  # noqa: BLE001 - without this watch the agent would go deaf
                    self._log.error("a watch failed, and begins again", kind=kind.plural, why=repr(error))
                    self._stop.wait(_AGAIN_SECONDS)

        threading.Thread(target=watch, name=f"watch-{kind.plural}", daemon=True).start()

    def close(self) -> None:
        """End all of them."""
        self._stop.set()
        self._api.close()

    def figures(self) -> tuple[WatchFigures, ...]:
        """For the metrics."""
        now = self._monotonic()
        return tuple(
            WatchFigures(
                kind=kind,
                connected=heard.connected,
                last_event_age_seconds=None if heard.last_seconds is None else now - heard.last_seconds,
                lists=heard.lists,
            )
            for kind, heard in self._heard.items()
        )
