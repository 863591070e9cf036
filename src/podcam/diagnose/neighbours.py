"""What the connections of one capture tell about each other, found for all of them at once.

Who won a race against whom, what good connections to a server speak, and who speaks first there.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from podcam.columns import CaptureColumns
from podcam.diagnose.context import Context
from podcam.model.point import Endpoint
from podcam.model.verdict import Protocol

_SECOND = 1_000_000_000
_PARALLEL_NS = 2 * _SECOND
"""Longest delay between two attempts (RFC 8305, section 8)."""
_FALLBACK_NS = _SECOND // 2
"""After a refusal, the next address is tried at once."""
_MAX_RIVALS = 64
"""Winners that are looked at for one loser: more are a storm, and no race."""

_HANDSHAKE = 1 | 2 | 4
"""Completeness: SYN, SYN-ACK and the ACK were seen."""
_FEWEST_FOR_A_HABIT = 5

Rows = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Habits:
    protocol: Protocol
    greets: bool
    resets: bool


class Neighbours:
    """The context of each connection of a capture."""

    def __init__(self, capture: CaptureColumns) -> None:
        self._capture = capture
        self._server_ids = capture.connections.table["server_id"]
        self._habits = _habits_of_servers(capture)
        self._winners = _races(capture)

    def context(self, row: int) -> Context:
        """What is known beside the connection itself."""
        habits = self._habits[self._server_ids[row]]
        winner = self._winners.get(row)
        return Context(
            winner=self._server(winner) if winner is not None else None,
            protocol=habits.protocol,
            greets=habits.greets,
            resets_by_habit=habits.resets,
        )

    def _server(self, row: int) -> Endpoint:
        return self._capture.endpoints(row)[1]


def established(capture: CaptureColumns) -> Mask:
    """Connections whose whole handshake was seen."""
    return np.asarray((capture.connections.table["completeness"] & _HANDSHAKE) == _HANDSHAKE)


def speaks_postgres(capture: CaptureColumns) -> Mask:
    """Connections whose first bytes of the client are PostgreSQL's (`wire.postgres.looks_like_startup`)."""
    client = capture.connections.client
    head = client["head"]
    code = (
        head[:, 4].astype(np.uint32) << 24
        | head[:, 5].astype(np.uint32) << 16
        | head[:, 6].astype(np.uint32) << 8
        | head[:, 7]
    )
    small = (head[:, 0] == 0) & (head[:, 1] == 0)
    startup = (code >> 16 == 3) | ((code >= 80877102) & (code <= 80877104))
    return np.asarray((client["head_bytes"] >= 8) & small & startup)


def speaks_tls(capture: CaptureColumns) -> Mask:
    """Connections whose first bytes of the client are a TLS handshake record."""
    client = capture.connections.client
    head = client["head"]
    return np.asarray(
        (client["head_bytes"] >= 6) & (head[:, 0] == 22) & (head[:, 1] == 3) & (head[:, 5] == 1)
    )


def _habits_of_servers(capture: CaptureColumns) -> list[_Habits]:
    connections = capture.connections
    ids = connections.table["server_id"]
    count = int(ids.max()) + 1 if len(ids) else 0
    client, server = connections.client, connections.server
    spoke = established(capture) & (server["bytes"] > 0)
    answered = spoke & (client["bytes"] > 0)
    first = spoke & ((client["first_data_ns"] < 0) | (server["first_data_ns"] < client["first_data_ns"]))
    resets = answered & (server["rst_ns"] >= 0) & ~_before(client["fin_ns"], server["rst_ns"])

    def per_server(mask: Mask) -> npt.NDArray[np.intp]:
        return np.bincount(ids[mask], minlength=count)

    spoken, answers, greetings, ended_by_reset = map(per_server, (spoke, answered, first, resets))
    postgres, tls = (
        per_server(answered & speaks_postgres(capture)),
        per_server(answered & speaks_tls(capture)),
    )
    return [
        _Habits(
            protocol=Protocol.POSTGRESQL
            if postgres[i] * 2 > answers[i]
            else Protocol.TLS
            if tls[i] * 2 > answers[i]
            else Protocol.UNKNOWN,
            greets=bool(greetings[i] * 2 > spoken[i]),
            resets=bool(answers[i] >= _FEWEST_FOR_A_HABIT and ended_by_reset[i] * 2 > answers[i]),
        )
        for i in range(count)
    ]


def _before(earlier: npt.NDArray[np.int64], later: npt.NDArray[np.int64]) -> Mask:
    """Whether both happened, in this order."""
    return (earlier >= 0) & (later >= 0) & (earlier <= later)


def _races(capture: CaptureColumns) -> dict[int, int]:
    """For each loser of a race its winner.

    A loser is a connect that came to nothing, to an address that answers nobody in this capture; its winner
    a connect of the same client to the same port at another address, at about the same time, that succeeded.
    One winner excuses one loser per address.
    """
    connections = capture.connections
    table, server = connections.table, connections.server
    good = established(capture)
    answering = np.zeros(int(table["server_id"].max(initial=-1)) + 1, np.bool_)
    answering[table["server_id"][good]] = True
    losers = np.flatnonzero((table["syn_seen"] == 1) & ~good & ~answering[table["server_id"]])
    winners = np.flatnonzero(good)
    if not len(losers) or not len(winners):
        return {}
    winners = winners[np.argsort(table["first_ns"][winners], kind="stable")]
    won: dict[int, int] = {}
    excused: set[tuple[int, int]] = set()
    for port in np.unique(server["port"][losers]):
        rivals = winners[server["port"][winners] == port]
        starts = table["first_ns"][rivals]
        for loser in losers[server["port"][losers] == port].tolist():
            began, failed = int(table["first_ns"][loser]), int(table["last_ns"][loser])
            latest = min(began + _PARALLEL_NS, failed + _FALLBACK_NS)
            first, last = np.searchsorted(starts, (began - _PARALLEL_NS, latest + 1))
            near = rivals[first:last][_same_attempt(capture, rivals[first:last], loser)][-_MAX_RIVALS:]
            for winner in near.tolist():
                if (winner, int(table["server_id"][loser])) not in excused:
                    excused.add((winner, int(table["server_id"][loser])))
                    won[loser] = winner
                    break
    return won


def _same_attempt(capture: CaptureColumns, rivals: Rows, loser: int) -> Mask:
    """Rivals at the same point that were answered after the loser began, and can be of the same client.

    Clients of another address family cannot be told apart: a host's IPv4 and IPv6 address share nothing.
    Within a family the addresses of a name are tried one after the other, so that the winner begins later.
    """
    table, server = capture.connections.table, capture.connections.server
    mask = table["point"][rivals] == table["point"][loser]
    mask &= server["syn_ns"][rivals] >= table["first_ns"][loser]
    same_family = table["ip_version"][rivals] == table["ip_version"][loser]
    same_client = table["client_id"][rivals] == table["client_id"][loser]
    later = table["first_ns"][rivals] >= table["first_ns"][loser]
    return np.asarray(mask & (~same_family | (same_client & later)))
