"""Connections whose two directions have different addresses, put together again.

netfilter's REDIRECT, by which service meshes get an app's connections to the proxy in its pod, changes where
the client's packets go and, for the answers, where they come from. On `lo` both are seen after the kernel has
dealt with them: the app's packets go to the proxy (127.0.0.1:15001), the answers come from the server that
the app asked for. The initial sequence number shows which belong together: that is no guess.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from podcam.columns import CaptureColumns
from podcam.model.connection import Conversation, Packet, TcpCounts, TcpFlags
from podcam.model.diagnosis import Verdict
from podcam.model.point import Endpoint
from podcam.model.verdict import Fault, Phase, VerdictId

_V4_LOOPBACK: Final = np.uint64(0xFFFF_7F)
"""Of an IPv4-mapped address, without its last three bytes."""
_ANSWERED_WITHIN_NS: Final = 1_000_000_000
"""A proxy on the same host, which refuses for example."""
_MOST_ALIKE: Final = 64
"""Rows of one client's address and port that are looked through for a half."""

_SYN_ACK: Final = TcpFlags.SYN | TcpFlags.ACK


class Halves:
    """The rows of a capture that are one direction of a connection each.

    Attributes:
        answers: for the row of what went to a proxy, the row of what came back.
        alone: rows of what went to a proxy, where what came back was not recorded.
    """

    def __init__(self, capture: CaptureColumns) -> None:
        self._capture = capture
        self.answers: Mapping[int, int] = {}
        self.alone: frozenset[int] = frozenset()
        self._until_ns: Mapping[int, int] = {}
        asked = _to_proxy(capture).tolist()
        if asked:
            self.answers = _paired(capture, asked)
            self.alone = frozenset(asked) - self.answers.keys()
            self._until_ns = _shared(capture, self.answers)
        self.hidden = frozenset(self.answers.values())
        """Rows that are told of as the other half of another one."""

    def proxy(self, row: int) -> Endpoint | None:
        """Where the kernel sent a connection in place of the server that the client asked for."""
        if row not in self.answers and row not in self.alone:
            return None
        return self._capture.endpoints(row)[1]

    def conversation(self, row: int) -> Conversation:
        """A connection with the packets of both halves, in the order of the file."""
        asked = self._capture.conversation(row)
        if row not in self.answers:
            return asked
        answers = self._capture.conversation(self.answers[row])
        since_ns, until_ns = asked.start_ns, self._until_ns.get(row)
        back = [p for p in answers.packets if until_ns is None or since_ns <= p.time_ns < until_ns]
        server_packets, server_bytes = answers.server_packets, answers.server_bytes
        if until_ns is not None:
            answering = [packet for packet in back if not packet.from_client]
            server_packets, server_bytes = len(answering), _bytes(answering)
        return replace(
            asked,
            server=answers.server,
            packets=tuple(sorted((*asked.packets, *back), key=lambda packet: packet.frame)),
            counts=self.counts(row),
            client_packets=asked.client_packets + sum(packet.from_client for packet in back),
            server_packets=server_packets,
            server_bytes=server_bytes,
        )

    def counts(self, row: int) -> TcpCounts:
        """The events of both halves, and the time of the handshake, which no half shows alone."""
        one = self._capture.counts(row)
        if row not in self.answers:
            return one
        other = self._capture.counts(self.answers[row])
        return TcpCounts(
            retransmissions=one.retransmissions + other.retransmissions,
            fast_retransmissions=one.fast_retransmissions + other.fast_retransmissions,
            out_of_order=one.out_of_order + other.out_of_order,
            duplicate_acks=one.duplicate_acks + other.duplicate_acks,
            zero_windows=one.zero_windows + other.zero_windows,
            lost_segments=one.lost_segments + other.lost_segments,
            handshake_ns=None,
        )


def verdict_alone(capture: CaptureColumns, row: int) -> Verdict:
    """Of what went to a proxy, and whose answers were not recorded."""
    proxy = capture.endpoints(row)[1]
    return _partial(
        f"The kernel redirected it to a proxy at {proxy}; what came back was not recorded, as it has the "
        "address and port of the server that was asked for."
    )


def verdict_half_unread() -> Verdict:
    """Of two halves in a capture with too many connections to read."""
    return _partial("Redirected to a proxy on its host; one of too many connections to read in detail.")


def handshake_ns(packets: Iterable[Packet]) -> int | None:
    """From the last SYN to the acknowledgement of its SYN-ACK; None where not all of them were seen."""
    syn_ns, answered = None, False
    for packet in packets:
        if packet.icmp is not None:
            continue
        if packet.from_client and packet.has(TcpFlags.SYN) and not answered:
            syn_ns = packet.time_ns
        elif not packet.from_client and packet.has(_SYN_ACK):
            answered = syn_ns is not None
        elif packet.from_client and answered and packet.has(TcpFlags.ACK) and syn_ns is not None:
            return packet.time_ns - syn_ns
    return None


def _partial(summary: str) -> Verdict:
    return Verdict(VerdictId.PARTIAL, failed=False, fault=Fault.NONE, phase=Phase.DATA, summary=summary)


def _to_proxy(capture: CaptureColumns) -> npt.NDArray[np.intp]:
    """Rows from another address than the loopback's to one of the loopback's, which nobody answered there."""
    client, server = capture.connections.client, capture.connections.server
    return np.flatnonzero((server["syns"] == 0) & _is_loopback(server) & ~_is_loopback(client))


def _is_loopback(side: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    high, low = side["address_high"], side["address_low"]
    return np.asarray((high == 0) & ((low >> np.uint64(24) == _V4_LOOPBACK) | (low == 1)))


_NEVER_NS: Final = (1 << 63) - 1
_HALF: Final = 1 << 31

_End = tuple[int, int, int, int]
"""A point, and a client's address and port there."""


def _paired(capture: CaptureColumns, asked: list[int]) -> dict[int, int]:
    """For each of these the half with its answers.

    At one time a client's address and port have one connection to a proxy; where both halves know the
    client's initial sequence number, it decides. Without SYNs, answers to one that took the same ports later
    are in one row with those before. The kernel does not redirect a packet that it finds out of place, so
    that a few of the client's may be among the answers.
    """
    wanted, wanted_rows = {_end(capture, row) for row in asked}, frozenset(asked)
    answers: defaultdict[_End, list[int]] = defaultdict(list)
    for row in np.flatnonzero(capture.connections.table["syn_seen"] == 0).tolist():
        if (end := _end(capture, row)) in wanted and row not in wanted_rows:
            answers[end].append(row)
    found: dict[int, int] = {}
    for row in asked:
        likely = answers[_end(capture, row)][:_MOST_ALIKE]
        same = [other for other in likely if _same_isn(capture, row, other)]
        matching = same or [other for other in likely if _at_one_time(capture, row, other)]
        if len(matching) == 1:
            found[row] = matching[0]
    return found


def _shared(capture: CaptureColumns, answers: Mapping[int, int]) -> dict[int, int]:
    """For rows whose answers are in one row with those of others: when the next of these began."""
    users: defaultdict[int, list[int]] = defaultdict(list)
    for row, other in answers.items():
        users[other].append(row)
    until: dict[int, int] = {}
    for rows in users.values():
        starts = sorted(int(capture.connections.table["first_ns"][row]) for row in rows)
        for row in rows if len(rows) > 1 else ():
            later = bisect_right(starts, int(capture.connections.table["first_ns"][row]))
            until[row] = starts[later] if later < len(starts) else _NEVER_NS
    return until


def _bytes(packets: Sequence[Packet]) -> int:
    """From the lowest to the highest sequence number of payload."""
    if not packets:
        return 0
    base = packets[0].seq
    begins = [(p.seq - base + _HALF) % (1 << 32) - _HALF for p in packets if p.payload_bytes]
    lengths = [p.payload_bytes for p in packets if p.payload_bytes]
    ends = [begin + length for begin, length in zip(begins, lengths, strict=True)]
    return max(ends) - min(begins) if ends else 0


def _end(capture: CaptureColumns, row: int) -> _End:
    client = capture.connections.client[row]
    return (
        int(capture.connections.table["point"][row]),
        int(client["address_high"]),
        int(client["address_low"]),
        int(client["port"]),
    )


def _same_isn(capture: CaptureColumns, row: int, other: int) -> bool:
    client = capture.connections.client
    known = client["isn_known"][row] and client["isn_known"][other]
    return bool(known and client["isn"][row] == client["isn"][other])


def _at_one_time(capture: CaptureColumns, row: int, other: int) -> bool:
    first, last = capture.connections.table["first_ns"], capture.connections.table["last_ns"]
    silent = capture.connections.client["packets"][other] == 0
    return bool(silent and first[row] <= last[other] and first[other] <= last[row] + _ANSWERED_WITHIN_NS)
