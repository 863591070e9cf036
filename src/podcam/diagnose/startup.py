"""The phases `tls`, `startup` and `authentication`: from the first byte until the session is ready."""

from podcam.diagnose.context import Context
from podcam.diagnose.standing import CONSENT_TO_TLS, Utterance
from podcam.diagnose.suspects import other_sender
from podcam.diagnose.transcript import Ending, Manner, Transcript
from podcam.diagnose.wording import byte_count, duration
from podcam.model.diagnosis import Evidence, Verdict
from podcam.model.verdict import Fault, Phase, Protocol, VerdictId
from podcam.wire.stream import Side

GAVE_UP_NS = 1_000_000_000
"""A side that ends a connection later than this after its own words had waited for an answer."""

_SERVER_CANDIDATES = (
    "a proxy or load balancer in between lost its backend, or is at a limit",
    "the server is shutting down, or its start-up timed out",
    "the start-up packet was not acceptable (logged by the server only)",
)
_NOTHING_SAID_IN_TLS = (
    "the client did not accept the server's certificate or name",
    "a health check that goes as far as TLS",
)
_CLIENT_CANDIDATES = ("the client was stopped, or its own timeout is short",)

# Bytes that give away another protocol.
_FOREIGN = {
    b"HTTP/": "HTTP",
    b"GET ": "HTTP",
    b"POST ": "HTTP",
    b"HEAD ": "HTTP",
    b"PUT ": "HTTP",
    b"OPTIONS ": "HTTP",
    b"SSH-": "SSH",
    b"220": "SMTP or FTP",
    b"\x16\x03": "TLS",
    b"\x15\x03": "TLS",
}


def cancelled(seen: Transcript, _context: Context) -> Verdict | None:
    """A CancelRequest never gets an answer (PostgreSQL, "Canceling Requests in Progress")."""
    standing = seen.standing
    if standing.cancel is None:
        return None
    return _verdict(
        seen,
        VerdictId.OK,
        Fault.NONE,
        f"{'Presumably a' if standing.encrypted else 'A'} CancelRequest, which the server never answers.",
        *seen.said(standing.cancel),
    )


def rejected(seen: Transcript, _context: Context) -> Verdict | None:
    """An error message ends the start-up."""
    standing = seen.standing
    if standing.error is None or standing.started:
        return None
    error = standing.error
    said = Utterance("ErrorResponse", error.span)
    return _verdict(
        seen,
        VerdictId.STARTUP_REJECTED,
        Fault.SERVER,
        f"The server rejected the start-up: {error.severity} {error.sqlstate} {error.message}".rstrip() + ".",
        *seen.said(standing.opening),
        *seen.said(said, f"ErrorResponse {error.sqlstate}"),
    )


def tls_rejected(seen: Transcript, _context: Context) -> Verdict | None:
    """A TLS alert ends the handshake, or the client leaves because TLS is refused."""
    standing = seen.standing
    if standing.rejection is not None:
        said, alert = standing.rejection.utterance, standing.rejection.alert
        return _verdict(
            seen,
            VerdictId.TLS_REJECTED,
            Fault(said.side.value),
            f"The {said.side} ended the TLS handshake with an alert ({alert}).",
            *seen.said(standing.opening),
            *seen.said(said),
            candidates=_alert_candidates(said.side),
        )
    refusal, ending = standing.encryption_refused, seen.ending
    if refusal is None or ending is None or ending.side is Side.SERVER:
        return None
    return _verdict(
        seen,
        VerdictId.TLS_REJECTED,
        Fault.SERVER,
        "The server refused encryption, and the client left: it insists on it.",
        *seen.said(standing.opening),
        *seen.said(refusal),
        *seen.ended(),
        candidates=("the server has TLS off", "a proxy or pooler without TLS is in between"),
    )


def wrong_protocol(seen: Transcript, context: Context) -> Verdict | None:
    """The two sides do not speak the same protocol."""
    standing = seen.standing
    if standing.foreign is not None and not standing.started:
        answer = named_by(seen.heads[Side.SERVER])
        spoken = "PostgreSQL" if standing.protocol is Protocol.POSTGRESQL else "TLS"
        return _verdict(
            seen,
            VerdictId.WRONG_PROTOCOL,
            Fault.UNKNOWN,
            f"The client speaks {spoken}, and the server answers with {answer or 'something else'}.",
            *seen.said(standing.opening),
            *seen.said(standing.foreign),
        )
    spoken_by_client = named_by(seen.heads[Side.CLIENT])
    if (
        spoken_by_client is None
        or standing.protocol is Protocol.POSTGRESQL
        or context.protocol is not Protocol.POSTGRESQL
        or seen.ending is None
        or (standing.protocol is Protocol.TLS and seen.bytes_sent(Side.SERVER))
    ):
        return None
    return _verdict(
        seen,
        VerdictId.WRONG_PROTOCOL,
        Fault.CLIENT,
        f"The client speaks {spoken_by_client} to a server that speaks PostgreSQL.",
        *_first_words(seen),
        *seen.ended(),
    )


def left_when_asked(seen: Transcript, _context: Context) -> Verdict | None:
    """The client leaves when the server first says something, and it is its turn: a health check, or a person
    who must type a password first.
    """
    standing, ending = seen.standing, seen.ending
    request, opening = standing.unanswered, standing.opening
    if ending is None or ending.side is Side.SERVER or request is None or request.side is Side.CLIENT:
        return None
    if standing.phase is Phase.TLS and request.what == CONSENT_TO_TLS:
        said = "The client left when the server had agreed to TLS, as a health check may."
    elif standing.phase is Phase.AUTHENTICATION and not _reacted(seen, opening):
        said = "The client left when asked to authenticate, as pg_isready does, and psql before it prompts."
    else:
        return None
    return _verdict(seen, VerdictId.OK, Fault.NONE, said, *seen.said(request), *seen.ended())


def _reacted(seen: Transcript, opening: Utterance | None) -> bool:
    """Whether the client said more than its StartupMessage."""
    if seen.standing.encrypted or opening is None:
        return seen.standing.client_reacted
    return seen.bytes_sent(Side.CLIENT) > opening.span.end


def timed_out(seen: Transcript, _context: Context) -> Verdict | None:
    """One side waited for an answer that never came, and gave up."""
    standing, ending = seen.standing, seen.ending
    said = standing.unanswered
    if not standing.starting or ending is None or said is None or said.side is not ending.side:
        return None
    if standing.perhaps_answer is not None:
        return None
    spoken = seen.first_packet_of(said.span)
    acknowledgement = seen.acknowledgement(said.span)
    if spoken is None or acknowledgement is None:
        return None
    waited = ending.packet.time_ns - spoken.time_ns
    if waited < GAVE_UP_NS:
        return None
    silent = said.side.other
    in_tls = standing.phase is Phase.TLS
    return _verdict(
        seen,
        VerdictId.TLS_TIMEOUT if in_tls else VerdictId.STARTUP_TIMEOUT,
        Fault(silent.value),
        f"The {silent} acknowledged the {said}, but did not answer it for {duration(waited)}; "
        f"the {ending.side} gave up with {ending.manner}.",
        *seen.said(said),
        *seen.acknowledged(said),
        *seen.ended(),
        candidates=(
            "the server or its proxy is overloaded, or waits for its backend",
            "an answer was lost on the way, or never captured",
        )
        if silent is Side.SERVER
        else ("the client hangs, or was paused",),
    )


def broken_off(seen: Transcript, _context: Context) -> Verdict | None:
    """RST, or FIN without an error message, while the start-up is unfinished."""
    standing, ending = seen.standing, seen.ending
    if not standing.starting or ending is None:
        return None
    if standing.goodbye is not None and standing.goodbye.side is Side.SERVER:
        return _ended_encrypted(seen, standing.goodbye)
    opening = standing.opening
    last = standing.unanswered or opening
    unseen = standing.perhaps_answer is not None or (
        standing.encrypted and standing.unanswered is not None and standing.unanswered.side is Side.SERVER
    )
    reset = ending.manner is Manner.RST
    return _verdict(
        seen,
        VerdictId.RESET_DURING_STARTUP if reset else VerdictId.CLOSED_DURING_STARTUP,
        Fault.UNKNOWN if unseen and ending.side is Side.CLIENT else Fault(ending.side.value),
        _broken_off_sentence(seen, ending),
        *seen.said(opening),
        *(seen.said(last) if last != opening else ()),
        *(seen.acknowledged(last) if last and last.side is not ending.side else ()),
        *seen.said(standing.perhaps_answer, "encrypted record of the server: a session ticket, or an answer"),
        *seen.ended(),
        candidates=_broken_off_candidates(seen, ending, unseen=unseen),
    )


def _broken_off_candidates(seen: Transcript, ending: Ending, *, unseen: bool) -> tuple[str, ...]:
    hidden = ("an error message, which cannot be seen in what is encrypted",) if unseen else ()
    if ending.side is Side.SERVER:
        return hidden + _SERVER_CANDIDATES + other_sender(seen, ending)
    if seen.standing.encrypted and seen.standing.unanswered is None:
        return _NOTHING_SAID_IN_TLS
    return hidden + _CLIENT_CANDIDATES


def _ended_encrypted(seen: Transcript, goodbye: Utterance) -> Verdict:
    """The server ends TLS in the start-up: what TCP does after that, and who does it first, is no matter."""
    standing = seen.standing
    last = standing.perhaps_answer or standing.unanswered
    answered = last is not None and last.side is Side.SERVER
    said = (
        f"answered with {byte_count(len(last.span))} encrypted and"
        if last and answered
        else "did not answer, and"
    )
    return _verdict(
        seen,
        VerdictId.CLOSED_DURING_STARTUP,
        Fault.SERVER,
        f"The server {said} ended TLS before the start-up was complete.",
        *seen.said(standing.opening),
        *(seen.said(last) if last != standing.opening else ()),
        *seen.said(goodbye),
        *seen.ended(),
        candidates=(
            "an error message, or the reason in a TLS alert, which cannot be seen in what is encrypted",
            *_SERVER_CANDIDATES,
        ),
    )


def named_by(head: bytes) -> str | None:
    """The protocol that a side's first bytes give away, other than PostgreSQL."""
    return next((name for prefix, name in _FOREIGN.items() if head.startswith(prefix[:8])), None)


def _broken_off_sentence(seen: Transcript, ending: Ending) -> str:
    """What was acknowledged, how it ended and when, and how much the side that ended it had said."""
    how = "reset the connection" if ending.manner is Manner.RST else "closed the connection"
    having = _having_sent(seen, ending.side)
    last = seen.standing.unanswered or seen.standing.opening
    spoken = seen.first_packet_of(last.span) if last else None
    if last is None or spoken is None:
        return f"The {ending.side} {how} during the start-up, {having}."
    later = duration(max(0, ending.packet.time_ns - spoken.time_ns))
    if last.side is ending.side:
        waiting = ", before it was answered" if seen.standing.unanswered else ", and said nothing more"
        return f"The {ending.side} sent the {last} and {how} {later} later{waiting}."
    acknowledgement = seen.acknowledgement(last.span)
    if acknowledgement is None or acknowledgement.frame > ending.packet.frame:
        return f"The {ending.side} {how} {later} after the {last}, without acknowledging it, {having}."
    return f"The {ending.side} acknowledged the {last} and {how} {later} after it, {having}."


def _having_sent(seen: Transcript, side: Side) -> str:
    sent, standing = seen.bytes_sent(side), seen.standing
    if sent == 0:
        return "having sent nothing"
    if side is Side.SERVER and standing.encrypted and standing.phase is Phase.STARTUP:
        what = "TLS's handshake and one record" if standing.perhaps_answer else "TLS's handshake and tickets"
        return f"having sent nothing but {what} ({byte_count(sent)})"
    return f"having sent {byte_count(sent)} in all"


def _alert_candidates(side: Side) -> tuple[str, ...]:
    if side is Side.CLIENT:
        return (
            "the client does not trust the server's certificate or name",
            "no common TLS version or cipher",
        )
    return (
        "the server wants another TLS version, cipher or name",
        "the client's certificate is missing or refused",
    )


def _first_words(seen: Transcript) -> list[Evidence]:
    segments = seen.sent(Side.CLIENT)
    return [seen.evidence(segments[0].packet, "the client's first data")] if segments else []


def _verdict(
    seen: Transcript,
    verdict: VerdictId,
    fault: Fault,
    summary: str,
    *evidence: Evidence,
    candidates: tuple[str, ...] = (),
) -> Verdict:
    return Verdict(
        verdict,
        failed=verdict is not VerdictId.OK,
        fault=fault,
        phase=seen.standing.phase,
        summary=summary,
        evidence=evidence,
        candidates=candidates,
    )
