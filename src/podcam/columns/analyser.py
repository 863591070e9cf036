"""One pass over the packets of a capture, chunk by chunk: packets, segments, connections."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from podcam.columns.connections import Connections, ServerOverflow, address_text
from podcam.columns.kernels.memory import Memory
from podcam.columns.kernels.tcp import SYN_FROM_OTHER_SIDE
from podcam.columns.layout import (
    CONNECTION,
    COUNT_CONNECTIONS,
    COUNT_STREAM_ROWS,
    COUNTERS,
    FLOW,
    MAX_CONNECTIONS,
    MAX_OVERFLOW_SERVERS,
    NEVER,
    PACKET,
    PACKETS_PER_CHUNK,
    SEGMENT,
    SERVER,
    SIDE,
    STREAM,
    TRACK,
    Table,
    Tables,
)
from podcam.columns.mapping import MappedFiles
from podcam.columns.recordings import PartSource, merge_order
from podcam.columns.sets import KernelSet, compiled, plain, view
from podcam.columns.sources import Source, interface_table

PLAIN_PACKETS: Final = 1 << 14
"""Captures with fewer packets are read by plain Python: no waiting for compiled kernels to load."""
_FIRST_SLOTS: Final = 1 << 10


class Analyser:
    """Fills the tables of one capture.

    Tables grow in place (the C library moves pages and copies nothing), so that no more memory is needed
    than they have in the end.
    """

    def __init__(
        self,
        files: MappedFiles,
        kernels: KernelSet | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.packets = np.zeros(0, PACKET)
        self.packet_count = 0
        self.view = view(files.data)
        self._files = files
        self._fixed = kernels is not None
        self._max_connections = max_connections
        self._interfaces: Table = interface_table([])
        self._counters = np.zeros(COUNTERS, np.int64)
        self._connections = np.zeros(0, CONNECTION)
        self._sides = np.zeros(0, SIDE)
        self._flows = np.zeros(0, FLOW)
        self._tracks = np.zeros(0, TRACK)
        self._streams = np.zeros(0, STREAM)
        self._slots = np.full(_FIRST_SLOTS, NEVER, np.int32)
        self._servers = np.zeros(0, SERVER)
        self._use(kernels or plain(), PLAIN_PACKETS)

    def _use(self, kernels: KernelSet, chunk: int) -> None:
        self.kernels = kernels
        self.data: Memory = kernels.memory(self._files.data)
        self._chunk = chunk
        self._segments = np.zeros(0, SEGMENT)

    def read(self, source: Source, progress: Callable[[], None] | None = None) -> None:
        """Take all packets of a source, in its order."""
        while self.walk(source, self._chunk):
            self.follow(interface_table(source.interfaces), progress)

    def read_parts(self, sources: Sequence[PartSource], progress: Callable[[], None] | None = None) -> None:
        """Take all packets of the parts of a recording, merged by time."""
        if len(sources) == 1:
            self.read(sources[0], progress)
            return
        starts = []
        for source in sources:
            starts.append(len(self.packets))
            while self.walk(source, PACKETS_PER_CHUNK):
                self._files.forget()
        self.packets = self.packets[merge_order(np.split(self.packets, starts[1:]))]
        self.follow(interface_table(sources[0].interfaces), progress)

    def walk(self, source: Source, most: int) -> int:
        """Add up to `most` packets of a source to `packets`; gives how many there were."""
        first = len(self.packets)
        _grow(self.packets, first + most)
        end = source.walk(self.kernels, self.data, self.packets, first, first + most)
        _grow(self.packets, end)
        return end - first

    def follow(self, interfaces: Table, progress: Callable[[], None] | None = None) -> None:
        """Decode the packets that were added, and take them into the connections."""
        self._interfaces = interfaces
        if not self._fixed and len(self.packets) >= PLAIN_PACKETS:
            self._fixed = True
            self._use(compiled(), PACKETS_PER_CHUNK)
        while self.packet_count < len(self.packets):
            first = self.packet_count
            count = min(len(self.packets) - first, self._chunk)
            tables = self._tables(count)
            self.kernels.read_segments(self.data, tables.packets, first, count, interfaces, tables.segments)
            self.kernels.follow(self.data, tables, first, count, self._max_connections)
            self.packet_count = first + count
            self._files.forget()
            if progress:
                progress()

    def segments_of(self, rows: npt.NDArray[np.int64]) -> Table:
        """The packets of some rows once more, decoded (`layout.SEGMENT`)."""
        packets, segments = self.packets[rows], np.zeros(len(rows), SEGMENT)
        self.kernels.read_segments(self.data, packets, 0, len(rows), self._interfaces, segments)
        return segments

    def connections(self) -> Connections:
        """What was found, once all packets are taken."""
        count = int(self._counters[COUNT_CONNECTIONS])
        for table, rows in ((self._connections, 1), (self._sides, 2)):
            _grow(table, count * rows)
        for scratch in (self._flows, self._tracks, self._streams, self._slots, self._segments):
            _grow(scratch, 0)
        table, client, server = self._connections, self._sides[0::2], self._sides[1::2]
        swapped = table["syn_seen"] == SYN_FROM_OTHER_SIDE
        client[swapped], server[swapped] = server[swapped], client[swapped]
        table["syn_seen"][swapped] = 1
        table["server_id"] = _numbered(server["address_high"], server["address_low"], server["port"])
        table["client_id"] = _numbered(client["address_high"], client["address_low"])
        overflow = tuple(
            ServerOverflow(
                "" if row == MAX_OVERFLOW_SERVERS else address_text(self._servers[row]),
                int(self._servers["port"][row]),
                int(self._servers["syns"][row]),
            )
            for row in np.flatnonzero(self._servers["syns"])
        )
        return Connections(table, client, server, overflow)

    def _tables(self, count: int) -> Tables:
        """All tables, with room for `count` packets more."""
        rows = int(self._counters[COUNT_CONNECTIONS]) + count
        if rows > self._max_connections:
            rows = self._max_connections
            _grow(self._servers, MAX_OVERFLOW_SERVERS + 1)
        if len(self._connections) < rows:
            for table, size in (
                (self._connections, rows),
                (self._tracks, rows),
                (self._streams, rows),
                (self._sides, 2 * rows),
                (self._flows, 2 * rows),
            ):
                _grow(table, size)
        if len(self._segments) < count:
            _grow(self._segments, count)
        tables = Tables(
            packets=self.packets,
            segments=self._segments,
            interfaces=self._interfaces,
            connections=self._connections,
            sides=self._sides,
            flows=self._flows,
            tracks=self._tracks,
            streams=self._streams,
            slots=self._slots,
            servers=self._servers,
            counters=self._counters,
        )
        streams = int(self._counters[COUNT_STREAM_ROWS]) + count
        if len(self._slots) < 2 * streams:
            self._slots = np.full(1 << (4 * streams - 1).bit_length(), NEVER, np.int32)
            tables = tables._replace(slots=self._slots)
            self.kernels.refill_slots(tables)
        return tables


def _grow(table: npt.NDArray[np.generic], rows: int) -> None:
    table.resize(rows, refcheck=False)


def _numbered(*columns: npt.NDArray[np.generic]) -> npt.NDArray[np.int32]:
    """Equal numbers for equal rows of some columns (but for one pair in 2**64)."""
    key = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        key = (key ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    return np.unique(key, return_inverse=True)[1].astype(np.int32)
