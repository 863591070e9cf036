"""Captures for tests: conversations packet by packet, wild ones, and the files that hold them."""

import random
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
START_NS = 1_700_000_000_000_000_000
MS = 1_000_000

Timed = tuple[int, bytes]


def ip(payload: bytes, protocol: int, source: str, target: str, *, ttl: int = 64, ip_id: int = 1) -> bytes:
    """IPv4 or IPv6, by the addresses."""
    ends = ip_address(source).packed + ip_address(target).packed
    if ":" in source:
        return struct.pack("!IHBB", 6 << 28, len(payload), protocol, ttl) + ends + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), ip_id, 0, ttl, protocol, 0)
    return head + ends + payload


def tcp(
    ports: tuple[int, int],
    seq: int,
    ack: int,
    flags: int,
    payload: bytes = b"",
    *,
    window: int = 512,
    options: bytes = b"",
) -> bytes:
    options += bytes(-len(options) % 4)
    words = 5 + len(options) // 4
    seq, ack = seq % 2**32, ack % 2**32
    return struct.pack("!HHIIBBHHH", *ports, seq, ack, words << 4, flags, window, 0, 0) + options + payload


def ethernet(packet: bytes) -> bytes:
    return bytes(12) + (b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00") + packet


@dataclass
class Talk:
    """One TCP connection: each call of `client` or `server` is a packet, a millisecond after the last."""

    client_end: tuple[str, int] = ("10.0.0.1", 40000)
    server_end: tuple[str, int] = ("10.0.0.2", 5432)
    isn: tuple[int, int] = (1000, 9000)
    now_ns: int = START_NS
    packets: list[Timed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._next = list(self.isn)

    def client(self, flags: int, payload: bytes = b"", **changes: int | bytes) -> bytes:
        return self._say(0, flags, payload, changes)

    def server(self, flags: int, payload: bytes = b"", **changes: int | bytes) -> bytes:
        return self._say(1, flags, payload, changes)

    def wait(self, milliseconds: float) -> None:
        self.now_ns += int(milliseconds * MS)

    def open(self) -> "Talk":
        self.client(SYN)
        self.server(SYN | ACK)
        self.client(ACK)
        return self

    def _say(self, side: int, flags: int, payload: bytes, changes: dict[str, int | bytes]) -> bytes:
        ends = (self.client_end, self.server_end) if side == 0 else (self.server_end, self.client_end)
        seq = int(changes.pop("seq", self._next[side]))
        ack = int(changes.pop("ack", self._next[1 - side] if flags & ACK else 0))
        self._next[side] = max(self._next[side], seq + len(payload) + bool(flags & (SYN | FIN)))
        segment = tcp((ends[0][1], ends[1][1]), seq, ack, flags, payload, **changes)  # type: ignore[arg-type]
        packet = ip(segment, 6, ends[0][0], ends[1][0])
        self.packets.append((self.now_ns, packet))
        self.now_ns += MS
        return packet


def icmp_error(quoted: bytes, sender: str, target: str, kind: int = 3, code: int = 1) -> bytes:
    if ":" in sender:
        return ip(struct.pack("!BBHI", kind, code, 0, 0) + quoted, 58, sender, target)
    return ip(struct.pack("!BBHI", kind, code, 0, 0) + quoted, 1, sender, target)


def wild(seed: int, count: int) -> list[Timed]:
    """Packets of a few connections that do everything wrong: all events of `tcp.analysis` occur."""
    dice = random.Random(seed)
    now = START_NS
    bases = (dice.choice([1000, 0, 2**32 - 16, 5]), dice.choice([5000, 2**32 - 32, 0]))
    following: dict[tuple[int, int], int] = {}
    packets = []
    for number in range(count):
        port, side = 40000 + dice.randrange(3), dice.randrange(2)
        seq = following.setdefault((port, side), bases[side])
        ack = following.get((port, 1 - side), bases[1 - side])
        now += dice.choice([1_000, 100_000, 2_000_000, 5_000_000, 30_000_000, 500_000_000])
        now -= 3_000_000 * (dice.random() < 0.02)
        flags, payload, options = ACK, b"", b""
        what = dice.random()
        if what < 0.12:
            flags, ack = SYN, 0
            seq = dice.choice([bases[side], bases[side], seq, 77, 123456])
            options = dice.choice([b"", b"\x03\x03\x02", b"\x03\x03\x00"])
        elif what < 0.2:
            flags, seq = SYN | ACK, dice.choice([bases[side], bases[side], 99])
            options = dice.choice([b"", b"\x03\x03\x01"])
        elif what < 0.25:
            flags = FIN | ACK
        elif what < 0.29:
            flags = dice.choice([RST, RST | ACK])
        elif what < 0.7:
            payload = b"x" * dice.choice([1, 1, 10, 50, 100, 99])
        seq += dice.choice([0] * 8 + [-1, -1, -10, -50, 10, 100])
        ack += dice.choice([0] * 6 + [-10, 10, 100, -1])
        if dice.random() < 0.7:
            end = seq + len(payload) + bool(flags & (SYN | FIN))
            following[port, side] = max(following[port, side], end)
        ends = (("10.0.0.1", port), ("10.0.0.2", 5432))
        (source, source_port), (target, target_port) = ends if side == 0 else ends[::-1]
        window = dice.choice([0, 100, 100, 100, 1000])
        segment = tcp((source_port, target_port), seq, ack, flags, payload, window=window, options=options)
        packet = ip(segment, 6, source, target, ip_id=number)
        if dice.random() < 0.04:
            quoted = packet[: dice.choice([28, 36, 40, len(packet)])]
            packet = icmp_error(quoted, "10.0.0.99", source, dice.choice([3, 11, 5]))
        packets.append((now, packet))
    return packets


def write_pcap(
    path: Path,
    packets: Iterable[Timed],
    *,
    link_type: int = 101,
    magic: int = 0xA1B23C4D,
    order: str = "<",
    snap_length: int = 262144,
    extra: bytes = b"",
) -> Path:
    """A pcap file; `extra` is put behind the header of each record, as a variant does."""
    unit_ns = 1 if magic == 0xA1B23C4D else 1000
    content = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snap_length, link_type)
    for time_ns, data in packets:
        seconds, fraction = divmod(time_ns, 1_000_000_000)
        kept = data[:snap_length]
        content += (
            struct.pack(order + "4I", seconds, fraction // unit_ns, len(kept), len(data)) + extra + kept
        )
    path.write_bytes(content)
    return path


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def pcapng_block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = 12 + len(body)
    return struct.pack(order + "II", kind, length) + body + struct.pack(order + "I", length)


def section(order: str = "<") -> bytes:
    return pcapng_block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(link_type: int = 101, snap_length: int = 0, options: bytes = b"", order: str = "<") -> bytes:
    return pcapng_block(1, struct.pack(order + "HHI", link_type, 0, snap_length) + options, order)


def enhanced(number: int, ticks: int, data: bytes, length: int | None = None, order: str = "<") -> bytes:
    high, low = divmod(ticks, 1 << 32)
    original = len(data) if length is None else length
    return pcapng_block(6, struct.pack(order + "5I", number, high, low, len(data), original) + data, order)
