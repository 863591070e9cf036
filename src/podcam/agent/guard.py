"""The supervisor of everything that happens in the agent's thread."""

import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from podcam.agent.log import Log
from podcam.errors import PodcamError

T = TypeVar("T")


class Guard:
    """Calls what must not end the agent, whatever it raises: one object must not end all others."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __call__(self, what: str, function: Callable[..., T], *arguments: Any) -> T | None:
        """Call the function; what it raises is logged, as `what`, and None is returned."""
        try:
            return function(*arguments)
        except PodcamError as error:
            self._log.error("something could not be done", what=what, why=error)
        except Exception as error:  # noqa: BLE001 - the supervisor
            self._log.error("a defect", what=what, why=repr(error), where=traceback.format_exc(limit=-5))
        return None
