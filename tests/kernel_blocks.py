"""Blocks of a TPACKET_V3 ring as the kernel lays them out (linux/if_packet.h, net/packet/af_packet.c)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

ETHERNET, LOOPBACK, NONE = 1, 772, 65534
HOST, OUTGOING = 0, 4
STATUS_USER, STATUS_CSUM_NOT_READY, STATUS_VLAN = 1, 1 << 3, 1 << 4 | 1 << 6

_HEAD = struct.Struct("=6IQ4I")
_PACKET = struct.Struct("=6I2H2IH2x8x")
_ADDRESS = struct.Struct("=HHiHBB8s")


@dataclass(frozen=True)
class Sent:
    """A packet before the kernel put it into a block; `length` when it was longer than what is captured."""

    time_ns: int
    data: bytes = b"\x02" * 12 + b"\x08\x00" + b"E" * 40
    link_bytes: int = 14
    interface: int = 2
    hardware_type: int = ETHERNET
    packet_type: int = HOST
    status: int = STATUS_USER
    length: int | None = None
    vlan_tci: int = 0
    vlan_tpid: int = 0


def block(packets: Sequence[Sent], *, sequence: int = 1, opened_ns: int | None = None) -> bytearray:
    """The used part of one retired block, with 24 bytes of private area, zero as the kernel leaves it.

    The kernel stamps a block's head with the time when it opened it, which in a quiet ring is long before the
    first packet: `opened_ns`, one second before unless given.
    """
    first = 48 + 24
    body = bytearray()
    for number, packet in enumerate(packets):
        start = 68 + max(packet.link_bytes, 16)
        net = start + -start % 16
        mac = net - packet.link_bytes
        end = mac + len(packet.data)
        step = end + -end % 8
        is_last = number + 1 == len(packets)
        length = len(packet.data) if packet.length is None else packet.length
        seconds, nanoseconds = divmod(packet.time_ns, 10**9)
        body += _PACKET.pack(
            0 if is_last else step, seconds, nanoseconds, len(packet.data), length, packet.status, mac, net,
            0, packet.vlan_tci, packet.vlan_tpid,
        )  # fmt: skip
        body += _ADDRESS.pack(
            17, 8, packet.interface, packet.hardware_type, packet.packet_type, 6, b"\x02\x00\x00\x00\x00\x01"
        )
        body += bytes(mac - 68) + packet.data + bytes(step - end)
    opened = divmod(max(packets[0].time_ns - 10**9, 0) if opened_ns is None else opened_ns, 10**9)
    last = divmod(packets[-1].time_ns, 10**9)
    head = _HEAD.pack(2, 48, STATUS_USER, len(packets), first, first + len(body), sequence, *opened, *last)
    return bytearray(head + bytes(24) + body)
