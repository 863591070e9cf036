"""A pod and its database in network namespaces, and connections between them: good ones, and others."""

import contextlib
import errno
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

import network_lab as lab
from podcam.capture import Namespace

PORT, CLOSED_PORT = 5432, 5499


@dataclass(frozen=True)
class Side:
    """The addresses of one family: of pod and database, and one to which the database has no route."""

    pod: str
    database: str
    nowhere: str
    prefix: int


SIDES = {
    "IPv4": Side("10.9.0.1", "10.9.0.2", "10.77.0.1", 32),
    "IPv6": Side("fd09::1", "fd09::2", "fd77::1", 128),
}


@dataclass(frozen=True)
class Lab:
    """A pod, and the database's host, which is the pod's way to everywhere else."""

    pod: Namespace
    database: Namespace


@contextmanager
def a_lab() -> Iterator[Lab]:
    with lab.namespace() as pod, lab.namespace() as database:
        lab.join(pod, database)
        yield Lab(pod, database)


def listen(where: Namespace, address: str, port: int = PORT) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return lab.inside(where, lambda: socket.create_server((address, port), family=family, backlog=512))


def client_socket(where: Namespace, address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = lab.inside(where, lambda: socket.socket(family, socket.SOCK_STREAM))
    sock.settimeout(10)
    return sock


def connect(where: Namespace, address: str, port: int = PORT) -> socket.socket:
    sock = client_socket(where, address)
    try:
        sock.connect((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def fail_to_connect(where: Namespace, address: str, port: int, *errors: int) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - compared below
        connect(where, address, port)
    assert caught.value.errno in errors


def refused(where: Namespace, port: int = CLOSED_PORT, *, address: str = "127.0.0.1") -> None:
    fail_to_connect(where, address, port, errno.ECONNREFUSED)


def good(client_side: Namespace, listener: socket.socket, address: str) -> int:
    """A connection that goes well; returns the client's port."""
    with connect(client_side, address) as client:
        server, _ = listener.accept()
        with server:
            client.sendall(b"question")
            server.recv(100)
            server.sendall(b"answer" * 50)
            client.recv(1000)
            port: int = client.getsockname()[1]
            client.close()
            assert server.recv(1) == b""
    return port


def reset_at_startup(client_side: Namespace, listener: socket.socket, address: str) -> int:
    """The server's kernel acknowledges 83 bytes, and the server closes without having read them."""
    with connect(client_side, address) as client:
        server, _ = listener.accept()
        client.sendall(b"s" * 83)
        select.select([server], [], [], 5)
        port: int = client.getsockname()[1]
        server.close()
        with contextlib.suppress(ConnectionResetError):
            client.recv(1)
    return port
