"""One point in the writer's process: the blocks of its kernel ring go to its ring on disk.

Per packet nothing is done here; per batch of blocks one `writev`.
"""

import socket
import time

from podcam.capture import Geometry, MappedRing
from podcam.ring import Ring

_BATCH_BYTES = 1 << 21
"""Written with one call, and then given back to the kernel: more would keep it waiting for room."""
_FULL_SHARE = 0.5
"""A ring that waits this full asks for a larger one: a drop counter that moves would be too late."""
_QUIET_SHARE = 0.05
_QUIET_SECONDS = 60.0
"""A ring that stayed emptier than that for so long gives back what it was lent."""


class PointWriter:
    """One point: its kernel ring, its ring on disk, and what was counted since the start."""

    def __init__(self, point_id: str, sock: socket.socket, kernel: MappedRing, ring: Ring) -> None:
        self.id = point_id
        self.ring = ring
        self.flags = 0
        """What is to be said of every block: see `podcam.ring`."""
        self.has_news = True
        """Whether its counts may differ from those that were told last."""
        self.filling = False
        """Whether the kernel's ring became so full that a larger one was asked for."""
        self._bytes = 0
        self._freezes = 0
        self._busy_seconds = time.monotonic()
        """When it was last fuller than a quiet ring."""
        self._socket = sock
        self._kernel = kernel

    def fileno(self) -> int:
        """Readable when a block is ready."""
        return self._socket.fileno()

    @property
    def retire_seconds(self) -> float:
        """How long a packet may lie in a block before it can be read."""
        return self._kernel.shape.retire_ms / 1000

    def counts(self) -> list[int | None]:
        """Packets, bytes, drops, freezes, the ring's bytes and its oldest time: see `tally.py`."""
        ring = self.ring
        return [ring.packets, self._bytes, ring.dropped, self._freezes, ring.bytes, ring.oldest_ns]

    def take_quiet(self, now: float) -> bool:
        """Whether its ring has been quiet for long since it was last asked, or busy."""
        quiet = now - self._busy_seconds > _QUIET_SECONDS
        if quiet:
            self._busy_seconds = now
        return quiet

    def drain(self) -> bool:
        """Write every block that is ready; whether there was one.

        Raises:
            SegmentError: the file system fails in another way than being full.
        """
        self.has_news = True
        blocks = self._kernel.ready()
        fill = len(blocks) / self._kernel.shape.blocks
        self.filling |= fill >= _FULL_SHARE
        if fill > _QUIET_SHARE:
            self._busy_seconds = time.monotonic()
        dropped = self._take_drops()
        many = max(1, _BATCH_BYTES // self._kernel.shape.block_bytes)
        for start in range(0, len(blocks), many):
            batch = blocks[start : start + many]
            self._bytes += sum(map(len, batch))
            self.ring.append(batch, now_ns=time.time_ns(), dropped=dropped, flags=self.flags)
            self._kernel.release(len(batch))
            dropped = 0
        if dropped:
            self.ring.append([], now_ns=time.time_ns(), dropped=dropped)
        return bool(blocks)

    def drain_to_the_end(self) -> None:
        """Write all that the kernel's ring has, the block that is not full included: no more comes to it.

        Raises:
            SegmentError: as `drain`.
        """
        while self.drain():
            pass
        rest = self._kernel.rest()
        if rest is not None:
            self._bytes += len(rest)
            self.ring.append([rest], now_ns=time.time_ns(), flags=self.flags)

    def replace(self, sock: socket.socket, shape: Geometry) -> None:
        """Go on with another ring, to which all packets are already given; keep all that the old one got.

        Raises:
            CaptureError: the other one cannot be mapped.
            SegmentError: as `drain`.
        """
        successor = MappedRing(sock, shape)
        self.drain_to_the_end()
        self.close_kernel_ring()
        self._socket, self._kernel = sock, successor
        self.filling = False
        self._busy_seconds = time.monotonic()

    def close_kernel_ring(self) -> None:
        """Read no more; the supervisor has a socket of the ring still."""
        self._kernel.close()
        self._socket.close()

    def _take_drops(self) -> int:
        counted = self._kernel.statistics()
        self._freezes += counted.freezes
        return counted.dropped
