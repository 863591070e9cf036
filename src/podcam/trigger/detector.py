"""The wire detector: control packets in, failures out.

It sees only SYN, FIN, RST and ICMP errors (and DNS answers, which it hands on), and counts bytes by sequence
numbers. What these packets mean is decided in `judge` and `rules`; silence is judged when time passes.
"""

import struct
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from ipaddress import ip_address

from podcam.model.failure import Failure, ServerCounts
from podcam.model.point import Endpoint
from podcam.trigger.classes import Policy
from podcam.trigger.connection import Connection
from podcam.trigger.judge import Concerns, Judge
from podcam.trigger.keys import is_redirected, reverse
from podcam.trigger.peers import Peers
from podcam.trigger.rules import Ending, Event
from podcam.trigger.table import Table
from podcam.wire import ip

_SECOND = 1_000_000_000
_MODULO = 0xFFFF_FFFF
"""Sequence numbers, and what is counted with them, are modulo 2**32 (RFC 9293, section 3.4)."""

_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10
_SYN_ALONE = b"\x02"

# Total length, fragment, protocol; sequence number, acknowledgement, data offset and flags: no IP options.
_IPV4_TCP = struct.Struct(">2xH2xHxB14xIIH").unpack_from
_IPV4_TCP_BYTES = 34
# Payload length; the same of TCP: no extension headers.
_IPV6_TCP = struct.Struct(">4xH38xIIH").unpack_from
_TCP = struct.Struct(">4xIIH").unpack_from

_REPEATED_NS = _SECOND // 5
"""A copy of a SYN that comes sooner was seen at two interfaces; the shortest real timeout is 1 s."""
_LATE_NS = _SECOND
_STALE = 1 << 31
"""A reset that far from the first sequence number belongs to an older connection, if this one is young."""
_LEAVING_NS = 3 * _SECOND
"""A client that closed unanswered may have closed its half only: the server's end tells, or this silence."""
_STALLED_NS = _SECOND
"""How long after the third SYN-ACK nothing may complete the handshake."""
_RESOLUTION_NS = 3 * _SECOND
"""How long Linux tries to resolve a neighbour's address before it says "unreachable": arp(7)."""
_CLOCK_STEP_NS = 3 * _SECOND
"""Ticks are a second apart or less: after a larger step, or one backwards, the clock was set."""


@cache
def _ipv4_tcp(stride_bytes: int, offset_bytes: int) -> struct.Struct:
    """As _IPV4_TCP, with the version and the key, for packets that lie a stride apart."""
    rest = stride_bytes - offset_bytes - _IPV4_TCP_BYTES
    return struct.Struct(f">{offset_bytes}xBxH2xHxB2x12sIIH{rest}x")


OnDns = Callable[[int, bytes], object]
"""Takes the time in ns and a DNS message."""


def _everything(_client: Endpoint, _server: Endpoint) -> bool:
    return True


def _nothing(_time_ns: int, _message: bytes) -> None:
    return None


class Detector:
    """Follows the connections of one point.

    `feed` takes every control packet, in the order of the wire; `tick` the time, at least once a second and
    after what has arrived was fed; it returns the failures. `concerns` is asked about failures only: what
    does not concern is counted, not returned. `on_dns` gets the messages of name servers.
    """

    def __init__(
        self,
        now_ns: int,
        policy: Policy | None = None,
        *,
        concerns: Concerns = _everything,
        on_dns: OnDns = _nothing,
    ) -> None:
        self._policy = policy or Policy()
        self._on_dns = on_dns
        self._since_ns = self._now_ns = now_ns
        self._blind_ns = 0
        self._peers = Peers(self._policy.max_servers)
        self._table = Table(self._policy, self._peers)
        self._judge = Judge(now_ns, self._policy, self._peers, concerns)
        self._known = self._table.get
        self._stalled: deque[Connection] = deque()
        self._leaving: deque[Connection] = deque()

    @property
    def connections(self) -> int:
        """Connections whose SYN was seen so far."""
        return self._table.opened

    @property
    def failures(self) -> int:
        """Failures so far, of all classes, also those that concern nobody."""
        return self._judge.failures

    @property
    def forgotten(self) -> int:
        """Connections that had to make room for others, as under a SYN flood: their end says nothing."""
        return self._table.forgotten

    @property
    def unlisted(self) -> int:
        """Failures that were too many between two ticks to be returned: counted only."""
        return self._judge.unlisted

    @property
    def counts(self) -> list[ServerCounts]:
        """What became of the connections to each server."""
        return [
            server.counts(self._since_ns)
            for server in self._peers.servers
            if server.connections or server.failures
        ]

    def counts_of(self, server: Endpoint) -> ServerCounts | None:
        """What became of the connections to one server; None when none was seen lately."""
        found = self._peers.find(ip_address(server.ip).packed + server.port.to_bytes(2, "big"))
        return None if found is None else found.counts(self._since_ns)

    def feed(self, time_ns: int, packet: bytes) -> None:
        """Take one packet, from its IP header on. Whatever is no control packet is passed over."""
        if len(packet) >= 34 and packet[0] == 0x45:
            total, fragment, protocol, seq, ack, offset_flags = _IPV4_TCP(packet)
            if protocol == ip.TCP and not fragment & 0x1FFF:
                payload = total - 20 - (offset_flags >> 12) * 4
                self._tcp(time_ns, packet[12:24], seq, ack, offset_flags, payload)
                return
        elif len(packet) >= 54 and packet[0] >> 4 == 6 and packet[6] == ip.TCP:
            total, seq, ack, offset_flags = _IPV6_TCP(packet)
            self._tcp(time_ns, packet[8:44], seq, ack, offset_flags, total - (offset_flags >> 12) * 4)
            return
        self._other(time_ns, packet)

    def feed_all(
        self,
        times_ns: Sequence[int],
        lengths: Sequence[int],
        frames: memoryview,
        stride_bytes: int,
        offset_bytes: int,
    ) -> None:
        """Take many packets, unpacked together: packet n begins at `frames[n * stride_bytes + offset_bytes]`.

        It has `lengths[n]` bytes; 34 bytes from its beginning on must lie within its stride.
        """
        if stride_bytes - offset_bytes < _IPV4_TCP_BYTES:
            self.feed(times_ns[0], bytes(frames[offset_bytes : offset_bytes + lengths[0]]))
            return
        tcp = self._tcp
        start = offset_bytes
        for time_ns, length, fields in zip(
            times_ns, lengths, _ipv4_tcp(stride_bytes, offset_bytes).iter_unpack(frames), strict=True
        ):
            version, total, fragment, protocol, key, seq, ack, offset_flags = fields
            if version == 0x45 and protocol == ip.TCP and length >= _IPV4_TCP_BYTES and not fragment & 0x1FFF:
                payload = total - 20 - (offset_flags >> 12) * 4
                tcp(time_ns, key, seq, ack, offset_flags, payload)
            else:
                self.feed(time_ns, bytes(frames[start : start + length]))
            start += stride_bytes

    def lost(self, now_ns: int) -> None:
        """Tell that control packets were lost: what began before now is not judged by silence."""
        self._blind_ns = now_ns

    def tick(self, now_ns: int) -> list[Failure]:
        """Judge what silence decides, and return the failures found since the last tick."""
        if not 0 <= now_ns - self._now_ns <= _CLOCK_STEP_NS:
            self._follow_clock(now_ns)
        self._now_ns = now_ns
        self._judge_starting(now_ns)
        self._judge_stalled(now_ns)
        self._judge_leaving(now_ns)
        self._judge.settle(now_ns)
        return self._judge.take()

    def finish(self, now_ns: int) -> list[Failure]:
        """The last tick: nothing will come any more that could excuse a failed connect."""
        found = self.tick(now_ns)
        self._judge.settle(now_ns + self._policy.grace_ns)
        return found + self._judge.take()

    def _other(self, time_ns: int, packet: bytes) -> None:
        """IP options, extension headers, and whatever is not TCP."""
        found = ip.transport(packet)
        if found is None:
            return
        offset = found.offset
        if found.protocol == ip.TCP and len(packet) >= offset + 14:
            seq, ack, offset_flags = _TCP(packet, offset)
            payload = -1 if found.length is None else found.length - (offset_flags >> 12) * 4
            key = found.source + found.destination + packet[offset : offset + 4]
            self._tcp(time_ns, key, seq, ack, offset_flags, payload)
        elif found.protocol == ip.UDP and packet[offset : offset + 2] == b"\x00\x35":
            self._on_dns(time_ns, packet[offset + 8 :])
        elif found.protocol in (ip.ICMP, ip.ICMPV6):
            quoted = ip.quoted_by_icmp_error(packet, found)
            if quoted is not None:
                self._icmp_error(time_ns, packet, quoted)

    def _tcp(self, time_ns: int, key: bytes, seq: int, ack: int, offset_flags: int, payload: int) -> None:
        """A TCP segment; `payload` is its length in bytes, negative when unknown."""
        connection = self._known(key)
        if offset_flags & _SYN:
            if not offset_flags & _ACK:
                self._syn(connection, time_ns, key, seq, payload)
                return
            if connection is None:
                connection = self._table.answered_elsewhere(key, ack)
            if connection is not None and not connection.ended and connection.key != key:
                self._syn_ack(connection, time_ns, seq, ack)
        elif offset_flags & _RST:
            self._rst(connection, time_ns, key, seq, ack if offset_flags & _ACK else None)
        elif offset_flags & _FIN and offset_flags & _ACK:  # RFC 9293, 3.10.7.4: without ACK it is dropped
            if connection is None:
                self._table.end_unseen(key)
            elif not connection.ended:
                by_client = connection.key == key
                (self._client_fin if by_client else self._server_fin)(connection, time_ns, seq, ack, payload)

    def _syn(self, known: Connection | None, time_ns: int, key: bytes, seq: int, payload: int) -> None:
        if known is not None:
            if known.client_isn == seq and known.key == key:
                if time_ns - (known.syn_ns or known.start_ns) >= _REPEATED_NS:
                    known.syns += 1
                    known.syn_ns = time_ns
                return
            if not known.ended:
                if known.key != key and known.server_isn is None:
                    # simultaneous open (RFC 9293, figure 7): the side that was heard first is the client
                    known.server_isn = seq
                    known.answer_ns = time_ns
                    return
                self._superseded(known, time_ns)
        other_way = reverse(key)
        if key != other_way:  # else a socket connected to itself: its directions cannot be told apart
            self._table.open(key, other_way, time_ns, seq, max(payload, 0))

    def _superseded(self, connection: Connection, time_ns: int) -> None:
        """The same ports have been taken for another connection, so this one is over."""
        if connection.server_isn is None and connection.syns > 1:
            self._unanswered(connection, time_ns)
        else:
            self._table.end(connection)

    def _syn_ack(self, connection: Connection, time_ns: int, seq: int, ack: int) -> None:
        if connection.server_isn is None:
            if not 1 <= (ack - connection.client_isn) & _MODULO <= 1 + connection.syn_bytes:
                return  # it answers an older SYN: the client will reset it, and go on
            connection.server_isn = seq
            connection.answer_ns = time_ns
            connection.synacks = 1
            self._judge.answered(connection)
        elif time_ns - (connection.synack_ns or connection.answer_ns) >= _REPEATED_NS:
            connection.synack_ns = time_ns
            connection.synacks += 1
            if connection.synacks == 3:
                self._stalled.append(connection)

    def _client_fin(self, connection: Connection, time_ns: int, seq: int, ack: int, payload: int) -> None:
        if connection.server_isn is None or payload < 0:
            connection.server.half_seen |= connection.server_isn is None
            self._table.end(connection)
            return
        if connection.left_ns:
            return
        spoke = (seq + payload - connection.client_isn - 1) & _MODULO
        heard = (ack - connection.server_isn - 1) & _MODULO
        if spoke and heard > 1:
            self._table.end(connection)
            self._judge.ended_well(connection, time_ns, spoke, heard)
        elif spoke:
            connection.client_end, connection.heard, connection.left_ns = spoke, heard, time_ns
            self._leaving.append(connection)
        else:
            self._ended(connection, Event.FIN, "client", time_ns, client_bytes=0, server_acked=heard)

    def _server_fin(self, connection: Connection, time_ns: int, seq: int, ack: int, payload: int) -> None:
        if connection.server_isn is None or payload < 0:
            self._table.end(connection)
            return
        sent = (seq + payload - connection.server_isn - 1) & _MODULO
        if connection.left_ns:
            self._left(connection, sent)
            return
        acked = (ack - connection.client_isn - 1) & _MODULO
        self._ended(connection, Event.FIN, "server", time_ns, client_acked=acked, server_bytes=sent)

    def _rst(self, known: Connection | None, time_ns: int, key: bytes, seq: int, ack: int | None) -> None:
        if known is None and ack is not None:
            known = self._table.answered_elsewhere(key, ack)
        if known is None:
            self._unknown_rst(time_ns, key)
        elif known.ended:
            return
        elif known.key == key:
            self._client_rst(known, time_ns, seq, ack)
        else:
            self._server_rst(known, time_ns, seq, ack)

    def _unknown_rst(self, time_ns: int, key: bytes) -> None:
        """A reset of a connection that began before the detector, or was forgotten."""
        by_client = key[-4:-2] > key[-2:]  # the side with the higher port
        client_key = key if by_client else reverse(key)
        connection = self._table.end_unseen(client_key)
        self._judge.unseen_reset(connection, "client" if by_client else "server", time_ns)

    def _client_rst(self, connection: Connection, time_ns: int, seq: int, ack: int | None) -> None:
        if connection.server_isn is None:
            # Without ACK it answers a challenge to the SYN, which will be repeated (RFC 9293, 3.10.7.3).
            if ack is not None:
                connection.server.half_seen = True
                self._table.end(connection)
            return
        if connection.left_ns:  # it had closed both halves, and got an answer after all
            self._left(connection, None)
            return
        spoke = (seq - connection.client_isn - 1) & _MODULO
        if spoke >= _STALE and time_ns - connection.start_ns < _LATE_NS:
            return
        heard = None if ack is None else (ack - connection.server_isn - 1) & _MODULO
        self._ended(connection, Event.RST, "client", time_ns, client_bytes=spoke, server_acked=heard)

    def _server_rst(self, connection: Connection, time_ns: int, seq: int, ack: int | None) -> None:
        acked = None if ack is None else (ack - connection.client_isn - 1) & _MODULO
        sent = None
        if connection.server_isn is not None:
            sent = (seq - connection.server_isn - 1) & _MODULO
            if sent >= _STALE and time_ns - connection.start_ns < _LATE_NS:
                return
        elif acked is None or acked >= _STALE:
            return  # RFC 9293, 3.10.7.3: the client drops it
        elif acked <= connection.syn_bytes:
            self._ended(connection, Event.REFUSAL, "server", time_ns)
            return
        if connection.left_ns:
            self._left(connection, sent)
            return
        self._ended(connection, Event.RST, "server", time_ns, client_acked=acked, server_bytes=sent)

    def _icmp_error(self, time_ns: int, packet: bytes, offset: int) -> None:
        quoted = ip.transport(packet, offset)
        if quoted is None or quoted.protocol != ip.TCP or len(packet) < quoted.offset + 8:
            return
        key = quoted.source + quoted.destination + packet[quoted.offset : quoted.offset + 4]
        seq = int.from_bytes(packet[quoted.offset + 4 : quoted.offset + 8], "big")
        connection = self._known(key)
        if connection is None and packet[quoted.offset + 13 : quoted.offset + 14] == _SYN_ALONE:
            # A SYN to a neighbour without a link address is never sent: this error, from the host itself, is
            # all that shows.
            connection = self._table.open(key, reverse(key), time_ns - _RESOLUTION_NS, seq, 0)
            connection.syns = 0
        if connection is None or connection.ended or connection.doubted or connection.key != key:
            return
        if connection.server_isn is None and seq == connection.client_isn:
            # Not every system gives up at once: it is followed on, until answered or silent for too long.
            connection.doubted = True
            age_ns = time_ns - connection.start_ns
            self._judge.ended(connection, Ending(Event.ICMP_ERROR, "network", time_ns, age_ns))

    def _judge_starting(self, now_ns: int) -> None:
        starting = self._table.starting
        while starting and starting[0].start_ns <= now_ns - self._policy.no_answer_ns:
            connection = starting.popleft()
            if not connection.ended and connection.server_isn is None:
                self._unanswered(connection, now_ns)

    def _unanswered(self, connection: Connection, time_ns: int) -> None:
        """Nobody answered the SYN; one that was not repeated may have been answered unseen.

        So may one that is redirected to a proxy on its own host: the answer has the server's address, and a
        recording of other hosts or ports does not let it pass.
        """
        lone = connection.syns == 1
        if (
            connection.doubted
            or is_redirected(connection.key)
            or connection.start_ns <= self._blind_ns
            or (lone and connection.server.half_seen)
        ):
            self._table.end(connection)
        else:
            self._ended(connection, Event.SILENCE, "nobody", time_ns)

    def _judge_stalled(self, now_ns: int) -> None:
        while self._stalled and self._stalled[0].synack_ns <= now_ns - _STALLED_NS:
            connection = self._stalled.popleft()
            if not connection.ended and connection.start_ns > self._blind_ns:
                self._ended(connection, Event.SILENCE, "nobody", now_ns)

    def _judge_leaving(self, now_ns: int) -> None:
        while self._leaving and self._leaving[0].left_ns <= now_ns - _LEAVING_NS:
            connection = self._leaving.popleft()
            if not connection.ended:
                self._left(connection, None)

    def _left(self, connection: Connection, sent: int | None) -> None:
        """Judge a client that closed before it had an answer; `sent` is what the server says it sent."""
        if sent is not None and sent > 1:  # half-closed, and answered
            self._table.end(connection)
            self._judge.ended_well(connection, connection.left_ns, connection.client_end, sent)
            return
        self._ended(
            connection,
            Event.FIN,
            "client",
            connection.left_ns,
            client_bytes=connection.client_end,
            server_bytes=sent,
            server_acked=connection.heard,
        )

    def _ended(
        self,
        connection: Connection,
        event: Event,
        by: str,
        time_ns: int,
        *,
        client_bytes: int | None = None,
        client_acked: int | None = None,
        server_bytes: int | None = None,
        server_acked: int | None = None,
    ) -> None:
        self._table.end(connection)
        answered = server_acked if server_bytes is None else server_bytes
        age_ns = time_ns - connection.start_ns
        ending = Ending(
            event,
            by,
            time_ns,
            age_ns,
            early=age_ns <= self._policy.early_ns
            and answered is not None
            and answered < self._policy.early_bytes,
            client_bytes=client_bytes,
            client_acked=client_acked,
            server_bytes=server_bytes,
            server_acked=server_acked,
            late_answer=connection.syns > 1 or connection.answer_ns - connection.start_ns >= _LATE_NS,
            repeated_answer=connection.synacks > 1,
        )
        self._judge.ended(connection, ending)

    def _follow_clock(self, now_ns: int) -> None:
        if now_ns > self._now_ns:  # set forward, or held up: silence in between says nothing
            self.lost(self._now_ns)
            return
        for connection in {*self._table, *self._stalled, *self._leaving}:
            connection.follow_clock_back(now_ns - self._now_ns, now_ns)
        self._judge.follow_clock_back(now_ns - self._now_ns, now_ns)
        self._blind_ns = min(self._blind_ns, now_ns)
