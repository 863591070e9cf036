"""Writing pcapng: one section, little endian, nanoseconds, its interfaces as they turn up."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import BinaryIO, Final, Literal

from podcam.pcap.blocks import (
    BYTE_ORDER_MAGIC,
    COMMENT_BYTES,
    ENTERPRISE_NUMBER,
    LARGEST_PACKET_BYTES,
    BlockType,
    InterfaceOption,
    Option,
    PacketOption,
    StatisticsOption,
)

_PACKET_HEAD: Final = struct.Struct("<7I")
_PACKET_FLAGS: Final = tuple(struct.Struct(f"<{padding}xHHIHHI") for padding in range(4))
_MINIMUM_PACKET_BYTES: Final = 32 + 12  # an enhanced packet block with the flags and the end of its options

OptionValue = tuple[int, bytes | str]


def options(values: Iterable[OptionValue], order: Literal["<", ">"] = "<") -> bytes:
    """A list of options with its end; nothing for an empty one. Strings are cut to `COMMENT_BYTES`."""
    parts: list[bytes] = []
    for code, value in values:
        content = _cut(value) if isinstance(value, str) else value
        parts.append(
            struct.pack(f"{order}HH{len(content)}s{-len(content) % 4}x", code, len(content), content)
        )
    return b"".join([*parts, bytes(4)]) if parts else b""


def block(kind: int, body: bytes, order: Literal["<", ">"] = "<") -> bytes:
    """A whole block; the body ends with its options."""
    padding = -len(body) % 4
    length = 12 + len(body) + padding
    return struct.pack(f"{order}II{len(body)}s{padding}xI", kind, length, body, length)


def custom(text: str) -> OptionValue:
    """Machine-readable data that editcap, mergecap and tshark keep; Wireshark does not show it.

    Raises:
        ValueError: more than an option holds.
    """
    content = struct.pack("<I", ENTERPRISE_NUMBER) + text.encode()
    if len(content) > 0xFFFF:
        raise ValueError("a custom option holds 65,531 bytes")
    return Option.CUSTOM_STRING, content


class PcapngWriter:
    """Writes one section to a binary file, in one pass.

    Interfaces may be added at any time before their first packet.
    """

    def __init__(self, file: BinaryIO, values: Sequence[OptionValue] = ()) -> None:
        self._write = file.write
        self._interfaces = 0
        head = struct.pack("<IHHq", BYTE_ORDER_MAGIC, 1, 0, -1)
        self._write(block(BlockType.SECTION_HEADER, head + options(values)))

    def add_interface(self, link_type: int, values: Sequence[OptionValue] = ()) -> int:
        """Describes an interface (LINKTYPE_*); its packets are named by the number that this returns."""
        nanoseconds = (InterfaceOption.RESOLUTION, b"\x09")
        head = struct.pack("<HHI", link_type, 0, 0)
        self._write(block(BlockType.INTERFACE_DESCRIPTION, head + options([*values, nanoseconds])))
        self._interfaces += 1
        return self._interfaces - 1

    def add_names(self, names: Mapping[str, Sequence[str]]) -> None:
        """Addresses with their names: a convenience, as other tools drop it when they copy."""
        records = b""
        for address, spellings in names.items():
            ip = ip_address(address)
            value = ip.packed + b"".join(name.encode() + b"\0" for name in spellings)
            kind = 1 if ip.version == 4 else 2
            records += struct.pack(f"<HH{len(value)}s{-len(value) % 4}x", kind, len(value), value)
        self._write(block(BlockType.NAME_RESOLUTION, records + bytes(4)))

    def add_packet(
        self,
        interface: int,
        time_ns: int,
        data: bytes | memoryview,
        length: int,
        flags: int,
        comments: Sequence[str] = (),
    ) -> None:
        """One packet of `length` bytes on the wire; `flags` as `packet_flags` makes them."""
        data = data[:LARGEST_PACKET_BYTES]
        captured = len(data)
        padding = -captured % 4
        written = options((Option.COMMENT, comment) for comment in comments)[:-4] if comments else b""
        total = _MINIMUM_PACKET_BYTES + captured + padding + len(written)
        head = (
            BlockType.ENHANCED_PACKET,
            total,
            interface,
            time_ns >> 32,
            time_ns & 0xFFFFFFFF,
            captured,
            length,
        )
        self._write(_PACKET_HEAD.pack(*head))
        self._write(data)
        if written:
            self._write(bytes(padding) + written)
            padding = 0
        self._write(_PACKET_FLAGS[padding].pack(PacketOption.FLAGS, 4, flags, Option.END, 0, total))

    def add_statistics(
        self, interface: int, time_ns: int, *, received: int, dropped: int | None, first_ns: int, last_ns: int
    ) -> None:
        """How many packets of an interface came and were lost between two times, as of `time_ns`.

        `dropped` is None where nobody knows.
        """
        values: list[OptionValue] = [
            (StatisticsOption.START, _time(first_ns)),
            (StatisticsOption.END, _time(last_ns)),
            (StatisticsOption.RECEIVED, struct.pack("<Q", received)),
        ]
        if dropped is not None:
            values.append((StatisticsOption.DROPPED, struct.pack("<Q", dropped)))
        head = struct.pack("<I", interface) + _time(time_ns)
        self._write(block(BlockType.INTERFACE_STATISTICS, head + options(values)))


def _time(time_ns: int) -> bytes:
    return struct.pack("<II", time_ns >> 32, time_ns & 0xFFFFFFFF)


def _cut(text: str) -> bytes:
    """At most `COMMENT_BYTES`, cut between characters."""
    content = text.encode(errors="replace")
    return (
        content if len(content) <= COMMENT_BYTES else content[:COMMENT_BYTES].decode(errors="ignore").encode()
    )
