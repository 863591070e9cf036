"""Network namespaces of one's own: made, entered and joined by a veth pair, without any program's help.

A namespace made here has no name and no file: it lives as long as something holds it open, so a lab that
crashes leaves nothing behind. Calls: unshare(2), setns(2); messages: rtnetlink(7), linux/if_link.h.
"""

import ctypes
import errno
import ipaddress
import os
import socket
import struct
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

_T = TypeVar("_T")
Address = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

# linux/rtnetlink.h, linux/netlink.h, linux/if_link.h, linux/veth.h, linux/if_addr.h
_RTM_NEWLINK, _RTM_NEWADDR = 16, 20
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
_NLMSG_ERROR = 2
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 3, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD = 0x02
_IFF_UP = 0x1


class NetworkNamespace:
    """A network namespace, held open by a file descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def create(cls) -> Self:
        """Make a namespace with its loopback up; raises OSError (EPERM without CAP_SYS_ADMIN)."""
        namespace = cls(_in_a_thread(_unshare))
        namespace.call(partial(_set_up, "lo"))
        return namespace

    @property
    def path(self) -> Path:
        """A path that `podcam record --netns` and nsenter(1) take, as long as this process lives."""
        return Path(f"/proc/{os.getpid()}/fd/{self.fd}")

    def call(self, do: Callable[[], _T]) -> _T:
        """Run `do` in a thread of this namespace and wait for it.

        Sockets and child processes that it makes stay in the namespace.
        """

        def work() -> _T:
            _enter(self.fd)
            return do()

        return _in_a_thread(work)

    def start(self, name: str, do: Callable[[], None]) -> threading.Thread:
        """Run `do` in a thread of this namespace and do not wait."""

        def work() -> None:
            _enter(self.fd)
            do()

        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Let go; the kernel ends the namespace when nothing else uses it."""
        os.close(self.fd)


def join(here: NetworkNamespace, there: NetworkNamespace, addresses: list[tuple[Address, Address]]) -> None:
    """Connect two namespaces by a veth pair, `eth0` in each, up, with addresses (here's, there's)."""
    peer = _interface_message() + _attribute(_IFLA_IFNAME, b"eth0\0")
    peer += _attribute(_IFLA_NET_NS_FD, struct.pack("=I", there.fd))
    veth = _attribute(_IFLA_INFO_KIND, b"veth") + _attribute(
        _IFLA_INFO_DATA, _attribute(_VETH_INFO_PEER, peer)
    )
    link = _interface_message() + _attribute(_IFLA_IFNAME, b"eth0\0") + _attribute(_IFLA_LINKINFO, veth)
    here.call(partial(_request, _RTM_NEWLINK, _NLM_F_CREATE | _NLM_F_EXCL, link))
    # Both ends up first: an address on a link without a carrier has to wait for its neighbours.
    for namespace in (here, there):
        namespace.call(partial(_set_up, "eth0"))
    for own, peers in addresses:
        here.call(partial(_add_address, "eth0", own))
        there.call(partial(_add_address, "eth0", peers))


def _in_a_thread(do: Callable[[], _T]) -> _T:
    """A thread has its own network namespace: it enters, works, and ends, and this one stays where it is."""
    results: list[_T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(do())
        except BaseException as error:  # noqa: BLE001 - raised again where the caller waits
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _unshare() -> int:
    if _libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _enter(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns(CLONE_NEWNET)")


def _set_up(name: str) -> None:
    _request(_RTM_NEWLINK, 0, struct.pack("=BxHiII", 0, 0, socket.if_nametoindex(name), _IFF_UP, _IFF_UP))


def _add_address(name: str, address: Address) -> None:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    # Nobody else is on this link: without duplicate address detection it can be used at once.
    message = struct.pack(
        "=BBBBI", family, address.network.prefixlen, _IFA_F_NODAD, 0, socket.if_nametoindex(name)
    )
    packed = address.ip.packed
    message += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
    _request(_RTM_NEWADDR, _NLM_F_CREATE | _NLM_F_EXCL, message)


def _interface_message() -> bytes:
    return struct.pack("=BxHiII", 0, 0, 0, 0, 0)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _request(kind: int, flags: int, body: bytes) -> None:
    """Send one rtnetlink request and wait for its acknowledgement; raises OSError as the kernel answers."""
    header = struct.pack("=IHHII", 16 + len(body), kind, _NLM_F_REQUEST | _NLM_F_ACK | flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.bind((0, 0))
        netlink.send(header + body)
        answer = netlink.recv(65536)
    (answer_kind,) = struct.unpack_from("=H", answer, 4)
    (error,) = struct.unpack_from("=i", answer, 16)
    if answer_kind != _NLMSG_ERROR:
        raise OSError(errno.EPROTO, f"unexpected rtnetlink answer {answer_kind}")
    if error:
        raise OSError(-error, f"rtnetlink request {kind}: {os.strerror(-error)}")
