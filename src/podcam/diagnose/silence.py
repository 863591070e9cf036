"""A side that stops taking part without a word."""

from itertools import pairwise

from podcam.diagnose.context import Context
from podcam.diagnose.transcript import Segment, Transcript
from podcam.diagnose.wording import byte_count, duration, times
from podcam.model.diagnosis import Verdict
from podcam.model.verdict import Fault, Phase, VerdictId
from podcam.wire.stream import Side, Span

_RETRANSMISSIONS = 3
"""Fewer can be the loss of a single packet."""


def peer_vanished(seen: Transcript, _context: Context) -> Verdict | None:
    """Data retransmitted with back-off, and no packet at all from the other side."""
    for side in Side:
        last = seen.last_segment(side)
        if last is None or not seen.established:
            continue
        carriers = [segment for segment in seen.sent(side) if segment.start <= last.start < segment.end]
        first = carriers[0]
        answered = seen.quiet_since(side.other)
        if answered is not None and answered > first.packet.time_ns:
            continue
        unacknowledged = _oldest_unacknowledged(seen, side) or first
        again = seen.retransmissions(Span(side, unacknowledged.start, unacknowledged.end))
        if len(again) < _RETRANSMISSIONS or not _backs_off([packet.time_ns for packet in again]):
            continue
        return _verdict(seen, side, unacknowledged, again[-1].time_ns)
    return None


def _oldest_unacknowledged(seen: Transcript, side: Side) -> Segment | None:
    return next(
        (s for s in seen.sent(side) if seen.acknowledgement(Span(side, s.start, s.end)) is None), None
    )


def _backs_off(times_ns: list[int]) -> bool:
    """RFC 6298, section 5.5: each wait is about twice the one before."""
    waits = [later - earlier for earlier, later in pairwise(times_ns)]
    return all(later >= earlier * 1.5 for earlier, later in pairwise(waits))


def _verdict(seen: Transcript, side: Side, segment: Segment, last_ns: int) -> Verdict:
    again = seen.retransmissions(Span(side, segment.start, segment.end))
    silent = side.other
    heard = seen.quiet_since(silent)
    quiet = last_ns - (heard if heard is not None else segment.packet.time_ns)
    candidates = [
        f"the {silent}, or its host, is gone without a word",
        "a device on the way drops the connection's packets (a lost NAT or conntrack entry, a firewall)",
    ]
    if seen.conversation.capture_dropped:
        candidates.append("the answers are among the packets that the capture lost")
    return Verdict(
        VerdictId.PEER_VANISHED,
        failed=True,
        fault=Fault(silent.value) if side is Side.SERVER else Fault.UNKNOWN,
        phase=seen.standing.phase if seen.standing.phase is not Phase.HANDSHAKE else Phase.DATA,
        summary=f"The {side} sent {byte_count(segment.end - segment.start)}, repeated them "
        f"{times(len(again))}, and heard nothing of the {silent} for {duration(quiet)}.",
        evidence=(
            seen.evidence(segment.packet, "data that is never acknowledged"),
            *(seen.evidence(packet, "retransmission") for packet in again),
        ),
        candidates=tuple(candidates),
    )
