"""Which rows are one connection seen at several points.

Joined by initial sequence numbers and time, never by addresses: a Service's DNAT changes those on the way.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from statistics import median
from typing import NamedTuple

import numpy as np

from podcam.columns import CaptureColumns

_CLOCKS_APART_NS = 600_000_000_000
"""How far the clocks of two nodes may differ."""
_SAME_SYN_NS = 2_000_000_000
"""How far apart one SYN may seem at two points, once the difference of their clocks is known.

One sequence number has 32 bits: within a longer time, strangers of a storm would share it.
"""

_MOST_ALIKE = 64
"""Rows with the same sequence numbers that are compared with each other: more are made up."""

_Place = tuple[int, int]
"""A capture and a point of it."""


class _Seen(NamedTuple):
    """A connection at one point."""

    first_ns: int
    id: int
    place: _Place
    client_isn: int
    server_isn: int | None
    answer_ns: int | None
    """From the SYN to the SYN-ACK, which takes the longer the nearer the point is to the client."""


def join(captures: Sequence[CaptureColumns]) -> dict[int, int]:
    """For each connection that was seen at several points, the id of its row nearest to the client.

    Both initial sequence numbers must agree. Where the server's is not known at a point, because its SYN-ACK
    was not seen there, the client's must, at almost the same time: the clocks are compared by what was joined
    before. Of several that agree the nearest in time are joined, and never two of the same point.
    """
    if sum(len(capture.points) for capture in captures) < 2:
        return {}
    seen = [row for capture in captures for row in _seen_at(capture)]
    groups = _Groups()
    for bucket in _shared(seen, lambda row: (row.client_isn, row.server_isn)):
        if bucket[0].server_isn is not None:
            groups.join_nearest(bucket, {}, _CLOCKS_APART_NS)
    clocks = groups.clocks()
    for bucket in _shared(seen, lambda row: row.client_isn):
        if any(row.server_isn is None for row in bucket):
            groups.join_nearest(bucket, clocks, _SAME_SYN_NS)
    return {row.id: _nearest_to_client(group).id for group in groups.several() for row in group}


def _seen_at(capture: CaptureColumns) -> Iterable[_Seen]:
    table, client, server = capture.connections.table, capture.connections.client, capture.connections.server
    rows = np.flatnonzero(client["isn_known"] == 1)
    answered = (client["syn_ns"] >= 0) & (server["syn_ns"] >= 0) & (client["syns"] == 1)
    answers = np.where(answered, server["syn_ns"] - client["syn_ns"], -1)
    columns = (
        table["first_ns"],
        table["point"],
        client["isn"],
        server["isn_known"],
        server["isn"],
        answers,
    )
    values = zip(rows.tolist(), *(column[rows].tolist() for column in columns), strict=True)
    for row, first_ns, point, isn, answer_known, server_isn, answer_ns in values:
        yield _Seen(
            first_ns,
            capture.first_id + row,
            (capture.index, point),
            isn,
            server_isn if answer_known else None,
            answer_ns if answer_ns >= 0 else None,
        )


def _shared(seen: Iterable[_Seen], key: Callable[[_Seen], object]) -> Iterable[list[_Seen]]:
    """Rows with the same key, where there are several."""
    buckets: defaultdict[object, list[_Seen]] = defaultdict(list)
    for row in seen:
        buckets[key(row)].append(row)
    return (bucket for bucket in buckets.values() if len(bucket) > 1)


class _Groups:
    """Rows that are one connection, each group with one row per point at most."""

    def __init__(self) -> None:
        self._group: dict[int, list[_Seen]] = {}

    def several(self) -> list[list[_Seen]]:
        """All groups of more than one row."""
        return list({id(group): group for group in self._group.values() if len(group) > 1}.values())

    def join_nearest(
        self, rows: Sequence[_Seen], clocks: dict[tuple[_Place, _Place], float], most_apart_ns: int
    ) -> None:
        """Join rows at different points, those that are nearest in time first.

        `clocks` tells how far the second point's clock is ahead of the first one's.
        """
        pairs = sorted(
            (apart, one.id, other.id, one, other)
            for one, other in combinations(rows[:_MOST_ALIKE], 2)
            if one.place != other.place
            and (apart := abs(other.first_ns - one.first_ns - clocks.get((one.place, other.place), 0.0)))
            <= most_apart_ns
        )
        for _, _, _, one, other in pairs:
            self._join(one, other)

    def clocks(self) -> dict[tuple[_Place, _Place], float]:
        """How far each point's clock is ahead of another's, as most connections seen at both say."""
        apart: defaultdict[tuple[_Place, _Place], list[int]] = defaultdict(list)
        for group in self.several():
            for one, other in combinations(group, 2):
                apart[one.place, other.place].append(other.first_ns - one.first_ns)
                apart[other.place, one.place].append(one.first_ns - other.first_ns)
        return {places: median(differences) for places, differences in apart.items()}

    def _join(self, one: _Seen, other: _Seen) -> None:
        mine, theirs = (self._group.setdefault(row.id, [row]) for row in (one, other))
        if mine is theirs or {row.place for row in mine} & {row.place for row in theirs}:
            return
        if len({row.server_isn for row in (*mine, *theirs)} - {None}) > 1:
            return
        mine += theirs
        for row in theirs:
            self._group[row.id] = mine


def _nearest_to_client(group: Sequence[_Seen]) -> _Seen:
    """The row whose point waited longest for the SYN-ACK; the first one where that is not known of all."""
    if any(row.answer_ns is None for row in group):
        return min(group, key=lambda row: row.id)
    return max(group, key=lambda row: (row.answer_ns or 0, -row.id))
