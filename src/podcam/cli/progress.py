"""How far a command is, on one line of the terminal that goes away again."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

_PATIENCE_S = 1.0
"""Shorter work needs no line."""
_INTERVAL_S = 0.1


class Progress:
    """Call it with the fraction done; as a context it clears its line at the end.

    Says nothing before a second has gone by, and nothing at all where standard error is not a terminal.
    """

    def __init__(
        self, doing: str, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._doing = doing
        self._out = sys.stderr if out is None else out
        self._clock = clock
        self._next_s = clock() + _PATIENCE_S
        self._shown = False

    def __call__(self, fraction: float) -> None:
        """Show how much is done, 0 to 1."""
        now_s = self._clock()
        if now_s >= self._next_s and self._out.isatty():
            self._out.write(f"\r{self._doing}: {min(fraction, 1):.0%} ")
            self._out.flush()
            self._shown = True
            self._next_s = now_s + _INTERVAL_S

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._out.write("\r\x1b[K")
            self._out.flush()
