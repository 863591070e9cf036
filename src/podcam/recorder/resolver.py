"""A small stub resolver, for names as a recorded namespace knows them.

The C library's reads the recorder's own configuration, and asks from the recorder's own namespace.
"""

import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from podcam.trigger import FollowedNames
from podcam.wire import dns

_PORT = 53
_PATIENCE_SECONDS = 2.0
"""Per name server; resolv.conf(5) has 5 s, twice, while here somebody waits for recording to begin."""
_MOST_SERVERS = 3
_MOST_DOMAINS = 32
"""As many as Kubernetes lets a pod have; glibc has known no limit since 2.26."""

Socket = socket.socket
OpenInside = Callable[[Callable[[], Socket]], Socket]
"""Calls a function that opens a socket in the namespace to ask from."""


@dataclass(frozen=True, slots=True)
class ResolverConfig:
    """The part of resolv.conf(5) that matters here."""

    servers: tuple[str, ...]
    search: tuple[str, ...] = ()
    ndots: int = 1

    @classmethod
    def parse(cls, text: str) -> "ResolverConfig":
        """Read a resolv.conf; what is not understood is passed over."""
        servers: list[str] = []
        search: tuple[str, ...] = ()
        ndots = 1
        for line in text.splitlines():
            match line.split():
                case ["nameserver", address, *_]:
                    servers.append(address)
                case ["search" | "domain", *domains]:
                    search = tuple(domain.rstrip(".") for domain in domains)
                case ["options", *options]:
                    for option in options:
                        if option.startswith("ndots:") and option[6:].isdigit():
                            ndots = int(option[6:])
        return cls(tuple(servers[:_MOST_SERVERS]), search[:_MOST_DOMAINS], ndots)

    def candidates(self, name: str) -> list[str]:
        """The names to ask for, in this order, until one has an address."""
        if name.endswith("."):
            return [name]
        searched = [f"{name}.{domain}" for domain in self.search if domain]
        return [name, *searched] if name.count(".") >= self.ndots else [*searched, name]


def ask(name: str, config: ResolverConfig, open_inside: OpenInside) -> frozenset[str]:
    """The addresses of a name; empty when it has none, or when no name server answers.

    Raises:
        ValueError: it is no name of a host, or a server's address is none.
    """
    for server in config.servers:
        for candidate in config.candidates(name):
            try:
                found = _ask_for(candidate, server, open_inside)
            except OSError:
                break  # on with the next server
            if found:
                return found
    return frozenset()


def _ask_for(name: str, server: str, open_inside: OpenInside) -> frozenset[str]:
    known = FollowedNames((name,), search=())
    for kind in (dns.A, dns.AAAA):
        identifier = secrets.randbelow(1 << 16)
        query = dns.question(identifier, name, kind)
        with open_inside(lambda: _connected(server)) as sock:
            sock.send(query)
            known.learn(_reply(sock, identifier), 0)
    return known.addresses


def _connected(server: str) -> Socket:
    family = socket.AF_INET6 if ip_address(server.partition("%")[0]).version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.connect((server, _PORT))
    return sock


def _reply(sock: Socket, identifier: int) -> bytes:
    """The next message that repeats the identifier.

    Raises:
        TimeoutError: none came in time.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        message = sock.recv(65535)
        if message[:2] == identifier.to_bytes(2, "big"):
            return message
    raise TimeoutError
