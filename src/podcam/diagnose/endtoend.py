"""Which rows are one connection seen at several points.

Joined by both initial sequence numbers, never by addresses: a Service's DNAT changes those on the way.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from podcam.columns import CaptureColumns

_CLOCKS_APART_NS = 600_000_000_000
"""How far the clocks of two nodes may differ."""


def join(captures: Sequence[CaptureColumns]) -> dict[int, int]:
    """For each connection's id that was seen before at another point, the id of where it was first seen."""
    if sum(len(capture.points) for capture in captures) < 2:
        return {}
    seen: defaultdict[tuple[int, int], list[tuple[int, int, int, int]]] = defaultdict(list)
    joined: dict[int, int] = {}
    for capture in captures:
        table, client, server = (
            capture.connections.table,
            capture.connections.client,
            capture.connections.server,
        )
        rows = np.flatnonzero((client["isn_known"] == 1) & (server["isn_known"] == 1))
        for row in rows.tolist():
            place = (capture.index, int(table["point"][row]))
            first_ns = int(table["first_ns"][row])
            others = seen[int(client["isn"][row]), int(server["isn"][row])]
            for index, point, other_ns, other_id in others:
                if (index, point) != place and abs(first_ns - other_ns) <= _CLOCKS_APART_NS:
                    joined[capture.first_id + row] = joined.get(other_id, other_id)
                    break
            others.append((*place, first_ns, capture.first_id + row))
    return joined
