"""Packets, layer by layer: `ethernet(ipv4(tcp(…)))`."""

import struct
from ipaddress import ip_address

VLAN_TAG = struct.Struct(">HH")


def ethernet(packet: bytes, *tags: int, ethertype: int | None = None) -> bytes:
    """A frame; each tag is a VLAN id, the outer one first (802.1ad before 802.1Q)."""
    kind = ethertype if ethertype is not None else {4: 0x0800, 6: 0x86DD}[packet[0] >> 4]
    frame = bytes(12)
    for position, tag in enumerate(tags):
        frame += VLAN_TAG.pack(0x8100 if position == len(tags) - 1 else 0x88A8, tag)
    return frame + kind.to_bytes(2) + packet


def ipv4(
    payload: bytes,
    protocol: int,
    src: str = "10.0.0.1",
    dst: str = "10.0.0.2",
    *,
    options: int = 0,
    fragment: int = 0,
) -> bytes:
    """`options` in 32-bit words; `fragment` is the offset in 8-byte units."""
    words = 5 + options
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0, 4 * words + len(payload), 1, fragment, 64, protocol, 0)
    return head + ip_address(src).packed + ip_address(dst).packed + b"\x01" * (4 * options) + payload


def ipv6(payload: bytes, protocol: int, src: str = "fd00::1", dst: str = "fd00::2") -> bytes:
    head = struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64)
    return head + ip_address(src).packed + ip_address(dst).packed + payload


def extension(payload: bytes, protocol: int, words: int = 0) -> bytes:
    """A hop-by-hop, routing or destination options header of 8 + 8 * `words` bytes."""
    return bytes((protocol, words)) + bytes(6 + 8 * words) + payload


def fragment_header(payload: bytes, protocol: int, offset: int = 0) -> bytes:
    return struct.pack(">BBHI", protocol, 0, offset << 3, 7) + payload


def tcp(src: int, dst: int, flags: int = 0x10, payload: bytes = b"", options: int = 0) -> bytes:
    return (
        struct.pack(">HHIIBBHHH", src, dst, 1, 1, (5 + options) << 4, flags, 512, 0, 0)
        + bytes(4 * options)
        + payload
    )


def udp(src: int, dst: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HHHH", src, dst, 8 + len(payload), 0) + payload


def icmp(kind: int, code: int = 0, quoted: bytes = b"") -> bytes:
    return struct.pack(">BBHI", kind, code, 0, 0) + quoted
