"""A name server that knows one name, whose address moves when told to: /move?address=IP.

usage: names NAME   (no address until it was told one)
"""

import socket
import sys
from collections.abc import Mapping

from e2e.scenario.programs import control

PORT = 53
_RESPONSE, _AUTHORITATIVE, _NXDOMAIN = 0x8000, 0x0400, 3
_A, _IN, _TTL_S = 1, 1, 1
_HEAD = 12
_POINTER_TO_QUESTION = b"\xc0\x0c"


class Zone:
    """One name and the address that it has now."""

    def __init__(self, name: str) -> None:
        self._labels = b"".join(bytes((len(label),)) + label for label in name.encode().split(b".")) + b"\0"
        self._address: bytes | None = None

    def move(self, query: Mapping[str, str]) -> object:
        self._address = socket.inet_aton(query["address"])
        return {}

    def answer(self, query: bytes) -> bytes:
        """The response to a query with one question (RFC 1035, 4.1)."""
        end = query.index(b"\0", _HEAD) + 5
        question, kind = query[_HEAD:end], int.from_bytes(query[end - 4 : end - 2], "big")
        known = question[:-4].lower() == self._labels
        address = self._address if known and kind == _A else None
        flags = _RESPONSE | _AUTHORITATIVE | (0 if known else _NXDOMAIN)
        head = query[:2] + flags.to_bytes(2, "big") + b"\0\1" + (b"\0\1" if address else b"\0\0") + b"\0" * 4
        if address is None:
            return head + question
        fixed = b"".join(
            value.to_bytes(size, "big") for value, size in ((_A, 2), (_IN, 2), (_TTL_S, 4), (4, 2))
        )
        return head + question + _POINTER_TO_QUESTION + fixed + address


def main() -> None:
    zone = Zone(sys.argv[1])
    control.serve({"/move": zone.move, "/ready": lambda _: {}})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("", PORT))
        while True:
            query, client = server.recvfrom(512)
            server.sendto(zone.answer(query), client)


if __name__ == "__main__":
    main()
