"""Which runtime stands behind a runtime class: asked once for each class that a recorded pod names."""

from collections.abc import Callable, Mapping

from podcam.agent.log import Log
from podcam.agent.writes import Outbox
from podcam.errors import KubernetesError, UnreachableError
from podcam.kube import RUNTIME_CLASSES, Api, path_of


class Runtimes:
    """The handlers of runtime classes; a class cannot change its own.

    Args:
        writes: the thread that talks to the API server.
        call: runs a function in the agent's thread.
        log: for what cannot be asked.
    """

    def __init__(
        self,
        writes: Outbox,
        call: Callable[[Callable[[], None]], None],
        log: Log,
    ) -> None:
        self._writes = writes
        self._call = call
        self._log = log
        self._handlers: dict[str, str] = {}
        self._asked: set[str] = set()

    @property
    def handlers(self) -> Mapping[str, str]:
        """By the names of classes. One that could not be asked for is not there: its name has to do."""
        return self._handlers

    def look_up(self, runtime_class: str, known: Callable[[], None]) -> None:
        """Find out about a class, if nobody has asked yet; `known` is called once its handler is known."""
        if runtime_class in self._asked:
            return
        self._asked.add(runtime_class)

        def send(api: Api) -> None:
            try:
                body = api.get(path_of(RUNTIME_CLASSES, name=runtime_class))
            except UnreachableError:
                raise
            except KubernetesError as error:
                self._log.warning(
                    "a runtime class is judged by its name: it cannot be read",
                    runtime_class=runtime_class,
                    why=error,
                )
                return
            handler = body.get("handler")
            if isinstance(handler, str) and handler:
                self._call(lambda: self._heard(runtime_class, handler, known))

        self._writes.put(f"runtimeclasses/{runtime_class}", send)

    def _heard(self, runtime_class: str, handler: str, known: Callable[[], None]) -> None:
        self._handlers[runtime_class] = handler
        known()
