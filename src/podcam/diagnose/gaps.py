"""Care with connections that were not recorded for a part of their time.

What happened in a gap nobody knows: silence there is nobody's, and segments that seem lost may have passed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from podcam.diagnose.wording import duration
from podcam.model.diagnosis import Verdict
from podcam.model.point import Gap
from podcam.model.verdict import Fault, VerdictId

SILENT: Final = frozenset(
    {
        VerdictId.CONNECT_TIMEOUT,
        VerdictId.HANDSHAKE_INCOMPLETE,
        VerdictId.HANDSHAKE_ABORTED,
        VerdictId.STARTUP_TIMEOUT,
        VerdictId.TLS_TIMEOUT,
        VerdictId.PEER_VANISHED,
        VerdictId.ZERO_WINDOW_STALL,
        VerdictId.MTU_BLACK_HOLE,
        VerdictId.PORT_REUSE_CONFLICT,
    }
)
"""Verdicts that rest on what did not come, or came late."""

EDGE_NS: Final = 500_000_000
"""So long before a gap packets may be missing already: those that a killed recorder had not yet written."""

_ANSWER_NS: Final = 1_000_000_000
"""How long after the last packet the answer could still have come."""


@dataclass(frozen=True, slots=True)
class Span:
    """When a connection was seen, in nanoseconds since 1970 UTC.

    `ended` tells whether a FIN or RST was; `from_start` whether its SYN was.
    """

    first_ns: int
    last_ns: int
    ended: bool
    from_start: bool


def with_gaps(verdict: Verdict, span: Span, gaps: Sequence[Gap]) -> Verdict:
    """The verdict, as far as it stands although nothing was recorded in the gaps of the point."""
    if verdict.id in SILENT:
        since = min((proof.time_ns for proof in verdict.evidence), default=span.first_ns)
        until = span.last_ns + (0 if span.ended else _ANSWER_NS + EDGE_NS)
        if silent := _overlapping(gaps, since, until):
            return _not_known(verdict, silent)
        return verdict
    if within := _overlapping(gaps, span.first_ns, span.last_ns):
        return _with_care(verdict, within)
    if not span.from_start and any(gap.until_ns <= span.first_ns for gap in gaps):
        return _add(verdict, "Its beginning may lie in a gap of the recording.")
    if not span.ended and any(gap.since_ns >= span.last_ns for gap in gaps):
        return _add(verdict, "Its end may lie in a gap of the recording.")
    return verdict


def _overlapping(gaps: Sequence[Gap], since_ns: int, until_ns: int) -> list[Gap]:
    return [gap for gap in gaps if gap.since_ns < until_ns and gap.until_ns > since_ns]


def _not_known(verdict: Verdict, gaps: Sequence[Gap]) -> Verdict:
    """What seems to be missing was perhaps there: nobody is to blame."""
    return replace(
        verdict,
        id=VerdictId.PARTIAL,
        failed=False,
        fault=Fault.NONE,
        summary=f"What seems to be missing may lie in a gap: {_told(gaps)}. Seen was this: {verdict.summary}",
        candidates=(),
    )


def _with_care(verdict: Verdict, gaps: Sequence[Gap]) -> Verdict:
    added = f"But {_told(gaps)}: what seems lost, unanswered or silent there may have been sent."
    if not verdict.failed:
        return _add(verdict, added)
    return replace(
        _add(verdict, added),
        candidates=(*verdict.candidates, "something that passed while nothing was recorded explains it"),
    )


def _add(verdict: Verdict, sentence: str) -> Verdict:
    return replace(verdict, summary=f"{verdict.summary} {sentence}")


def _told(gaps: Sequence[Gap]) -> str:
    lasted = duration(sum(gap.until_ns - gap.since_ns for gap in gaps))
    reasons = ", ".join(dict.fromkeys(gap.reason for gap in gaps))
    return f"nothing was recorded for {lasted} of this time ({reasons})"
