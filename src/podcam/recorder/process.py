"""A process of the recorder beside the supervisor: forked, so that it shares the interpreter's memory."""

import ctypes
import gc
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from podcam.errors import PodcamError
from podcam.recorder.channel import Channel, Message
from podcam.recorder.loop import Loop

_MOST_DEATHS = 5
_DEATHS_SECONDS = 60.0
"""A helper that dies more often within this time is not to be started again."""
_PR_SET_NAME = 15  # linux/prctl.h; it takes no file, which some recorders may not open
_libc = ctypes.CDLL(None)
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH)


class Child:
    """A forked process with a channel to it.

    It ignores the signals that a terminal or an init system sends to the whole group: the supervisor tells it
    when to stop, and when the supervisor is gone its channel ends, which means the same.
    """

    def __init__(self, name: str, main: Callable[[Channel], None], keep: int) -> None:
        """Start it; of all open descriptors it keeps `keep` alone, until it ends."""
        self.name = name
        ours, theirs = Channel.pair()
        self.pid = os.fork()
        if self.pid == 0:
            _become(name, main, theirs, keep)
        theirs.close()
        self.channel = ours
        self.pidfd = os.pidfd_open(self.pid)

    def ended(self) -> int:
        """Wait for its end, and return its exit code (negative for a signal)."""
        _pid, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """Let go of the channel and of the process's descriptor."""
        self.channel.close()
        os.close(self.pidfd)


class Helper:
    """A child process that may be started again when it dies.

    Args:
        name: of the process.
        main: what it does, given its end of the channel.
        loop: where it is listened to.
        says: takes its messages.
        died: it has ended, though nobody told it to; takes why, and whether it may be started again.
    """

    def __init__(
        self,
        name: str,
        main: Callable[[Channel], None],
        loop: Loop,
        says: Callable[[Message], None],
        died: Callable[[str, bool], None],
    ) -> None:
        self.name = name
        self.why_failed = ""
        """What it said last of its own accord."""
        self.given_up = False
        """Whether it died so often that it is not to be started again."""
        self.starts = 0
        """How often it was started."""
        self._main = main
        self._loop = loop
        self._says = says
        self._died = died
        self._deaths: list[float] = []
        self._stopping = False
        self._child: Child | None = None

    @property
    def running(self) -> bool:
        """Whether there is one."""
        return self._child is not None

    def start(self, keep: int) -> None:
        """Start it; of all open descriptors it keeps `keep` alone."""
        self.starts += 1
        child = self._child = Child(self.name, self._main, keep)
        self._loop.listen(child.channel, self._hear)
        self._loop.listen(child.pidfd, self._ended)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> bool:
        """Send it a message; False when it is not there to receive it."""
        return self._child is not None and self._child.channel.send(message, descriptors)

    def stop(self) -> None:
        """Tell it to end; it is not missed then."""
        self._stopping = True
        self.send({"do": "stop"})

    def _hear(self) -> None:
        if self._child is None:
            return
        received = self._child.channel.receive()
        if received is None:
            self._loop.unlisten(self._child.channel)
        else:
            self._says(received[0])

    def _ended(self) -> None:
        child = self._child
        if child is None:
            return
        self._loop.unlisten(child.pidfd)
        while self._loop.listens(child.channel):
            self._hear()  # what it still had to say
        code = child.ended()
        child.close()
        self._child = None
        if self._stopping:
            return
        why = self.why_failed or (f"killed by signal {-code}" if code < 0 else f"exit code {code}")
        self.why_failed = ""
        now = time.monotonic()
        self._deaths = [death for death in self._deaths if now - death < _DEATHS_SECONDS] + [now]
        self.given_up = len(self._deaths) > _MOST_DEATHS
        self._died(why, not self.given_up)


def _become(name: str, main: Callable[[Channel], None], channel: Channel, keep: int) -> None:
    """The child's whole life; never returns."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        _libc.prctl(_PR_SET_NAME, f"podcam-{name}"[:15].encode("ascii"), 0, 0, 0)
        _close_all_but(channel.fileno(), keep)
        # A descriptor that has no room is lost on its way here, and three are needed for each point.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        # Counting references frees all that these processes make: a collection would only stop them for long.
        gc.disable()
        main(channel)
        code = 0
    except PodcamError as error:
        sys.stderr.write(f"podcam: the {name} cannot go on: {error}\n")
    except BaseException:  # noqa: BLE001 - the last frame of a process: told on standard error, then gone
        traceback.print_exc()
    finally:
        os._exit(code)


def _close_all_but(*kept: int) -> None:
    """Close what was inherited: a copy of a packet socket here would keep its ring alive there."""
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208 - a snapshot, as the listing itself holds one open
        descriptor = int(entry)
        if descriptor > 2 and descriptor not in kept:
            try:
                os.close(descriptor)
            except OSError:
                continue
