"""A process of the recorder beside the supervisor: forked, so that it shares the interpreter's memory."""

import gc
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

from podcam.recorder.channel import Channel

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


def _become(name: str, main: Callable[[Channel], None], channel: Channel, keep: int) -> None:
    """The child's whole life; never returns."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        Path("/proc/self/comm").write_text(f"podcam-{name}"[:15], encoding="ascii")
        _close_all_but(channel.fileno(), keep)
        # Counting references frees all that these processes make: a collection would only stop them for long.
        gc.disable()
        main(channel)
        code = 0
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
