"""The phase `handshake`: from the SYN-ACK to the first byte of either side."""

from podcam.diagnose.connect import SHORTEST_RETRY_NS
from podcam.diagnose.context import Context
from podcam.diagnose.transcript import Manner, Transcript
from podcam.diagnose.wording import duration, times
from podcam.model.connection import Packet, TcpFlags
from podcam.model.diagnosis import Verdict
from podcam.model.verdict import Fault, Phase, VerdictId
from podcam.wire.stream import Side

_LATE_NS = 1_000_000_000
"""A SYN-ACK after this long is late: by then Linux has repeated the SYN."""
_PATIENCE_NS = 1_000_000_000
"""A client that leaves sooner without a byte did not wait for the server to speak."""


def aborted(seen: Transcript, _context: Context) -> Verdict | None:
    """The client answers a late SYN-ACK with RST: whoever connected had given up."""
    if not seen.syns or not seen.syn_acks or seen.completed is not None:
        return None
    reset = next((packet for packet in seen.resets if packet.from_client), None)
    if reset is None:
        return None
    late = seen.syn_acks[0].time_ns - seen.syns[0].time_ns
    repeated = any(
        syn.time_ns - seen.syns[0].time_ns >= SHORTEST_RETRY_NS and syn.time_ns < seen.syn_acks[0].time_ns
        for syn in seen.syns
    )
    if not repeated and late < _LATE_NS:
        return None
    return Verdict(
        VerdictId.HANDSHAKE_ABORTED,
        failed=True,
        fault=Fault.UNKNOWN,
        phase=Phase.HANDSHAKE,
        summary=f"The SYN-ACK came {duration(late)} after the first SYN; the client had given up and reset.",
        evidence=(
            seen.evidence(seen.syns[0], "SYN"),
            seen.evidence(seen.syn_acks[0], "late SYN-ACK"),
            seen.evidence(reset, "RST of the client"),
        ),
        candidates=(
            "the server or the network was slow, or the first SYNs were lost",
            "the client's connect timeout is short",
        ),
    )


def incomplete(seen: Transcript, _context: Context) -> Verdict | None:
    """The server repeats its SYN-ACK, and for it the handshake never completes."""
    if len(seen.syn_acks) < 2:
        return None
    last = seen.syn_acks[-1]
    if any(packet.frame > last.frame for packet in _beyond_handshake(seen)):
        return None
    span = last.time_ns - seen.syn_acks[0].time_ns
    if span < _LATE_NS // 2:
        return None
    evidence = [seen.evidence(seen.syn_acks[0], "SYN-ACK")]
    if seen.completed is not None:
        evidence.append(seen.evidence(seen.completed, "ACK that completes the handshake for the client"))
    evidence.append(seen.evidence(last, "SYN-ACK again"))
    said = f"The server sent its SYN-ACK {times(len(seen.syn_acks))} within {duration(span)}"
    if seen.completed is None:
        summary = f"{said}, and the client never acknowledged it."
        candidates: tuple[str, ...] = (
            "the SYN-ACK, or the ACK to it, was lost",
            "the client was gone, or its address was forged",
        )
    else:
        summary = f"{said} although the client acknowledged it: for the server the handshake never completed."
        candidates = (
            "the ACK was lost behind the place of this capture",
            "the server's accept queue is full",
            "the server waits for data first (TCP_DEFER_ACCEPT)",
        )
    return Verdict(
        VerdictId.HANDSHAKE_INCOMPLETE,
        failed=True,
        fault=Fault.UNKNOWN,
        phase=Phase.HANDSHAKE,
        summary=summary,
        evidence=tuple(evidence),
        candidates=candidates,
    )


def probe(seen: Transcript, context: Context) -> Verdict | None:
    """The client opens and leaves without a byte, and without waiting for one."""
    leaving = _leaving_client(seen)
    if leaving is None or not seen.syn_acks or _any_bytes(seen):
        return None
    stayed = max(0, leaving.time_ns - seen.syn_acks[0].time_ns)
    if context.greets and stayed >= _PATIENCE_NS:
        return _no_greeting(seen, leaving, stayed)
    how = "RST" if leaving.has(TcpFlags.RST) else "FIN"
    return Verdict(
        VerdictId.PROBE if stayed < _PATIENCE_NS else VerdictId.OK,
        failed=False,
        fault=Fault.NONE,
        phase=Phase.HANDSHAKE,
        summary=f"The client opened the connection and left after {duration(stayed)} without a byte ({how}).",
        evidence=(seen.evidence(leaving, f"{how} of the client"),),
    )


def ended_before_data(seen: Transcript, context: Context) -> Verdict | None:
    """The server ends an established connection before either side sent a byte."""
    ending = seen.ending
    if ending is None or ending.side is Side.CLIENT or not seen.syn_acks or _any_bytes(seen):
        return None
    since = max(0, ending.packet.time_ns - (seen.completed or seen.syn_acks[0]).time_ns)
    reset = ending.manner is Manner.RST
    verb = "reset" if reset else "closed"
    waited_for = "its greeting" if context.greets else "the client's first byte"
    candidates = ["a proxy or load balancer without a backend, or at a limit", "the server is shutting down"]
    if reset:
        candidates.append("the server's accept queue is full (tcp_abort_on_overflow)")
    if since >= _PATIENCE_NS:
        candidates.insert(0, f"the server's timeout for a client that says nothing ({duration(since)})")
    return Verdict(
        VerdictId.RESET_BEFORE_DATA if reset else VerdictId.CLOSED_BEFORE_DATA,
        failed=True,
        fault=Fault.SERVER,
        phase=Phase.HANDSHAKE,
        summary=f"The server {verb} the connection {duration(since)} after it opened, before {waited_for}.",
        evidence=(
            seen.evidence(seen.completed or seen.syn_acks[0], "handshake complete"),
            seen.evidence(ending.packet, f"{ending.manner} of the server"),
        ),
        candidates=tuple(candidates),
    )


def _no_greeting(seen: Transcript, leaving: Packet, waited: int) -> Verdict:
    return Verdict(
        VerdictId.STARTUP_TIMEOUT,
        failed=True,
        fault=Fault.SERVER,
        phase=Phase.STARTUP,
        summary=f"The server usually speaks first, but said nothing for {duration(waited)}; the client left.",
        evidence=(
            seen.evidence(seen.completed or seen.syn_acks[0], "handshake complete"),
            seen.evidence(leaving, "the client leaves"),
        ),
        candidates=("the server or a proxy accepts connections that it cannot serve",),
    )


def _leaving_client(seen: Transcript) -> Packet | None:
    """The client's FIN or RST; also the RST with which a scan answers a SYN-ACK."""
    if seen.ending is None or seen.ending.side is Side.SERVER:
        return None
    return seen.ending.packet


def _any_bytes(seen: Transcript) -> bool:
    return any(seen.bytes_sent(side) for side in Side)


def _beyond_handshake(seen: Transcript) -> list[Packet]:
    """Packets of the server that show that for it the connection is open."""
    return [packet for packet in seen.packets_of(Side.SERVER) if not packet.has(TcpFlags.SYN)]
