"""A stand-in for a service mesh's proxy: takes what the kernel redirects to it, and passes it on to where it
was to go.

Runs as the one user whose connections are not redirected (1337 in Istio). What the server ends with RST, it
ends for the app with FIN, as proxies do. Prints `ready` once it listens.

usage: mesh PORT [UID]   (with UID: becomes that user first)
"""

import asyncio
import contextlib
import encodings.idna  # noqa: F401 - as another user, the rest of Python may be out of reach later
import os
import socket
import struct
import sys

_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h, netfilter_ipv6/ip6_tables.h
_IPV4 = struct.Struct("!2xH4s8x")  # struct sockaddr_in
_IPV6 = struct.Struct("!2xH4x16s4x")  # struct sockaddr_in6


def original_destination(connection: socket.socket) -> tuple[str, int]:
    """Where the client wanted to connect to."""
    if connection.family == socket.AF_INET6:
        name = connection.getsockopt(socket.IPPROTO_IPV6, _ORIGINAL_DST, _IPV6.size)
        port, address = _IPV6.unpack(name)
        return socket.inet_ntop(socket.AF_INET6, address), port
    port, address = _IPV4.unpack(connection.getsockopt(socket.IPPROTO_IP, _ORIGINAL_DST, _IPV4.size))
    return socket.inet_ntop(socket.AF_INET, address), port


async def _connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    upstream = None
    with contextlib.suppress(OSError):
        upstream_reader, upstream = await asyncio.open_connection(
            *original_destination(writer.get_extra_info("socket"))
        )
        back = asyncio.create_task(_pump(upstream_reader, writer))
        there = asyncio.create_task(_pump(reader, upstream))
        await asyncio.wait([back, there], return_when=asyncio.FIRST_EXCEPTION)
        back.cancel()
        there.cancel()
        await asyncio.gather(back, there, return_exceptions=True)
    for each in (upstream, writer):
        if each is not None:
            each.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def _serve(port: int, uid: int | None) -> None:
    listeners = [
        await asyncio.start_server(_connection, address, port, family=family)
        for address, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6))
        if family == socket.AF_INET or socket.has_dualstack_ipv6()
    ]
    if uid is not None:
        os.setuid(uid)
    print("ready", flush=True)
    await asyncio.gather(*(listener.serve_forever() for listener in listeners))


def main() -> None:
    port, *uid = map(int, sys.argv[1:])
    asyncio.run(_serve(port, uid[0] if uid else None))


if __name__ == "__main__":
    main()
