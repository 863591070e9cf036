"""What a report says, as plain data: how many failed of how many, grouped by what happened to which server.

A connection that was seen at several points is several rows of the diagnosis and counts once here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from podcam.model.diagnosis import DiagnosedConnection, Diagnosis
from podcam.model.point import Endpoint
from podcam.model.verdict import VerdictId


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """The failures of one kind at one server, oldest first, with their base rate."""

    verdict: VerdictId
    server: Endpoint
    failures: tuple[DiagnosedConnection, ...]
    connections: int
    """All connections to this server: the failures are so many of these."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole diagnosis in numbers."""

    packets: int
    connections: int
    failed: int
    first_ns: int | None
    """First and last packet of all captures; None when there is none."""
    last_ns: int | None
    first_failure_ns: int | None
    last_failure_ns: int | None
    verdicts: Mapping[VerdictId, int]
    """How many connections got each verdict, the most frequent first."""
    groups: tuple[FailureGroup, ...]
    """The largest first."""
    probes: Mapping[str, int]
    """How many probes each client address made."""


def outcomes(connections: Iterable[DiagnosedConnection]) -> list[DiagnosedConnection]:
    """One row for each connection end to end: that of the point where it failed, or where most was seen."""
    chosen: dict[int, DiagnosedConnection] = {}
    for row in connections:
        rival = chosen.get(row.end_to_end)
        if rival is None or _told_by(row) > _told_by(rival):
            chosen[row.end_to_end] = row
    return list(chosen.values())


def _told_by(row: DiagnosedConnection) -> tuple[bool, bool]:
    return row.verdict.failed, row.verdict.id is not VerdictId.PARTIAL


def overview(diagnosis: Diagnosis) -> Overview:
    """Count and group the verdicts."""
    rows = outcomes(diagnosis.connections)
    failures = [row for row in rows if row.verdict.failed]
    firsts = [capture.first_ns for capture in diagnosis.captures if capture.first_ns is not None]
    lasts = [capture.last_ns for capture in diagnosis.captures if capture.last_ns is not None]
    return Overview(
        packets=sum(capture.packets for capture in diagnosis.captures),
        connections=len(rows),
        failed=len(failures),
        first_ns=min(firsts, default=None),
        last_ns=max(lasts, default=None),
        first_failure_ns=min((row.end_ns for row in failures), default=None),
        last_failure_ns=max((row.end_ns for row in failures), default=None),
        verdicts=dict(Counter(row.verdict.id for row in rows).most_common()),
        groups=_grouped(failures, Counter(_address(row) for row in rows)),
        probes=dict(
            Counter(row.client.ip for row in rows if row.verdict.id is VerdictId.PROBE).most_common()
        ),
    )


def _grouped(
    failures: list[DiagnosedConnection], connections: Mapping[tuple[str, int], int]
) -> tuple[FailureGroup, ...]:
    groups: defaultdict[tuple[VerdictId, tuple[str, int]], list[DiagnosedConnection]] = defaultdict(list)
    for row in failures:
        groups[row.verdict.id, _address(row)].append(row)
    return tuple(
        FailureGroup(
            verdict=verdict,
            server=rows[0].server,
            failures=tuple(sorted(rows, key=lambda row: row.end_ns)),
            connections=connections[address],
        )
        for (verdict, address), rows in sorted(groups.items(), key=lambda item: -len(item[1]))
    )


def _address(row: DiagnosedConnection) -> tuple[str, int]:
    return row.server.ip, row.server.port
