"""What time it is: on the wall, and for how long."""

import time
from typing import Protocol


class Clock(Protocol):
    """The two clocks of the agent."""

    def now_ns(self) -> int:
        """The wall clock, in nanoseconds since 1970 UTC; it may be set."""

    def monotonic(self) -> float:
        """Seconds on a clock that is never set."""


class SystemClock:
    """The clocks of this machine."""

    def now_ns(self) -> int:
        """The wall clock, in nanoseconds since 1970 UTC; it may be set."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds on a clock that is never set."""
        return time.monotonic()
