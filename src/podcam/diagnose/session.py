"""The phases `ready`, `request`, `idle` and `data`: how a connection that worked comes to its end."""

from dataclasses import replace

from podcam.diagnose.context import Context
from podcam.diagnose.standing import Utterance
from podcam.diagnose.suspects import other_sender
from podcam.diagnose.transcript import Ending, Manner, Segment, Transcript
from podcam.diagnose.wording import byte_count, duration
from podcam.model.connection import Packet
from podcam.model.diagnosis import Evidence, Verdict
from podcam.model.verdict import Fault, Phase, Protocol, VerdictId
from podcam.wire.stream import Side

_SECOND = 1_000_000_000

LONG_SILENCE_NS = 10 * _SECOND
"""After this long without data a connection counts as idle."""
_GOODBYE_NS = _SECOND
"""A client that leaves sooner after its own last words did not wait for an answer to them."""
_EARLY_NS = 30 * _SECOND
"""Within this time a server that was told something, says nothing and leaves is taken to have failed."""

# Idle timeouts that are documented by those who have them.
_IDLE_TIMEOUTS = (
    (240 * _SECOND, "Azure load balancer, 4 min"),
    (350 * _SECOND, "AWS NLB or NAT gateway, 350 s"),
    (1200 * _SECOND, "Google Cloud, 20 min"),
    (1800 * _SECOND, "RDS Proxy, 30 min"),
)

_CANCEL_REQUEST = 16
"""Bytes, with the key of protocol 3.0."""
_TERMINATE = b"X\x00\x00\x00\x04"
_ENCRYPTED_GOODBYES = {22, 19, 29, 26}
"""Lengths of TLS records with a Terminate or an alert inside: in TLS 1.3, and in 1.2 with AES-GCM."""


def end_not_captured(seen: Transcript, _context: Context) -> Verdict | None:
    """Who ended it first is not in the capture."""
    ending = seen.ending
    if ending is None or not seen.established or not seen.other_end_missing:
        return None
    summary = f"The capture lacks the packet with which the {ending.side.other} ended the connection."
    return replace(_good(seen, summary), id=VerdictId.PARTIAL)


def terminated(seen: Transcript, _context: Context) -> Verdict | None:
    """An error ends a session that was ready."""
    error = seen.standing.error
    if error is None or not seen.standing.started:
        return None
    return _failed(
        seen,
        VerdictId.SESSION_TERMINATED,
        Fault.SERVER,
        f"The server ended the session: {error.severity} {error.sqlstate} {error.message}".rstrip() + ".",
        seen.said(Utterance("ErrorResponse", error.span), f"ErrorResponse {error.sqlstate}") + seen.ended(),
    )


def said_goodbye(seen: Transcript, _context: Context) -> Verdict | None:
    """The end that the protocol provides for: what TCP does after it is no failure."""
    standing = seen.standing
    goodbye = standing.goodbye
    if goodbye is None or standing.starting:
        return None
    if goodbye.side is Side.SERVER and (
        standing.protocol is Protocol.POSTGRESQL or not standing.answered or _pending(seen)
    ):
        return None
    ended = f", then {seen.ending.manner} of the {seen.ending.side}" if seen.ending else ""
    said = f"as the protocol provides: {goodbye.what}{ended}."
    if not seen.conversation.syn_seen:
        return replace(_good(seen, f"It began before the capture, and ended {said}"), id=VerdictId.PARTIAL)
    return _good(seen, f"Ended by the {goodbye.side} {said}")


def reset(seen: Transcript, context: Context) -> Verdict | None:
    """RST: while an answer is pending, in answer to the first data after a silence, or out of the blue."""
    ending = seen.ending
    if ending is None or ending.manner is not Manner.RST or _saw_nothing_before(seen, ending):
        return None
    pending = _pending(seen)
    said = seen.first_packet_of(pending.span) if pending else None
    if pending is not None and said is not None:
        return _reset_pending(seen, ending, pending, said)
    if ending.side is Side.CLIENT:
        return None
    if context.resets_by_habit:
        return _good(seen, "The server ended the connection with RST after its answer, as it usually does.")
    return _reset_unasked(seen, ending)


def closed(seen: Transcript, _context: Context) -> Verdict | None:
    """FIN: while an answer is pending, or on an idle session."""
    ending = seen.ending
    if ending is None or ending.manner is not Manner.FIN:
        return None
    pending = _pending(seen)
    known = seen.standing.protocol is Protocol.POSTGRESQL and seen.standing.started
    if pending is not None and (known or _left_unanswered(seen, ending)):
        return _failed(
            seen,
            VerdictId.CLOSED_MID_REQUEST,
            Fault(ending.side.value),
            f"The {ending.side} closed the connection {duration(_since(seen, pending, ending.packet))} after "
            f"{_the(pending)}, before it was answered.",
            seen.said(pending) + seen.acknowledged(pending) + seen.ended(),
            candidates=_CLOSED_CANDIDATES[ending.side],
        )
    if known and ending.side is Side.SERVER:
        return _closed_idle(seen, ending)
    return None


def _closed_idle(seen: Transcript, ending: Ending) -> Verdict:
    silence = _silence_before(seen, ending.packet)
    later = seen.sent_after_ending(Side.CLIENT)
    failed = later is not None and not _is_goodbye(later, encrypted=seen.standing.encrypted)
    summary = f"The server closed the idle session {duration(silence)} after its last data"
    summary += _near_timeout(silence, exact=True)
    evidence = _before_silence(seen, ending.packet) + seen.ended()
    if failed and later is not None:
        summary += f", and the client sent {byte_count(later.end - later.start)} after that"
        evidence += (seen.evidence(later.packet, "the client's data after the FIN"),)
    return Verdict(
        VerdictId.CLOSED_IDLE,
        failed=failed,
        fault=Fault.SERVER if failed else Fault.NONE,
        phase=seen.standing.phase,
        summary=summary + ".",
        evidence=evidence,
        candidates=("an idle timeout of the server or of a proxy", "the server was stopped"),
    )


_CLOSED_CANDIDATES = {
    Side.SERVER: (
        "the server process ended, or was stopped",
        "a proxy or load balancer in between lost its backend",
    ),
    Side.CLIENT: ("the client gave up waiting, or was stopped",),
}


def _reset_pending(seen: Transcript, ending: Ending, pending: Utterance, said: Packet) -> Verdict | None:
    silence = _silence_before(seen, said)
    if ending.side is Side.SERVER and silence >= LONG_SILENCE_NS:
        return _reset_after_silence(seen, pending, said, silence)
    if ending.side is Side.CLIENT and _may_be_goodbye(seen, ending, said):
        return None
    return _reset_mid_request(seen, ending, pending)


def _reset_after_silence(seen: Transcript, pending: Utterance, said: Packet, silence: int) -> Verdict:
    return _failed(
        seen,
        VerdictId.RESET_IDLE,
        Fault.SERVER,
        f"The server answered the first data after a silence of {duration(silence)} with RST"
        f"{_near_timeout(silence, exact=False)}.",
        _before_silence(seen, said) + seen.said(pending) + seen.ended(),
        phase=Phase.IDLE,
        candidates=("an idle timeout of the server or of a device in between, which forgot the connection",),
    )


def _reset_unasked(seen: Transcript, ending: Ending) -> Verdict:
    silence = _silence_before(seen, ending.packet)
    idle = seen.standing.started or silence >= LONG_SILENCE_NS
    return _failed(
        seen,
        VerdictId.RESET_IDLE if idle else VerdictId.RESET_MID_REQUEST,
        Fault.SERVER,
        f"The server reset the connection {duration(silence)} after the last data, with nothing asked since"
        f"{_near_timeout(silence, exact=True)}.",
        _before_silence(seen, ending.packet) + seen.ended(),
        candidates=("an idle timeout", "the server, or a proxy in between, was stopped")
        if idle
        else ("its answer was not complete", "the server ends connections with RST by habit"),
    )


def _reset_mid_request(seen: Transcript, ending: Ending, pending: Utterance) -> Verdict:
    acknowledgement = seen.acknowledgement(pending.span)
    acknowledged = acknowledgement is not None and acknowledgement.frame <= ending.packet.frame
    state = "acknowledged" if acknowledged else "not acknowledged"
    by_server = ending.side is Side.SERVER
    return _failed(
        seen,
        VerdictId.RESET_MID_REQUEST,
        Fault(ending.side.value),
        f"The {ending.side} reset the connection {duration(_since(seen, pending, ending.packet))} after "
        f"{_the(pending)}, which was {state} and not answered; the server had sent "
        f"{byte_count(seen.bytes_sent(Side.SERVER))} in all.",
        seen.said(pending) + seen.acknowledged(pending) + seen.ended(),
        candidates=(_CLOSED_CANDIDATES[ending.side] + (other_sender(seen, ending) if by_server else ())),
    )


def _saw_nothing_before(seen: Transcript, ending: Ending) -> bool:
    """Whether nothing is known of what it ends: it began before the capture, and no data was seen."""
    return not seen.conversation.syn_seen and seen.last_data_before(ending.packet) is None


def _pending(seen: Transcript) -> Utterance | None:
    """What the client said and the server has not answered."""
    said = seen.standing.unanswered
    return said if said is not None and said.side is Side.CLIENT else None


def _left_unanswered(seen: Transcript, ending: Ending) -> bool:
    """For protocols that are not known: the server leaves early, told something, without a word."""
    conversation = seen.conversation
    return (
        ending.side is Side.SERVER
        and conversation.syn_seen
        and not seen.standing.answered
        and not _may_be_cancel_request(seen)
        and ending.packet.time_ns - conversation.start_ns <= _EARLY_NS
    )


def _may_be_cancel_request(seen: Transcript) -> bool:
    """Whether what the client said was not captured, but has the size of PostgreSQL's CancelRequest."""
    return not seen.heads[Side.CLIENT] and seen.bytes_sent(Side.CLIENT) == _CANCEL_REQUEST


def _may_be_goodbye(seen: Transcript, ending: Ending, said: Packet) -> bool:
    """For protocols that are not known: whether a client leaves as soon as it has said its last words."""
    return not seen.standing.started and ending.packet.time_ns - said.time_ns < _GOODBYE_NS


def _is_goodbye(segment: Segment, *, encrypted: bool) -> bool:
    """Whether what a client sends to a server that has left is only its goodbye."""
    payload = segment.packet.payload
    if encrypted:
        return len(payload) >= 5 and int.from_bytes(payload[3:5]) in _ENCRYPTED_GOODBYES
    return payload == _TERMINATE


def _silence_before(seen: Transcript, packet: Packet) -> int:
    last = seen.last_data_before(packet)
    return packet.time_ns - (last.time_ns if last else seen.conversation.start_ns)


def _before_silence(seen: Transcript, packet: Packet) -> tuple[Evidence, ...]:
    last = seen.last_data_before(packet)
    return (seen.evidence(last, "last data before the silence"),) if last else ()


def _near_timeout(silence: int, *, exact: bool) -> str:
    """The documented idle timeout that a silence is near to.

    A device that forgets a connection resets it when data comes, any time later; one that ends it does so
    when the time is up.
    """
    for timeout, name in _IDLE_TIMEOUTS:
        latest = timeout + (5 * _SECOND if exact else timeout // 4)
        if timeout - _SECOND <= silence <= latest:
            return f" (near a known idle timeout: {name})"
    return ""


def _since(seen: Transcript, pending: Utterance, packet: Packet) -> int:
    said = seen.first_packet_of(pending.span)
    return packet.time_ns - said.time_ns if said else 0


def _the(utterance: Utterance) -> str:
    return str(utterance) if utterance.what.startswith("client's") else f"the {utterance}"


def _good(seen: Transcript, summary: str) -> Verdict:
    return Verdict(VerdictId.OK, failed=False, fault=Fault.NONE, phase=seen.standing.phase, summary=summary)


def _failed(
    seen: Transcript,
    verdict: VerdictId,
    fault: Fault,
    summary: str,
    evidence: tuple[Evidence, ...],
    *,
    phase: Phase | None = None,
    candidates: tuple[str, ...] = (),
) -> Verdict:
    return Verdict(
        verdict,
        failed=True,
        fault=fault,
        phase=phase or seen.standing.phase,
        summary=summary,
        evidence=evidence,
        candidates=candidates,
    )
