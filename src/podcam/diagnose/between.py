"""What was lost, or made, between two points that saw one connection.

One point can only say what it saw. Two can say where a packet was seen and where not: what left one and never
arrived at the other was lost between them, and what arrived at one and never left the other was not sent by
its host. That holds only where both recorded at that time without a drop or a gap, so nothing is said else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from podcam.diagnose.gaps import EDGE_NS, SILENT
from podcam.diagnose.wording import byte_count, times
from podcam.model.connection import Conversation, Packet, TcpFlags
from podcam.model.diagnosis import Evidence, Verdict
from podcam.model.point import Gap, Window
from podcam.model.verdict import Fault

UNDERWAY_NS: Final = 200_000_000
"""So long a packet may take from one point to the other; Linux repeats what is unanswered after that long."""
_MOST_EVIDENCE: Final = 5

_Range = tuple[int, int, Packet]
"""First byte of a packet's payload, the one behind its last, and the packet."""

_MOST_BYTES: Final = 1 << 30
"""Of one side: beyond, sequence numbers come around."""

_CLOCKS_APART_NS: Final = 2_000_000_000
"""How far the clocks of two nodes are taken to differ at most, where nothing tells."""

LOST: Final = (
    "a firewall or network policy between the two points drops it",
    "the network between them, or a queue of one of the two hosts, lost it",
)
MADE: Final = (
    "a firewall, a connection table (conntrack, NAT) or a load balancer between the two points sent it",
    "the host of one of the points sent it outside of the recorded namespace",
)


@dataclass(frozen=True, slots=True)
class Place:
    """A point that recorded: `called` as sentences name it.

    `recorded` reaches from its first packet to its last; `windows` are as in `columns.Losses`; `dropped` is
    None where nobody says.
    """

    called: str
    recorded: Window
    dropped: int | None
    gaps: tuple[Gap, ...] = ()
    windows: tuple[Window, ...] = ()

    def saw_all(self, since_ns: int, until_ns: int) -> bool:
        """Whether every packet of this time that passed the point was recorded."""
        whole = Window(since_ns - UNDERWAY_NS, until_ns + UNDERWAY_NS)
        return (
            self.dropped == 0
            and since_ns in self.recorded
            and whole.end_ns in self.recorded
            and not any(whole.overlaps(gap.since_ns - EDGE_NS, gap.until_ns) for gap in self.gaps)
            and (not self.windows or any(since_ns in w and whole.end_ns in w for w in self.windows))
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """A connection at one point; the initial sequence numbers as far as they are known there."""

    place: Place
    conversation: Conversation
    client_isn: int
    server_isn: int | None

    @property
    def is_whole(self) -> bool:
        """Whether all its packets were read."""
        talk = self.conversation
        counted = sum(packet.icmp is None for packet in talk.packets)
        return counted >= talk.client_packets + talk.server_packets

    def isn(self, *, of_client: bool) -> int | None:
        """The initial sequence number of a side."""
        return self.client_isn if of_client else self.server_isn

    def sent_by(self, *, client: bool) -> list[Packet]:
        """The packets of one side."""
        return [p for p in self.conversation.packets if p.icmp is None and p.from_client is client]


@dataclass(frozen=True, slots=True)
class Finding:
    """What two points prove together."""

    sentence: str
    evidence: tuple[Evidence, ...]
    fault: Fault
    candidates: tuple[str, ...]
    decides: bool = False
    """Whether it overrules what one point had to conclude of a packet; a loss explains silence only."""

    def added_to(self, verdict: Verdict) -> Verdict:
        """The verdict with what it proves; evidence that it has already is not repeated."""
        known = {(proof.capture, proof.frame) for proof in verdict.evidence}
        new = [proof for proof in self.evidence if (proof.capture, proof.frame) not in known]
        evidence = sorted([*verdict.evidence, *new], key=lambda proof: (proof.capture, proof.frame))
        verdict = replace(verdict, summary=f"{verdict.summary} {self.sentence}", evidence=tuple(evidence))
        if self.decides or verdict.id in SILENT:
            return replace(verdict, fault=self.fault, candidates=self.candidates)
        return verdict


def compare(near: Seen, far: Seen) -> Finding | None:
    """What became of a connection between the client's point and the server's.

    The first of these that holds: a reset that ended it and that its sender's point did not see; a reset, a
    FIN, a SYN-ACK or bytes that did not arrive; a SYN that arrived and was not answered; a reset that both
    points saw. None where neither holds, or where the two cannot be compared.
    """
    if not near.is_whole or not far.is_whole:
        return None
    clock_ns = _clock_ahead(near, far)
    if clock_ns is None:
        return None
    ways = (
        _Way(near, far, from_client=True, ahead_ns=clock_ns),
        _Way(far, near, from_client=False, ahead_ns=-clock_ns),
    )
    if any(way.is_contradicted for way in ways):
        return None
    for look in (_made, _lost_reset, _lost_fin, _lost_syn_ack, _lost_bytes, _unanswered, _passed_both):
        for way in ways:
            finding = look(way)
            if finding is not None:
                return finding
    return None


@dataclass(frozen=True, slots=True)
class _Way:
    """One direction: from the sender's point to the receiver's, whose clock is `ahead_ns` ahead."""

    origin: Seen
    target: Seen
    from_client: bool
    ahead_ns: int

    @property
    def side(self) -> str:
        return "client" if self.from_client else "server"

    def left(self, flags: int) -> list[Packet]:
        """What its sender's point saw of it."""
        return _with(self.origin.sent_by(client=self.from_client), flags)

    def arrived(self, flags: int) -> list[Packet]:
        """What the other point saw of it."""
        return _with(self.target.sent_by(client=self.from_client), flags)

    def ranges_left(self) -> list[_Range]:
        """The bytes that its sender's point saw."""
        return _ranges(self.origin, from_client=self.from_client)

    def ranges_arrived(self) -> list[_Range]:
        """The bytes that the other point saw."""
        return _ranges(self.target, from_client=self.from_client)

    @property
    def is_contradicted(self) -> bool:
        """Whether bytes arrived that never left: then a recording is not what it seems."""
        return bool(_beyond(self.ranges_arrived(), self.ranges_left()))

    def target_saw_all(self, packets: Sequence[Packet]) -> bool:
        since, until = packets[0].time_ns + self.ahead_ns, packets[-1].time_ns + self.ahead_ns
        return self.target.place.saw_all(since, until) and self.origin.place.dropped == 0

    def origin_saw_all(self, packets: Sequence[Packet]) -> bool:
        since, until = packets[0].time_ns - self.ahead_ns, packets[-1].time_ns - self.ahead_ns
        return self.origin.place.saw_all(since, until) and self.target.place.dropped == 0

    def lost(self, what: str, packets: Sequence[Packet]) -> Finding | None:
        """Packets that left and did not arrive.

        Behind a reset, losing packets is what connection tables do, and harms nobody.
        """
        resets = [p for p in self.origin.conversation.packets if p.icmp is None and p.has(TcpFlags.RST)]
        packets = [packet for packet in packets if not resets or packet.frame <= resets[0].frame]
        if not packets or not self.target_saw_all(packets):
            return None
        origin, target = self.origin.place.called, self.target.place.called
        often = f" {times(len(packets))}" if len(packets) > 1 else ""
        return Finding(
            f"{what} left {origin}{often} and never arrived at {target}.",
            tuple(
                _evidence(self.origin, packet, f"left {origin}, was not seen at {target}")
                for packet in packets[:_MOST_EVIDENCE]
            ),
            Fault.NETWORK,
            LOST,
        )


def _made(way: _Way) -> Finding | None:
    """A reset that arrived and was never sent by the host at the other point."""
    resets = way.arrived(TcpFlags.RST)
    if not resets or way.left(TcpFlags.RST) or not way.origin_saw_all(resets[:1]):
        return None
    if resets[0] is not _first_end(way.target):
        return None
    origin, target = way.origin.place.called, way.target.place.called
    return Finding(
        f"But the {way.side}'s RST, which arrived at {target}, never left {origin}: it was sent between the "
        f"two, in the {way.side}'s name.",
        (_evidence(way.target, resets[0], f"RST that arrived at {target}, and was not seen at {origin}"),),
        Fault.NETWORK,
        MADE,
        decides=True,
    )


def _first_end(seen: Seen) -> Packet | None:
    """The first FIN or RST of either side."""
    ends = TcpFlags.FIN | TcpFlags.RST
    return next((p for p in seen.conversation.packets if p.icmp is None and p.flags & ends), None)


def _lost_reset(way: _Way) -> Finding | None:
    resets = [] if way.arrived(TcpFlags.RST) else way.left(TcpFlags.RST)
    return way.lost(f"The {way.side}'s RST", resets)


def _lost_fin(way: _Way) -> Finding | None:
    fins = [] if way.arrived(TcpFlags.FIN) else way.left(TcpFlags.FIN)
    return way.lost(f"The {way.side}'s FIN", fins)


def _lost_syn_ack(way: _Way) -> Finding | None:
    if way.from_client or way.target.server_isn is not None:
        return None
    return way.lost("The SYN-ACK", way.left(TcpFlags.SYN))


def _lost_bytes(way: _Way) -> Finding | None:
    missing = _beyond(way.ranges_left(), way.ranges_arrived())
    if not missing:
        return None
    start, end = missing[0]
    carriers = [packet for first, last, packet in way.ranges_left() if first < end and last > start]
    return way.lost(f"{byte_count(end - start)} of the {way.side}", carriers)


def _unanswered(way: _Way) -> Finding | None:
    """A SYN that arrived, and nothing came back."""
    syns = way.arrived(TcpFlags.SYN)
    if not way.from_client or not syns or way.target.sent_by(client=False):
        return None
    if not way.target.place.saw_all(syns[0].time_ns, syns[-1].time_ns):
        return None
    target = way.target.place.called
    return Finding(
        f"The SYN arrived at {target}, and no answer left it.",
        tuple(
            _evidence(way.target, syn, f"arrived at {target}, not answered") for syn in syns[:_MOST_EVIDENCE]
        ),
        Fault.SERVER,
        ("a firewall or network policy at the server drops it", "the server's queue of connections is full"),
    )


def _passed_both(way: _Way) -> Finding | None:
    """A server's reset that ended it, and that its own point saw as well: no device in between made it."""
    end = _first_end(way.target)
    if way.from_client or end is None or end.from_client or not end.has(TcpFlags.RST):
        return None
    same = next((packet for packet in way.left(TcpFlags.RST) if packet.seq == end.seq), None)
    if same is None:
        return None
    origin = way.origin.place.called
    return Finding(
        f"Its RST was recorded at {origin}, too: nothing between the two points made it.",
        (_evidence(way.origin, same, f"the same RST at {origin}"),),
        Fault.SERVER,
        (),
    )


def _clock_ahead(near: Seen, far: Seen) -> int | None:
    """How far the far point's clock is ahead, by the first SYN or SYN-ACK that both saw.

    Of those that were repeated, another copy may be the first that was seen.
    """
    syns = [
        (_with(near.sent_by(client=side), TcpFlags.SYN), _with(far.sent_by(client=side), TcpFlags.SYN))
        for side in (True, False)
    ]
    for mine, theirs in sorted(syns, key=lambda both: len(both[0]) != len(both[1])):
        if mine and theirs:
            return theirs[0].time_ns - mine[0].time_ns
    return None


def _with(packets: Sequence[Packet], flags: int) -> list[Packet]:
    return [packet for packet in packets if packet.has(flags)]


def _ranges(seen: Seen, *, from_client: bool) -> list[_Range]:
    """Which bytes of a side each packet carried, counted from its initial sequence number."""
    isn = seen.isn(of_client=from_client)
    if isn is None:
        return []
    return [
        (start, start + packet.payload_bytes, packet)
        for packet in seen.sent_by(client=from_client)
        if packet.payload_bytes and not packet.has(TcpFlags.RST)
        for start in [(packet.seq + packet.has(TcpFlags.SYN) - isn - 1) % (1 << 32)]
        if start < _MOST_BYTES
    ]


def _beyond(some: Sequence[_Range], others: Sequence[_Range]) -> list[tuple[int, int]]:
    """The bytes that are in `some` packets and in none of `others`."""
    covered = _merged((start, end) for start, end, _ in others)
    missing = []
    for start, end in _merged((start, end) for start, end, _ in some):
        at = start
        for first, last in covered:
            if last <= at or first >= end:
                continue
            if first > at:
                missing.append((at, first))
            at = max(at, last)
        if at < end:
            missing.append((at, end))
    return missing


def _merged(ranges: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _evidence(seen: Seen, packet: Packet, note: str) -> Evidence:
    return Evidence(seen.conversation.capture, packet.frame, packet.time_ns, note)


def syn_never_arrived(lost: Conversation, origin: Place, target: Place) -> Finding | None:
    """For a connection that only the client's point saw: its SYN left, and the server's point has none.

    How far the clocks of the two are apart is not known, so that the server's point must have recorded for
    longer, before and after.
    """
    syns = [p for p in lost.packets if p.icmp is None and p.from_client and p.has(TcpFlags.SYN)]
    if not syns or origin.dropped != 0:
        return None
    since, until = syns[0].time_ns - _CLOCKS_APART_NS, syns[-1].time_ns + _CLOCKS_APART_NS
    if not target.saw_all(since, until):
        return None
    answered = any(not packet.from_client or packet.icmp is not None for packet in lost.packets)
    often = f" {times(len(syns))}" if len(syns) > 1 else ""
    sentence = f"The SYN left {origin.called}{often} and never arrived at {target.called}"
    return Finding(
        f"{sentence}: something between the two answered it." if answered else f"{sentence}.",
        tuple(
            Evidence(
                lost.capture, p.frame, p.time_ns, f"left {origin.called}, was not seen at {target.called}"
            )
            for p in syns[:_MOST_EVIDENCE]
        ),
        Fault.NETWORK,
        MADE if answered else LOST,
        decides=True,
    )
