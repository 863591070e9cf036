"""From a connection to its verdict: the rules, asked in order. The first to know decides.

The order goes by phase, so that a rule may rely on what the ones before it ruled out.
"""

from collections.abc import Callable
from dataclasses import replace

from podcam.diagnose import connect, handshake, session, silence, startup
from podcam.diagnose.context import ALONE, Context
from podcam.diagnose.transcript import Transcript
from podcam.diagnose.wording import duration
from podcam.model.connection import Conversation
from podcam.model.diagnosis import Verdict
from podcam.model.verdict import Fault, Phase, VerdictId

Rule = Callable[[Transcript, Context], Verdict | None]

RULES: tuple[Rule, ...] = (
    connect.lost_race,
    connect.port_reused,
    connect.unreachable,
    connect.refused,
    connect.no_answer,
    session.end_not_captured,
    handshake.aborted,
    handshake.incomplete,
    handshake.probe,
    handshake.ended_before_data,
    silence.peer_vanished,
    startup.cancelled,
    startup.rejected,
    startup.tls_rejected,
    startup.wrong_protocol,
    startup.left_when_asked,
    startup.timed_out,
    startup.broken_off,
    session.terminated,
    session.said_goodbye,
    session.reset,
    session.closed,
)


def judge(conversation: Conversation, context: Context = ALONE) -> Verdict:
    """What became of a connection, who is at fault, and the packets that prove it."""
    seen = Transcript(conversation)
    for rule in RULES:
        verdict = rule(seen, context)
        if verdict is not None:
            break
    else:
        verdict = _unremarkable(seen)
    return replace(verdict, protocol=seen.standing.protocol, protocol_detail=seen.standing.detail)


def _unremarkable(seen: Transcript) -> Verdict:
    """No rule found a failure: the connection went well, or too little of it was seen."""
    if not seen.conversation.syn_seen:
        return _not_failed(
            VerdictId.PARTIAL, seen, "It began before the capture, and nothing seen of it failed."
        )
    if not seen.established:
        return _not_failed(VerdictId.PARTIAL, seen, "The capture ends before the connection was established.")
    ending = seen.ending
    if ending is not None:
        lasted = duration(ending.packet.time_ns - seen.conversation.start_ns)
        summary = f"Ended by the {ending.side} with {ending.manner} after {lasted}."
        return _not_failed(VerdictId.OK, seen, summary)
    if seen.standing.starting:
        return _not_failed(VerdictId.PARTIAL, seen, "The capture ends before the start-up was complete.")
    return _not_failed(VerdictId.OK, seen, "Still open when the capture ends.")


def _not_failed(verdict: VerdictId, seen: Transcript, summary: str) -> Verdict:
    phase = seen.standing.phase
    if phase is Phase.HANDSHAKE and not seen.established:
        phase = Phase.CONNECT
    return Verdict(verdict, failed=False, fault=Fault.NONE, phase=phase, summary=summary)
