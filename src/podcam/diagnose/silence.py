"""A side that stops taking part without a word."""

from itertools import pairwise

from podcam.diagnose.context import Context
from podcam.diagnose.transcript import Segment, Transcript
from podcam.diagnose.wording import byte_count, duration, times
from podcam.model.connection import Packet
from podcam.model.diagnosis import Verdict
from podcam.model.verdict import Fault, Phase, VerdictId
from podcam.wire.stream import Side, Span

_RETRANSMISSIONS = 3
"""Fewer can be the loss of a single packet."""
_NEAR_MTU = 1200
"""Payload bytes from which on a segment may be too large for a link (IPv6's smallest MTU is 1280)."""


def peer_vanished(seen: Transcript, _context: Context) -> Verdict | None:
    """Data retransmitted with back-off, and no packet at all from the other side."""
    for side in Side:
        segment = _oldest_unacknowledged(seen, side)
        if segment is None or not seen.established:
            continue
        heard = seen.quiet_since(side.other)
        if heard is not None and heard > segment.packet.time_ns:
            continue
        again = seen.retransmissions(Span(side, segment.start, segment.end))
        if len(again) < _RETRANSMISSIONS or not _backs_off([packet.time_ns for packet in again]):
            continue
        if _only_small_ones_arrive(seen, side, segment):
            return _black_hole(seen, side, segment, again)
        return _vanished(seen, side, segment, again)
    return None


def _oldest_unacknowledged(seen: Transcript, side: Side) -> Segment | None:
    return next(
        (s for s in seen.sent(side) if seen.acknowledgement(Span(side, s.start, s.end)) is None), None
    )


def _backs_off(times_ns: list[int]) -> bool:
    """RFC 6298, section 5.5: each wait is about twice the one before."""
    waits = [later - earlier for earlier, later in pairwise(times_ns)]
    return all(later >= earlier * 1.5 for earlier, later in pairwise(waits))


def _only_small_ones_arrive(seen: Transcript, side: Side, lost: Segment) -> bool:
    """Whether what is lost is as large as a path's MTU, and smaller segments of the side had arrived."""
    size = lost.end - lost.start
    arrived = [
        segment.end - segment.start
        for segment in seen.sent(side)
        if seen.acknowledgement(Span(side, segment.start, segment.end)) is not None
    ]
    return size >= _NEAR_MTU and bool(arrived) and max(arrived) < size


def _vanished(seen: Transcript, side: Side, segment: Segment, again: list[Packet]) -> Verdict:
    silent = side.other
    heard = seen.quiet_since(silent)
    quiet = again[-1].time_ns - (heard if heard is not None else segment.packet.time_ns)
    return _verdict(
        seen,
        VerdictId.PEER_VANISHED,
        Fault.CLIENT if silent is Side.CLIENT else Fault.UNKNOWN,
        f"The {side} sent {byte_count(segment.end - segment.start)}, repeated them {times(len(again))}, "
        f"and heard nothing of the {silent} for {duration(quiet)}.",
        segment,
        again,
        (
            f"the {silent}, or its host, is gone without a word",
            "a device on the way drops the connection's packets (a lost NAT or conntrack entry, a firewall)",
        ),
    )


def _black_hole(seen: Transcript, side: Side, segment: Segment, again: list[Packet]) -> Verdict:
    size = segment.end - segment.start
    return _verdict(
        seen,
        VerdictId.MTU_BLACK_HOLE,
        Fault.NETWORK,
        f"Smaller segments of the {side} were acknowledged, but one of {byte_count(size)}, sent "
        f"{times(len(again) + 1)}, never was.",
        segment,
        again,
        (
            "a link on the way has a smaller MTU, and its ICMP errors are dropped",
            f"the {side.other}, or its host, is gone without a word",
        ),
    )


def _verdict(
    seen: Transcript,
    verdict: VerdictId,
    fault: Fault,
    summary: str,
    segment: Segment,
    again: list[Packet],
    candidates: tuple[str, ...],
) -> Verdict:
    if seen.conversation.capture_dropped:
        candidates += ("the answers are among the packets that the capture lost",)
    return Verdict(
        verdict,
        failed=True,
        fault=fault,
        phase=seen.standing.phase if seen.standing.phase is not Phase.HANDSHAKE else Phase.DATA,
        summary=summary,
        evidence=(
            seen.evidence(segment.packet, "data that is never acknowledged"),
            *(seen.evidence(packet, "retransmission") for packet in again),
        ),
        candidates=candidates,
    )
