"""One pass over the packets of a capture, chunk by chunk: packets, segments, connections."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from podcam.columns.connections import Connections, ServerOverflow, address_text
from podcam.columns.kernels.memory import Memory
from podcam.columns.kernels.sides import SYN_FROM_OTHER_SIDE
from podcam.columns.layout import (
    MAX_CONNECTIONS,
    MAX_OVERFLOW_SERVERS,
    PACKET,
    PACKETS_PER_CHUNK,
    PLAIN_PACKETS_PER_CHUNK,
    SEGMENT,
    Rows,
    Table,
)
from podcam.columns.mapping import MappedFiles
from podcam.columns.recordings import PartSource, merge_order
from podcam.columns.sets import KernelSet, are_compiled, compiled, plain, view
from podcam.columns.sources import Source, interface_table
from podcam.columns.tables import TableSet

PLAIN_PACKETS: Final = 1 << 14
"""Captures with fewer packets are read by plain Python: no waiting for compiled kernels to load."""
PLAIN_PACKETS_UNCOMPILED: Final = 1 << 17
"""The same where the kernels would have to be compiled first."""

_RECORD_BYTES: Final = 16
"""What a packet takes in a file besides itself, at least."""


class _Chunk(NamedTuple):
    """Some packets in their order, and their segments."""

    packets: Table
    segments: Rows
    interfaces: Rows


class Analyser:
    """Reads one capture: its `packets`, and the connections that they make.

    The kernels go by the size of the capture, unless they are given. Compiled ones decode a chunk of packets
    in a thread of its own, while those of the chunk before are taken into the connections.
    """

    def __init__(
        self,
        files: MappedFiles,
        kernels: KernelSet | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.packets = np.zeros(0, PACKET)
        self.view = view(files.data)
        self._files = files
        self._max_connections = max_connections
        self._taken_bytes = 0
        self._interfaces: Rows = ()
        self._given = kernels is not None
        self._use(kernels or plain())

    @property
    def fraction(self) -> float:
        """How much of the files was taken so far, from 0 to 1."""
        return min(self._taken_bytes / max(sum(self._files.sizes), 1), 1.0)

    def read(self, source: Source, progress: Callable[[], None] | None = None) -> None:
        """Take all packets of a source, in its order."""
        packets = self._walk(source)
        self._choose(packets)
        self._take_all(self._chunks_of(source, packets), progress)

    def read_parts(self, sources: Sequence[PartSource], progress: Callable[[], None] | None = None) -> None:
        """Take all packets of the parts of a recording, merged by time."""
        if len(sources) == 1:
            self.read(sources[0], progress)
            return
        parts = []
        for source in sources:
            pieces = [np.zeros(0, PACKET)]
            while len(packets := self._walk(source)):
                self._choose(packets)
                pieces.append(packets)
                self._files.forget()
            parts.append(np.concatenate(pieces))
        merged = np.concatenate(parts)[merge_order(parts)]
        interfaces = self._tables.interfaces(interface_table(sources[0].interfaces))
        size = self._packets_per_chunk
        chunks = (self._decode(merged[at : at + size], interfaces) for at in range(0, len(merged), size))
        self._take_all(chunks, progress)

    def segments_of(self, rows: npt.NDArray[np.int64]) -> Rows:
        """The packets of some rows once more, decoded (`layout.SEGMENT`)."""
        segments = self._tables.rows(SEGMENT, len(rows))
        self.kernels.read_segments(self._data, self.packets[rows], 0, len(rows), self._interfaces, segments)
        return segments

    def connections(self) -> Connections:
        """What was found, once all packets are taken."""
        table, sides, servers = self._tables.finish()
        client, server = sides[0::2], sides[1::2]
        swapped = table["syn_seen"] == SYN_FROM_OTHER_SIDE
        client[swapped], server[swapped] = server[swapped], client[swapped]
        table["syn_seen"][swapped] = 1
        table["server_id"] = _numbered(server["address_high"], server["address_low"], server["port"])
        table["client_id"] = _numbered(client["address_high"], client["address_low"])
        overflow = tuple(
            ServerOverflow(
                "" if row == MAX_OVERFLOW_SERVERS else address_text(servers[row]),
                int(servers["port"][row]),
                int(servers["syns"][row]),
            )
            for row in np.flatnonzero(servers["syns"])
        )
        return Connections(table, client, server, overflow)

    def _use(self, kernels: KernelSet) -> None:
        self.kernels = kernels
        self._data: Memory = kernels.memory(self._files.data)
        self._spare: list[Rows] = []
        self._tables = TableSet(compiled=kernels.compiled, max_connections=self._max_connections)

    @property
    def _packets_per_chunk(self) -> int:
        return PACKETS_PER_CHUNK if self.kernels.compiled else PLAIN_PACKETS_PER_CHUNK

    def _choose(self, packets: Table) -> None:
        """Go over to compiled kernels where there is more to read than is worth doing in plain Python."""
        if self._given or self.kernels.compiled or len(packets) < PLAIN_PACKETS:
            return
        expected = len(packets) * sum(self._files.sizes) // max(int(packets["position"][-1]), 1)
        if expected > PLAIN_PACKETS_UNCOMPILED or are_compiled():
            self._use(compiled())

    def _walk(self, source: Source) -> Table:
        """The next packets of a source; none at its end."""
        packets = np.zeros(PACKETS_PER_CHUNK if self.kernels.compiled else PLAIN_PACKETS, PACKET)
        return packets[: source.walk(self.kernels, self._data, packets, 0, len(packets))]

    def _chunks_of(self, source: Source, packets: Table) -> Iterator[_Chunk]:
        """All packets of a source, the first of which are walked already."""
        while len(packets):
            interfaces = self._tables.interfaces(interface_table(source.interfaces))
            for at in range(0, len(packets), self._packets_per_chunk):
                yield self._decode(packets[at : at + self._packets_per_chunk], interfaces)
            packets = self._walk(source)

    def _decode(self, packets: Table, interfaces: Rows) -> _Chunk:
        segments = self._spare.pop() if self._spare else self._tables.rows(SEGMENT, self._packets_per_chunk)
        self.kernels.read_segments(self._data, packets, 0, len(packets), interfaces, segments)
        return _Chunk(packets, segments, interfaces)

    def _take_all(self, chunks: Iterator[_Chunk], progress: Callable[[], None] | None) -> None:
        with ThreadPoolExecutor(1) as pool:
            if self.kernels.compiled:
                chunks = _ahead(chunks, pool)
            for chunk in chunks:
                self._take(chunk)
                self._spare.append(chunk.segments)
                self._files.forget()
                if progress:
                    progress()

    def _take(self, chunk: _Chunk) -> None:
        """Add a chunk to the packets, and take it into the connections."""
        first, count = len(self.packets), len(chunk.packets)
        self._taken_bytes += int(chunk.packets["captured"].sum(dtype=np.int64)) + _RECORD_BYTES * count
        self.packets.resize(first + count, refcheck=False)
        self.packets[first:] = chunk.packets
        self._interfaces = chunk.interfaces
        tables, is_rehashed = self._tables.with_room(self.packets, chunk.segments, chunk.interfaces, count)
        if is_rehashed:
            self.kernels.refill_slots(tables)
        self.kernels.follow(self._data, tables, first, count, self._max_connections)


def _ahead(chunks: Iterator[_Chunk], pool: Executor) -> Iterator[_Chunk]:
    """The same chunks, each of them made while the one before is in use."""
    upcoming = pool.submit(next, chunks, None)
    while chunk := upcoming.result():
        upcoming = pool.submit(next, chunks, None)
        yield chunk


def _numbered(*columns: npt.NDArray[np.generic]) -> npt.NDArray[np.int32]:
    """Equal numbers for equal rows of some columns (but for one pair in 2**64)."""
    key = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        key = (key ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    return np.unique(key, return_inverse=True)[1].astype(np.int32)
