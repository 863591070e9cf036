"""From files to a diagnosis: every connection with its verdict, failed ones with a good one to compare."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from podcam.columns import CaptureColumns, open_captures
from podcam.diagnose.endtoend import join
from podcam.diagnose.gaps import Span, with_gaps
from podcam.diagnose.halves import Halves, handshake_ns, verdict_alone, verdict_half_unread
from podcam.diagnose.judge import judge
from podcam.diagnose.neighbours import Neighbours
from podcam.diagnose.places import with_other_points
from podcam.diagnose.proxies import with_legs
from podcam.diagnose.screening import Finding, screen, verdict_unread
from podcam.model.connection import Conversation, TcpCounts
from podcam.model.diagnosis import CaptureSummary, DiagnosedConnection, Diagnosis, Verdict
from podcam.model.point import Endpoint
from podcam.model.verdict import Phase, VerdictId

_COMPARABLE = {Phase.READY, Phase.REQUEST, Phase.IDLE, Phase.CLOSING, Phase.DATA}
"""Phases that a good connection must have reached to show where a failed one parts from it."""


class Case:
    """Captures under examination: what is said of them, and the packets behind it."""

    def __init__(self, captures: Sequence[CaptureColumns]) -> None:
        self._captures = captures
        self._halves = [Halves(capture) for capture in captures]
        joined = join(captures)
        rows = [
            row
            for capture, halves in zip(captures, self._halves, strict=True)
            for row in _diagnosed(capture, halves, judged(capture, halves), joined)
        ]
        connections = with_legs(captures, self._halves, with_other_points(captures, rows), self.conversation)
        self.diagnosis = Diagnosis(
            captures=tuple(_summary(capture) for capture in captures),
            connections=connections,
            comparisons=nearest_good(connections),
        )

    def conversation(self, connection_id: int) -> Conversation:
        """A connection with its packets.

        Raises:
            KeyError: no connection has this id.
        """
        for capture, halves in zip(self._captures, self._halves, strict=True):
            row = connection_id - capture.first_id
            if 0 <= row < len(capture.connections):
                return halves.conversation(row)
        raise KeyError(connection_id)


def diagnose(paths: Sequence[str | Path], *, progress: Callable[[float], None] | None = None) -> Case:
    """Say what became of every connection in captures.

    `progress` is called with the fraction read, now and then.

    Raises:
        CaptureFileError: a path is no capture that can be read.
    """
    return Case(open_captures(paths, progress=progress))


def judged(capture: CaptureColumns, halves: Halves) -> list[Verdict]:
    """The verdict of each connection of a capture, by row; of a half that is told of elsewhere, too."""
    screened = screen(capture)
    neighbours = Neighbours(capture)
    read = {
        row: judge(halves.conversation(row), neighbours.context(halves.answers.get(row, row)))
        for row in screened.read.tolist()
        if row not in halves.hidden and row not in halves.alone
    }
    for row in halves.alone:
        read[row] = verdict_alone(capture, row)
    verdicts = [
        read[row]
        if row in read
        else verdict_half_unread()
        if row in halves.answers or row in halves.hidden
        else verdict_unread(capture, row, Finding(finding))
        for row, finding in enumerate(screened.findings.tolist())
    ]
    gaps = {point: losses for point in range(len(capture.points)) if (losses := capture.losses(point).gaps)}
    if gaps:
        points = capture.connections.table["point"].tolist()
        for row, point in enumerate(points):
            if point in gaps:
                verdicts[row] = with_gaps(verdicts[row], _span(capture, row), gaps[point])
    return verdicts


def _span(capture: CaptureColumns, row: int) -> Span:
    """When a connection was seen, for the gaps of its point."""
    table, client = capture.connections.table[row], capture.connections.client[row]
    server = capture.connections.server[row]
    return Span(
        first_ns=int(table["first_ns"]),
        last_ns=int(table["last_ns"]),
        ended=any(side[end] >= 0 for side in (client, server) for end in ("fin_ns", "rst_ns")),
        from_start=bool(table["syn_seen"]),
    )


def nearest_good(connections: Iterable[DiagnosedConnection]) -> dict[int, int]:
    """For each failed connection, the good one to the same server that began nearest to it.

    One at the same point goes before others: it was seen in the same way.
    """
    good: defaultdict[tuple[object, ...], list[tuple[int, int]]] = defaultdict(list)
    failed = []
    for row in connections:
        if row.verdict.failed:
            failed.append(row)
        elif row.verdict.id is VerdictId.OK and row.verdict.phase in _COMPARABLE and row.server_bytes:
            for key in _servers_of(row):
                good[key].append((row.start_ns, row.id))
    for candidates in good.values():
        candidates.sort()
    nearest = {}
    for row in failed:
        candidates = next((good[key] for key in _servers_of(row) if key in good), [])
        at = bisect_left(candidates, (row.start_ns, row.id))
        near = candidates[max(0, at - 1) : at + 1]
        if near:
            nearest[row.id] = min(near, key=lambda other: abs(other[0] - row.start_ns))[1]
    return nearest


def _servers_of(row: DiagnosedConnection) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """A connection's server as its point sees it, by the same way, and as any does."""
    server = (row.server.ip, row.server.port)
    return (row.capture, row.point, row.proxy, *server), server


def _diagnosed(
    capture: CaptureColumns, halves: Halves, verdicts: Sequence[Verdict], joined: dict[int, int]
) -> Iterator[DiagnosedConnection]:
    """One row per connection. There can be millions: columns are turned into lists once, addresses kept."""
    connections = capture.connections
    table = {name: connections.table[name].tolist() for name in _TABLE}
    client = {name: connections.client[name].tolist() for name in _SIDE}
    server = {name: connections.server[name].tolist() for name in _SIDE}
    counts = _counts(capture)
    clients: dict[int, Endpoint] = {}
    servers: dict[int, Endpoint] = {}
    for row, verdict in enumerate(verdicts):
        if row in halves.hidden:
            continue
        if row in halves.answers:
            yield _of_two_halves(capture, halves, row, verdict, joined)
            continue
        client_id, server_id = table["client_id"][row], table["server_id"][row]
        if client_id not in clients or server_id not in servers:
            client_end, server_end = capture.endpoints(row)
            clients[client_id] = client_end
            servers[server_id] = server_end
        connection_id = capture.first_id + row
        yield DiagnosedConnection(
            id=connection_id,
            end_to_end=joined.get(connection_id, connection_id),
            capture=capture.index,
            point=capture.points[table["point"][row]],
            transport="tcp",
            tcp_stream=table["stream"][row],
            tunnel=(),
            client=Endpoint(clients[client_id].ip, client["port"][row], clients[client_id].name),
            server=servers[server_id],
            start_ns=table["first_ns"][row],
            end_ns=table["last_ns"][row],
            client_packets=client["packets"][row],
            server_packets=server["packets"][row],
            client_bytes=client["bytes"][row],
            server_bytes=server["bytes"][row],
            tcp=counts[row],
            verdict=verdict,
            proxy=halves.proxy(row),
        )


def _of_two_halves(
    capture: CaptureColumns, halves: Halves, row: int, verdict: Verdict, joined: dict[int, int]
) -> DiagnosedConnection:
    """The row of a connection that is redirected on its host."""
    talk = halves.conversation(row)
    connection_id = capture.first_id + row
    return DiagnosedConnection(
        id=connection_id,
        end_to_end=joined.get(connection_id, connection_id),
        capture=capture.index,
        point=talk.point,
        transport="tcp",
        tcp_stream=talk.tcp_stream,
        tunnel=(),
        client=talk.client,
        server=talk.server,
        start_ns=talk.start_ns,
        end_ns=talk.end_ns,
        client_packets=talk.client_packets,
        server_packets=talk.server_packets,
        client_bytes=talk.client_bytes,
        server_bytes=talk.server_bytes,
        tcp=replace(halves.counts(row), handshake_ns=handshake_ns(talk.packets)),
        verdict=verdict,
        proxy=halves.proxy(row),
        answers_tcp_stream=int(capture.connections.table["stream"][halves.answers[row]]),
    )


_TABLE = ("client_id", "server_id", "point", "stream", "first_ns", "last_ns")
_SIDE = ("port", "packets", "bytes")


def _counts(capture: CaptureColumns) -> list[TcpCounts]:
    """How often each event of `tcp.analysis` happened on both sides, by row."""
    client, server = capture.connections.client, capture.connections.server

    def total(name: str) -> list[int]:
        both: list[int] = (client[name].astype(np.int64) + server[name]).tolist()
        return both

    handshakes = [ns if ns >= 0 else None for ns in capture.connections.table["handshake_ns"].tolist()]
    return list(
        map(
            TcpCounts,
            total("retransmissions"),
            total("fast_retransmissions"),
            total("out_of_order"),
            total("duplicate_acks"),
            total("zero_windows"),
            total("lost_segments"),
            handshakes,
        )
    )


def _summary(capture: CaptureColumns) -> CaptureSummary:
    """What the file holds; connections beyond the bound of the analyser are told as a warning."""
    warnings = tuple(
        f"{server.syns:,} more SYNs to {server.ip or 'other servers'}:{server.port} were only counted"
        for server in capture.connections.overflow
    )
    return replace(capture.summary, warnings=capture.summary.warnings + warnings)
