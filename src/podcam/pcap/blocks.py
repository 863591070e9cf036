"""Numbers of pcapng (draft-ietf-opsawg-pcapng) and of the link types that Podcam writes."""

from enum import IntEnum
from typing import Final

BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
LARGEST_PACKET_BYTES: Final = 262_144
"""Wireshark takes a file with a larger packet for damaged (WTAP_MAX_PACKET_SIZE_STANDARD)."""
COMMENT_BYTES: Final = 16_384
"""Longest comment that is written: an option's length has 16 bits, and some readers are stricter."""
ENTERPRISE_NUMBER: Final = 32473
"""Of custom options. Podcam has no number of its own; RFC 5612 sets this one aside for such uses. The
content, a JSON object with a `schema`, tells what it is."""


class BlockType(IntEnum):
    """Sections 4 and 5 of the draft."""

    SECTION_HEADER = 0x0A0D0D0A
    INTERFACE_DESCRIPTION = 1
    PACKET = 2
    """Obsolete."""
    SIMPLE_PACKET = 3
    NAME_RESOLUTION = 4
    INTERFACE_STATISTICS = 5
    ENHANCED_PACKET = 6
    DECRYPTION_SECRETS = 10
    CUSTOM = 0xBAD
    CUSTOM_NOT_COPIED = 0x40000BAD


FRAMES_WITHOUT_PACKET: Final = frozenset({9, 0x204, 0x208, 0x216, 0x221, 0xBAD, 0x40000BAD})
"""Blocks that Wireshark numbers as frames: journal entries, system calls, custom blocks (measured)."""


class Option(IntEnum):
    """Options of all blocks (section 3.5)."""

    END = 0
    COMMENT = 1
    CUSTOM_STRING = 2988


class SectionOption(IntEnum):
    """Options of section header blocks."""

    HARDWARE = 2
    OS = 3
    APPLICATION = 4


class InterfaceOption(IntEnum):
    """Options of interface description blocks."""

    NAME = 2
    DESCRIPTION = 3
    RESOLUTION = 9
    FILTER = 11


class PacketOption(IntEnum):
    """Options of enhanced packet blocks."""

    FLAGS = 2


class StatisticsOption(IntEnum):
    """Options of interface statistics blocks."""

    START = 2
    END = 3
    RECEIVED = 4
    DROPPED = 5


class LinkType(IntEnum):
    """LINKTYPE_* (tcpdump.org/linktypes.html)."""

    ETHERNET = 1
    RAW = 101


class Direction(IntEnum):
    """Bits 0 and 1 of `epb_flags`."""

    UNKNOWN = 0
    INBOUND = 1
    OUTBOUND = 2


class Reception(IntEnum):
    """Bits 2 to 4 of `epb_flags`."""

    UNKNOWN = 0
    UNICAST = 1
    MULTICAST = 2
    BROADCAST = 3
    PROMISCUOUS = 4


def packet_flags(
    direction: Direction, reception: Reception = Reception.UNKNOWN, *, checksum_not_ready: bool = False
) -> int:
    """`epb_flags`: where a packet went, and whether its checksum was left to the network card (bit 9)."""
    return direction | reception << 2 | checksum_not_ready << 9
