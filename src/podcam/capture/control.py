"""A packet socket for the few packets that tell what becomes of connections: packet(7), packet_mmap.rst.

It has a ring of TPACKET_V2, whose frames all have one size: a batch of them is unpacked with one call, which
costs a fifth of receiving them one by one, and unlike TPACKET_V3 the ring needs no timer of the kernel.
`open_control_socket` makes the socket, `ControlRing` reads it, perhaps in another process.
"""

import mmap
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from podcam.capture import filters
from podcam.capture._libc import bind_to_every_interface, set_option
from podcam.capture.filters import Program
from podcam.capture.layers import ARPHRD_ETHER, ARPHRD_LOOPBACK, ETHERNET_BYTES, VLAN_PROTOCOLS
from podcam.capture.netns import Namespace
from podcam.capture.rings import SOL_PACKET, open_packet_socket
from podcam.errors import CaptureError

# linux/if_packet.h
_PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION = 5, 6, 10
_TPACKET_V2 = 1
_STATISTICS = struct.Struct("=II")  # struct tpacket_stats
_RING_REQUEST = struct.Struct("=4I")  # struct tpacket_req
_BLOCK_BYTES = 1 << 16

FRAME_BYTES = 256
NETWORK_OFFSET = 80
"""Where the network header lies in the frame of a packet whose link header has 16 bytes or less: behind
`struct tpacket2_hdr` and `struct sockaddr_ll`, aligned to 16 (`tpacket_rcv`)."""
_ETHERTYPE_OFFSET = NETWORK_OFFSET - 2

# struct tpacket2_hdr: (status, length), captured, mac, net, s, ns, (VLAN, padding); struct sockaddr_ll:
# (family, protocol, ifindex), hardware type; the EtherType, where an Ethernet header ends at NETWORK_OFFSET.
_HEAD = struct.Struct(f"=8xIHHII8x8xH{_ETHERTYPE_OFFSET - 42}xH{FRAME_BYTES - NETWORK_OFFSET}x")
_STATUS_WORDS = FRAME_BYTES // 4
_KERNEL = 0  # TP_STATUS_KERNEL
_BATCH_FRAMES = 512
_NO_FRAMES = memoryview(bytes(4 * _BATCH_FRAMES)).cast("I")

_TAGGED = frozenset(map(socket.htons, VLAN_PROTOCOLS))
_TAGS = tuple(protocol.to_bytes(2) for protocol in VLAN_PROTOCOLS)
_WITH_ETHERNET_HEADER = frozenset((ARPHRD_ETHER, ARPHRD_LOOPBACK))

_BUDGET_BYTES = 16 << 20
_FEWEST_FRAMES, _MOST_FRAMES = 512, 8192


def control_frames_for(points: int) -> int:
    """How many frames each point gets where so many share 16 MB: a burst of so many control packets fits."""
    frames = _BUDGET_BYTES // FRAME_BYTES // max(points, 1)
    return min(max(1 << (frames.bit_length() - 1), _FEWEST_FRAMES), _MOST_FRAMES)


def open_control_socket(namespace: Namespace, program: Program, frames: int = _MOST_FRAMES) -> socket.socket:
    """Open a packet socket that hears what the program lets pass, on every interface, now and later.

    Its ring holds `frames` packets, a multiple of 256; what finds no room is dropped and counted (`dropped`).

    Raises:
        RightsError: packet sockets, or entering the namespace, are not permitted.
        CaptureError: the namespace is gone, or the kernel refuses the filter, or has no memory.
    """
    sock = open_packet_socket(namespace, socket.SOCK_RAW)
    try:
        filters.attach(sock, program)
        sock.setsockopt(SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
        size = frames * FRAME_BYTES
        request = _RING_REQUEST.pack(_BLOCK_BYTES, size // _BLOCK_BYTES, FRAME_BYTES, frames)
        set_option(sock, SOL_PACKET, _PACKET_RX_RING, request)
        bind_to_every_interface(sock)
    except OSError as error:
        sock.close()
        raise CaptureError(f"the kernel refuses a socket for control packets: {error.strerror}") from error
    except CaptureError:
        sock.close()
        raise
    return sock


def dropped(sock: socket.socket) -> int:
    """Return how many packets found no room in a control socket since this was last asked."""
    _, drops = _STATISTICS.unpack(sock.getsockopt(SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size))
    return int(drops)


@dataclass(frozen=True, slots=True)
class ControlPackets:
    """Packets in the order in which they came, each from its network header on.

    Packet n begins at `frames[n * stride_bytes + offset_bytes]` and has `lengths[n]` bytes, which may end in
    the middle of it. Valid until the next ones are asked for.
    """

    times_ns: Sequence[int]
    lengths: Sequence[int]
    frames: memoryview
    stride_bytes: int = FRAME_BYTES
    offset_bytes: int = NETWORK_OFFSET

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """One by one: time in ns since 1970 UTC, and the packet."""
        for number, (time_ns, length) in enumerate(zip(self.times_ns, self.lengths, strict=True)):
            start = number * self.stride_bytes + self.offset_bytes
            yield time_ns, bytes(self.frames[start : start + length])


class ControlRing:
    """The frames of a control socket, mapped into this process.

    Another process may have read the socket before: what it had not yet read comes first.
    """

    def __init__(self, sock: socket.socket, frames: int) -> None:
        """Map the ring of `sock`, which must stay open and is the caller's to close."""
        self._sock = sock
        self._count = frames
        self._map = mmap.mmap(sock.fileno(), frames * FRAME_BYTES, mmap.MAP_SHARED)
        self._view = memoryview(self._map)
        self._statuses = self._view.cast("I")[::_STATUS_WORDS]
        self._next: int | None = None

    def fileno(self) -> int:
        """Return the descriptor to wait on: readable when a packet is there."""
        return self._sock.fileno()

    def read(self, most_packets: int) -> Iterator[ControlPackets]:
        """Yield what has arrived, about `most_packets` at most. Never blocks."""
        if self._next is None:
            self._next = self._oldest()
        while self._next is not None and most_packets > 0:
            first, count = self._next, self._ready(self._next)
            if not count:
                return
            yield from _parse(self._view[first * FRAME_BYTES : (first + count) * FRAME_BYTES])
            self._statuses[first : first + count] = _NO_FRAMES[:count]
            self._next = (first + count) % self._count
            most_packets -= count

    def close(self) -> None:
        """Unmap. Packets must not be used any more; what was not read stays in the socket."""
        self._statuses.release()
        self._view.release()
        self._map.close()

    def _ready(self, first: int) -> int:
        statuses = self._statuses[first : first + _BATCH_FRAMES].tolist()
        try:
            return statuses.index(_KERNEL)
        except ValueError:
            return len(statuses)

    def _oldest(self) -> int | None:
        """Return the frame to read first, None while all are empty: then the kernel's place is not known."""
        statuses = self._statuses.tolist()
        filled = [number for number, status in enumerate(statuses) if status != _KERNEL]
        after_empty = [number for number in filled if statuses[number - 1] == _KERNEL]
        if after_empty or not filled:
            return min(after_empty, key=self._time_of, default=None)
        return min(filled, key=self._time_of)

    def _time_of(self, number: int) -> tuple[int, int]:
        _, _, _, seconds, ns, _, _ = _HEAD.unpack_from(self._view, number * FRAME_BYTES)
        return seconds, ns


def _parse(frames: memoryview) -> Iterator[ControlPackets]:
    captured, links, networks, seconds, ns, hardware_types, ethertypes = zip(
        *_HEAD.iter_unpack(frames), strict=True
    )
    times_ns = [s * 1_000_000_000 + n for s, n in zip(seconds, ns, strict=True)]
    if set(networks) == {NETWORK_OFFSET} and _TAGGED.isdisjoint(ethertypes):
        gaps = zip(captured, links, strict=True)
        lengths = [length - (NETWORK_OFFSET - link) for length, link in gaps]
        yield ControlPackets(times_ns, lengths, frames)
        return
    for number, time_ns in enumerate(times_ns):
        start, link = number * FRAME_BYTES, links[number]
        packet = frames[start + link : start + link + captured[number]]
        packet = packet[link_bytes(packet, hardware_types[number], networks[number] - link) :]
        yield ControlPackets([time_ns], [len(packet)], packet, len(packet), 0)


def link_bytes(packet: memoryview | bytes, hardware_type: int, otherwise: int = 0) -> int:
    """Return the length of the link header: with all VLAN tags for Ethernet, `otherwise` for other types."""
    if hardware_type not in _WITH_ETHERNET_HEADER:
        return otherwise
    end = ETHERNET_BYTES
    while packet[end - 2 : end] in _TAGS:
        end += 4
    return end
