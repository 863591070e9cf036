"""The pcapng codec, and what pcap and pcapng files are made of."""

from podcam.pcap.blocks import (
    COMMENT_BYTES,
    LARGEST_PACKET_BYTES,
    BlockType,
    Direction,
    InterfaceOption,
    LinkType,
    Option,
    PacketOption,
    Reception,
    SectionOption,
    StatisticsOption,
    packet_flags,
)
from podcam.pcap.reader import CapturedPacket, PcapHeader, RawBlock, is_pcap, read_blocks, read_pcap
from podcam.pcap.writer import OptionValue, PcapngWriter, block, custom, options

__all__ = [
    "COMMENT_BYTES",
    "LARGEST_PACKET_BYTES",
    "BlockType",
    "CapturedPacket",
    "Direction",
    "InterfaceOption",
    "LinkType",
    "Option",
    "OptionValue",
    "PacketOption",
    "PcapHeader",
    "PcapngWriter",
    "RawBlock",
    "Reception",
    "SectionOption",
    "StatisticsOption",
    "block",
    "custom",
    "is_pcap",
    "options",
    "packet_flags",
    "read_blocks",
    "read_pcap",
]
