"""One pass over the packets of a capture, chunk by chunk: packets, segments, connections."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from podcam.columns.connections import Connections, ServerOverflow, address_text
from podcam.columns.kernels.memory import Memory
from podcam.columns.kernels.tcp import SYN_FROM_OTHER_SIDE
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


class Analyser:
    """Reads one capture: `packets` as they are walked, and the connections that they make.

    The kernels go by the size of the capture, unless they are given.
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
        self._max_connections = max_connections
        self._interfaces: Rows = ()
        self._tables: TableSet | None = None
        self._given = kernels
        self._use(kernels or plain())

    def read(self, source: Source, progress: Callable[[], None] | None = None) -> None:
        """Take all packets of a source, in its order."""
        while self.walk(source, self._walked_at_once):
            self.follow(interface_table(source.interfaces), progress)

    def read_parts(self, sources: Sequence[PartSource], progress: Callable[[], None] | None = None) -> None:
        """Take all packets of the parts of a recording, merged by time."""
        if len(sources) == 1:
            self.read(sources[0], progress)
            return
        starts = []
        for source in sources:
            starts.append(len(self.packets))
            while self.walk(source, self._walked_at_once):
                self._choose()
                self._files.forget()
        self.packets = self.packets[merge_order(np.split(self.packets, starts[1:]))]
        self.follow(interface_table(sources[0].interfaces), progress)

    def walk(self, source: Source, most: int) -> int:
        """Add up to `most` packets of a source to `packets`; gives how many there were."""
        first = len(self.packets)
        self.packets.resize(first + most, refcheck=False)
        end = source.walk(self.kernels, self._data, self.packets, first, first + most)
        self.packets.resize(end, refcheck=False)
        return end - first

    def follow(self, interfaces: Table, progress: Callable[[], None] | None = None) -> None:
        """Decode the packets that were added, and take them into the connections."""
        self._choose()
        tables = self._tables_of_capture()
        self._interfaces = tables.interfaces(interfaces)
        chunk = PACKETS_PER_CHUNK if self.kernels.compiled else PLAIN_PACKETS_PER_CHUNK
        while self.packet_count < len(self.packets):
            first = self.packet_count
            count = min(len(self.packets) - first, chunk)
            room, must_fill = tables.with_room(self.packets, self._interfaces, count)
            if must_fill:
                self.kernels.refill_slots(room)
            self.kernels.read_segments(
                self._data, self.packets, first, count, self._interfaces, room.segments
            )
            self.kernels.follow(self._data, room, first, count, self._max_connections)
            self.packet_count = first + count
            self._files.forget()
            if progress:
                progress()

    def segments_of(self, rows: npt.NDArray[np.int64]) -> Rows:
        """The packets of some rows once more, decoded (`layout.SEGMENT`)."""
        segments = self._tables_of_capture().rows(SEGMENT, len(rows))
        self.kernels.read_segments(self._data, self.packets[rows], 0, len(rows), self._interfaces, segments)
        return segments

    def connections(self) -> Connections:
        """What was found, once all packets are taken."""
        table, sides, servers = self._tables_of_capture().finish()
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

    @property
    def _walked_at_once(self) -> int:
        return PACKETS_PER_CHUNK if self.kernels.compiled else PLAIN_PACKETS

    def _choose(self) -> None:
        """Go over to compiled kernels where there is more to read than is worth doing in plain Python."""
        if self._given or self._tables or self.kernels.compiled or len(self.packets) < PLAIN_PACKETS:
            return
        read_bytes = int(self.packets["position"][-1])
        expected = len(self.packets) * sum(self._files.sizes) // max(read_bytes, 1)
        if expected > PLAIN_PACKETS_UNCOMPILED or are_compiled():
            self._use(compiled())

    def _tables_of_capture(self) -> TableSet:
        if self._tables is None:
            self._tables = TableSet(compiled=self.kernels.compiled, max_connections=self._max_connections)
        return self._tables


def _numbered(*columns: npt.NDArray[np.generic]) -> npt.NDArray[np.int32]:
    """Equal numbers for equal rows of some columns (but for one pair in 2**64)."""
    key = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        key = (key ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    return np.unique(key, return_inverse=True)[1].astype(np.int32)
