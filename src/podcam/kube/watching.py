"""List, then watch: what there is of a kind of object, and everything that becomes of it.

One list tells what there is; one watch, resumed for ever, tells every change after it. Nothing is polled, and
no object is remembered here. See the API concepts' "efficient detection of changes".
"""

import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from podcam.errors import GoneError, KubernetesError, UnreachableError
from podcam.kube.api import Api, Object
from podcam.kube.kinds import Kind, asked, path_of
from podcam.kube.refusals import refusal_of

_MOST_LINE_BYTES = 16 << 20
"""An event holds one object, and etcd takes none of more than 1.5 MiB."""


@dataclass(frozen=True, slots=True)
class Listed:
    """These objects there are, and no others."""

    objects: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """The object is new, or another than before; a watch may tell of it more than once."""

    object: Object


@dataclass(frozen=True, slots=True)
class Deleted:
    """The object is gone; this is its last state."""

    object: Object


@dataclass(frozen=True, slots=True)
class Lost:
    """The API server does not answer as it should; Listed comes when it does again."""

    why: KubernetesError


Change = Listed | Changed | Deleted | Lost


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How long a watch waits for what. Seconds."""

    page: int = 500
    """Objects per answer to a list."""
    longest: float = 1800.0
    """After so long at most, and half of it at least, the API server ends the watch, and it is resumed: so
    that watches spread again over API servers that came back."""
    silence: float = 180.0
    """A watch without a byte for so long is broken off: bookmarks come about once a minute."""
    shortest: float = 1.0
    """A watch that ends sooner, and told nothing, counts as a failure."""
    first_pause: float = 0.5
    """The most that is waited after the first failure; twice as much after the next."""
    longest_pause: float = 15.0
    longest_asked: float = 60.0
    """The most that is waited on top when the API server asks for it (Retry-After)."""


@dataclass(frozen=True, slots=True)
class Page:
    """The answer to a list: all objects, and the version from which a watch goes on."""

    objects: tuple[Object, ...]
    version: str


def list_objects(
    api: Api,
    kind: Kind,
    *,
    namespace: str | None = None,
    field_selector: str | None = None,
    label_selector: str | None = None,
    page: int = 500,
) -> Page:
    """List all objects of a kind (in a namespace, if given), page by page.

    Where the pages are too old before the last one is read, they are asked for at once, as one.

    Raises:
        KubernetesError: as the API server says.
    """
    path = path_of(kind, namespace)
    selectors = _selectors(field_selector, label_selector)
    try:
        return _list_pages(api, path, {**selectors, "limit": page})
    except GoneError:
        return _list_pages(api, path, selectors)


def list_then_watch(
    api: Api,
    kind: Kind,
    *,
    handle: Callable[[Change], None],
    stop: threading.Event,
    namespace: str | None = None,
    field_selector: str | None = None,
    label_selector: str | None = None,
    settings: WatchSettings = WatchSettings(),
    now: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] | None = None,
    uniform: Callable[[float, float], float] = random.uniform,
) -> None:
    """Tell `handle` what there is, and then every change, until `stop` is set.

    To end it at once, set `stop` and close the Api: a watch that waits for events ends then. Deletions that
    happened while nobody watched are known from the next Listed.

    Args:
        api: the API server.
        kind: what to watch.
        handle: is called in this thread.
        stop: ends it.
        namespace: only there.
        field_selector: only these, as `spec.nodeName=node-1`.
        label_selector: only these, as `app=web`.
        settings: how long to wait for what.
        now: the time in seconds, which never goes back.
        wait: waits for so many seconds, or until `stop` is set.
        uniform: a random number between two.
    """
    watcher = _Watcher(
        api=api,
        path=path_of(kind, namespace),
        selectors=_selectors(field_selector, label_selector),
        lister=lambda: list_objects(
            api,
            kind,
            namespace=namespace,
            field_selector=field_selector,
            label_selector=label_selector,
            page=settings.page,
        ),
        handle=handle,
        stop=stop,
        settings=settings,
        now=now,
        uniform=uniform,
    )
    pause = stop.wait if wait is None else wait
    while not stop.is_set():
        seconds = watcher.turn()
        if seconds > 0 and not stop.is_set():
            pause(seconds)


class _Watcher:
    """One turn is one list or one watch; it tells how long to pause before the next."""

    def __init__(
        self,
        *,
        api: Api,
        path: str,
        selectors: dict[str, str],
        lister: Callable[[], Page],
        handle: Callable[[Change], None],
        stop: threading.Event,
        settings: WatchSettings,
        now: Callable[[], float],
        uniform: Callable[[float, float], float],
    ) -> None:
        self._api = api
        self._path = path
        self._selectors = selectors
        self._lister = lister
        self._handle = handle
        self._stop = stop
        self._settings = settings
        self._now = now
        self._uniform = uniform
        self._version: str | None = None
        """From which the next watch goes on; None: list first."""
        self._failures = 0
        """In a row."""
        self._lost: type[KubernetesError] | None = None
        """The failure that was told."""

    def turn(self) -> float:
        try:
            if self._version is None:
                self._list()
                return 0.0
            return self._watch(self._version)
        except GoneError:
            self._version = None
            return self._pause(None)
        except KubernetesError as error:
            return self._fail(error)

    def _list(self) -> None:
        page = self._lister()
        self._lost = None
        self._version = page.version
        self._handle(Listed(page.objects))

    def _watch(self, version: str) -> float:
        """Watch until the watch ends.

        Raises:
            KubernetesError: it did not begin, or the API server ended it with an error.
        """
        began = self._now()
        lasts = self._uniform(self._settings.longest / 2, self._settings.longest)
        params: dict[str, str | int] = {
            **self._selectors,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": max(1, int(lasts)),
        }
        told = False
        with self._api.watch(self._path, params, silence_seconds=self._settings.silence) as events:
            try:
                for line in events.lines(_MOST_LINE_BYTES):
                    if self._stop.is_set():
                        return 0.0
                    self._event(line)
                    told = True
                    self._failures = 0
            except UnreachableError:
                pass  # it broke off, or was silent: resumed where it was
        if self._now() - began >= self._settings.shortest:
            self._failures = 0
        elif not told:
            return self._pause(None)
        return 0.0

    def _event(self, line: bytes) -> None:
        """Tell of one event.

        Raises:
            KubernetesError: it is an error, or not an event at all.
        """
        try:
            event = json.loads(line)
            kind, thing = event["type"], event["object"]
            version = None if kind == "ERROR" else thing["metadata"]["resourceVersion"]
        except (ValueError, KeyError, TypeError):
            raise KubernetesError(f"{self._api.place} sent no event of a watch: {line[:80]!r}") from None
        match kind:
            case "ADDED" | "MODIFIED":
                self._handle(Changed(thing))
            case "DELETED":
                self._handle(Deleted(thing))
            case "BOOKMARK":
                pass
            case _:
                raise self._error_in(thing)
        self._version = version

    def _error_in(self, status: Any) -> KubernetesError:
        status = status if isinstance(status, dict) else {}
        return refusal_of(status, asked("GET", self._path), 500)

    def _fail(self, error: KubernetesError) -> float:
        self._version = None
        if type(error) is not self._lost and not self._stop.is_set():
            self._lost = type(error)
            self._handle(Lost(error))
        return self._pause(error.retry_after_seconds)

    def _pause(self, at_least: float | None) -> float:
        """Back off: anything up to twice as long as last time, so that not all come at once."""
        most = min(self._settings.first_pause * 2.0**self._failures, self._settings.longest_pause)
        self._failures = min(self._failures + 1, 30)
        return min(at_least or 0.0, self._settings.longest_asked) + self._uniform(0.0, most)


def _list_pages(api: Api, path: str, params: dict[str, Any]) -> Page:
    objects: list[Object] = []
    while True:
        answer = api.get(path, params)
        items, metadata = answer.get("items"), answer.get("metadata")
        if not isinstance(items, list) or not isinstance(metadata, dict):
            raise UnreachableError(f"{api.place} does not answer as an API server does (at {path})")
        objects += items
        if not (following := metadata.get("continue")):
            return Page(tuple(objects), str(metadata.get("resourceVersion") or ""))
        params = {**params, "continue": following}


def _selectors(fields: str | None, labels: str | None) -> dict[str, str]:
    chosen = {"fieldSelector": fields, "labelSelector": labels}
    return {name: value for name, value in chosen.items() if value}
