"""From endings to failures: the rules, habits, parallel connects, and who is concerned."""

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from podcam.model.failure import Failure
from podcam.model.point import Endpoint
from podcam.model.verdict import FailureClass
from podcam.trigger.classes import Policy
from podcam.trigger.connection import Connection
from podcam.trigger.keys import ends
from podcam.trigger.losers import Winners
from podcam.trigger.peers import Pair, Peers
from podcam.trigger.rules import Ending, Event, rule_for

_MAX_FOUND = 1_024
"""Failures listed between two ticks; a storm's others are counted."""

_MAX_DOUBTFUL = 4_096

_ROUND_NS = 100_000_000
"""Looking for the winners of parallel connects costs up to a millisecond: not at every tick."""

Concerns = Callable[[Endpoint, Endpoint], bool]
"""Whether a failure of this client at this server is to be reported."""


class Judge:
    """Decides which endings are failures.

    A connect that failed waits for the policy's `grace_ns`: a parallel one may succeed in its place.
    """

    def __init__(self, now_ns: int, policy: Policy, peers: Peers, concerns: Concerns) -> None:
        self._policy = policy
        self._peers = peers
        self._concerns = concerns
        self._winners = Winners()
        self._doubtful: deque[tuple[Connection, Ending]] = deque()
        self._round_ns = now_ns
        self._found: list[Failure] = []
        self.answered = self._winners.answered
        self.failures = 0
        self.unlisted = 0

    def ended(self, connection: Connection, ending: Ending) -> None:
        """Judge a connection that has ended, at once or when its doubts are settled."""
        if ending.doubtful and len(self._doubtful) < _MAX_DOUBTFUL:
            self._doubtful.append((connection, ending))
        else:
            self._apply_rules(connection, ending)

    def ended_well(self, connection: Connection, time_ns: int, client_bytes: int, server_bytes: int) -> None:
        """Count the everyday end: the client closed first, and both had sent something."""
        self._pair(connection).ended_well(client_bytes, server_bytes)
        server = connection.server
        server.good_start_ns = connection.start_ns
        server.good_end_ns = time_ns

    def unseen_reset(self, connection: Connection, by: str, time_ns: int) -> None:
        """Report the reset of a connection whose beginning was not seen."""
        self._report(FailureClass.RESET, Ending(Event.RST, by, time_ns, None), connection)

    def settle(self, now_ns: int) -> None:
        """Judge the failed connects whose grace is over."""
        if not self._doubtful or now_ns - self._round_ns < _ROUND_NS:
            return
        self._round_ns = now_ns
        due = []
        while self._doubtful and self._doubtful[0][1].time_ns <= now_ns - self._policy.grace_ns:
            due.append(self._doubtful.popleft())
        harmless = self._winners.reached_instead((connection, ending.time_ns) for connection, ending in due)
        for connection, ending in due:
            answered_since = ending.event is Event.ICMP_ERROR and connection.server_isn is not None
            if connection not in harmless and not answered_since:
                self._apply_rules(connection, ending)

    def take(self) -> list[Failure]:
        """The failures found since this was last asked."""
        found, self._found = self._found, []
        return found

    def follow_clock_back(self, step_ns: int, now_ns: int) -> None:
        """Move the doubts along with a clock that was set back."""
        moved = [(known, replace(end, time_ns=end.time_ns + step_ns)) for known, end in self._doubtful]
        self._doubtful = deque(moved)
        self._round_ns = now_ns

    def _apply_rules(self, connection: Connection, ending: Ending) -> None:
        rule = rule_for(ending)
        failure_class = None if rule is None else rule.failure_class
        if rule is not None and rule.unless is not None:
            pair = self._pair(connection)
            rare = pair.is_rare(rule.unless)
            complete = rule.unless.complete and pair.is_complete(ending.spoke, ending.answered)
            if self._policy.exempt_habits and (complete or not rare):
                failure_class = None
        elif failure_class is None and ending.spoke:
            self._pair(connection).ended += 1
        if failure_class is not None:
            self._report(failure_class, ending, connection)
        elif ending.spoke and ending.answered:
            connection.server.good_start_ns = connection.start_ns
            connection.server.good_end_ns = ending.time_ns

    def _pair(self, connection: Connection) -> Pair:
        return connection.pair or self._peers.pair(connection.asked, connection.server)

    def _report(self, failure_class: FailureClass, ending: Ending, connection: Connection) -> None:
        server = connection.server
        self.failures += 1
        server.failures[failure_class] = server.failures.get(failure_class, 0) + 1
        if failure_class not in self._policy.classes:
            return
        if len(self._found) >= _MAX_FOUND:
            self.unlisted += 1
            return
        client_end, server_end = ends(connection.asked)
        if self._concerns(client_end, server_end):
            failure = Failure(
                ending.time_ns,
                failure_class,
                client_end,
                server_end,
                ending.by,
                connection.start_ns if connection.syns else None,
                client_bytes=ending.client_bytes,
                client_acked=ending.client_acked,
                server_bytes=ending.server_bytes,
                server_acked=ending.server_acked,
            )
            self._found.append(failure)
