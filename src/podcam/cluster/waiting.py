"""Waiting for an object to become what is wanted, by a watch: nothing is polled."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from podcam.errors import ForbiddenError, UnauthorizedError
from podcam.kube import Api, Change, Changed, Deleted, Kind, Listed, Lost, list_then_watch

Clock = Callable[[], float]


def states(
    api: Api,
    kind: Kind,
    namespace: str | None,
    name: str,
    *,
    timeout_seconds: float,
    clock: Clock = time.monotonic,
) -> Iterator[dict[str, Any] | None]:
    """The object each time that it changes, from now until the time is over; None when it is gone.

    Raises KubernetesError where it may not be watched.
    """
    changes: queue.SimpleQueue[Change] = queue.SimpleQueue()
    stop = threading.Event()

    def watch() -> None:
        list_then_watch(
            api,
            kind,
            namespace=namespace,
            field_selector=f"metadata.name={name}",
            handle=changes.put,
            stop=stop,
        )

    # The read that it hangs in ends with the connection to the cluster, at the end of the command.
    threading.Thread(target=watch, name=f"watch of {name}", daemon=True).start()
    deadline = clock() + timeout_seconds
    try:
        while (left := deadline - clock()) > 0:
            try:
                change = changes.get(timeout=left)
            except queue.Empty:
                return
            match change:
                case Listed(objects):
                    yield objects[0] if objects else None
                case Changed(changed):
                    yield changed
                case Deleted():
                    yield None
                case Lost(why) if isinstance(why, ForbiddenError | UnauthorizedError):
                    raise why
                case Lost():
                    pass  # Listed follows when the API server is back
    finally:
        stop.set()
