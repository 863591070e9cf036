"""Waiting for objects to become what is wanted, by a watch: nothing is polled."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from podcam.errors import ForbiddenError, UnauthorizedError
from podcam.kube import Api, Change, Changed, Deleted, Kind, Listed, Lost, list_then_watch

Clock = Callable[[], float]


def collections(
    api: Api,
    kind: Kind,
    namespace: str | None,
    *,
    timeout_seconds: float,
    field_selector: str | None = None,
    label_selector: str | None = None,
    clock: Clock = time.monotonic,
) -> Iterator[dict[str, dict[str, Any]]]:
    """All objects by name, each time that one of them changes, from now until the time is over.

    Raises KubernetesError where they may not be watched.
    """
    changes: queue.SimpleQueue[Change] = queue.SimpleQueue()
    stop = threading.Event()

    def watch() -> None:
        list_then_watch(
            api,
            kind,
            namespace=namespace,
            field_selector=field_selector,
            label_selector=label_selector,
            handle=changes.put,
            stop=stop,
        )

    # The read that it hangs in ends with the connection to the cluster, at the end of the command.
    threading.Thread(target=watch, name=f"watch of {kind.plural}", daemon=True).start()
    deadline = clock() + timeout_seconds
    objects: dict[str, dict[str, Any]] = {}
    try:
        while (left := deadline - clock()) > 0:
            try:
                change = changes.get(timeout=left)
            except queue.Empty:
                return
            match change:
                case Listed(listed):
                    objects = {each["metadata"]["name"]: each for each in listed}
                case Changed(each):
                    objects[each["metadata"]["name"]] = each
                case Deleted(each):
                    objects.pop(each["metadata"]["name"], None)
                case Lost(why):
                    if isinstance(why, ForbiddenError | UnauthorizedError):
                        raise why
                    continue  # Listed follows when the API server is back
            yield dict(objects)
    finally:
        stop.set()


def states(
    api: Api, kind: Kind, namespace: str, name: str, *, timeout_seconds: float, clock: Clock = time.monotonic
) -> Iterator[dict[str, Any] | None]:
    """One object each time that it changes, from now until the time is over; None when it is gone.

    Raises KubernetesError where it may not be watched.
    """
    for objects in collections(
        api,
        kind,
        namespace,
        timeout_seconds=timeout_seconds,
        field_selector=f"metadata.name={name}",
        clock=clock,
    ):
        yield objects.get(name)
