"""Reading segments, of every released version, whole or torn."""

import mmap
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from podcam.errors import SegmentError
from podcam.model.point import Interface
from podcam.ring.segment import (
    ALIGNMENT,
    BLOCK_MAGIC,
    END_BYTES,
    ETHERTYPE_VLAN,
    HEAD_BYTES,
    NATIVE,
    PACKET_HEAD_BYTES,
    READABLE_FORMATS,
    STATUS_VLAN_TPID_VALID,
    STATUS_VLAN_VALID,
    Block,
    Metadata,
    RecordedPacket,
    SegmentHeader,
    Totals,
    interfaces_from_json,
    layout_of,
    parse_block,
    parse_metadata,
    parse_segment_name,
)

_MAC_ADDRESSES_BYTES: Final = 12
_MAGIC: Final = re.compile(b"PCBM|MBCP|" + BLOCK_MAGIC)


class SegmentReader:
    """One segment. What is torn or garbled in it is skipped and told in `problems`, and never raises.

    `header` is None where the first record is torn; `interfaces` holds the interfaces known so far by index,
    and follows changes while records are read.

    Raises:
        SegmentError: the file cannot be opened, has a newer format, or is no segment: it has neither a record
            nor a segment's name. (A recorder that is killed may leave an empty segment.)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []
        self._data = _map(path)
        self._layout = layout_of(bytes(self._data[:4])) or NATIVE
        self.header = self._read_header()
        self.interfaces: dict[int, Interface] = {}
        if self.header:
            self.interfaces = {i.index: i for i in self.header.source.interfaces}
        elif self._next_record(0) is None:
            if parse_segment_name(path.name) is None:
                raise SegmentError(f"{path} is not a segment of a ring, or nothing of it is left")
            self._report("nothing of it is left")

    @property
    def is_closed(self) -> bool:
        """Whether it ends with its totals: its recorder was not killed, and the disk not full."""
        end = self._end()
        return end is not None and end.kind == "end"

    def records(self) -> Iterator[Block | Metadata]:
        """All whole records, in the order of the file."""
        offset, size = 0, len(self._data)
        while offset < size:
            record = self._record_at(offset)
            if record is None:
                record = self._next_record(offset + ALIGNMENT)
                end = record.offset if record else size
                self._report(f"{end - offset} bytes at {offset} are torn or garbled and were skipped")
                if record is None:
                    return
            offset = record.offset + record.length
            if isinstance(record, Metadata) and record.kind == "interfaces":
                with suppress(KeyError, TypeError, ValueError):
                    self.interfaces.update(
                        (i.index, i) for i in interfaces_from_json(record.body["interfaces"])
                    )
            yield record

    def totals(self) -> Totals:
        """What the segment holds: from its end record where it has one, else from the heads of its blocks."""
        size = len(self._data)
        end = self._end()
        if end and end.kind == "end":
            with suppress(KeyError, TypeError):
                return Totals.from_json(size, end.body)
        totals = Totals(bytes=size)
        for record in self.records():
            if isinstance(record, Block):
                totals = totals.plus(record)
        return totals

    def packets(self) -> Iterator[RecordedPacket]:
        """All packets, as recorded: in the order in which the kernel put them into its blocks."""
        for record in self.records():
            if isinstance(record, Block):
                yield from self.packets_of(record)

    def packets_of(self, block: Block) -> Iterator[RecordedPacket]:
        """The packets of one block."""
        data, unpack = self._data, self._layout.packet.unpack_from
        at, end = block.offset + block.first_packet, block.offset + block.length
        for number in range(block.packets):
            if at + PACKET_HEAD_BYTES > end:
                break
            step, sec, nsec, snaplen, length, status, mac, net, tci, tpid, ifindex, hatype, kind = unpack(
                data, at
            )
            start = at + mac
            if (
                mac < PACKET_HEAD_BYTES
                or net < mac
                or start + snaplen > end
                or (step == 0) == (number + 1 < block.packets)
            ):
                break
            packet: memoryview | bytes = data[start : start + snaplen]
            link_bytes = net - mac
            if status & STATUS_VLAN_VALID and link_bytes > _MAC_ADDRESSES_BYTES:
                ethertype = tpid if status & STATUS_VLAN_TPID_VALID else ETHERTYPE_VLAN
                tag = (ethertype << 16 | tci).to_bytes(4, "big")
                packet = bytes(packet[:_MAC_ADDRESSES_BYTES]) + tag + bytes(packet[_MAC_ADDRESSES_BYTES:])
                length += 4
                link_bytes += 4
            yield RecordedPacket(
                sec * 1_000_000_000 + nsec, ifindex, hatype, kind, status, length, link_bytes, packet
            )
            at += step
        else:
            return
        self._report(
            f"the block at {block.offset} is garbled: {block.packets - number} of its packets were skipped"
        )

    def _end(self) -> Metadata | None:
        size = len(self._data)
        return parse_metadata(self._layout, self._data, size - END_BYTES) if size >= END_BYTES else None

    def _read_header(self) -> SegmentHeader | None:
        record = parse_metadata(self._layout, self._data, 0)
        if record is None or record.kind != "segment":
            return None
        version = record.body.get("format")
        if version not in READABLE_FORMATS:
            raise SegmentError(
                f"{self.path} has format {version}, which this Podcam does not know: use a newer one"
            )
        try:
            return SegmentHeader.from_json(record.body)
        except (KeyError, TypeError, ValueError) as error:
            self._report(f"its header cannot be read: {error!r}")
            return None

    def _record_at(self, offset: int) -> Block | Metadata | None:
        tag = self.header.tag if self.header else None
        return parse_metadata(self._layout, self._data, offset) or parse_block(
            self._layout, self._data, offset, tag
        )

    def _next_record(self, start: int) -> Block | Metadata | None:
        """The first whole record at or after `start`, found by its magic."""
        for magic in _MAGIC.finditer(self._data, start):
            offset = magic.start() - (HEAD_BYTES if magic[0] == BLOCK_MAGIC else 0)
            if offset >= start and offset % ALIGNMENT == 0 and (record := self._record_at(offset)):
                return record
        return None

    def _report(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def _map(path: Path) -> memoryview:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise SegmentError(f"cannot read {path}: {error.strerror}") from error
