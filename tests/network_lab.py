"""Network namespaces of a test's own, with real links between them; nothing leaves them."""

import fcntl
import functools
import itertools
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TypeVar

from podcam.capture import Namespace, find_namespace
from podcam.capture._libc import CLONE_NEWNET, setns

T = TypeVar("T")

_TUNSETIFF = 0x400454CA  # linux/if_tun.h
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_numbers = itertools.count()


@functools.cache
def why_not() -> str | None:
    """What is missing for making namespaces, None when nothing is."""
    if shutil.which("ip") is None:
        return "ip is missing: apt-get install iproute2"
    try:
        with namespace():
            return None
    except subprocess.CalledProcessError as error:
        return f"network namespaces need root with CAP_SYS_ADMIN and CAP_NET_ADMIN: {error.stderr.strip()}"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A network namespace with its loopback up."""
    name = f"podcam-{os.getpid()}-{next(_numbers)}"
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        yield find_namespace(name)
    finally:
        ip("netns", "delete", name)


def inside(where: Namespace, function: Callable[[], T]) -> T:
    """Call the function in a thread that has entered the namespace."""
    results: list[T] = []

    def enter_and_call() -> None:
        with open(where.path or "/proc/self/ns/net") as file:  # noqa: PTH123
            setns(file.fileno(), CLONE_NEWNET)
        results.append(function())

    thread = threading.Thread(target=enter_and_call)
    thread.start()
    thread.join()
    return results[0]


def join(left: Namespace, right: Namespace, *, name: str = "eth0") -> None:
    """Put a veth pair between both, 10.9.0.1 and fd09::1 on the left, 10.9.0.2 and fd09::2 on the right."""
    peer = ["peer", "name", name, "netns", right.name]
    ip("-n", left.name, "link", "add", name, "type", "veth", *peer)
    for number, side in enumerate((left, right), 1):
        ip("-n", side.name, "address", "add", f"10.9.0.{number}/24", "dev", name)
        ip("-n", side.name, "address", "add", f"fd09::{number}/64", "dev", name, "nodad")
        ip("-n", side.name, "link", "set", name, "up")


def open_tun(where: Namespace, name: str = "tun0") -> int:
    """Make a tun interface, up; what is written to the descriptor arrives there."""

    def attach() -> int:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
        return fd

    fd = inside(where, attach)
    ip("-n", where.name, "link", "set", name, "up")
    return fd


def udp_socket(where: Namespace, address: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A bound UDP socket in the namespace that keeps next to nothing of what it receives."""

    def make() -> socket.socket:
        sock = socket.socket(_family(address), socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.bind((address, port))
        return sock

    return inside(where, make)


def exchange(client: Namespace, server: Namespace, address: str, port: int, payload: bytes = b"hello") -> int:
    """One TCP connection: the client sends, both close. Returns the client's port."""
    family = _family(address)
    with (
        inside(server, lambda: socket.create_server((address, port), family=family)) as listener,
        inside(client, lambda: socket.create_connection((address, port))) as client_side,
    ):
        server_side, _ = listener.accept()
        with server_side:
            client_side.sendall(payload)
            client_side.shutdown(socket.SHUT_WR)
            while server_side.recv(65536):
                pass
        while client_side.recv(65536):
            pass
        client_port: int = client_side.getsockname()[1]
        return client_port


def inject(where: Namespace, frame: bytes, interface: str = "eth0") -> None:
    """Send a frame as it is."""
    with inside(where, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sock:
        # The interface name is looked up in the namespace of the socket.
        sock.bind((interface, 0))
        sock.send(frame)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
