"""A name server for tests, over UDP in a network namespace, that answers what it was last told."""

import select
import shutil
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import network_lab as lab
from podcam.capture import Namespace
from podcam.wire import dns

_ADDRESS = "127.0.0.1"


class NameServer:
    """Runs in a thread; `ask` is what a program in the namespace would do."""

    def __init__(self, where: Namespace) -> None:
        self.addresses: dict[str, Sequence[str]] = {}
        self._where = where
        self._socket = lab.udp_socket(where, _ADDRESS, 53)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def ask(self, name: str) -> None:
        """Look up both kinds of addresses, over the wire."""
        with lab.inside(self._where, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
            sock.settimeout(10)
            for kind in (dns.A, dns.AAAA):
                sock.sendto(dns.question(7, name, kind), (_ADDRESS, 53))
                answer = dns.parse_answer(sock.recv(65535))
                assert isinstance(answer, dns.Answer)

    def move(self, name: str, *addresses: str) -> None:
        """Give the name other addresses, and let a program look it up."""
        self.addresses[name] = addresses
        self.ask(name)

    def close(self) -> None:
        self._wake.close()
        self._thread.join()
        self._woken.close()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket, self._woken], [], [])
            if self._woken in ready:
                return
            query, client = self._socket.recvfrom(4096)
            self._socket.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        end = query.index(b"\0", 12) + 5
        question = query[12:end]
        kind = int.from_bytes(question[-4:-2], "big")
        name = dns.parse_answer(query[:2] + b"\x81\x80" + query[4:6] + bytes(6) + question)
        assert isinstance(name, dns.Answer)
        version = {dns.A: 4, dns.AAAA: 6}[kind]
        known = self.addresses.get(name.name)
        packed = [
            ip_address(address).packed for address in known or () if ip_address(address).version == version
        ]
        records = b"".join(
            struct.pack(">HHHIH", 0xC00C, kind, 1, 5, len(address)) + address for address in packed
        )
        flags = 0x8180 if known is not None else 0x8183
        return query[:2] + struct.pack(">HHHHH", flags, 1, len(packed), 0, 0) + question + records


@contextmanager
def name_server(where: Namespace) -> Iterator[NameServer]:
    """A running server, which is also what /etc/netns/NAME/resolv.conf names for the namespace."""
    assert where.name
    config = Path("/etc/netns") / where.name
    config.mkdir(parents=True)
    (config / "resolv.conf").write_text(f"nameserver {_ADDRESS}\n")
    server = NameServer(where)
    try:
        yield server
    finally:
        server.close()
        shutil.rmtree(config)
