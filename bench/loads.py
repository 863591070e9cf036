"""Traffic for the recorder's benchmark: each load says when it is ready, and waits for a line.

usage: python bench/loads.py LOAD ADDRESS SECONDS [RATE]

Prints `ready`, waits for a line on standard input, works for that long, and prints {"sent": n, "seconds": s}:
n connections, datagrams, or bytes of the stream. `sink` answers all the loads and never ends by itself.
"""

import concurrent.futures
import contextlib
import functools
import json
import os
import selectors
import socket
import sys
import time

STREAM_PORT, DATAGRAM_PORT, CONNECTION_PORT = 9001, 9002, 9003
DATAGRAM_BYTES = 64
_BATCH = 64
"""As many as UDP_SEGMENT takes in every kernel that has it."""
_SOL_UDP, _UDP_SEGMENT = 17, 103  # linux/udp.h
_REQUEST, _ANSWER = b"q" * 100, b"a" * 500


def stream(address: str, seconds: float, _rate: float) -> tuple[int, float]:
    """One TCP connection at full speed."""
    data = bytes(1 << 20)
    with socket.create_connection((address, STREAM_PORT)) as connection:
        sent, start = 0, _wait_for_go()
        while time.perf_counter() - start < seconds:
            sent += connection.send(data)
        return sent, time.perf_counter() - start


def datagrams(address: str, seconds: float, rate: float) -> tuple[int, float]:
    """Small UDP packets, `rate` per second (0: as fast as one process per CPU can)."""
    processes = os.cpu_count() or 1
    start = _wait_for_go()
    send = functools.partial(_send_datagrams, address, seconds)
    with concurrent.futures.ProcessPoolExecutor(processes) as pool:
        sent = sum(pool.map(send, [rate / processes] * processes))
    return sent, time.perf_counter() - start


def _send_datagrams(address: str, seconds: float, rate: float) -> int:
    """By UDP_SEGMENT (udp(7)), many at once: one at a time would measure Python.

    They are single packets on the wire only if the interface is told not to segment them itself:
    `ip link set eth0 gso_max_segs 1`.
    """
    batch = bytes(_BATCH * DATAGRAM_BYTES)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(_SOL_UDP, _UDP_SEGMENT, DATAGRAM_BYTES)
        sender.connect((address, DATAGRAM_PORT))
        sent, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            if rate and sent > rate * elapsed:
                time.sleep((sent - rate * elapsed) / rate)
                continue
            sender.send(batch)
            sent += _BATCH
        return sent


def connections(address: str, seconds: float, rate: float) -> tuple[int, float]:
    """A mix of short TCP connections, `rate` per second.

    Every other one asks once (a health check, an HTTP request), the others six times, as a database session
    does with its start-up, authentication and query.
    """
    sent, start = 0, _wait_for_go()
    while (elapsed := time.perf_counter() - start) < seconds:
        if sent > rate * elapsed:
            time.sleep((sent - rate * elapsed) / rate)
            continue
        with socket.create_connection((address, CONNECTION_PORT)) as connection:
            for _ in range(1 if sent % 2 else 6):
                connection.sendall(_REQUEST)
                received = 0
                while received < len(_ANSWER):
                    received += len(connection.recv(4096))
        sent += 1
    return sent, time.perf_counter() - start


def sink(address: str) -> None:
    """The other side of all loads."""
    # Never read: the kernel takes the packets, so that no ICMP error comes back, and forgets them.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram_socket:
        datagram_socket.bind((address, DATAGRAM_PORT))
        selector = selectors.DefaultSelector()
        for port, serve in ((STREAM_PORT, _swallow), (CONNECTION_PORT, _answer)):
            listener = socket.create_server((address, port), backlog=1024)
            selector.register(listener, selectors.EVENT_READ, (listener, serve))
        print("ready", flush=True)
        while True:
            for key, _ in selector.select():
                listener, serve = key.data
                with contextlib.suppress(ConnectionError):
                    serve(listener.accept()[0])


def _swallow(connection: socket.socket) -> None:
    buffer = bytearray(1 << 20)
    with connection:
        while connection.recv_into(buffer):
            pass


def _answer(connection: socket.socket) -> None:
    with connection:
        received = 0
        while data := connection.recv(4096):
            received += len(data)
            if received == len(_REQUEST):
                connection.sendall(_ANSWER)
                received = 0


def _wait_for_go() -> float:
    print("ready", flush=True)
    sys.stdin.readline()
    return time.perf_counter()


LOADS = {load.__name__: load for load in (stream, datagrams, connections)}


def main() -> None:
    """Run the load that the command line names."""
    name, address, *numbers = sys.argv[1:]
    if name == "sink":
        sink(address)
    seconds, rate = (*map(float, numbers), 0.0)[:2]
    sent, took = LOADS[name](address, seconds, rate)
    print(json.dumps({"sent": sent, "seconds": took}), flush=True)


if __name__ == "__main__":
    main()
