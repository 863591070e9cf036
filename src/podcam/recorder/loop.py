"""What a recorder waits for, in one thread: descriptors, signals, calls from other threads, times to come."""

import heapq
import itertools
import os
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

_MOST_SIGNALS = 64
"""Told of at once; more are told of next."""


class HasFileno(Protocol):
    """What a selector can wait for."""

    def fileno(self) -> int:
        """Its descriptor."""


class Timer:
    """A call that is to come; `cancel` is called in the loop's thread."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function: Callable[[], None] | None = function

    def cancel(self) -> None:
        """Let it not come; nothing if it has."""
        self._function = None

    def fire(self) -> None:
        """Call it, once."""
        function, self._function = self._function, None
        if function is not None:
            function()


class Loop:
    """Descriptors that become readable, signals, calls handed over by other threads, and timers.

    All of it happens in the thread that calls `run_once`. What a function raises comes out of `run_once`;
    what had not yet had its turn has it next time.

    Args:
        now: seconds on a clock that is never set.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._selector = selectors.DefaultSelector()
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closing = threading.Lock()
        self._closed = False
        self._signals: tuple[socket.socket, socket.socket] | None = None
        self.listen(self._wakeup, self._woken)

    def listen(self, source: HasFileno | int, react: Callable[[], None]) -> None:
        """Call `react` whenever `source` is readable."""
        self._selector.register(source, selectors.EVENT_READ, react)

    def unlisten(self, source: HasFileno | int) -> None:
        """Listen to it no more; before it is closed."""
        self._selector.unregister(source)

    def listens(self, source: HasFileno | int) -> bool:
        """Whether it does."""
        return source in self._selector.get_map()

    def listen_for_signals(self, numbers: Iterable[int], react: Callable[[bytes], None]) -> None:
        """Call `react` with the numbers of those of these signals that came; none of them ends the process.

        In the main thread, and in one loop of a process: Python writes the numbers to one descriptor
        (https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd).
        """
        reading, writing = self._signals = socket.socketpair()
        writing.setblocking(False)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, lambda _number, _frame: None)
        self.listen(reading, lambda: react(reading.recv(_MOST_SIGNALS)))

    def call(self, function: Callable[[], None]) -> None:
        """From any thread: have this called in the loop's thread, soon, in the order of the calls."""
        self._calls.append(function)
        with self._closing:
            if not self._closed:
                os.eventfd_write(self._wakeup, 1)

    def later(self, seconds: float, function: Callable[[], None]) -> Timer:
        """Have this called in so many seconds."""
        timer = Timer(function)
        heapq.heappush(self._timers, (self._now() + seconds, next(self._numbers), timer))
        return timer

    def run_once(self, timeout_seconds: float) -> None:
        """Wait until something happens, at most for so long, and do all that is to be done then."""
        if self._calls:  # left over from when one of them raised
            timeout_seconds = 0
        elif self._timers:
            timeout_seconds = min(timeout_seconds, max(0.0, self._timers[0][0] - self._now()))
        for key, _events in self._selector.select(timeout_seconds):
            if key in self._selector.get_map().values():  # not if the one before has closed it
                key.data()
        for _ in range(len(self._calls)):
            self._calls.popleft()()
        now, last = self._now(), next(self._numbers)
        while self._timers and self._timers[0][0] <= now and self._timers[0][1] < last:
            heapq.heappop(self._timers)[2].fire()

    def close(self) -> None:
        """Let go of what it waits with; who calls after that is not heard."""
        with self._closing:
            self._closed = True
            self._selector.close()
            os.close(self._wakeup)
        if self._signals is not None:
            signal.set_wakeup_fd(-1)
            for end in self._signals:
                end.close()

    def _woken(self) -> None:
        os.eventfd_read(self._wakeup)
