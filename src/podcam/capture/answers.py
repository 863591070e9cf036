"""A plain packet socket for the DNS answers that a namespace receives: packet(7).

They are few, and longer than the frames of a control socket.
"""

import socket
import struct
from collections.abc import Iterator

from podcam.capture import filters
from podcam.capture._libc import bind_to_every_interface
from podcam.capture.control import link_bytes
from podcam.capture.filters import Program
from podcam.capture.netns import Namespace
from podcam.capture.programs import DNS_SNAPLEN
from podcam.capture.rings import open_packet_socket
from podcam.errors import CaptureError

_SO_TIMESTAMPNS = 35  # asm-generic/socket.h
_TIMESPEC = struct.Struct("=qq")


def open_answers_socket(namespace: Namespace, program: Program) -> socket.socket:
    """Open a packet socket that hears what the program lets pass, on every interface, now and later.

    Raises:
        RightsError: packet sockets, or entering the namespace, are not permitted.
        CaptureError: the namespace is gone, or the kernel refuses the filter.
    """
    sock = open_packet_socket(namespace, socket.SOCK_RAW)
    try:
        filters.attach(sock, program)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        bind_to_every_interface(sock)
    except OSError as error:
        sock.close()
        raise CaptureError(f"the kernel refuses a socket for DNS answers: {error.strerror}") from error
    except CaptureError:
        sock.close()
        raise
    return sock


def read_answers(sock: socket.socket, most_packets: int) -> Iterator[tuple[int, bytes]]:
    """Yield what has arrived: time in ns since 1970 UTC, and the packet from its network header on."""
    for _ in range(most_packets):
        try:
            packet, ancillary, _, address = sock.recvmsg(
                DNS_SNAPLEN, socket.CMSG_SPACE(_TIMESPEC.size), socket.MSG_DONTWAIT
            )
        except BlockingIOError:
            return
        for _level, _kind, data in ancillary:
            seconds, ns = _TIMESPEC.unpack(data)
            yield seconds * 1_000_000_000 + ns, packet[link_bytes(packet, address[3]) :]
