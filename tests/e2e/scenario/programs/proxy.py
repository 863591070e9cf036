"""The managed proxy of the scenario: passes connections on to PostgreSQL, and fails those that it is told to.

It fails one as in the story: after it has taken the StartupMessage, which its kernel acknowledges, and before
any answer. /fail?misbehaviour=reset|close|silent&times=N[&client_ip=IP] orders failures, /log has every
connection so far.

usage: proxy UPSTREAM_HOST UPSTREAM_PORT
"""

import asyncio
import contextlib
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from e2e.scenario.programs import control

PORT = 5432
_SSL_REQUEST, _GSSENC_REQUEST = 80877103, 80877104
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER for 0 s: close(2) sends RST (socket(7))
_ACKNOWLEDGED_WITHIN_S = 0.005


@dataclass(frozen=True, slots=True)
class Order:
    """A failure to come: of the next connection of this client, or of any."""

    client_ip: str | None
    misbehaviour: str


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection, when its StartupMessage had come: an entry of the log."""

    time_ns: int
    client_ip: str
    client_port: int
    misbehaviour: str | None
    """What the proxy did to it on purpose; None for a connection that was passed on."""


class Ledger:
    """What is to be failed, and what came; used by the connections and by the control's threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: list[Order] = []
        self._log: list[Connection] = []

    def order(self, query: Mapping[str, str]) -> object:
        with self._lock:
            self._orders += [Order(query.get("client_ip"), query["misbehaviour"])] * int(query["times"])
            return len(self._orders)

    def log(self, _: Mapping[str, str]) -> object:
        with self._lock:
            return [asdict(connection) for connection in self._log]

    def came(self, client_ip: str, client_port: int) -> str | None:
        """Note the connection, and say how to fail it, if at all."""
        with self._lock:
            order = next((order for order in self._orders if order.client_ip in {None, client_ip}), None)
            if order is not None:
                self._orders.remove(order)
            misbehaviour = None if order is None else order.misbehaviour
            connection = Connection(time.time_ns(), client_ip, client_port, misbehaviour)
            self._log.append(connection)
        print(json.dumps(asdict(connection)), flush=True)
        return misbehaviour


async def _serve(upstream: tuple[str, int], ledger: Ledger) -> None:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Clients leave in the middle of things; that is their business.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            startup = await _startup_message(reader, writer)
            misbehaviour = ledger.came(*writer.get_extra_info("peername")[:2])
            if misbehaviour is None:
                await _pass_on(upstream, startup, reader, writer)
            else:
                await _fail(misbehaviour, reader, writer)
        writer.close()

    server = await asyncio.start_server(connection, "", PORT)
    await server.serve_forever()


async def _startup_message(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    while True:
        length, code = struct.unpack("!II", head := await reader.readexactly(8))
        if code not in {_SSL_REQUEST, _GSSENC_REQUEST}:
            return head + await reader.readexactly(length - 8)
        writer.write(b"N")


async def _fail(misbehaviour: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    await asyncio.sleep(_ACKNOWLEDGED_WITHIN_S)
    if misbehaviour == "silent":
        await reader.read()
    elif misbehaviour == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


async def _pass_on(
    upstream: tuple[str, int], startup: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    upstream_reader, upstream_writer = await asyncio.open_connection(*upstream)
    upstream_writer.write(startup)
    try:
        await asyncio.gather(_pump(reader, upstream_writer), _pump(upstream_reader, writer))
    finally:
        upstream_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def main() -> None:
    host, port = sys.argv[1:]
    ledger = Ledger()
    control.serve({"/fail": ledger.order, "/log": ledger.log})
    asyncio.run(_serve((host, int(port)), ledger))


if __name__ == "__main__":
    main()
