"""Packets as Podcam records them: segments, rings, clips, in the order in which an export numbers them."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from podcam.clip import PacketSet, Part
from podcam.columns.kernels.memory import Memory
from podcam.columns.kernels.records import FULL, GARBLED
from podcam.columns.kernels.segments import LINK_ETHERNET, LINK_RAW
from podcam.columns.layout import Table
from podcam.columns.mapping import MappedFiles
from podcam.columns.sets import KernelSet
from podcam.columns.sources import Losses, SourceInterface
from podcam.errors import SegmentError
from podcam.ring import SegmentReader
from podcam.ring.segment import Block, Metadata

_BIG_ENDIAN_START: Final = b"MBCP"


class _Rest(NamedTuple):
    """What is still to be read of a block."""

    at: int
    end: int
    packets: int
    big: int


class PartSource:
    """The packets of one part of a recording, as recorded, within its windows.

    Each part is a point; its interfaces have two rows each, as `walk_block` says.
    """

    def __init__(self, recording: PacketSet, number: int, files: MappedFiles) -> None:
        self._part: Part = recording.parts[number]
        # Rows of interfaces have 16-bit numbers; those of a point that share one are not told apart.
        self._interfaces_of_point = max(1, min(64, (1 << 15) // len(recording.parts)))
        self.interfaces = [
            SourceInterface(link_type, point)
            for point in range(len(recording.parts))
            for link_type in (LINK_ETHERNET, LINK_RAW) * self._interfaces_of_point
        ]
        self.points = [part.point.name for part in recording.parts]
        self.warnings = self._part.problems
        self.names = recording.names
        self._number = number
        self._dropped = 0
        self._damaged = False  # whether some of it could not be read: nobody knows how much
        self._interface = 2 * self._interfaces_of_point * number
        self._files = files
        self._first_file = sum(len(part.segments) for part in recording.parts[:number])
        self._blocks = self._all_blocks()
        self._rest: _Rest | None = None

    @property
    def dropped(self) -> int:
        """As the manifest says, else as the blocks tell."""
        return self._dropped if self._part.dropped is None else self._part.dropped

    @property
    def losses(self) -> dict[int, Losses]:
        """See `Source`."""
        dropped = None if self._damaged else self.dropped
        return {self._number: Losses(dropped, self._part.gaps, self._part.windows)}

    def walk(self, kernels: KernelSet, data: Memory, packets: Table, row: int, rows: int) -> int:
        """See `Source`."""
        while True:
            end = self._fill(kernels, data, packets, row, rows)
            if end == row:
                return row
            kept = row + self._keep_within_windows(packets[row:end])
            if kept > row:
                return kept

    def _fill(self, kernels: KernelSet, data: Memory, packets: Table, row: int, rows: int) -> int:
        while row < rows and (block := self._rest or next(self._blocks, None)):
            before = row
            row, at, why = kernels.walk_block(
                data,
                block.at,
                block.end,
                block.packets,
                block.big,
                self._interface,
                self._interfaces_of_point,
                packets,
                row,
                rows,
            )
            left = block.packets - (row - before)
            self._rest = block._replace(at=at, packets=left) if why == FULL else None
            if why == GARBLED:
                self._damaged = True
                self.warnings.append(
                    f"{self._part.point.name}: {left} packets of a garbled block were skipped"
                )
        return row

    def _keep_within_windows(self, packets: Table) -> int:
        """Move the packets that belong to the part to the front; how many they are."""
        if not self._part.windows:
            return len(packets)
        within = np.zeros(len(packets), np.bool_)
        for window in self._part.windows:
            within |= (packets["time_ns"] >= window.start_ns) & (packets["time_ns"] <= window.end_ns)
        kept = packets[within]
        packets[: len(kept)] = kept
        return len(kept)

    def _all_blocks(self) -> Iterator[_Rest]:
        for number, path in enumerate(self._part.segments, self._first_file):
            start, size = self._files.starts[number], self._files.sizes[number]
            if size == 0:
                self._damaged = True
                continue
            try:
                reader = SegmentReader(path)
            except SegmentError as error:
                self._damaged = True
                self.warnings.append(str(error))
                continue
            head = self._files.data[start : start + 4].tobytes()
            big = int(head == _BIG_ENDIAN_START)
            for record in reader.records():
                if isinstance(record, Metadata):
                    self._part.hear(record)
                # A segment that is being written may have grown since it was mapped.
                if isinstance(record, Block) and record.offset + record.length <= size:
                    self._dropped += record.dropped
                    at = start + record.offset
                    yield _Rest(at + record.first_packet, at + record.length, record.packets, big)
            self._damaged |= bool(reader.problems)
            self.warnings += [f"{path.name}: {problem}" for problem in reader.problems]


def merge_order(parts: Sequence[Table]) -> npt.NDArray[np.int64]:
    """The order of packets of several parts that lie one behind the other, as `PacketSet.packets` has it.

    Each part keeps its own order; parts are merged by the latest time seen so far in each, and of equal ones
    the first part comes first.
    """
    keys = [np.maximum.accumulate(part["time_ns"]) for part in parts]
    return np.argsort(np.concatenate(keys), kind="stable")
