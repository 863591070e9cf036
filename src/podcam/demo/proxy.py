"""The managed proxy of the story: passes connections on to PostgreSQL, and now and then fails one.

It fails at the moment that the story is about: after it has taken the StartupMessage, which its kernel
acknowledges, and before any answer. With TLS it ends TLS itself, so that the failure comes after the
handshake and the first encrypted record, where a capture shows no StartupMessage at all.
"""

import asyncio
import contextlib
import itertools
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from podcam.demo.lab import Place

# https://www.postgresql.org/docs/current/protocol-message-formats.html
_SSL_REQUEST, _GSSENC_REQUEST = 80877103, 80877104
_LONGEST_STARTUP = 10_000
"""PostgreSQL's own limit (MAX_STARTUP_PACKET_LENGTH)."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER on, for 0 s: close(2) sends RST instead of FIN (socket(7))."""

_ACKNOWLEDGED_WITHIN_S = 0.005


class Misbehaviour(StrEnum):
    """What the proxy does to a connection that it fails, in place of an answer to the StartupMessage."""

    RESET = "reset"
    CLOSE = "close"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Failed:
    """One connection that the proxy failed on purpose: a line of its log."""

    time_ns: int
    client_ip: str
    client_port: int
    number: int
    """The how manieth connection since the proxy started."""
    misbehaviour: Misbehaviour


class Proxy:
    """A TCP proxy in front of a Unix socket; every `every`th connection is failed.

    Args:
        upstream: PostgreSQL's socket.
        misbehaviour: What happens to a failed connection.
        every: 20 fails the 20th, 40th, … connection.
        log: Gets a JSON line for every connection failed.
        tls: Ends TLS here when given; without it clients that ask for TLS are told that there is none.
    """

    def __init__(
        self,
        upstream: Path,
        *,
        misbehaviour: Misbehaviour,
        every: int,
        log: Path,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._upstream = upstream
        self._misbehaviour = misbehaviour
        self._every = every
        self._log = log
        self._tls = tls
        self._numbers = itertools.count(1)
        self.failed: list[Failed] = []

    @contextlib.contextmanager
    def serving(self, place: Place, port: int) -> Iterator[int]:
        """Listen at `place` in a thread of its own; gives the port, which is a free one for port 0.

        Raises OSError when the port is taken.
        """
        listener = place.call(lambda: _listen(place.address, port))
        loop = asyncio.new_event_loop()
        stopped = asyncio.Event()
        thread = threading.Thread(
            target=lambda: loop.run_until_complete(self._serve_until(listener, stopped)), name="proxy"
        )
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            loop.call_soon_threadsafe(stopped.set)
            thread.join()
            loop.close()

    async def _serve_until(self, listener: socket.socket, stopped: asyncio.Event) -> None:
        connections: set[asyncio.Task[None]] = set()

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._connection(next(self._numbers), reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(accepted, sock=listener)
        await stopped.wait()
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connection(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        connection: socket.socket = writer.get_extra_info("socket")
        async with _closing(writer):
            # Clients leave in the middle of things; that is their business.
            with contextlib.suppress(
                ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, TimeoutError
            ):
                startup = await self._startup_message(reader, writer)
                if number % self._every:
                    await self._pass_on(startup, reader, writer)
                else:
                    await self._fail(number, connection, reader, writer)

    async def _startup_message(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Answer requests for encryption until the client begins: its StartupMessage or CancelRequest."""
        while True:
            length, code = struct.unpack("!II", head := await reader.readexactly(8))
            if code == _SSL_REQUEST and self._tls is not None:
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(self._tls)
            elif code in {_SSL_REQUEST, _GSSENC_REQUEST}:
                writer.write(b"N")
            elif 8 <= length <= _LONGEST_STARTUP:
                return head + await reader.readexactly(length - 8)
            else:
                raise ConnectionError(f"not a start-up packet: length {length}")

    async def _fail(
        self,
        number: int,
        connection: socket.socket,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        # After a TLS handshake the kernel may hold its ACK back for 40 ms; this sends it now (tcp(7)).
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        await asyncio.sleep(_ACKNOWLEDGED_WITHIN_S)
        ip, port = connection.getpeername()[:2]
        self._tell(Failed(time.time_ns(), ip, port, number, self._misbehaviour))
        if self._misbehaviour is Misbehaviour.SILENT:
            await reader.read()
        elif self._misbehaviour is Misbehaviour.RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        writer.transport.abort()  # close() would say goodbye in TLS first

    def _tell(self, failed: Failed) -> None:
        self.failed.append(failed)
        with self._log.open("a") as log:
            log.write(json.dumps(asdict(failed)) + "\n")

    async def _pass_on(
        self, startup: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(self._upstream)
        async with _closing(upstream_writer):
            upstream_writer.write(startup)
            await asyncio.gather(_pump(reader, upstream_writer), _pump(upstream_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    else:  # TLS has no half-closed connections: its end is the end.
        writer.close()


@contextlib.asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=128)
