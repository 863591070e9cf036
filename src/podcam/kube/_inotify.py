"""inotify(7), which Python's standard library does not have, through ctypes. Each call raises OSError."""

import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

IN_CLOSE_WRITE = 0x00000008  # linux/inotify.h
IN_MOVED_FROM = 0x00000040
IN_MOVED_TO = 0x00000080
IN_CREATE = 0x00000100
IN_DELETE = 0x00000200
IN_Q_OVERFLOW = 0x00004000
IN_IGNORED = 0x00008000
IN_ONLYDIR = 0x01000000

_EVENT = struct.Struct("iIII")  # struct inotify_event, before its name
_BUFFER_BYTES = 65_536

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to `name` in the folder that `watch` stands for; -1 when events were lost."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One inotify descriptor, which never blocks."""

    def __init__(self) -> None:
        self._fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _error("inotify_init1")

    def fileno(self) -> int:
        return self._fd

    def add(self, folder: str, mask: int) -> int:
        """Watch a folder; the same number again when it is watched already."""
        watch: int = _libc.inotify_add_watch(self._fd, os.fsencode(folder), mask | IN_ONLYDIR)
        if watch < 0:
            raise _error(f"inotify_add_watch {folder}")
        return watch

    def events(self) -> Iterator[Event]:
        """What happened since the last call."""
        while True:
            try:
                data = os.read(self._fd, _BUFFER_BYTES)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                watch, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size
                yield Event(watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0")))
                at += length

    def close(self) -> None:
        os.close(self._fd)


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
