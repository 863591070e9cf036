"""The wire detector's classes, the verdicts that they stand for, and what a user may name with `--on`."""

from dataclasses import dataclass

from podcam.errors import UsageError
from podcam.model.verdict import FailureClass, VerdictId

_SECOND = 1_000_000_000

DEFAULT_CLASSES = frozenset(
    {
        FailureClass.REFUSED,
        FailureClass.UNREACHABLE,
        FailureClass.NO_ANSWER,
        FailureClass.HANDSHAKE_RESET,
        FailureClass.RESET_EARLY,
        FailureClass.CLOSED_EARLY,
    }
)
"""Failures of connecting and starting up."""

_BOTH_EARLY = frozenset({FailureClass.RESET_EARLY, FailureClass.CLOSED_EARLY})

_OF_VERDICT = {
    VerdictId.CONNECT_REFUSED: frozenset({FailureClass.REFUSED}),
    VerdictId.CONNECT_UNREACHABLE: frozenset({FailureClass.UNREACHABLE}),
    VerdictId.CONNECT_TIMEOUT: frozenset({FailureClass.NO_ANSWER}),
    VerdictId.HANDSHAKE_INCOMPLETE: frozenset({FailureClass.NO_ANSWER, FailureClass.HANDSHAKE_RESET}),
    VerdictId.HANDSHAKE_ABORTED: frozenset({FailureClass.HANDSHAKE_RESET}),
    VerdictId.RESET_BEFORE_DATA: frozenset({FailureClass.RESET_EARLY, FailureClass.HANDSHAKE_RESET}),
    VerdictId.CLOSED_BEFORE_DATA: frozenset({FailureClass.CLOSED_EARLY}),
    VerdictId.RESET_DURING_STARTUP: frozenset({FailureClass.RESET_EARLY}),
    VerdictId.CLOSED_DURING_STARTUP: frozenset({FailureClass.CLOSED_EARLY}),
    VerdictId.STARTUP_TIMEOUT: _BOTH_EARLY,
    VerdictId.STARTUP_REJECTED: _BOTH_EARLY,
    VerdictId.TLS_REJECTED: _BOTH_EARLY,
    VerdictId.TLS_TIMEOUT: _BOTH_EARLY,
    VerdictId.WRONG_PROTOCOL: _BOTH_EARLY,
    VerdictId.RESET_MID_REQUEST: frozenset({FailureClass.RESET_EARLY, FailureClass.RESET}),
    VerdictId.RESET_IDLE: frozenset({FailureClass.RESET}),
    VerdictId.PORT_REUSE_CONFLICT: frozenset({FailureClass.REFUSED, FailureClass.NO_ANSWER}),
}

_NO_FAILURE = "it is no failure"
_NOT_IN_CONTROL_PACKETS = "it shows only in data packets, which the wire detector does not read"
_LIKE_ANY_CLOSE = "without the payload it looks like any other close"

_REFUSED_BECAUSE = {
    VerdictId.OK: _NO_FAILURE,
    VerdictId.PARTIAL: _NO_FAILURE,
    VerdictId.PROBE: _NO_FAILURE,
    VerdictId.LOSSY: _NO_FAILURE,
    VerdictId.SLOW_START: _NO_FAILURE,
    VerdictId.CLOSED_MID_REQUEST: _LIKE_ANY_CLOSE,
    VerdictId.CLOSED_IDLE: _LIKE_ANY_CLOSE,
    VerdictId.SESSION_TERMINATED: _LIKE_ANY_CLOSE,
    VerdictId.PEER_VANISHED: _NOT_IN_CONTROL_PACKETS,
    VerdictId.ZERO_WINDOW_STALL: _NOT_IN_CONTROL_PACKETS,
    VerdictId.MTU_BLACK_HOLE: _NOT_IN_CONTROL_PACKETS,
    VerdictId.DNS_FAILED: "the wire detector reads DNS answers only to follow names",
}


def classes_for(name: str) -> frozenset[FailureClass]:
    """The classes that a class's or a verdict's name stands for: more clips than asked for, never fewer.

    Raises:
        UsageError: there is no such name, or control packets cannot show that verdict.
    """
    if name in frozenset(FailureClass):
        return frozenset({FailureClass(name)})
    if name not in frozenset(VerdictId):
        known = ", ".join([*FailureClass, *_OF_VERDICT])
        raise UsageError(f"--on {name}: no such class or verdict; there are {known}, and none")
    verdict = VerdictId(name)
    if verdict in _REFUSED_BECAUSE:
        classes = ", ".join(FailureClass)
        raise UsageError(
            f"--on {name} cannot be a trigger: {_REFUSED_BECAUSE[verdict]}; "
            f"name one of {classes}, or use `podcam clip` when it happens"
        )
    return _OF_VERDICT[verdict]


@dataclass(frozen=True, slots=True)
class Policy:
    """What the wire detector reports, and the bounds that its rules use."""

    classes: frozenset[FailureClass] = DEFAULT_CLASSES
    """Classes that are reported; the others are only counted."""
    exempt_habits: bool = True
    """Whether an end that is usual between this client and this server is no failure."""
    early_ns: int = 30 * _SECOND
    """What takes longer is not early: slower start-ups exist, but so do idle timeouts of 30 s and more."""
    early_bytes: int = 16 * 1024
    """A server that sent more has answered: a TLS handshake with a long certificate chain stays below."""
    no_answer_ns: int = 3_500_000_000
    """Silence since the first SYN; the third SYN goes out after 3 s and gets half a second."""
    grace_ns: int = 1 * _SECOND
    """How long a refused connect waits for a parallel one that succeeds, which makes it harmless."""
    max_connections: int = 65_536
    """Connections in the table, about 0.5 kB each."""
    max_starting: int = 16_384
    """Connections of the last `no_answer_ns`; under a SYN flood the oldest are forgotten, and counted."""
    max_servers: int = 4_096
    """Servers that are counted, and pairs of client and server whose habits are known."""
