"""Captures of any size for benchmarks: connections like those of `pgbench -C -S`, many at a time.

One connection is put together by hand, and then repeated with other addresses, ports, sequence numbers and
times.
"""

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

CLIENTS_AT_A_TIME = 16
CLIENT_ADDRESSES = 64
FIRST_PORT, PORTS = 32768, 28232
"""The ephemeral ports of Linux."""
SERVER = bytes([10, 0, 0, 5])
SERVER_PORT = 5432
START_S = 1_750_000_000

_RECORD_BYTES = 16
_ETHERNET_BYTES, _IP_BYTES, _TCP_BYTES = 14, 20, 32
_IP_AT = _RECORD_BYTES + _ETHERNET_BYTES
_TCP_AT = _IP_AT + _IP_BYTES
_FIN, _SYN, _PSH, _ACK = 1, 2, 8, 16


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _parameters() -> bytes:
    settings = {
        "application_name": "pgbench",
        "client_encoding": "UTF8",
        "DateStyle": "ISO, MDY",
        "integer_datetimes": "on",
        "IntervalStyle": "postgres",
        "is_superuser": "off",
        "server_encoding": "UTF8",
        "server_version": "15.14",
        "session_authorization": "app",
        "standard_conforming_strings": "on",
        "TimeZone": "Etc/UTC",
    }
    return b"".join(_message(b"S", f"{name}\0{value}\0".encode()) for name, value in settings.items())


def _conversation() -> list[tuple[bool, int, bytes]]:
    """(from the client, TCP flags, payload) of each packet."""
    ready = _message(b"Z", b"I")
    startup = b"\0\x03\0\0user\0app\0database\0bench\0application_name\0pgbench\0\0"
    query = _message(b"Q", b"SELECT abalance FROM pgbench_accounts WHERE aid = 31337;\0")
    row = (
        _message(b"T", b"\0\x01abalance\0" + bytes(18))
        + _message(b"D", b"\0\x01\0\0\0\x010")
        + _message(b"C", b"SELECT 1\0")
        + ready
    )
    say = _PSH | _ACK
    return [
        (True, _SYN, b""),
        (False, _SYN | _ACK, b""),
        (True, _ACK, b""),
        (True, say, struct.pack("!I", len(startup) + 4) + startup),
        (False, _ACK, b""),
        (False, say, _message(b"R", b"\0\0\0\x0aSCRAM-SHA-256\0\0")),
        (True, _ACK, b""),
        (True, say, _message(b"p", b"SCRAM-SHA-256\0" + b"\0\0\0\x20n,,n=,r=" + b"a" * 24)),
        (False, say, _message(b"R", b"\0\0\0\x0b" + b"r=" + b"b" * 80)),
        (True, say, _message(b"p", b"c=biws,r=" + b"b" * 95)),
        (False, say, _message(b"R", b"\0\0\0\x0c" + b"v=" + b"c" * 44) + _message(b"R", bytes(4))),
        (False, say, _parameters() + _message(b"K", bytes(8)) + ready),
        (True, _ACK, b""),
        (True, say, query),
        (False, say, row),
        (True, say, _message(b"X", b"")),
        (True, _FIN | _ACK, b""),
        (False, _FIN | _ACK, b""),
        (True, _ACK, b""),
    ]


PACKETS_PER_CONNECTION = len(_conversation())


def _round() -> tuple[npt.NDArray[np.uint8], list[tuple[int, int, int, bool]]]:
    """Some interleaved connections as pcap records; and (position, client, step, from it) of each."""
    records = bytearray()
    places = []
    seqs = {True: 0, False: 0}
    for step, (from_client, flags, payload) in enumerate(_conversation()):
        seq, ack = seqs[from_client], seqs[not from_client]
        source, target = (bytes(4), SERVER) if from_client else (SERVER, bytes(4))
        ports = (0, SERVER_PORT) if from_client else (SERVER_PORT, 0)
        tcp = struct.pack("!HHIIBBHHH", *ports, seq, ack if step else 0, 8 << 4, flags, 502, 0, 0)
        tcp += b"\x01\x01\x08\x0a" + bytes(8)
        length = _IP_BYTES + len(tcp) + len(payload)
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, 0, 0x4000, 64, 6, 0, source, target)
        packet = bytes(12) + b"\x08\0" + ip + tcp + payload
        for client in range(CLIENTS_AT_A_TIME):
            places.append((len(records), client, step, from_client))
            records += struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet
        seqs[from_client] += len(payload) + bool(flags & (_SYN | _FIN))
    return np.frombuffer(bytes(records), np.uint8), places


def write_capture(path: Path, packets: int, seed: int = 1) -> int:
    """Write a pcap file with at least so many packets, nanoseconds, Ethernet; gives how many it has."""
    template, places = _round()
    rounds = -(-packets // len(places))
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
        for first in range(0, rounds, 256):
            _write_rounds(file, template, places, np.arange(first, min(first + 256, rounds)), seed)
    return rounds * len(places)


def _write_rounds(
    file: BinaryIO,
    template: npt.NDArray[np.uint8],
    places: list[tuple[int, int, int, bool]],
    rounds: npt.NDArray[np.int64],
    seed: int,
) -> None:
    random = np.random.default_rng((seed, int(rounds[0])))
    isns = random.integers(0, 1 << 32, (len(rounds), CLIENTS_AT_A_TIME, 2))
    block = np.tile(template, (len(rounds), 1))
    step_ns = 20_000
    for number, (at, client, step, from_client) in enumerate(places):
        connection = rounds * CLIENTS_AT_A_TIME + client
        time_ns = (rounds * len(places) + number) * step_ns
        _put(block, at, START_S + time_ns // 1_000_000_000, "<u4")
        _put(block, at + 4, time_ns % 1_000_000_000, "<u4")
        address = 0x0A010000 + connection % CLIENT_ADDRESSES
        port = FIRST_PORT + connection // CLIENT_ADDRESSES % PORTS
        tcp = at + _TCP_AT
        _put(block, at + _IP_AT + (12 if from_client else 16), address, ">u4")
        _put(block, tcp if from_client else tcp + 2, port, ">u2")
        mine, other = isns[:, client, 0 if from_client else 1], isns[:, client, 1 if from_client else 0]
        _put(block, tcp + 4, int.from_bytes(template[tcp + 4 : tcp + 8].tobytes()) + mine, ">u4")
        if step:
            _put(block, tcp + 8, int.from_bytes(template[tcp + 8 : tcp + 12].tobytes()) + other, ">u4")
    file.write(block.tobytes())


def _put(block: npt.NDArray[np.uint8], at: int, values: npt.NDArray[np.int64], kind: str) -> None:
    numbers = values.astype(np.uint64).astype(kind)
    block[:, at : at + numbers.itemsize] = numbers.view(np.uint8).reshape(-1, numbers.itemsize)
