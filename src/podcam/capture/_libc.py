"""System calls that Python's standard library does not have, through ctypes. Each raises OSError."""

import ctypes
import os
import socket
import struct

CLONE_NEWUSER = 0x10000000  # linux/sched.h
CLONE_NEWNET = 0x40000000

_ETH_P_ALL = 0x0003  # linux/if_ether.h
_SOCKADDR_LL = struct.Struct("=HHiHBB8s")  # linux/if_packet.h: struct sockaddr_ll

_libc = ctypes.CDLL(None, use_errno=True)


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread (for CLONE_NEWUSER: the process) to the namespace behind `fd`.

    setns(2); `os.setns` exists from Python 3.12 on only.
    """
    if _libc.setns(fd, kind) < 0:
        raise _error("setns")


def set_option(sock: socket.socket, level: int, option: int, value: bytes) -> None:
    """As `sock.setsockopt`, but other threads run meanwhile: some options of packet sockets make the kernel
    wait until no packet is under way, 10 to 30 ms (measured), in which Python would hold its lock.
    """
    if _libc.setsockopt(sock.fileno(), level, option, value, len(value)) < 0:
        raise _error("setsockopt")


def bind_to_every_interface(sock: socket.socket) -> None:
    """Bind an AF_PACKET socket to every interface of its namespace, also those yet to come: packet(7).

    `socket.bind` cannot: it looks the interface up by name, and interface index 0 has none.
    """
    address = _SOCKADDR_LL.pack(socket.AF_PACKET, socket.htons(_ETH_P_ALL), 0, 0, 0, 0, b"")
    if _libc.bind(sock.fileno(), address, len(address)) < 0:
        raise _error("bind")
