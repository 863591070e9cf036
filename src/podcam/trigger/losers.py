"""Losers of parallel connects: who tries several addresses leaves some of the attempts behind.

RFC 8305 (happy eyeballs), or a client that falls back from ::1 to 127.0.0.1: a connect that failed is
harmless when the same client reached the same port at another address in its place.
"""

from collections import deque
from collections.abc import Iterable
from itertools import islice

from podcam.trigger.connection import Connection
from podcam.trigger.keys import client_address_of

_SECOND = 1_000_000_000

_PARALLEL_NS = 2 * _SECOND
"""Longest Connection Attempt Delay (RFC 8305, section 8)."""

_FALLBACK_NS = _SECOND // 2
"""After a refusal, the next address is tried at once."""

_MAX_WINNERS = 4096
"""Established connections that are remembered; 2 s of 2,000 per second."""


_MAX_CANDIDATES = 64
"""Winners that are looked at for one loser: beyond that it is a storm, and nobody's doing."""


class Winners:
    """The connections that were answered last, and whom of the failed ones they make harmless."""

    def __init__(self) -> None:
        self._answered: deque[Connection] = deque(maxlen=_MAX_WINNERS)
        self.answered = self._answered.append
        """Tell of a connection whose SYN was answered."""

    def reached_instead(self, losers: Iterable[tuple[Connection, int]]) -> set[Connection]:
        """Return which of these connections (each with the time when it failed) lost to an answered one.

        One winner excuses one loser per address: a second failure at the same address is not its doing.
        """
        by_port: dict[bytes, list[Connection]] = {}
        for winner in sorted(self._answered, key=_start):
            by_port.setdefault(winner.server.address[-2:], []).append(winner)
        candidates: dict[bytes, deque[Connection]] = {}
        harmless = set()
        for loser, failed_ns in sorted(losers, key=lambda pair: pair[0].start_ns):
            address = loser.server.address
            if address not in candidates:
                others = by_port.get(address[-2:], ())
                candidates[address] = deque(
                    winner
                    for winner in others
                    if winner.server.address != address and address not in winner.excused
                )
            if _take_winner(candidates[address], loser, failed_ns):
                harmless.add(loser)
        return harmless


def _take_winner(candidates: deque[Connection], loser: Connection, failed_ns: int) -> bool:
    while (
        candidates and candidates[0].answer_ns < loser.start_ns
    ):  # answered before this loser, and those after it
        candidates.popleft()
    for index, winner in enumerate(islice(candidates, _MAX_CANDIDATES)):
        if _parallel(winner, loser, failed_ns):
            winner.excused = (*winner.excused, loser.server.address)
            del candidates[index]
            return True
    return False


def _parallel(winner: Connection, loser: Connection, failed_ns: int) -> bool:
    """Whether both belong to one attempt of the same client, which gave the loser up for the winner."""
    same_family = len(winner.key) == len(loser.key)
    if same_family and client_address_of(winner.key) != client_address_of(loser.key):
        return False
    in_time = winner.start_ns <= min(loser.start_ns + _PARALLEL_NS, failed_ns + _FALLBACK_NS)
    return in_time and max(loser.start_ns, loser.syn_ns) <= winner.answer_ns


def _start(connection: Connection) -> int:
    return connection.start_ns
