"""Where packets come from: the formats of capture files, read block by block."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, NamedTuple, Protocol

import numpy as np

from podcam import clip
from podcam.columns.kernels.memory import Memory, either16, either32
from podcam.columns.kernels.records import CUT, GARBLED, MOST_SECONDS, OTHER_BLOCK
from podcam.columns.layout import INTERFACE, Table
from podcam.columns.sets import KernelSet
from podcam.model.point import Gap, Window, gap_from_json
from podcam.pcap import BlockType, InterfaceOption, Option, StatisticsOption
from podcam.pcap.blocks import FRAMES_WITHOUT_PACKET


class SourceInterface(NamedTuple):
    """What packets of one interface share: the fields of `layout.INTERFACE`."""

    link_type: int
    point: int = 0
    ticks_per_second: int = 1_000_000_000
    offset_s: int = 0
    snap_length: int = 0


@dataclass(frozen=True, slots=True)
class Losses:
    """What is known to be missing of the packets of one point.

    Attributes:
        dropped: packets that the recorder lost; None where nobody says.
        gaps: where nothing was recorded.
        windows: only what lies within one of them is there; all is where there are none.
    """

    dropped: int | None = None
    gaps: tuple[Gap, ...] = ()
    windows: tuple[Window, ...] = ()


class Source(Protocol):
    """Packets in the order of a file."""

    interfaces: list[SourceInterface]
    points: list[str]
    """Names; `SourceInterface.point` indexes them."""
    warnings: list[str]
    names: dict[str, str]
    """By address, what people call who has it, where the file says."""

    @property
    def losses(self) -> dict[int, Losses]:
        """By point, as far as the file says, once all of it is read."""

    @property
    def dropped(self) -> int | None:
        """Packets that the file says were lost; None where it does not say."""

    def walk(self, kernels: KernelSet, data: Memory, packets: Table, row: int, rows: int) -> int:
        """Fill `packets` from `row` on, up to `rows`; gives the next free row, `row` itself at the end."""


def interface_table(interfaces: list[SourceInterface]) -> Table:
    """Interfaces as the kernels take them."""
    table = np.zeros(len(interfaces), INTERFACE)
    for field_name in ("link_type", "point", "ticks_per_second", "offset_s", "snap_length"):
        table[field_name] = [getattr(interface, field_name) for interface in interfaces]
    return table


_LINK_TYPE_BITS: Final = 0x0FFFFFFF
"""The upper bits of a pcap file's link type tell the length of a frame check sequence."""
_RAW_ALIASES: Final = {12: 101, 14: 101}
"""DLT_RAW as some systems number it, to LINKTYPE_RAW."""

_PCAP_MAGICS: Final = {
    # bytes of the magic number: (big-endian, nanoseconds of the fraction, bytes of a record's header)
    bytes.fromhex("d4c3b2a1"): (0, 1000, 16),
    bytes.fromhex("a1b2c3d4"): (1, 1000, 16),
    bytes.fromhex("4d3cb2a1"): (0, 1, 16),
    bytes.fromhex("a1b23c4d"): (1, 1, 16),
    bytes.fromhex("34cdb2a1"): (0, 1000, 24),
    bytes.fromhex("a1b2cd34"): (1, 1000, 24),
}


class PcapSource:
    """A pcap file: microseconds or nanoseconds, either byte order, and Kuznetzov's variant."""

    header_bytes: Final = 24
    dropped: int | None = None

    def __init__(self, data: memoryview, end: int, point: str) -> None:
        self._big, self._fraction_ns, self._record_bytes = _PCAP_MAGICS[bytes(data[:4])]
        link_type = either32(data, 20, self._big) & _LINK_TYPE_BITS
        self.interfaces = [SourceInterface(_RAW_ALIASES.get(link_type, link_type))]
        self.points = [point]
        self.warnings: list[str] = []
        self.names: dict[str, str] = {}
        self.losses: dict[int, Losses] = {}
        self._at, self._end = self.header_bytes, end

    @classmethod
    def matches(cls, start: bytes) -> bool:
        """Whether a file with this start is one."""
        return start[:4] in _PCAP_MAGICS

    def walk(self, kernels: KernelSet, data: Memory, packets: Table, row: int, rows: int) -> int:
        """See `Source`."""
        row, self._at, why = kernels.walk_pcap(
            data,
            self._at,
            self._end,
            self._big,
            self._fraction_ns,
            self._record_bytes,
            0,
            packets,
            row,
            rows,
        )
        if why in {CUT, GARBLED}:
            self.warnings.append(_stopped(why, self._at))
            self._at = self._end
        return row


def _stopped(why: int, offset: int) -> str:
    if why == CUT:
        return (
            f"the last record, at byte {offset:,}, is cut: the file was still being written, or is not whole"
        )
    return f"what follows byte {offset:,} is garbled and was not read"


_SECTION_MAGIC: Final = bytes.fromhex("0a0d0d0a")
_BYTE_ORDERS: Final = {bytes.fromhex("4d3c2b1a"): 0, bytes.fromhex("1a2b3c4d"): 1}
_PACKETS: Final = {BlockType.ENHANCED_PACKET, BlockType.SIMPLE_PACKET, BlockType.PACKET}
_MOST_INTERFACES: Final = 1 << 16
"""Packets of more are garbled: `layout.PACKET` numbers interfaces with 16 bits."""
_ADDRESS_BYTES: Final = {1: 4, 2: 16}
"""By kind of record in a name resolution block: IPv4 and IPv6."""
_OPTION_OFFSET: Final = 14
"""if_tsoffset (draft-ietf-opsawg-pcapng, section 4.2)"""


class PcapngSource:
    """A pcapng file, with all its sections and interfaces.

    All its packets are of one point, but for files that Podcam wrote, whose interfaces name theirs.
    """

    def __init__(self, data: memoryview, end: int, point: str) -> None:
        self.interfaces: list[SourceInterface] = []
        self.points: list[str] = []
        self.warnings: list[str] = []
        self.names: dict[str, str] = {}
        self._gaps: dict[int, tuple[Gap, ...]] = {}
        self._file_point = point
        self._view = data
        self._interface_rows = interface_table([])
        self._drops: dict[int, int] = {}
        self._at, self._end = 0, end
        self._big = 0
        self._first_interface = 0
        self._begin_section()

    @classmethod
    def matches(cls, start: bytes) -> bool:
        """Whether a file with this start is one."""
        return start[:4] == _SECTION_MAGIC and start[8:12] in _BYTE_ORDERS

    @property
    def dropped(self) -> int | None:
        """Drops that the latest statistics of each interface tell; None without any."""
        return sum(self._drops.values()) if self._drops else None

    @property
    def losses(self) -> dict[int, Losses]:
        """See `Source`."""
        drops: dict[int, int] = {}
        for interface, count in self._drops.items():
            if interface < len(self.interfaces):
                point = self.interfaces[interface].point
                drops[point] = drops.get(point, 0) + count
        return {
            point: Losses(drops.get(point), self._gaps.get(point, ()))
            for point in drops.keys() | self._gaps.keys()
        }

    def walk(self, kernels: KernelSet, data: Memory, packets: Table, row: int, rows: int) -> int:
        """See `Source`."""
        while True:
            row, self._at, why = kernels.walk_pcapng(
                data,
                self._at,
                self._end,
                self._big,
                self._table(),
                self._first_interface,
                len(self.interfaces) - self._first_interface,
                packets,
                row,
                rows,
            )
            if why == OTHER_BLOCK:
                row, why = self._read_blocks(packets, row, rows)
            if why in {CUT, GARBLED}:
                self.warnings.append(_stopped(why, self._at))
                self._at = self._end
            if why != OTHER_BLOCK:
                return row

    def _read_blocks(self, packets: Table, row: int, rows: int) -> tuple[int, int]:
        """Read blocks up to the next packet; gives the next free row, and OTHER_BLOCK if all went well."""
        while self._at + 12 <= self._end and row < rows:
            length = self._length_of_block()
            if length < 12:
                return row, GARBLED
            if self._at + length > self._end:
                return row, CUT
            if either32(self._view, self._at, self._big) in _PACKETS:
                break
            row += self._read_block(length, packets[row : row + 1])
            self._at += length
        return row, OTHER_BLOCK

    def _table(self) -> Table:
        if len(self._interface_rows) < len(self.interfaces):
            self._interface_rows = interface_table(self.interfaces)
        return self._interface_rows

    def _begin_section(self) -> bool:
        """Take the byte order of the section that begins here; false where there is none."""
        order = _BYTE_ORDERS.get(bytes(self._view[self._at + 8 : self._at + 12]))
        if order is None:
            return False
        self._big = order
        self._first_interface = len(self.interfaces)
        return True

    def _length_of_block(self) -> int:
        """Length of the block here, as it says; 0 for a section in no byte order."""
        is_section = self._view[self._at : self._at + 4] == _SECTION_MAGIC
        if is_section and not self._begin_section():
            return 0
        return either32(self._view, self._at + 4, self._big) + 3 & ~3

    def _read_block(self, length: int, packet: Table) -> int:
        """A block that holds no packet; gives 1 where Wireshark shows it as a frame nevertheless."""
        at, end = self._at, self._at + length - 4
        kind = either32(self._view, at, self._big)
        if (
            kind == BlockType.INTERFACE_DESCRIPTION
            and length >= 20
            and len(self.interfaces) < _MOST_INTERFACES
        ):
            self._add_interface(at, end)
        elif kind == BlockType.INTERFACE_STATISTICS and length >= 24:
            self._add_statistics(at, end)
        elif kind == BlockType.NAME_RESOLUTION:
            self._add_names(at + 8, end)
        elif kind in FRAMES_WITHOUT_PACKET:
            packet[:] = np.zeros(1, packet.dtype)
            if not self.interfaces:
                self.interfaces.append(SourceInterface(NO_LINK_TYPE, self._point(self._file_point)))
                self._first_interface = 1
            packet["interface"] = len(self.interfaces) - 1
            return 1
        return 0

    def _add_interface(self, at: int, end: int) -> None:
        ticks_per_second, offset_s, told = 1_000_000, 0, _Told(self._file_point)
        for code, value in self._options(at + 16, end):
            if code == InterfaceOption.RESOLUTION and value:
                exponent = value[0] & 0x7F
                base, most = (2, 62) if value[0] & 0x80 else (10, 18)
                ticks_per_second = base ** min(exponent, most)
            elif code == _OPTION_OFFSET and len(value) == 8:
                seconds = int.from_bytes(value, "big" if self._big else "little", signed=True)
                offset_s = max(-MOST_SECONDS, min(seconds, MOST_SECONDS))
            elif code == Option.CUSTOM_STRING:
                told = _told_by_podcam(value[4:]) or told
        point = self._point(told.point)
        if told.gaps and point not in self._gaps:
            self._gaps[point] = told.gaps
            self.warnings += [clip.gap_sentence(told.point, gap) for gap in told.gaps]
        link_type = either16(self._view, at + 8, self._big)
        self.interfaces.append(
            SourceInterface(
                link_type=_RAW_ALIASES.get(link_type, link_type),
                point=point,
                ticks_per_second=ticks_per_second,
                offset_s=offset_s,
                snap_length=either32(self._view, at + 12, self._big),
            )
        )

    def _point(self, name: str) -> int:
        if name not in self.points:
            self.points.append(name)
        return self.points.index(name)

    def _add_statistics(self, at: int, end: int) -> None:
        interface = self._first_interface + either32(self._view, at + 8, self._big)
        for code, value in self._options(at + 20, end):
            if code == StatisticsOption.DROPPED and len(value) == 8:
                self._drops[interface] = int.from_bytes(value, "big" if self._big else "little")

    def _add_names(self, at: int, end: int) -> None:
        """The first name of each address (draft-ietf-opsawg-pcapng, section 4.5)."""
        while at + 4 <= end:
            kind, length = either16(self._view, at, self._big), either16(self._view, at + 2, self._big)
            size = _ADDRESS_BYTES.get(kind)
            value = bytes(self._view[at + 4 : min(at + 4 + length, end)])
            if kind == 0:
                return
            if size is not None and len(value) > size:
                name = value[size:].split(b"\0")[0].decode(errors="replace")
                self.names.setdefault(str(ip_address(value[:size])), name)
            at += 4 + length + -length % 4

    def _options(self, at: int, end: int) -> Iterator[tuple[int, bytes]]:
        while at + 4 <= end:
            code, length = either16(self._view, at, self._big), either16(self._view, at + 2, self._big)
            if code == Option.END or at + 4 + length > end:
                return
            yield code, bytes(self._view[at + 4 : at + 4 + length])
            at += 4 + length + -length % 4


class _Told(NamedTuple):
    """What an interface description written by Podcam says in its custom option."""

    point: str
    gaps: tuple[Gap, ...] = ()


def _told_by_podcam(text: bytes) -> _Told | None:
    try:
        data = json.loads(text)
        if data["schema"] != "podcam.interface/1":
            return None
        gaps = map(gap_from_json, data.get("gaps", ()))
        return _Told(str(data["point"]), tuple(gaps))
    except (ArithmeticError, KeyError, TypeError, ValueError):
        return None


NO_LINK_TYPE: Final = -1
"""Of what is numbered as a frame, but is no packet."""
