"""The network interfaces of a namespace, and their coming and going: rtnetlink(7)."""

import errno
import os
import socket
import struct
from collections.abc import Iterator

from podcam.capture.netns import Namespace, open_inside
from podcam.errors import CaptureError
from podcam.model.point import Interface

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18  # linux/rtnetlink.h
_RTMGRP_LINK = 1
_NLMSG_ERROR, _NLMSG_DONE = 2, 3  # linux/netlink.h
_NLM_F_REQUEST, _NLM_F_DUMP = 0x01, 0x300
_IFLA_IFNAME = 3  # linux/if_link.h

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_IFINFO = struct.Struct("=BxHiII")  # struct ifinfomsg: family, hardware type, index, flags, change
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type
_ERROR = struct.Struct("=i")
_BUFFER_BYTES = 65536


def list_interfaces(namespace: Namespace) -> list[Interface]:
    """List the interfaces of the namespace by index, including those that are down.

    Raises:
        CaptureError: the namespace is gone.
        RightsError: it may not be entered.
    """
    with open_inside(namespace, _open_rtnetlink) as sock:
        return _dump(sock)


class LinkWatch:
    """Tells which interfaces of a namespace are there, whenever one comes, goes, or is renamed.

    `fileno()` becomes readable on a change; `interfaces` holds what is there, by index.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._sock = open_inside(namespace, _open_rtnetlink)
        try:
            self._sock.bind((0, _RTMGRP_LINK))  # before the dump, so that nothing falls between
            self._sock.setblocking(False)
            self.interfaces = {interface.index: interface for interface in list_interfaces(namespace)}
        except BaseException:
            self._sock.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._sock.fileno()

    def update(self) -> bool:
        """Take in what happened since; return whether an interface came, went, or was renamed."""
        before = dict(self.interfaces)
        while True:
            try:
                datagram = self._sock.recv(_BUFFER_BYTES)
            except BlockingIOError:
                return self.interfaces != before
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # The kernel had more news than the socket could hold, and dropped some: look afresh.
                self.interfaces = {i.index: i for i in list_interfaces(self._namespace)}
                continue
            for kind, body in _messages(datagram):
                self._take(kind, body)

    def close(self) -> None:
        """Stop watching."""
        self._sock.close()

    def _take(self, kind: int, body: memoryview) -> None:
        if kind == _RTM_NEWLINK:
            interface = _interface(body)
            self.interfaces[interface.index] = interface
        elif kind == _RTM_DELLINK and _IFINFO.unpack_from(body)[0] == socket.AF_UNSPEC:
            # With family AF_BRIDGE it only left its bridge.
            self.interfaces.pop(_IFINFO.unpack_from(body)[2], None)


def _open_rtnetlink() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)


def _dump(sock: socket.socket) -> list[Interface]:
    body = _IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    head = _HEADER.pack(_HEADER.size + len(body), _RTM_GETLINK, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0)
    sock.send(head + body)
    found: list[Interface] = []
    while True:
        for kind, message in _messages(sock.recv(_BUFFER_BYTES)):
            if kind == _NLMSG_DONE:
                return sorted(found, key=lambda interface: interface.index)
            if kind == _NLMSG_ERROR:
                number = -_ERROR.unpack_from(message)[0]
                raise CaptureError(f"the kernel does not list network interfaces: {os.strerror(number)}")
            if kind == _RTM_NEWLINK:
                found.append(_interface(message))


def _messages(datagram: bytes) -> Iterator[tuple[int, memoryview]]:
    """Yield (type, body) of every netlink message: netlink(7)."""
    view = memoryview(datagram)
    offset = 0
    while offset + _HEADER.size <= len(view):
        length, kind, *_ = _HEADER.unpack_from(view, offset)
        yield kind, view[offset + _HEADER.size : offset + length]
        offset += -(-length // 4) * 4


def _interface(body: memoryview) -> Interface:
    _, hardware_type, index, _, _ = _IFINFO.unpack_from(body)
    offset = _IFINFO.size
    name = str(index)
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if kind == _IFLA_IFNAME:
            name = (
                bytes(body[offset + _ATTRIBUTE.size : offset + length])
                .rstrip(b"\0")
                .decode(errors="backslashreplace")
            )
        offset += -(-max(length, _ATTRIBUTE.size) // 4) * 4
    return Interface(index, name, hardware_type)
