"""What the wire detector costs: CPU time per connection and per control packet, memory per connection.

usage: python bench/detector.py [--quick]

The packets are made beforehand, and lie in memory as in the ring of a control socket: `Detector.feed_all`,
for 64 packets at a time, and `Detector.tick` are measured. The times are the best of several runs: what else
the machine does only adds.
"""

import argparse
import gc
import platform
import struct
import time
import tracemalloc
from collections.abc import Iterator
from ipaddress import ip_address

from podcam.trigger import Detector

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
NS_PER_PACKET = 250_000
"""1,000 connections of four packets per second."""
BATCH, FRAME_BYTES, NETWORK_OFFSET = 64, 256, 80

Step = tuple[bool, int, int, int]
"""Whether the client sends it, its flags, and what each side had sent by then: client, server."""

OPENED: list[Step] = [(True, SYN, -1, -1), (False, SYN | ACK, 0, -1)]
CLIENT_FIN, SERVER_FIN = (True, FIN | ACK, 500, 900), (False, FIN | ACK, 501, 900)
SHAPES: dict[str, list[Step]] = {
    "client closes (4 packets)": [*OPENED, CLIENT_FIN, SERVER_FIN],
    "client closes, late RST (5)": [*OPENED, CLIENT_FIN, SERVER_FIN, (False, RST, 501, 901)],
    "server closes first (4)": [*OPENED, (False, FIN | ACK, 500, 900), (True, FIN | ACK, 500, 901)],
    "health check (4)": [*OPENED, (True, FIN | ACK, 0, 0), (False, FIN | ACK, 1, 0)],
    "reset in start-up (3)": [*OPENED, (False, RST | ACK, 83, 0)],
    "SYN flood (1)": OPENED[:1],
}


def packets(shape: list[Step], connections: int, server: str) -> Iterator[bytes]:
    """Each connection has its own client port, or under a flood its own client address."""
    target = ip_address(server)
    for number in range(connections):
        client = ip_address(int(target) + 1 + (number // 60_000 if len(shape) > 1 else number)).packed
        port, isn = 1024 + number % 60_000, number * 64_007
        for from_client, flags, client_sent, server_sent in shape:
            sent, got = (client_sent, server_sent) if from_client else (server_sent, client_sent)
            ports = (port, 5432) if from_client else (5432, port)
            ends = client + target.packed if from_client else target.packed + client
            seq, ack = isn + 1 + sent, isn + 1 + got if flags & ACK else 0
            tcp = struct.pack(">HHIIBBHHH", *ports, seq % 2**32, ack % 2**32, 0x50, flags, 512, 0, 0)
            if target.version == 4:
                yield struct.pack(">BBHHHBBH", 0x45, 0, 40, 1, 0, 64, 6, 0) + ends + tcp
            else:
                yield struct.pack(">IHBB", 6 << 28, 20, 6, 64) + ends + tcp


def feed(batches: list[tuple[list[int], list[int], memoryview]]) -> tuple[float, Detector]:
    """CPU seconds for the whole traffic."""
    detector = Detector(0)
    gc.collect()
    begun = time.process_time()
    for times_ns, lengths, frames in batches:
        detector.feed_all(times_ns, lengths, frames, FRAME_BYTES, NETWORK_OFFSET)
        detector.tick(times_ns[-1])
    return time.process_time() - begun, detector


def batches_of(traffic: list[bytes]) -> list[tuple[list[int], list[int], memoryview]]:
    """Times, lengths and frames, as they lie in the ring of a control socket."""
    batches = []
    for first in range(0, len(traffic), BATCH):
        batch = traffic[first : first + BATCH]
        times_ns = [number * NS_PER_PACKET for number in range(first, first + len(batch))]
        frames = b"".join((bytes(NETWORK_OFFSET) + packet).ljust(FRAME_BYTES) for packet in batch)
        batches.append((times_ns, [len(packet) for packet in batch], memoryview(frames)))
    return batches


def bytes_per_open_connection(connections: int) -> float:
    """Memory that connections hold which have begun and not ended."""
    traffic = list(packets(OPENED, connections, "10.0.0.1"))
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    detector = Detector(0)
    for number, packet in enumerate(traffic):
        detector.feed(number * NS_PER_PACKET, packet[:])
        if number % 64 == 63:
            detector.tick(number * NS_PER_PACKET)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert detector.forgotten == 0
    return (after - before) / connections


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short run, to see that it works")
    quick = parser.parse_args().quick
    connections, runs = (500, 1) if quick else (20_000, 5)
    machine = f"Python {platform.python_version()}, {platform.machine()}"
    print(f"wire detector: {machine}, {connections:,} connections")
    print(f"{'':30}{'IP':>4}{'µs/connection':>15}{'µs/packet':>12}{'failures':>10}{'forgotten':>11}")
    for name, shape in SHAPES.items():
        for server in ("10.0.0.1", "fd00::1"):
            batches = batches_of(list(packets(shape, connections, server)))
            seconds, detector = min((feed(batches) for _ in range(runs)), key=lambda run: run[0])
            per_connection = seconds / connections * 1e6
            print(
                f"{name:30}{4 if '.' in server else 6:>4}{per_connection:15.2f}"
                f"{per_connection / len(shape):12.2f}{detector.failures:10,}{detector.forgotten:11,}"
            )
    print(f"an open connection holds {bytes_per_open_connection(connections):,.0f} bytes")


if __name__ == "__main__":
    main()
