"""Waiting for what other threads and processes do."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_PATIENCE_S = 60
_PAUSE_S = 0.01


def wait_until(look: Callable[[], T], *, tell: Callable[[], object] = lambda: "it did not come about") -> T:
    """Look until something is seen, which is returned; where nothing ever is, what `tell` says is told."""
    deadline, pause = time.monotonic() + _PATIENCE_S, threading.Event()
    while not (seen := look()):
        assert time.monotonic() < deadline, tell()
        pause.wait(_PAUSE_S)
    return seen
