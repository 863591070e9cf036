"""The rules of the wire detector: from how a connection ended to a failure class, or none.

One table, read from the top; the first rule that fits decides. `docs/triggers.md` shows it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from podcam.model.verdict import FailureClass

_SECOND = 1_000_000_000

_PROMPT_NS = 2 * _SECOND
"""A server that closes sooner closes because of what was said; HTTP keep-alive timeouts begin here."""

_PATIENCE_NS = _SECOND // 2
"""A client that leaves sooner did not wait for an answer."""

_GREETING_NS = 5 * _SECOND
"""A client that stays longer without a byte waits for the server to speak first; probes leave at once."""


class Event(Enum):
    """What ended a connection, or kept it from beginning."""

    REFUSAL = "RST to the SYN"
    ICMP_ERROR = "ICMP error"
    SILENCE = "silence"
    FIN = "FIN"
    RST = "RST"


_NO_CONNECTION = frozenset({Event.REFUSAL, Event.ICMP_ERROR, Event.SILENCE})


@dataclass(slots=True)
class Ending:
    """How a connection ended: the first FIN or RST of an established one, or what kept it from being so.

    Never changed once made; declaring it frozen would treble the time that takes, for every health check.
    Counts are payload bytes modulo 2**32, None when unknown.
    """

    event: Event
    by: str
    """`client`, `server`, `network` or `nobody`."""
    time_ns: int
    age_ns: int | None
    """Since the first SYN; None when that was not seen."""
    early: bool = False
    """Few bytes from the server, soon after the SYN: the bounds are in `Policy`."""
    client_bytes: int | None = None
    client_acked: int | None = None
    server_bytes: int | None = None
    server_acked: int | None = None
    late_answer: bool = False
    """The SYN-ACK came after a repeated SYN, or a second or more after the first."""
    repeated_answer: bool = False
    """The SYN-ACK was sent again: for the server, the handshake was not complete."""

    @property
    def spoke(self) -> int | None:
        """Bytes that the client is known to have sent."""
        return self.client_acked if self.client_bytes is None else self.client_bytes

    @property
    def answered(self) -> int | None:
        """Bytes that the server is known to have sent."""
        return self.server_acked if self.server_bytes is None else self.server_bytes

    @property
    def mute(self) -> bool:
        """No side is known to have sent a byte, and the client sent none."""
        return self.spoke == 0 and not self.answered

    @property
    def unanswered(self) -> bool:
        """The client spoke, and the server sent nothing, or one byte (as to PostgreSQL's SSLRequest)."""
        return bool(self.spoke) and self.answered in (0, 1)

    @property
    def doubtful(self) -> bool:
        """Whether it may be the loser of two parallel connects: it failed before the client could use it."""
        return (self.event in _NO_CONNECTION and not self.repeated_answer) or self.gave_up

    @property
    def gave_up(self) -> bool:
        """The client reset a SYN-ACK that came late: it had closed its socket before."""
        bare_rst = self.event is Event.RST and self.by == "client" and self.server_acked is None
        return bare_rst and self.late_answer and self.spoke == 0

    def within(self, bound_ns: int) -> bool:
        """Whether it ended sooner than that after its first SYN."""
        return self.age_ns is not None and self.age_ns < bound_ns


class Habit(Enum):
    """Ends that are a failure between some pairs of client and server, and everyday between others."""

    CLIENT_LEAVES_UNANSWERED = "client leaves unanswered"
    CLIENT_WAITS_FOR_GREETING = "client waits for a greeting"
    CLIENT_RESETS = "client resets"
    SERVER_CLOSES_UNSPOKEN_TO = "server closes unspoken to"
    SERVER_CLOSES = "server closes first"
    SERVER_CLOSES_LATER = "server closes first later"


@dataclass(frozen=True, slots=True)
class Usual:
    """An end that is a habit of a pair of client and server is a failure only where it is rare.

    Rare is below `share` of at least `ended` connections of the pair; `at_first` is what the end counts as
    while fewer have ended. With `complete` it is none either where both sides had said as much as in
    exchanges that ended well: then the server only won the race to the FIN.
    """

    habit: Habit
    share: float = 0.2
    ended: int = 5
    at_first: bool = False
    complete: bool = False

    def __str__(self) -> str:
        at_first = "" if self.at_first else f", or fewer than {self.ended} have ended"
        complete = ", or both had said as much as in a good exchange" if self.complete else ""
        return f"{self.share:.0%} or more of at least {self.ended} ended so{at_first}{complete}"


@dataclass(frozen=True, slots=True)
class Rule:
    """Endings by `event` and `by` that `fits` accepts are of `failure_class`; None: they are no failure."""

    event: Event
    by: str
    failure_class: FailureClass | None
    what: str
    fits: Callable[[Ending], bool] = lambda _: True
    unless: Usual | None = None


def _client_leaves(event: Event, early_class: FailureClass) -> tuple[Rule, ...]:
    """The client ends it: the same rules for FIN and RST, but for the class."""

    def rule(
        failure_class: FailureClass | None,
        what: str,
        fits: Callable[[Ending], bool],
        unless: Usual | None = None,
    ) -> Rule:
        return Rule(event, "client", failure_class, what, fits, unless)

    return (
        rule(
            None,
            "probe: it leaves within 5 s, and nobody sent a byte",
            lambda end: end.mute and end.within(_GREETING_NS),
        ),
        rule(
            None,
            "it leaves after the server's greeting without a byte",
            lambda end: end.spoke == 0 and bool(end.answered),
        ),
        rule(
            early_class,
            "it leaves over a refused SSLRequest or GSSENCRequest (8 bytes, answered by 1)",
            lambda end: end.early and (end.spoke, end.answered) == (8, 1),
        ),
        rule(
            early_class,
            "it leaves without an answer, having waited for half a second or longer",
            lambda end: end.early and end.unanswered and not end.within(_PATIENCE_NS),
            Usual(Habit.CLIENT_LEAVES_UNANSWERED, at_first=True),
        ),
        rule(None, "it leaves without waiting for an answer", lambda end: end.early and end.unanswered),
        rule(
            early_class,
            "it leaves after waiting for a greeting for 5 s or longer",
            lambda end: end.early and end.mute,
            Usual(Habit.CLIENT_WAITS_FOR_GREETING),
        ),
    )


RULES = (
    Rule(Event.REFUSAL, "server", FailureClass.REFUSED, "RST answers the SYN"),
    Rule(
        Event.ICMP_ERROR, "network", FailureClass.UNREACHABLE, "an ICMP error quotes the SYN; no answer comes"
    ),
    Rule(Event.SILENCE, "nobody", FailureClass.NO_ANSWER, "nothing completes the handshake"),
    Rule(
        Event.RST,
        "server",
        FailureClass.HANDSHAKE_RESET,
        "it resets after repeating its SYN-ACK, before a byte",
        lambda end: end.repeated_answer and not end.spoke and not end.answered,
    ),
    Rule(Event.RST, "server", FailureClass.RESET_EARLY, "it resets early", lambda end: end.early),
    Rule(Event.RST, "server", FailureClass.RESET, "it resets later, or the counts are unknown"),
    Rule(
        Event.RST,
        "client",
        FailureClass.HANDSHAKE_RESET,
        "it resets a SYN-ACK that came late: it had given up",
        lambda end: end.gave_up,
    ),
    *_client_leaves(Event.RST, FailureClass.RESET_EARLY),
    Rule(
        Event.RST,
        "client",
        FailureClass.RESET_EARLY,
        "it resets early after an answer",
        lambda end: end.early,
        Usual(Habit.CLIENT_RESETS),
    ),
    Rule(Event.RST, "client", FailureClass.RESET, "it resets later, or the counts are unknown"),
    Rule(
        Event.FIN,
        "server",
        None,
        "PostgreSQL's CancelRequest (16 bytes, or 24 behind a refused SSLRequest) is never answered",
        lambda end: (end.spoke, end.answered) in ((16, 0), (24, 1)),
    ),
    Rule(
        Event.FIN,
        "server",
        FailureClass.CLOSED_EARLY,
        "it closes early without an answer (no byte, or one)",
        lambda end: end.early and end.unanswered,
    ),
    Rule(
        Event.FIN,
        "server",
        FailureClass.CLOSED_EARLY,
        "it closes early before anybody spoke",
        lambda end: end.early and end.mute,
        Usual(Habit.SERVER_CLOSES_UNSPOKEN_TO),
    ),
    Rule(
        Event.FIN,
        "server",
        FailureClass.CLOSED_EARLY,
        "it closes first after a short exchange, within 2 s",
        lambda end: end.early and end.within(_PROMPT_NS),
        Usual(Habit.SERVER_CLOSES, complete=True),
    ),
    Rule(
        Event.FIN,
        "server",
        FailureClass.CLOSED_EARLY,
        "it closes first after a short exchange, later: mostly an idle timeout",
        lambda end: end.early,
        Usual(Habit.SERVER_CLOSES_LATER, share=0.02, ended=50, complete=True),
    ),
    *_client_leaves(Event.FIN, FailureClass.CLOSED_EARLY),
)

_BY_END = {
    (event, by): tuple(rule for rule in RULES if (rule.event, rule.by) == (event, by))
    for event, by in {(rule.event, rule.by) for rule in RULES}
}


def rule_for(end: Ending) -> Rule | None:
    """The first rule that fits, None where none does: the ordinary end of a connection."""
    for rule in _BY_END.get((end.event, end.by), ()):
        if rule.fits(end):
            return rule
    return None
