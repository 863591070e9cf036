"""The segment: one append-only, self-describing file of a ring. See `docs/segment-format.md`.

A segment is a sequence of records. Each begins with the 48 bytes of the kernel's `struct tpacket_block_desc`
(linux/if_packet.h), so that a block of a `TPACKET_V3` ring is a record as it lies in memory; what Podcam
itself has to say goes into metadata records with the same head. Every byte of the format is here.
"""

import json
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from sys import byteorder
from typing import Final, NamedTuple, Self

from podcam import __version__
from podcam.model.point import Interface, Point

FORMAT: Final = 1
ALIGNMENT: Final = 8
"""Records begin at multiples of this, as packets do within a block (`V3_ALIGNMENT` of the kernel)."""
HEAD_BYTES: Final = 48
PRIVATE_BYTES: Final = 24
"""What the format uses of a block's private area, which may be larger (`tp_sizeof_priv`)."""

PACKET_HEAD_BYTES: Final = 68
"""`struct tpacket3_hdr` and the `struct sockaddr_ll` behind it."""
END_BYTES: Final = 256
"""Size of the `end` record, the same in every segment, so that it can be found from the end of the file."""

BLOCK_VERSION: Final = 2
"""`TPACKET_V3` of enum tpacket_versions."""
BLOCK_MAGIC: Final = b"PCB1"
METADATA_VERSION: Final = int.from_bytes(b"PCBM", "little")

_BYTE_ORDERS: Final = {b"PCBM": "<", b"MBCP": ">"}
READABLE_FORMATS: Final = frozenset({1})
_NAME: Final = re.compile(r"(\d{8,})-(\d+)\.seg")

STATUS_CSUM_NOT_READY: Final = 1 << 3
STATUS_VLAN_VALID: Final = 1 << 4
STATUS_VLAN_TPID_VALID: Final = 1 << 6
STATUS_CSUM_VALID: Final = 1 << 7
"""TP_STATUS_* of linux/if_packet.h, as `RecordedPacket.status` carries them."""

FLAG_PAYLOAD_CUT: Final = 1 << 0
"""Private flag of a block: the write budget cut the payload of packets in it."""

ETHERTYPE_VLAN: Final = 0x8100


class Layout:
    """The structs of a segment in one byte order (`<` or `>`)."""

    def __init__(self, order: str) -> None:
        # version, offset_to_priv, block_status, num_pkts, offset_to_first_pkt, blk_len, seq_num,
        # ts_first_pkt (sec, nsec), ts_last_pkt (sec, nsec)
        self.head = struct.Struct(order + "6IQ4I")
        # magic, packets dropped before, written_ns, flags, tag
        self.private = struct.Struct(order + "4sIQII")
        # struct tpacket3_hdr: next_offset, sec, nsec, snaplen, len, status, mac, net, rxhash, vlan_tci,
        # vlan_tpid; struct sockaddr_ll: family, protocol, ifindex, hatype, pkttype, halen, addr
        self.packet = struct.Struct(order + "6I2H4xIH2x8x" + "4xiHB9x")
        self.seconds = struct.Struct(order + "4x2I")


_LAYOUTS: Final = {order: Layout(order) for order in "<>"}
NATIVE: Final = _LAYOUTS["<" if byteorder == "little" else ">"]
"""How this machine's kernel lays out blocks."""


@dataclass(frozen=True, slots=True)
class Source:
    """What the packets of a segment were recorded from, and how.

    `block_bytes` is the size of the kernel's blocks; `filter` is what the recorder wants to keep about its
    filter, in JSON's types (text, hosts, ports, snaplen, payload, …).
    """

    point: Point
    boot_id: str
    block_bytes: int
    interfaces: tuple[Interface, ...] = ()
    filter: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The first record of a segment."""

    source: Source
    sequence: int
    created_ns: int
    tag: int
    """32 bits, repeated in every block: tells it from the block of a segment that was itself captured."""
    podcam: str = __version__
    clock: str = "realtime"
    format: int = FORMAT

    def to_json(self) -> dict[str, object]:
        """The body of the record."""
        point = self.source.point
        return {
            "format": self.format,
            "podcam": self.podcam,
            "node": point.node,
            "point": point.name,
            "namespace": point.namespace,
            "boot_id": self.source.boot_id,
            "sequence": self.sequence,
            "created_ns": self.created_ns,
            "clock": self.clock,
            "tag": self.tag,
            "block_bytes": self.source.block_bytes,
            "interfaces": interfaces_to_json(self.source.interfaces),
            "filter": self.source.filter,
        }

    @classmethod
    def from_json(cls, body: Mapping[str, object]) -> Self:
        """Reads what `to_json` wrote, in any released version.

        Raises:
            KeyError, TypeError, ValueError: the body is not that of a header.
        """
        version = _integer(body["format"])
        if version not in READABLE_FORMATS:
            raise ValueError(f"segment format {version} is newer than this Podcam reads")
        namespace, rules = body["namespace"], body["filter"]
        return cls(
            source=Source(
                point=Point(
                    str(body["point"]), str(body["node"]), None if namespace is None else str(namespace)
                ),
                boot_id=str(body["boot_id"]),
                block_bytes=_integer(body["block_bytes"]),
                interfaces=interfaces_from_json(body["interfaces"]),
                filter=rules if isinstance(rules, dict) else None,
            ),
            sequence=_integer(body["sequence"]),
            created_ns=_integer(body["created_ns"]),
            tag=_integer(body["tag"]),
            podcam=str(body["podcam"]),
            clock=str(body["clock"]),
            format=version,
        )


def interfaces_to_json(interfaces: Sequence[Interface]) -> list[dict[str, object]]:
    """As headers, metadata records and manifests spell interfaces."""
    return [{"index": i.index, "name": i.name, "hardware_type": i.hardware_type} for i in interfaces]


def interfaces_from_json(body: object) -> tuple[Interface, ...]:
    """Reads what `interfaces_to_json` wrote.

    Raises:
        KeyError, TypeError, ValueError: not a list of interfaces.
    """
    if not isinstance(body, list):
        raise TypeError("interfaces are no list")
    return tuple(Interface(_integer(i["index"]), str(i["name"]), _integer(i["hardware_type"])) for i in body)


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no integer")
    return value


@dataclass(frozen=True, slots=True)
class Totals:
    """What a segment holds. Times are those of the first and last packet, None when there is none."""

    packets: int = 0
    bytes: int = 0
    """Size of the file."""
    dropped: int = 0
    """Packets that the kernel or a full disk is known to have cost."""
    first_ns: int | None = None
    last_ns: int | None = None

    def to_json(self) -> dict[str, object]:
        """The body of the `end` record."""
        return {
            "packets": self.packets,
            "dropped": self.dropped,
            "first_ns": self.first_ns,
            "last_ns": self.last_ns,
        }

    @classmethod
    def from_json(cls, size: int, body: Mapping[str, object]) -> Self:
        """Reads what `to_json` wrote into a segment of this size.

        Raises:
            KeyError, TypeError: the body is not that of an `end` record.
        """
        first_ns, last_ns = body["first_ns"], body["last_ns"]
        return cls(
            packets=_integer(body["packets"]),
            bytes=size,
            dropped=_integer(body["dropped"]),
            first_ns=None if first_ns is None else _integer(first_ns),
            last_ns=None if last_ns is None else _integer(last_ns),
        )

    def plus(self, block: "Block") -> "Totals":
        """With one more block. Times are the extremes, so that a clock set back loses nothing."""
        first_ns, last_ns = self.first_ns, self.last_ns
        if block.packets:
            earlier, later = sorted((block.first_ns, block.last_ns))
            first_ns = earlier if first_ns is None else min(first_ns, earlier)
            last_ns = later if last_ns is None else max(last_ns, later)
        packets, dropped = self.packets + block.packets, self.dropped + block.dropped
        return Totals(packets, self.bytes, dropped, first_ns, last_ns)


@dataclass(frozen=True, slots=True)
class Block:
    """A record of packets: where it lies in the file, and what its head and private area tell."""

    offset: int
    length: int
    packets: int
    first_packet: int
    """Offset of the first packet within the block."""
    sequence: int
    """The kernel's number of the block in its ring."""
    first_ns: int
    last_ns: int
    """Times of its first and last packet."""
    dropped: int
    """Packets lost since the block before."""
    written_ns: int
    flags: int


@dataclass(frozen=True, slots=True)
class Metadata:
    """A record of Podcam's own: header (`segment`), change (`interfaces`, `filter`, `gap`), or `end`."""

    offset: int
    length: int
    kind: str
    time_ns: int
    body: Mapping[str, object]


class RecordedPacket(NamedTuple):
    """One packet of a segment.

    `data` is what was captured, from the link layer on (from the network layer on where `link_bytes` is 0),
    with the VLAN tag that the kernel had taken off; `length` is its length on the wire, with that tag.
    """

    time_ns: int
    interface: int
    """ifindex in the point's namespace"""
    hardware_type: int
    """ARPHRD_* of linux/if_arp.h"""
    packet_type: int
    """PACKET_HOST (0), BROADCAST, MULTICAST, OTHERHOST, OUTGOING (4) of linux/if_packet.h"""
    status: int
    """TP_STATUS_*"""
    length: int
    link_bytes: int
    """Length of the link-layer header in front of the network layer."""
    data: memoryview | bytes


def segment_name(sequence: int, created_ns: int) -> str:
    """The file name of a segment; names sort as they were made."""
    return f"{sequence:08}-{created_ns}.seg"


def parse_segment_name(name: str) -> tuple[int, int] | None:
    """Sequence number and time of creation of a segment's file name; None for any other file."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def is_segment(start: bytes) -> bool:
    """Whether a file with this start (4 bytes or more) is a segment."""
    return start[:4] in _BYTE_ORDERS


def layout_of(start: bytes) -> Layout | None:
    """The byte order of a segment with this start; None where its first record is torn."""
    order = _BYTE_ORDERS.get(start[:4])
    return _LAYOUTS[order] if order else None


def metadata_record(kind: str, time_ns: int, body: Mapping[str, object], least_bytes: int = 0) -> bytes:
    """A record of Podcam's own, in this machine's byte order, at least `least_bytes` long."""
    text = json.dumps({"kind": kind, **body}, separators=(",", ":")).encode()
    length = max(HEAD_BYTES + len(text), least_bytes)
    text = text.ljust(length + -length % ALIGNMENT - HEAD_BYTES)
    times = divmod(time_ns, 1_000_000_000) * 2
    head = NATIVE.head.pack(METADATA_VERSION, zlib.crc32(text), 0, 0, 0, HEAD_BYTES + len(text), 0, *times)
    return head + text


def header_bytes(source: Source) -> int:
    """The size that the header of a segment of this source will have, at most."""
    header = SegmentHeader(source, sequence=10**8, created_ns=2**63, tag=2**32 - 1)
    return len(metadata_record("segment", 0, header.to_json()))


def parse_block(layout: Layout, data: memoryview, offset: int, tag: int | None = None) -> Block | None:
    """The record of packets at `offset`; None where there is no whole one (of the segment with this tag)."""
    if offset + HEAD_BYTES + PRIVATE_BYTES > len(data):
        return None
    head = layout.head.unpack_from(data, offset)
    version, private, _, packets, first, length, sequence, _, _, last_s, last_ns = head
    magic, dropped, written_ns, flags, block_tag = layout.private.unpack_from(data, offset + HEAD_BYTES)
    if (version, private, magic) != (BLOCK_VERSION, HEAD_BYTES, BLOCK_MAGIC) or tag not in {None, block_tag}:
        return None
    least = first + (PACKET_HEAD_BYTES if packets else 0)
    if (
        first < HEAD_BYTES + PRIVATE_BYTES
        or length < least
        or length % ALIGNMENT
        or offset + length > len(data)
    ):
        return None
    # ts_first_pkt of the head is when the kernel opened the block, which in a quiet ring is long before.
    first_s, first_ns = layout.seconds.unpack_from(data, offset + first) if packets else (last_s, last_ns)
    return Block(
        offset=offset,
        length=length,
        packets=packets,
        first_packet=first,
        sequence=sequence,
        first_ns=first_s * 1_000_000_000 + first_ns,
        last_ns=last_s * 1_000_000_000 + last_ns,
        dropped=dropped,
        written_ns=written_ns,
        flags=flags,
    )


def parse_metadata(layout: Layout, data: memoryview, offset: int) -> Metadata | None:
    """The record of Podcam's own at `offset`, or None where there is no whole one."""
    if offset + HEAD_BYTES > len(data):
        return None
    version, checksum, _, _, _, length, _, seconds, nanoseconds, _, _ = layout.head.unpack_from(data, offset)
    if (
        version != METADATA_VERSION
        or length < HEAD_BYTES
        or length % ALIGNMENT
        or offset + length > len(data)
    ):
        return None
    text = bytes(data[offset + HEAD_BYTES : offset + length])
    if zlib.crc32(text) != checksum:
        return None
    try:
        body = json.loads(text)
        kind = body.pop("kind")
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    return Metadata(offset, length, str(kind), seconds * 1_000_000_000 + nanoseconds, body)
