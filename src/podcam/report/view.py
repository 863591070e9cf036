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
    """All connections that were seen to go to this server: the failures are so many of these."""


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
    probes: Mapping[tuple[str, str | None], int]
    """How many probes each client made, by its address and name."""


def outcomes(connections: Iterable[DiagnosedConnection]) -> list[DiagnosedConnection]:
    """One row for each connection end to end: that of the point where it failed, or where most was seen.

    Of equals it is the one nearest to the client, which knows the server by the address that it asked for.
    """
    chosen: dict[int, DiagnosedConnection] = {}
    for row in connections:
        rival = chosen.get(row.end_to_end)
        if rival is None or _told_by(row) > _told_by(rival):
            chosen[row.end_to_end] = row
    return list(chosen.values())


def _told_by(row: DiagnosedConnection) -> tuple[bool, bool, bool]:
    verdict = row.verdict
    return verdict.failed, verdict.id is not VerdictId.PARTIAL, row.id == row.end_to_end


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
        groups=_grouped(failures, _connections_by_server(diagnosis.connections)),
        probes=dict(
            Counter(
                (row.client.ip, row.client.name) for row in rows if row.verdict.id is VerdictId.PROBE
            ).most_common()
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


def _connections_by_server(rows: Iterable[DiagnosedConnection]) -> Mapping[tuple[str, int], int]:
    """How many went to each address; one counts for each address under which a point saw its server."""
    seen = {(row.end_to_end, _address(row)) for row in rows}
    return Counter(address for _, address in seen)


def _address(row: DiagnosedConnection) -> tuple[str, int]:
    return row.server.ip, row.server.port
