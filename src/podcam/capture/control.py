"""A plain packet socket for the few packets that tell what becomes of connections: packet(7), recvmmsg(2).

`open_control_socket` makes the socket, `ControlReader` reads any number of them in batches, into memory that
is allocated once: a flood costs little time and no memory.
"""

import ctypes
import mmap
import socket
import struct
from collections.abc import Iterator

from podcam.capture import filters
from podcam.capture._libc import bind_to_every_interface, recvmmsg
from podcam.capture.filters import Program
from podcam.capture.layers import ARPHRD_ETHER, ARPHRD_LOOPBACK, ETHERNET_BYTES, VLAN_PROTOCOLS
from podcam.capture.netns import Namespace
from podcam.capture.programs import DNS_SNAPLEN
from podcam.capture.rings import SOL_PACKET, open_packet_socket
from podcam.errors import CaptureError

_PACKET_STATISTICS = 6  # linux/if_packet.h
_STATISTICS = struct.Struct("=II")  # struct tpacket_stats
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35  # asm-generic/socket.h

# A slot takes one packet: its struct sockaddr_ll, its time stamp as a control message (struct cmsghdr and
# struct timespec, cmsg(3)), its bytes. Read from it: interface, hardware type, packet type, s, ns, EtherType
# (where it has an Ethernet header).
_SLOT = struct.Struct("=4xiHB21x16xqq12xH")
_NAME_BYTES, _CONTROL_OFFSET, _CONTROL_BYTES, _DATA_OFFSET = 20, 32, 32, 64
_SLOT_BYTES = _DATA_OFFSET + DNS_SNAPLEN
_SLOTS = 64
# struct mmsghdr of a 64-bit system: name, its length, iovec, their count, control, its length, flags; length
_MESSAGE = struct.Struct("@PI4xPNPNi4xI4x")
_MESSAGE_LENGTH_WORD, _MESSAGE_WORDS = 14, 16
_IOVEC = struct.Struct("@PN")

_TAGGED = frozenset(map(socket.htons, VLAN_PROTOCOLS))
_TAGS = tuple(protocol.to_bytes(2) for protocol in VLAN_PROTOCOLS)
_WITH_ETHERNET_HEADER = frozenset((ARPHRD_ETHER, ARPHRD_LOOPBACK))

ControlPacket = tuple[int, int, int, int, bytes]
"""Time in ns since 1970 UTC, ARPHRD_* hardware type, PACKET_* type (4 is outgoing), interface index, and the
packet from its network header on."""


def open_control_socket(
    namespace: Namespace, program: Program, *, receive_buffer_bytes: int = 512 << 10
) -> socket.socket:
    """Open a packet socket that hears what the program lets pass, on every interface, now and later.

    What finds no room in the receive buffer is dropped, and counted (`dropped`).

    Raises:
        RightsError: packet sockets, or entering the namespace, are not permitted.
        CaptureError: the namespace is gone, or the kernel refuses the filter.
    """
    sock = open_packet_socket(namespace, socket.SOCK_RAW)
    try:
        filters.attach(sock, program)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        _bound_receive_buffer(sock, receive_buffer_bytes)
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


class ControlReader:
    """Reads control sockets; one is enough for all of them."""

    def __init__(self) -> None:
        self._slots = mmap.mmap(-1, _SLOTS * _SLOT_BYTES)
        self._iovecs = bytearray(_SLOTS * _IOVEC.size)
        self._messages = bytearray(_SLOTS * _MESSAGE.size)
        slots, iovecs = _address(self._slots), _address(self._iovecs)
        for number in range(_SLOTS):
            slot = slots + number * _SLOT_BYTES
            iovec = number * _IOVEC.size
            _IOVEC.pack_into(self._iovecs, iovec, slot + _DATA_OFFSET, DNS_SNAPLEN)
            _MESSAGE.pack_into(
                self._messages,
                number * _MESSAGE.size,
                *(slot, _NAME_BYTES),
                *(iovecs + iovec, 1),
                *(slot + _CONTROL_OFFSET, _CONTROL_BYTES),
                *(0, 0),
            )
        self._messages_address = _address(self._messages)
        self._lengths = memoryview(self._messages).cast("I")[_MESSAGE_LENGTH_WORD::_MESSAGE_WORDS]
        self._pristine = bytes(self._messages)

    def read(self, sock: socket.socket, max_packets: int) -> Iterator[ControlPacket]:
        """Yield what has arrived, oldest first, up to `max_packets`. Never blocks.

        Raises:
            CaptureError: the interface or the socket failed.
        """
        left = max_packets
        while left > 0:
            wanted = min(left, _SLOTS)
            try:
                received = recvmmsg(sock.fileno(), self._messages_address, wanted)
            except OSError as error:
                raise CaptureError(f"control packets cannot be read: {error.strerror}") from error
            yield from self._packets(received)
            if received < wanted:
                return
            left -= received

    def _packets(self, count: int) -> Iterator[ControlPacket]:
        slots, unpack = self._slots, _SLOT.unpack_from
        lengths = self._lengths[:count].tolist()
        # The kernel left in the messages how much of the name and control buffers it used.
        self._messages[: count * _MESSAGE.size] = self._pristine[: count * _MESSAGE.size]
        start = 0
        for length in lengths:
            interface, hardware_type, packet_type, seconds, ns, ethertype = unpack(slots, start)
            end = start + _DATA_OFFSET + length
            if hardware_type not in _WITH_ETHERNET_HEADER:
                packet = slots[start + _DATA_OFFSET : end]
            else:
                packet = slots[start + _DATA_OFFSET + ETHERNET_BYTES : end]
                if ethertype in _TAGGED:
                    packet = _untagged(packet)
            yield seconds * 1_000_000_000 + ns, hardware_type, packet_type, interface, packet
            start += _SLOT_BYTES


def _bound_receive_buffer(sock: socket.socket, size_bytes: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size_bytes)
    except PermissionError:  # without CAP_NET_ADMIN: as much as net.core.rmem_max allows
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size_bytes)


def _address(buffer: bytearray | mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _untagged(packet: bytes) -> bytes:
    """Take off the VLAN tags that stand between an Ethernet header and the network header."""
    offset = 4
    while packet[offset - 2 : offset] in _TAGS:
        offset += 4
    return packet[offset:]
