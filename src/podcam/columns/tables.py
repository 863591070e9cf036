"""The tables that kernels fill, in the form that suits them: numpy arrays, or lists for plain Python.

A field of a numpy record costs plain Python several times what an entry of a dict does.
"""

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from podcam.columns.layout import (
    CONNECTION,
    COUNT_CONNECTIONS,
    COUNT_STREAM_ROWS,
    COUNTERS,
    FLOW,
    INTERFACE,
    MAX_OVERFLOW_SERVERS,
    NEVER,
    PACKET,
    SEGMENT,
    SERVER,
    SIDE,
    STREAM,
    TRACK,
    Rows,
    Table,
    Tables,
)

_FIRST_SLOTS = 1 << 10


class TableSet:
    """All tables of one capture but that of its packets, growing as needed.

    Arrays grow in place (the C library moves pages and copies nothing), so that no more memory is needed than
    they have in the end.
    """

    def __init__(self, *, compiled: bool, max_connections: int) -> None:
        self._compiled = compiled
        self._max_connections = max_connections
        self._tables = Tables(
            packets=np.zeros(0, PACKET),
            segments=self.rows(SEGMENT, 0),
            interfaces=self.rows(INTERFACE, 0),
            connections=self.rows(CONNECTION, 0),
            sides=self.rows(SIDE, 0),
            flows=self.rows(FLOW, 0),
            tracks=self.rows(TRACK, 0),
            streams=self.rows(STREAM, 0),
            slots=self._numbers(NEVER, _FIRST_SLOTS, np.int32),
            servers=self.rows(SERVER, 0),
            counters=self._numbers(0, COUNTERS, np.int64),
        )

    def rows(self, dtype: np.dtype[np.void], count: int) -> Rows:
        """A new table with all fields zero."""
        if self._compiled:
            return np.zeros(count, dtype)
        return [_zero_row(dtype) for _ in range(count)]

    def interfaces(self, table: Table) -> Rows:
        """The interfaces of a capture in the form that the kernels take."""
        if self._compiled:
            return table
        return [dict(zip(table.dtype.names or (), row, strict=True)) for row in table.tolist()]

    def with_room(self, packets: Table, segments: Rows, interfaces: Rows, count: int) -> tuple[Tables, bool]:
        """All tables, with room for what `count` packets may bring; whether the slots are new and empty."""
        tables = self._tables._replace(packets=packets, segments=segments, interfaces=interfaces)
        rows = int(tables.counters[COUNT_CONNECTIONS]) + count
        if rows > self._max_connections:
            rows = self._max_connections
            _grow(tables.servers, SERVER, MAX_OVERFLOW_SERVERS + 1)
        _grow(tables.connections, CONNECTION, rows)
        _grow(tables.tracks, TRACK, rows)
        _grow(tables.streams, STREAM, rows)
        _grow(tables.sides, SIDE, 2 * rows)
        _grow(tables.flows, FLOW, 2 * rows)
        streams = int(tables.counters[COUNT_STREAM_ROWS]) + count
        is_small = len(tables.slots) < 2 * streams
        if is_small:
            slots = self._numbers(NEVER, 1 << (4 * streams - 1).bit_length(), np.int32)
            tables = tables._replace(slots=slots)
        self._tables = tables
        return tables, is_small

    def finish(self) -> tuple[Table, Table, Table]:
        """Connections, sides and servers as arrays; all other tables are gone."""
        tables = self._tables
        count = int(tables.counters[COUNT_CONNECTIONS])
        self._tables = tables._replace(flows=(), tracks=(), streams=(), slots=(), segments=())
        return (
            _array(tables.connections, CONNECTION, count),
            _array(tables.sides, SIDE, 2 * count),
            _array(tables.servers, SERVER, len(tables.servers)),
        )

    def _numbers(self, value: int, count: int, dtype: type[np.generic]) -> Rows:
        if self._compiled:
            return np.full(count, value, dtype)
        return [value] * count


def _zero_row(dtype: np.dtype[np.void]) -> dict[str, Any]:
    """A row of a list: numbers, and for fields of several bytes or numbers something to write them into."""
    row: dict[str, Any] = {}
    for name in dtype.names or ():
        field, shape = dtype[name].base, dtype[name].shape
        zero: Any = 0
        if shape:
            zero = bytearray(shape[0]) if field == np.uint8 else [0] * shape[0]
        row[name] = zero
    return row


def _grow(rows: Rows, dtype: np.dtype[np.void], count: int) -> None:
    missing = count - len(rows)
    if missing <= 0:
        return
    if isinstance(rows, list):
        rows.extend(_zero_row(dtype) for _ in range(missing))
    else:
        rows.resize(count, refcheck=False)


def _array(rows: Rows, dtype: np.dtype[np.void], count: int) -> Table:
    if not isinstance(rows, list):
        rows.resize(count, refcheck=False)
        return cast("npt.NDArray[np.void]", rows)
    array = np.zeros(count, dtype)
    for name in dtype.names or ():
        if dtype[name].shape:
            for row, value in zip(array[name], rows, strict=False):
                row[:] = list(value[name])
        else:
            array[name] = [row[name] for row in rows[:count]]
    return array
