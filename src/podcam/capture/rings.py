"""A packet socket with a TPACKET_V3 receive ring: packet(7), Documentation/networking/packet_mmap.rst.

`open_ring_socket` makes the socket, `MappedRing` reads its blocks, perhaps in another process.

A ring cannot be resized. To replace it by a larger one without losing or doubling a packet, open the new
socket `beside` the old one: both are in one fanout group (PACKET_FANOUT), where the kernel gives each packet
to exactly one socket, at first to the old one. `hand_over` turns the group to the new one; from then on
nothing is added to the old ring, and it can be closed once what is `ready`, and its `rest`, were read.
Cutting both by time would not be exact: TCP that comes in over veth or loopback is stamped anew for each
socket, as such a packet still carries TCP's departure time in place of a time stamp (seen on Linux 6.18).
"""

import errno
import mmap
import socket
import struct
from dataclasses import dataclass
from typing import NamedTuple

from podcam.capture import blocks, filters
from podcam.capture._libc import bind_to_every_interface, set_option
from podcam.capture.filters import Program
from podcam.capture.netns import Namespace, open_inside
from podcam.errors import CaptureError, RightsError

SOL_PACKET = 263  # linux/socket.h
# linux/if_packet.h
_PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION, _PACKET_FANOUT, _PACKET_FANOUT_DATA = 5, 6, 10, 18, 22
_PACKET_FANOUT_CBPF, _PACKET_FANOUT_FLAG_UNIQUEID = 6, 0x2000
_TPACKET_V3 = 2
# In a fanout group of this kind a program tells which member gets a packet, modulo their number. The last
# member takes the place of one that leaves.
_FIRST, _SECOND = filters.constant(0), filters.constant(1)

_RING_REQUEST = struct.Struct("=7I")  # struct tpacket_req3
_STATISTICS = struct.Struct("=III")  # struct tpacket_stats_v3
_FRAME_BYTES = 2048  # asked for by the kernel's checks, but without meaning in version 3

_KIB, _MIB = 1 << 10, 1 << 20
_SMALLEST_BLOCK, _LARGEST_BLOCK = 128 * _KIB, _MIB
_SMALLEST_RING, _LARGEST_RING = _MIB, 32 * _MIB
_RETIRE_MS, _LONGEST_RETIRE_MS = 200, 1000
_MOST_TIMERS_PER_SECOND = 250


@dataclass(frozen=True, slots=True)
class Geometry:
    """The shape of a ring: sizes in bytes (powers of two), and when a block that is not full is handed over.

    A block of less than 128 KB would cut a packet that segmentation offload made large (64 KB).
    """

    block_bytes: int
    blocks: int
    retire_ms: int = _RETIRE_MS

    @property
    def ring_bytes(self) -> int:
        """Kernel memory that the ring takes."""
        return self.block_bytes * self.blocks

    def doubled(self) -> "Geometry | None":
        """Return the next larger ring, None when this is the largest."""
        return None if self.ring_bytes >= _LARGEST_RING else geometry(2 * self.ring_bytes, self.retire_ms)


def geometry(ring_bytes: int, retire_ms: int = _RETIRE_MS) -> Geometry:
    """Shape a ring of at most `ring_bytes`, within 1 and 32 MB."""
    size = _power_of_two_within(ring_bytes, _SMALLEST_RING, _LARGEST_RING)
    block = _power_of_two_within(size // 64, _SMALLEST_BLOCK, _LARGEST_BLOCK)
    return Geometry(block, size // block, retire_ms)


def geometry_for(budget_bytes: int, points: int) -> Geometry:
    """Shape the rings of a recorder whose points share a budget.

    No ring is smaller than 1 MB, so more points than the budget has megabytes take more than the budget.
    The more points, the longer a block waits for more packets: each ring has a timer in the kernel, which
    costs about 7 µs whenever it expires, idle or not.
    """
    retire_ms = max(_RETIRE_MS, points * 1000 // _MOST_TIMERS_PER_SECOND)
    return geometry(budget_bytes // max(points, 1), min(retire_ms, _LONGEST_RETIRE_MS))


def _power_of_two_within(size: int, smallest: int, largest: int) -> int:
    return min(max(1 << max(size, 1).bit_length() - 1, smallest), largest)


class Statistics(NamedTuple):
    """What the kernel counted since it was last asked."""

    packets: int
    """Packets that passed the filter, those dropped included."""
    dropped: int
    """Of these, the ones that found no room."""
    freezes: int
    """How often the ring was full."""


def open_ring_socket(
    namespace: Namespace, shape: Geometry, program: Program, beside: socket.socket | None = None
) -> socket.socket:
    """Open a packet socket with a ring on every interface of the namespace, now and later.

    The program is attached before the first packet can arrive. A socket opened `beside` another ring socket
    of this namespace gets no packet before `hand_over`; those replaced earlier must be closed by then.

    Raises:
        RightsError: packet sockets, or entering the namespace, are not permitted.
        CaptureError: the namespace is gone, or the kernel has no memory for the ring or the filter.
    """
    sock = open_packet_socket(namespace, socket.SOCK_RAW)
    try:
        filters.attach(sock, program if beside is None else filters.DROP_ALL)
        sock.setsockopt(SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
        set_option(sock, SOL_PACKET, _PACKET_RX_RING, _ring_request(shape))
        bind_to_every_interface(sock)
        _join_group(sock, beside)
        filters.attach(sock, program)
    except OSError as error:
        sock.close()
        if error.errno == errno.ENOMEM:
            size = f"{shape.ring_bytes // _MIB} MB"
            raise CaptureError(
                f"the kernel has no memory for a ring of {size}: choose a smaller --memory"
            ) from None
        raise CaptureError(f"the kernel refuses a ring of {shape}: {error.strerror}") from error
    except CaptureError:
        sock.close()
        raise
    return sock


def hand_over(new: socket.socket) -> None:
    """Give all packets to the ring socket that was opened beside another, from the next one on.

    When this returns, the other gets none any more: the kernel waits for those under way (`synchronize_net`).
    """
    _turn_group(new, _SECOND)


def _ring_request(shape: Geometry) -> bytes:
    frames = shape.ring_bytes // _FRAME_BYTES
    return _RING_REQUEST.pack(
        shape.block_bytes, shape.blocks, _FRAME_BYTES, frames, shape.retire_ms, blocks.PRIVATE_BYTES, 0
    )


def _join_group(sock: socket.socket, beside: socket.socket | None) -> None:
    """Join the fanout group of `beside`, as its second member, or found a new one."""
    if beside is None:
        group, kind = 0, _PACKET_FANOUT_CBPF | _PACKET_FANOUT_FLAG_UNIQUEID
    else:
        # It may itself have been handed over to, and the group still be turned to the second member.
        _turn_group(beside, _FIRST)
        group = beside.getsockopt(SOL_PACKET, _PACKET_FANOUT) & 0xFFFF
        kind = _PACKET_FANOUT_CBPF
    sock.setsockopt(SOL_PACKET, _PACKET_FANOUT, group | kind << 16)


def _turn_group(member: socket.socket, choice: Program) -> None:
    with filters.sock_fprog(choice) as fprog:
        set_option(member, SOL_PACKET, _PACKET_FANOUT_DATA, fprog)


def open_packet_socket(namespace: Namespace, kind: int) -> socket.socket:
    """Open a packet socket that hears nothing yet; `kind` is SOCK_RAW or SOCK_DGRAM.

    Raises:
        RightsError: packet sockets, or entering the namespace, are not permitted.
        CaptureError: the namespace is gone, or the kernel has no packet sockets.
    """

    def make() -> socket.socket:
        return socket.socket(socket.AF_PACKET, kind | socket.SOCK_CLOEXEC, 0)

    try:
        return open_inside(namespace, make)
    except PermissionError:
        raise RightsError(
            f"recording packets in the network namespace {namespace.name} is not permitted: run podcam as "
            "root, or give it the capability CAP_NET_RAW (setcap cap_net_raw+ep on the python it runs with)"
        ) from None
    except OSError as error:
        raise CaptureError(f"this kernel opens no packet socket: {error.strerror}") from error


class MappedRing:
    """The blocks of a ring socket, mapped into this process, in the order in which the kernel fills them.

    Another process may have read the socket before: reading goes on behind the last block that it released.
    Only one reads at a time.
    """

    def __init__(self, sock: socket.socket, shape: Geometry) -> None:
        """Map the ring of `sock`, which must stay open and is the caller's to close.

        Raises:
            CaptureError: the ring has another shape, or the mapping is refused.
        """
        self.shape = shape
        self._sock = sock
        try:
            self._map = mmap.mmap(sock.fileno(), shape.ring_bytes, mmap.MAP_SHARED)
        except (OSError, ValueError) as error:
            raise CaptureError(f"the packet ring cannot be mapped: {error}") from error
        self._view = memoryview(self._map)
        # The kernel reuses a block the moment that its status is 0: that has to be one store. `pack_into`
        # makes two (it clears, then writes); the second hid blocks that the kernel had filled in between.
        self._statuses = self._view.cast("I")[blocks.STATUS_OFFSET // 4 :: shape.block_bytes // 4]
        self._next = self._first_unreleased()
        self._handed_out = 0

    def fileno(self) -> int:
        """Return the descriptor to wait on: readable when a block is ready."""
        return self._sock.fileno()

    def ready(self) -> list[memoryview]:
        """Return the used part of every block that is ready, oldest first, without those not yet released.

        They stay valid until released. The time of the first packet is put into the header, where the kernel
        leaves the time at which it opened the block.
        """
        found: list[memoryview] = []
        while self._handed_out < self.shape.blocks:
            sequence = self._next + self._handed_out
            if not self._status(sequence) & blocks.TP_STATUS_USER:
                break
            start = self._start(sequence)
            # Only now: the kernel finishes the header before it changes the status.
            header = blocks.read_header(self._view[start : start + blocks.BLOCK_HEADER.size])
            if header.packets:
                _, seconds, ns, *_ = blocks.PACKET_HEADER.unpack_from(self._view, start + header.first_offset)
                struct.pack_into("=II", self._view, start + blocks.FIRST_TIME_OFFSET, seconds, ns)
            found.append(self._view[start : start + header.length])
            self._handed_out += 1
        return found

    def release(self, count: int) -> None:
        """Give the `count` oldest blocks of those handed out back to the kernel."""
        if count > self._handed_out:
            raise ValueError(f"{count} blocks released, {self._handed_out} handed out")
        for _ in range(count):
            start = self._start(self._next)
            struct.pack_into("=Q", self._view, start + blocks.RELEASED_OFFSET, self._next)
            self._statuses[self._index(self._next)] = blocks.TP_STATUS_KERNEL
            self._next += 1
            self._handed_out -= 1

    def fill(self) -> float:
        """Return which part of the ring waits to be released, from 0 to 1."""
        waiting = self._handed_out
        while waiting < self.shape.blocks and self._status(self._next + waiting) & blocks.TP_STATUS_USER:
            waiting += 1
        return waiting / self.shape.blocks

    def rest(self) -> bytearray | None:
        """Return a copy of the block that the kernel is still filling, closed as the kernel would close it.

        Only once `hand_over` keeps new packets away, and after everything `ready` was released: together they
        are then all that this ring has got, without waiting for the block's timeout. None when it is empty.
        """
        start = self._start(self._next)
        header = blocks.read_header(self._view[start : start + blocks.BLOCK_HEADER.size])
        if self._handed_out or header.sequence != self._next or not header.packets:
            return None
        return blocks.closed(bytearray(self._view[start : start + header.length]))

    def statistics(self) -> Statistics:
        """Return the kernel's counters, and set them to 0."""
        return Statistics._make(
            _STATISTICS.unpack(self._sock.getsockopt(SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size))
        )

    def close(self) -> None:
        """Unmap. Blocks handed out must not be used any more; what was not released stays in the socket."""
        self._statuses.release()
        self._view.release()
        self._map.close()

    def _start(self, sequence: int) -> int:
        return self._index(sequence) * self.shape.block_bytes

    def _index(self, sequence: int) -> int:
        return (sequence - 1) % self.shape.blocks

    def _status(self, sequence: int) -> int:
        return self._statuses[self._index(sequence)]

    def _first_unreleased(self) -> int:
        """Return the sequence number of the block to read first."""
        starts = range(0, self.shape.ring_bytes, self.shape.block_bytes)
        released: int = max(
            struct.unpack_from("=Q", self._view, start + blocks.RELEASED_OFFSET)[0] for start in starts
        )
        if released and self._status(released) & blocks.TP_STATUS_USER:
            ours = struct.unpack_from("=Q", self._view, self._start(released) + blocks.SEQUENCE_OFFSET)[0]
            if ours == released:  # its reader died between noting the release and making it
                self._statuses[self._index(released)] = blocks.TP_STATUS_KERNEL
        return released + 1
