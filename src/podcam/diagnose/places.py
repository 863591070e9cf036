"""What several points of the captures tell together about the connections that failed."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from podcam.columns import CaptureColumns
from podcam.diagnose.between import Finding, Place, Seen, compare, syn_never_arrived
from podcam.model.diagnosis import DiagnosedConnection
from podcam.model.verdict import Phase

_MOST_COMPARED: Final = 1_000
"""Failed connections whose packets at several points are compared; those of a storm are alike."""


def with_other_points(
    captures: Sequence[CaptureColumns], rows: Sequence[DiagnosedConnection]
) -> tuple[DiagnosedConnection, ...]:
    """The rows, failed ones with what the other points prove of them.

    Nothing is added where a point lost packets, had a gap, or did not record at that time.
    """
    if sum(len(capture.points) for capture in captures) < 2:
        return tuple(rows)
    places = _Places(captures)
    groups: defaultdict[int, list[DiagnosedConnection]] = defaultdict(list)
    for row in rows:
        groups[row.end_to_end].append(row)
    failed = [group for group in groups.values() if any(row.verdict.failed for row in group)]
    findings = {group[0].end_to_end: places.finding(group) for group in failed[:_MOST_COMPARED]}
    return tuple(_with(row, findings.get(row.end_to_end)) for row in rows)


def _with(row: DiagnosedConnection, finding: Finding | None) -> DiagnosedConnection:
    if finding is None or not row.verdict.failed:
        return row
    return replace(row, verdict=finding.added_to(row.verdict))


class _Places:
    """The points of the captures, and what was seen at them."""

    def __init__(self, captures: Sequence[CaptureColumns]) -> None:
        self._captures = captures
        self._names: Mapping[str, str] = {
            ip: name for capture in captures for ip, name in capture.names.items()
        }

    def finding(self, group: Sequence[DiagnosedConnection]) -> Finding | None:
        """What its points prove together about one connection.

        Nothing of one that its host redirected: what left for the server is another, of the proxy.
        """
        if any(row.proxy is not None for row in group):
            return None
        if len(group) == 1:
            return self._seen_by_client_only(group[0])
        ordered = self._ordered(group)
        if ordered is None:
            return None
        near, far = (self._seen(row) for row in ordered)
        return compare(near, far) if near and far else None

    def _ordered(
        self, group: Sequence[DiagnosedConnection]
    ) -> tuple[DiagnosedConnection, DiagnosedConnection] | None:
        """The row at the client's point and the one at the server's; None where nothing tells which is which.

        By name; else the SYN-ACK comes the later after the SYN the nearer a point is to the client, and where
        one point saw none it is the client's.
        """
        near = next((row for row in group if row.client.name == _pod(row.point)), None)
        far = next((row for row in group if row.server.name == _pod(row.point)), None)
        if near is None or far is None or near is far:
            if any(_syn_ns(self._captures[row.capture], row) < 0 for row in group):
                return None
            waits = sorted(group, key=lambda row: (_answer_ns(self._captures[row.capture], row), -row.id))
            near, far = near or waits[-1], far or waits[0]
            if _answer_ns(self._captures[near.capture], near) <= _answer_ns(self._captures[far.capture], far):
                return None
        return near, far

    def _seen_by_client_only(self, row: DiagnosedConnection) -> Finding | None:
        """A connect that failed, to a pod that was recorded: whether its SYN ever got there."""
        if row.verdict.phase is not Phase.CONNECT or row.client.name != _pod(row.point):
            return None
        origin = self._place(row.capture, row.point)
        for capture in self._captures:
            for point in capture.points:
                if (capture.index, point) != (row.capture, row.point) and row.server.name == _pod(point):
                    target = self._place(capture.index, point)
                    if origin and target and self._records(capture, point, row):
                        talk = self._captures[row.capture]
                        return syn_never_arrived(talk.conversation(row.id - talk.first_id), origin, target)
        return None

    def _records(self, capture: CaptureColumns, point: str, row: DiagnosedConnection) -> bool:
        """Whether a point records connections to this server, but not this one."""
        own = self._captures[row.capture]
        isn = own.connections.client["isn"][row.id - own.first_id]
        at_point = np.flatnonzero(capture.connections.table["point"] == capture.points.index(point))
        if np.any(capture.connections.client["isn"][at_point] == isn):
            return False
        to_port = at_point[capture.connections.server["port"][at_point] == row.server.port]
        return any(capture.endpoints(other)[1].ip == row.server.ip for other in to_port.tolist())

    def _seen(self, row: DiagnosedConnection) -> Seen | None:
        capture = self._captures[row.capture]
        at = row.id - capture.first_id
        client, server = capture.connections.client[at], capture.connections.server[at]
        place = self._place(row.capture, row.point)
        if place is None or not client["isn_known"]:
            return None
        return Seen(
            place,
            capture.conversation(at),
            int(client["isn"]),
            int(server["isn"]) if server["isn_known"] else None,
        )

    def _place(self, index: int, point: str) -> Place | None:
        capture = self._captures[index]
        number = capture.points.index(point)
        recorded, losses = capture.recorded(number), capture.losses(number)
        if recorded is None:
            return None
        called = _pod(point) if _pod(point) in self._names.values() else point
        return Place(called, recorded, losses.dropped, losses.gaps, losses.windows)


def _pod(point: str) -> str:
    """What a clip calls the addresses of a pod whose point has this name."""
    return f"pod {point}"


def _syn_ns(capture: CaptureColumns, row: DiagnosedConnection) -> int:
    """When its first SYN was seen; negative where none was."""
    return int(capture.connections.client["syn_ns"][row.id - capture.first_id])


def _answer_ns(capture: CaptureColumns, row: DiagnosedConnection) -> float:
    """How long after the SYN the SYN-ACK came; for ever where it was not seen."""
    answer_ns = int(capture.connections.server["syn_ns"][row.id - capture.first_id])
    return float(answer_ns - _syn_ns(capture, row)) if answer_ns >= 0 else float("inf")
