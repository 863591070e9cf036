"""Datagrams with numbers, so that a test sees which of them a recorder kept, and how often."""

import struct
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import network_lab as lab
from podcam.capture import Namespace
from podcam.ring import SegmentReader, segments_in
from waiting import wait_until

PORT = 7000
NUMBER = struct.Struct("=Q")
_MOST_AHEAD = 20_000
"""So many datagrams of 200 bytes fit into the kernel's ring of 32 MB several times over."""


def copies_in(folder: Path, *, newest: int = 0) -> Counter[int]:
    """How often each numbered datagram lies in the (newest) segments of a folder, seen over loopback."""
    found: Counter[int] = Counter()
    for path in segments_in(folder)[-newest:]:
        reader = SegmentReader(path)
        for packet in reader.packets():
            udp = bytes(packet.data[34:50])
            if packet.hardware_type == 772 and len(udp) == 16 and udp[2:4] == PORT.to_bytes(2, "big"):
                found[NUMBER.unpack(udp[8:])[0]] += 1
    return found


def numbers_in(folder: Path, *, newest: int = 0) -> set[int]:
    """The numbered datagrams that lie in the (newest) segments of a folder."""
    return set(copies_in(folder, newest=newest))


class NumberedSender:
    """Sends numbered datagrams over the loopback of a namespace, of 1,000 bytes if not said otherwise."""

    def __init__(self, where: Namespace, *, padding_bytes: int = 992) -> None:
        self.sent = 0
        self._socket = lab.udp_socket(where)
        self._sink = lab.udp_socket(where, port=PORT)  # without it, each datagram is answered by ICMP
        self._padding = bytes(padding_bytes)

    def send(self, count: int) -> None:
        for _ in range(count):
            self._socket.sendto(NUMBER.pack(self.sent) + self._padding, ("127.0.0.1", PORT))
            self.sent += 1

    def send_all_to(self, ring: Path, count: int) -> None:
        """Send so many, no more at once than a kernel ring of 1 MB takes, and wait until all are on disk."""
        for _ in range(0, count, 200):
            self.send(200)
            wait_until(lambda: self.sent - 1 in numbers_in(ring, newest=1))

    def close(self) -> None:
        self._socket.close()
        self._sink.close()


class NumberedLoad:
    """A thread that sends numbered datagrams over loopback until told to stop.

    Where `written` says how many are written, it is never so far ahead that the kernel had to drop some.
    """

    def __init__(
        self,
        where: Namespace,
        *,
        size_bytes: int = 200,
        pause_s: float,
        written: Callable[[], int] | None = None,
    ) -> None:
        self._sender = NumberedSender(where, padding_bytes=size_bytes)
        self._stop = threading.Event()
        self._pause_s = pause_s
        self._written = written
        self._thread = threading.Thread(target=self._run)

    @property
    def sent(self) -> int:
        return self._sender.sent

    def __enter__(self) -> "NumberedLoad":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._sender.close()

    def _run(self) -> None:
        while not self._stop.wait(self._pause_s):
            if self._written is not None and self.sent - self._written() > _MOST_AHEAD:
                continue
            self._sender.send(100)
