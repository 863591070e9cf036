"""What the two legs of an exchange through a proxy at a point tell together: as a guess, and named so."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from podcam.columns import CaptureColumns
from podcam.diagnose.halves import Halves
from podcam.diagnose.legs import Legs, Stretch, in_step, is_loopback, join_legs
from podcam.diagnose.wording import called
from podcam.model.connection import Conversation, TcpFlags
from podcam.model.diagnosis import DiagnosedConnection, Leg, LegEnd
from podcam.model.verdict import Fault, Phase, Protocol

_MOST_ROWS: Final = 20_000
"""Connections at a point among which legs are looked for."""
_GUESS: Final = "As a guess, by times and sizes,"


class _End(NamedTuple):
    """The first FIN or RST of a connection, and whose it was."""

    time_ns: int
    by_client: bool


class _Course(NamedTuple):
    """When each side sent its first bytes, and how it ended; None for what was not seen."""

    asked_ns: int | None
    answered_ns: int | None
    end: _End | None


def with_legs(
    captures: Sequence[CaptureColumns],
    halves: Sequence[Halves],
    rows: Sequence[DiagnosedConnection],
    conversation: Callable[[int], Conversation],
) -> tuple[DiagnosedConnection, ...]:
    """The rows, with the other leg of those that a proxy at their point passed on, or that it made."""
    by_id = {row.id: row for row in rows}
    told = dict(by_id)
    for group in _at_one_point(rows):
        capture, halved = captures[group[0].capture], halves[group[0].capture]
        courses = {row.id: _course(capture, halved, row) for row in group if _from_beginning(capture, row)}
        legs = join_legs(
            [_stretch(by_id[number], course) for number, course in courses.items()],
            lambda near, far: in_step(conversation(near), conversation(far)),
        )
        told |= dict(_told(legs, by_id, courses))
    return tuple(told[row.id] for row in rows)


def _at_one_point(rows: Sequence[DiagnosedConnection]) -> Iterator[list[DiagnosedConnection]]:
    """The connections of each point at which a proxy may be: one host is client and server there."""
    groups: defaultdict[tuple[int, str], list[DiagnosedConnection]] = defaultdict(list)
    for row in rows:
        groups[row.capture, row.point].append(row)
    for group in groups.values():
        clients, servers = {row.client.ip for row in group}, {row.server.ip for row in group}
        both = clients & servers
        mesh = any(map(is_loopback, clients | servers)) or any(row.proxy for row in group)
        concerned = [row for row in group if mesh or row.server.ip in both or row.client.ip in both]
        if 1 < len(concerned) <= _MOST_ROWS:
            yield concerned


def _from_beginning(capture: CaptureColumns, row: DiagnosedConnection) -> bool:
    return bool(capture.connections.table["syn_seen"][row.id - capture.first_id])


def _told(
    legs: Legs, rows: Mapping[int, DiagnosedConnection], courses: Mapping[int, _Course]
) -> Iterator[tuple[int, DiagnosedConnection]]:
    for near_id, far_id in legs.further.items():
        near, far = rows[near_id], rows[far_id]
        began = _began(near, far, courses[near_id].end, courses[far_id].end)
        proxy = called(near.proxy or near.server)
        went_on = (
            f"a proxy at {proxy} passed it on from {far.client} to {called(far.server)} (connection {far_id})"
        )
        came = f"it is what a proxy at {proxy} made of that from {called(near.client)} (connection {near_id})"
        yield near_id, _with(near, Leg(far_id, LegEnd.SERVER, began), f"{_GUESS} {went_on}", far)
        yield far_id, _with(far, Leg(near_id, LegEnd.CLIENT, began), f"{_GUESS} {came}", near)
    for unclear, count in legs.doubtful.items():
        if rows[unclear].verdict.failed:
            sentence = f"A proxy stands between: its other leg is one of {count} too alike to tell which."
            yield unclear, _saying(rows[unclear], sentence)


def _with(
    row: DiagnosedConnection, leg: Leg, sentence: str, other: DiagnosedConnection
) -> DiagnosedConnection:
    if row.verdict.failed or other.verdict.failed:
        row = _saying(row, f"{sentence}{_where(leg, other)}.")
    return replace(row, leg=leg)


def _saying(row: DiagnosedConnection, sentence: str) -> DiagnosedConnection:
    return replace(row, verdict=replace(row.verdict, summary=f"{row.verdict.summary} {sentence}"))


def _where(leg: Leg, other: DiagnosedConnection) -> str:
    became = f" ({other.verdict.id})"
    match leg.began:
        case None:
            return became
        case LegEnd.PROXY:
            return f"{became}; the failure began in the proxy, between the two"
        case side if side is leg.towards:
            return f", and the failure began there{became}"
        case _:
            return f"; the failure began here, and went on there{became}"


def _began(
    near: DiagnosedConnection, far: DiagnosedConnection, near_end: _End | None, far_end: _End | None
) -> LegEnd | None:
    """On which side of the proxy what failed began: who ended its connection first."""
    if not near.verdict.failed and not far.verdict.failed:
        return None
    first = min((end for end in (near_end, far_end) if end is not None), default=None)
    if far_end is not None and far_end is first and not far_end.by_client:
        return LegEnd.SERVER
    if near_end is not None and near_end is first and near_end.by_client:
        return LegEnd.CLIENT
    if far.verdict.phase is Phase.CONNECT and far.verdict.fault in {Fault.SERVER, Fault.NETWORK}:
        return LegEnd.SERVER
    return LegEnd.PROXY if first is not None else None


def _course(capture: CaptureColumns, halves: Halves, row: DiagnosedConnection) -> _Course:
    at = row.id - capture.first_id
    if at in halves.answers:
        return _course_of(halves.conversation(at))
    sides = (capture.connections.client[at], True), (capture.connections.server[at], False)
    ends = (
        _End(int(side[name]), by_client)
        for side, by_client in sides
        for name in ("fin_ns", "rst_ns")
        if side[name] >= 0
    )
    asked_ns, answered_ns = (int(side["first_data_ns"]) for side, _ in sides)
    return _Course(
        asked_ns if asked_ns >= 0 else None,
        answered_ns if answered_ns >= 0 else None,
        min(ends, default=None),
    )


def _course_of(talk: Conversation) -> _Course:
    packets = [packet for packet in talk.packets if packet.icmp is None]
    asked_ns, answered_ns = (
        next((p.time_ns for p in packets if p.payload_bytes and p.from_client is client), None)
        for client in (True, False)
    )
    ends = (_End(p.time_ns, p.from_client) for p in packets if p.flags & (TcpFlags.FIN | TcpFlags.RST))
    return _Course(asked_ns, answered_ns, next(ends, None))


def _stretch(row: DiagnosedConnection, course: _Course) -> Stretch:
    return Stretch(
        id=row.id,
        client=row.client,
        server=row.server,
        proxy=row.proxy,
        start_ns=row.start_ns,
        asked_ns=course.asked_ns,
        answered_ns=course.answered_ns,
        ended_ns=None if course.end is None else course.end.time_ns,
        client_bytes=row.client_bytes,
        server_bytes=row.server_bytes,
        encrypted=row.verdict.protocol is Protocol.TLS,
        failed=row.verdict.failed,
    )
