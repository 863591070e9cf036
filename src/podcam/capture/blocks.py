"""The blocks of a TPACKET_V3 ring as the kernel lays them out: linux/if_packet.h, packet_mmap.rst.

A block begins with `struct tpacket_block_desc`, then our private area, then packets, each a
`struct tpacket3_hdr`, a `struct sockaddr_ll`, and the bytes of the packet. All numbers are in the order of
the machine.
"""

import struct
from typing import NamedTuple

BLOCK_HEADER = struct.Struct("=IIIIIIQIIII")
"""`struct tpacket_block_desc`: version, offset of the private area, status, packets, offset of the first
packet, used bytes, sequence number, first time (s, ns), last time (s, ns)."""
PACKET_HEADER = struct.Struct("=IIIIIIHH")
"""`struct tpacket3_hdr` up to `tp_net`: offset of the next packet (0 for the last), time (s, ns), captured
bytes, original bytes, status, offset of the link header, offset of the network header."""

PRIVATE_BYTES = 32
"""Our private area: the first 24 bytes are for who writes the block; then the sequence number (u64) of the
block last released from here, by which another process goes on where this one ended."""
_RELEASED_OFFSET = 24

STATUS_OFFSET = 8
FIRST_TIME_OFFSET = 32
SEQUENCE_OFFSET = 24
TP_STATUS_KERNEL = 0
TP_STATUS_USER = 1
RELEASED_OFFSET = BLOCK_HEADER.size + _RELEASED_OFFSET

_NS = 1_000_000_000


class BlockHeader(NamedTuple):
    """`struct tpacket_block_desc`, field by field."""

    version: int
    private_offset: int
    status: int
    packets: int
    first_offset: int
    length: int
    """Used bytes, this header included."""
    sequence: int
    """1 for the first block of a ring; block number (sequence - 1) modulo the number of blocks."""
    first_s: int
    first_ns: int
    last_s: int
    last_ns: int

    @property
    def first_time_ns(self) -> int:
        """Time of the first packet, in nanoseconds since 1970 UTC."""
        return self.first_s * _NS + self.first_ns

    @property
    def last_time_ns(self) -> int:
        """Time of the last packet, in nanoseconds since 1970 UTC."""
        return self.last_s * _NS + self.last_ns


def read_header(block: memoryview | bytes | bytearray) -> BlockHeader:
    """Read the header of a block."""
    return BlockHeader._make(BLOCK_HEADER.unpack_from(block))


def closed(block: bytearray) -> bytearray:
    """Close a block in place, as the kernel does when it retires one (`prb_close_block`), and return it.

    Its header gets the times of the first and last packet, and the last packet's way to the next is cut.
    """
    header = read_header(block)
    offset = header.first_offset
    first = PACKET_HEADER.unpack_from(block, offset)
    last = first
    for _ in range(header.packets - 1):
        offset += last[0]
        last = PACKET_HEADER.unpack_from(block, offset)
    struct.pack_into("=I", block, offset, 0)
    struct.pack_into("=IIII", block, FIRST_TIME_OFFSET, *first[1:3], *last[1:3])
    struct.pack_into("=I", block, STATUS_OFFSET, TP_STATUS_USER)
    return block
