"""Reading the block structure of pcap and pcapng from a stream, to copy a file with something added.

Analysing captures is the business of `podcam.columns`; here nothing of a packet is understood but its length.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

from podcam.errors import CaptureFileError
from podcam.pcap.blocks import BYTE_ORDER_MAGIC, FRAMES_WITHOUT_PACKET, BlockType

ByteOrder = Literal["<", ">"]

_SECTION_MAGIC: Final = b"\x0a\x0d\x0d\x0a"
_LARGEST_BLOCK_BYTES: Final = 1 << 26
_PCAP_MAGICS: Final[dict[bytes, tuple[ByteOrder, int, int]]] = {
    # byte order, nanoseconds of a time's fraction, bytes of a record's header
    bytes.fromhex("d4c3b2a1"): ("<", 1000, 16),
    bytes.fromhex("a1b2c3d4"): (">", 1000, 16),
    bytes.fromhex("4d3cb2a1"): ("<", 1, 16),
    bytes.fromhex("a1b23c4d"): (">", 1, 16),
    bytes.fromhex("34cdb2a1"): ("<", 1000, 24),  # Kuznetzov's variant
    bytes.fromhex("a1b2cd34"): (">", 1000, 24),
}
_OPTIONS_AT: Final = {
    BlockType.SECTION_HEADER: 24,
    BlockType.INTERFACE_DESCRIPTION: 16,
    BlockType.INTERFACE_STATISTICS: 20,
}
_PACKET_HEAD_BYTES: Final = 28


@dataclass(frozen=True, slots=True)
class RawBlock:
    """A block of a pcapng file as it is, in the byte order of its section."""

    kind: int
    order: ByteOrder
    content: bytes
    """From its type to its second length."""

    @property
    def is_packet(self) -> bool:
        """Whether Wireshark numbers it as a frame with a packet in it."""
        return self.kind in {BlockType.ENHANCED_PACKET, BlockType.PACKET, BlockType.SIMPLE_PACKET}

    @property
    def is_frame(self) -> bool:
        """Whether Wireshark gives it a frame number."""
        return self.is_packet or self.kind in FRAMES_WITHOUT_PACKET

    @property
    def body(self) -> bytes:
        """What is between the lengths."""
        return self.content[8:-4]

    @property
    def options_at(self) -> int | None:
        """Where in `content` the options begin; None in a block that has none, or whose length is wrong."""
        if self.kind in {BlockType.ENHANCED_PACKET, BlockType.PACKET} and len(self.content) >= 32:
            (captured,) = struct.unpack_from(f"{self.order}I", self.content, 20)
            at = _PACKET_HEAD_BYTES + captured + -captured % 4
        else:
            at = _OPTIONS_AT.get(BlockType(self.kind), 0) if self.kind in _OPTIONS_AT else 0
        return at if 0 < at <= len(self.content) - 4 else None

    def options(self) -> Iterator[tuple[int, bytes]]:
        """Codes and values, as often as they are there."""
        at, end = self.options_at, len(self.content) - 4
        while at is not None and at + 4 <= end:
            code, length = struct.unpack_from(f"{self.order}HH", self.content, at)
            if code == 0 or at + 4 + length > end:
                return
            yield code, self.content[at + 4 : at + 4 + length]
            at += 4 + length + -length % 4


@dataclass(frozen=True, slots=True)
class PcapHeader:
    """The header of a pcap file."""

    order: ByteOrder
    fraction_ns: int
    """Nanoseconds per unit of a time's fraction: 1000 or 1."""
    record_header_bytes: int
    snap_length: int
    link_type: int


@dataclass(frozen=True, slots=True)
class CapturedPacket:
    """A packet of a pcap file."""

    time_ns: int
    length: int
    data: bytes


def read_blocks(file: BinaryIO) -> Iterator[RawBlock]:
    """The blocks of a pcapng file, of all its sections; ends where the file is cut.

    Raises:
        CaptureFileError: the file is not pcapng, or is garbled.
    """
    order: ByteOrder = "<"
    offset = 0
    while True:
        head = file.read(12)
        if offset == 0 and head[:4] != _SECTION_MAGIC:
            raise CaptureFileError("not a pcapng file")
        if len(head) < 12:
            return
        if head[:4] == _SECTION_MAGIC:
            order = _order_of_section(head)
        kind, length = struct.unpack(f"{order}II", head[:8])
        length += -length % 4
        if not 12 <= length <= _LARGEST_BLOCK_BYTES:
            raise CaptureFileError(f"garbled at byte {offset}: a block cannot have {length} bytes")
        content = head + file.read(length - 12)
        if len(content) < length:
            return
        yield RawBlock(kind, order, content)
        offset += length


def _order_of_section(head: bytes) -> ByteOrder:
    for order in ("<", ">"):
        if struct.unpack(f"{order}I", head[8:]) == (BYTE_ORDER_MAGIC,):
            return "<" if order == "<" else ">"
    raise CaptureFileError("garbled: a section without byte order")


def is_pcap(start: bytes) -> bool:
    """Whether a file with these first bytes is pcap, in any of its variants."""
    return start[:4] in _PCAP_MAGICS


def read_pcap(file: BinaryIO) -> tuple[PcapHeader, Iterator[CapturedPacket]]:
    """The header and the packets of a pcap file; ends where the file is cut.

    Raises:
        CaptureFileError: the file is not pcap, or is garbled.
    """
    head = file.read(24)
    if len(head) < 24 or head[:4] not in _PCAP_MAGICS:
        raise CaptureFileError("not a pcap file")
    order, fraction_ns, record_header_bytes = _PCAP_MAGICS[head[:4]]
    snap_length, link_type = struct.unpack(f"{order}II", head[16:])
    header = PcapHeader(order, fraction_ns, record_header_bytes, snap_length, link_type & 0x0FFFFFFF)
    return header, _pcap_packets(file, header)


def _pcap_packets(file: BinaryIO, header: PcapHeader) -> Iterator[CapturedPacket]:
    unpack = struct.Struct(f"{header.order}4I").unpack_from
    while len(head := file.read(header.record_header_bytes)) == header.record_header_bytes:
        seconds, fraction, captured, length = unpack(head)
        if captured > _LARGEST_BLOCK_BYTES:
            raise CaptureFileError(f"garbled: a packet cannot have {captured} bytes")
        data = file.read(captured)
        if len(data) < captured:
            return
        yield CapturedPacket(seconds * 1_000_000_000 + fraction * header.fraction_ns, length, data)
