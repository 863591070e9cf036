"""The phase `connect`: what becomes of a SYN (RFC 9293, section 3.10.7)."""

from podcam.diagnose.context import Context
from podcam.diagnose.transcript import Transcript
from podcam.diagnose.wording import called, duration, times
from podcam.model.connection import IcmpError, Packet, TcpEvent, TcpFlags
from podcam.model.diagnosis import Evidence, Verdict
from podcam.model.verdict import Fault, Phase, VerdictId
from podcam.wire.stream import Side

_RETRY_NS = 1_000_000_000
"""Linux repeats a SYN after one second (RFC 6298, section 2.1): an answer is overdue then."""

SHORTEST_RETRY_NS = 200_000_000
"""A SYN that comes again sooner is the same one, seen twice by the capture."""

# What an ICMP error says: (version, type, code) -> words. RFC 792, RFC 1812 section 5.2.7.1, RFC 4443.
_ICMP_MEANINGS = {
    (4, 3, 0): "network unreachable",
    (4, 3, 1): "host unreachable",
    (4, 3, 2): "protocol unreachable",
    (4, 3, 3): "port unreachable",
    (4, 3, 9): "network administratively prohibited",
    (4, 3, 10): "host administratively prohibited",
    (4, 3, 13): "communication administratively prohibited",
    (4, 11, 0): "time to live exceeded in transit",
    (6, 1, 0): "no route to destination",
    (6, 1, 1): "communication administratively prohibited",
    (6, 1, 3): "address unreachable",
    (6, 1, 4): "port unreachable",
    (6, 1, 5): "source address failed ingress or egress policy",
    (6, 1, 6): "route to destination rejected",
    (6, 3, 0): "hop limit exceeded in transit",
}
_UNREACHABLE_TYPES = {(4, 3), (4, 11), (4, 12), (6, 1), (6, 3), (6, 4)}
_FRAGMENTATION_NEEDED = (4, 3, 4)


def lost_race(seen: Transcript, context: Context) -> Verdict | None:
    """The loser of two parallel or consecutive connects is no failure: the client got its connection."""
    if context.winner is None or not seen.syns or seen.established:
        return None
    return Verdict(
        VerdictId.PROBE,
        failed=False,
        fault=Fault.NONE,
        phase=Phase.CONNECT,
        summary=f"The client tried this address and connected to {called(context.winner)} instead.",
        evidence=(seen.evidence(seen.syns[0], "SYN"),),
    )


def unreachable(seen: Transcript, _context: Context) -> Verdict | None:
    """An ICMP error quotes the SYN, and nothing answered it."""
    if not _unanswered(seen):
        return None
    error = next((packet for packet in seen.icmp_errors if _is_unreachable(packet)), None)
    if error is None or error.icmp is None:
        return None
    meaning = icmp_meaning(error.icmp)
    by_server = error.icmp.sender == seen.conversation.server.ip
    return Verdict(
        VerdictId.CONNECT_UNREACHABLE,
        failed=True,
        fault=Fault.SERVER if by_server else Fault.NETWORK,
        phase=Phase.CONNECT,
        summary=f"The SYN was answered by an ICMP error from {error.icmp.sender}: {meaning}.",
        evidence=(seen.evidence(seen.syns[0], "SYN"), seen.evidence(error, f"ICMP error: {meaning}")),
        candidates=(
            "no route to the server, or the server is down",
            "a firewall or network policy rejects with ICMP",
        ),
    )


def refused(seen: Transcript, _context: Context) -> Verdict | None:
    """The server's first answer to the SYN is an RST that acknowledges it."""
    reset = _first_answer(seen)
    if seen.syn_acks or reset is None or not reset.has(TcpFlags.RST) or not seen.syns:
        return None
    syn = _syn_answered_by(seen, reset)
    waited = reset.time_ns - syn.time_ns
    return Verdict(
        VerdictId.CONNECT_REFUSED,
        failed=True,
        fault=Fault.SERVER,
        phase=Phase.CONNECT,
        summary=f"The SYN was answered by RST after {duration(waited)}: connection refused.",
        evidence=(seen.evidence(syn, "SYN"), seen.evidence(reset, "RST in answer to the SYN")),
        candidates=(
            "nothing listens on this port at the server",
            "a firewall, NAT, load balancer or Service without endpoints rejects in the server's name",
        ),
    )


def port_reused(seen: Transcript, _context: Context) -> Verdict | None:
    """A SYN on a recently used 4-tuple gets no SYN-ACK: the other side still knows the old connection."""
    if seen.syn_acks or not seen.syns or seen.icmp_errors or _went_on(seen):
        return None
    answer = _first_answer(seen)
    syn = seen.syns[0]
    reused = bool(syn.events & TcpEvent.REUSED_PORTS)
    if answer is not None and not answer.has(TcpFlags.RST):
        if answer.payload_bytes or answer.has(TcpFlags.FIN) or _acknowledges(syn, answer):
            return None
        how = "a bare ACK of an older connection (a challenge ACK, RFC 5961)"
        evidence: tuple[Evidence, ...] = (seen.evidence(answer, "ACK that does not acknowledge the SYN"),)
    elif answer is None and reused and _overdue(seen):
        how, evidence = "silence", ()
    elif answer is not None and reused and not _acknowledges(syn, answer):
        how = "an RST that does not acknowledge it"
        evidence = (seen.evidence(answer, "RST that does not acknowledge the SYN"),)
    else:
        return None
    return Verdict(
        VerdictId.PORT_REUSE_CONFLICT,
        failed=True,
        fault=Fault.UNKNOWN,
        phase=Phase.CONNECT,
        summary=f"A SYN on addresses and ports that were used before was answered by {how}.",
        evidence=(seen.evidence(syn, "SYN"), *evidence),
        candidates=(
            "the server, or a NAT or firewall on the way, still holds the old connection",
            "the client's ports are reused too soon (SNAT port exhaustion, a short local port range)",
        ),
    )


def no_answer(seen: Transcript, _context: Context) -> Verdict | None:
    """SYNs, and no answer seen."""
    if not _unanswered(seen) or not _overdue(seen):
        return None
    count = len(seen.syns)
    first = seen.syns[0]
    if count > 1:
        span = duration(seen.syns[-1].time_ns - first.time_ns)
        said = f"The SYN was sent {times(count)} within {span} and never answered."
    else:
        waited = duration(seen.conversation.capture_last_ns - first.time_ns)
        said = f"The SYN was sent once and not answered in the {waited} until the capture ends."
    candidates = [
        "the server or its port is filtered, or gone without a route to say so",
        "the SYN or its answer was lost on the way (a second capture at the server tells)",
    ]
    if seen.conversation.capture_dropped:
        candidates.append("the answer is among the packets that the capture lost")
    return Verdict(
        VerdictId.CONNECT_TIMEOUT,
        failed=True,
        fault=Fault.UNKNOWN,
        phase=Phase.CONNECT,
        summary=said,
        evidence=tuple(
            seen.evidence(syn, "SYN" if i == 0 else "SYN again") for i, syn in enumerate(seen.syns)
        ),
        candidates=tuple(candidates),
    )


def icmp_meaning(error: IcmpError) -> str:
    """An ICMP error in words."""
    known = _ICMP_MEANINGS.get((error.version, error.type, error.code))
    return known or f"ICMPv{error.version} type {error.type} code {error.code}"


def _is_unreachable(packet: Packet) -> bool:
    error = packet.icmp
    return (
        error is not None
        and packet.from_client
        and (error.version, error.type) in _UNREACHABLE_TYPES
        and (error.version, error.type, error.code) != _FRAGMENTATION_NEEDED
    )


def _unanswered(seen: Transcript) -> bool:
    return bool(seen.syns) and _first_answer(seen) is None and not _went_on(seen)


def _went_on(seen: Transcript) -> bool:
    """Whether the client went on as after a handshake: then the answer is only missing in the capture."""
    flags = TcpFlags.SYN | TcpFlags.RST
    return any(not packet.flags & flags for packet in seen.packets_of(Side.CLIENT))


def _first_answer(seen: Transcript) -> Packet | None:
    return next(iter(seen.packets_of(Side.SERVER)), None)


def _syn_answered_by(seen: Transcript, answer: Packet) -> Packet:
    """The last SYN before the answer: repeated SYNs look alike, and each may get an RST."""
    before = [syn for syn in seen.syns if syn.frame < answer.frame]
    return before[-1] if before else seen.syns[0]


def _acknowledges(syn: Packet, answer: Packet) -> bool:
    """Data in a SYN (TCP Fast Open, RFC 7413) may or may not be acknowledged with it."""
    return answer.has(TcpFlags.ACK) and (answer.ack - syn.seq - 1) % (1 << 32) <= syn.payload_bytes


def _overdue(seen: Transcript) -> bool:
    """Whether an answer should have come while the capture ran."""
    first, last = seen.syns[0].time_ns, seen.syns[-1].time_ns
    return last - first >= SHORTEST_RETRY_NS or seen.conversation.capture_last_ns - first >= _RETRY_NS
