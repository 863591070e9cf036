"""The wire detector: control packets in, failures out (DNS answers are handed on).

It sees only SYN, FIN, RST and ICMP errors, and counts bytes by sequence numbers: a packet costs about a
microsecond, and an open connection some hundred bytes. Silence is judged by `tick`.
"""

import struct
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import replace
from itertools import islice

from podcam.model.failure import Failure, ServerCounts
from podcam.model.point import Endpoint
from podcam.model.verdict import FailureClass
from podcam.trigger.classes import Policy
from podcam.trigger.connection import Connection, Server, ends, pair_of, reverse, server_of
from podcam.trigger.habits import Habits
from podcam.trigger.losers import Winners
from podcam.trigger.rules import Ending, Event, rule_for
from podcam.wire import ip

_SECOND = 1_000_000_000
_MODULO = 0xFFFF_FFFF
"""Sequence numbers and what is counted with them are modulo 2**32 (RFC 9293, section 3.4)."""

_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10

# Total length, fragment, protocol; sequence number, acknowledgement, data offset and flags: IPv4 without options.
_IPV4_TCP = struct.Struct(">2xH2xHxB14xIIH").unpack_from
# Payload length, next header; the same of TCP: IPv6 without extension headers.
_IPV6_TCP = struct.Struct(">4xHB37xIIH").unpack_from
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

_CLOSED_NS = 60 * _SECOND
_MAX_CLOSED = 32_768
"""Ended connections are remembered for one to two times this long or as many, for what still comes of them."""

_ROUND_NS = _SECOND // 10
_CLOCK_STEP_NS = 3 * _SECOND
"""Ticks are a second apart or less: a larger step, or one backwards, is the clock being set."""

_MAX_FOUND = 1024
_FORGET_AT_ONCE = 1024

Concerns = Callable[[Endpoint, Endpoint], bool]
OnDns = Callable[[int, bytes], object]


def _everything(_client: Endpoint, _server: Endpoint) -> bool:
    return True


def _nobody(_time_ns: int, _message: bytes) -> None:
    return None


class Detector:
    """Follows the connections of one point.

    `feed` takes every control packet in the order of the wire, `tick` the time, at least once a second and
    after what has arrived was fed; it returns the failures. `concerns(client, server)` is asked about each
    failure only: one that does not concern is counted, not returned. `on_dns(time_ns, message)` gets DNS
    messages from port 53.
    """

    def __init__(
        self,
        now_ns: int,
        policy: Policy | None = None,
        *,
        concerns: Concerns = _everything,
        on_dns: OnDns = _nobody,
    ) -> None:
        self._policy = policy or Policy()
        self._concerns = concerns
        self._on_dns = on_dns
        self._since_ns = self._now_ns = self._closed_since_ns = self._round_ns = now_ns
        self._blind_ns = 0
        self._table: dict[bytes, Connection] = {}
        self._closed: dict[bytes, int] = {}
        self._closed_before: dict[bytes, int] = {}
        self._servers: OrderedDict[bytes, Server] = OrderedDict()
        self._habits = Habits(self._policy.max_servers)
        self._winners = Winners()
        self._starting: deque[Connection] = deque()
        self._stalled: deque[Connection] = deque()
        self._leaving: deque[Connection] = deque()
        self._doubtful: deque[tuple[Connection, Ending]] = deque()
        self._found: list[Failure] = []
        self.connections = 0
        """SYNs of new connections so far."""
        self.failures = 0
        """Failures so far, of all classes."""
        self.forgotten = 0
        """Connections that found no room in the table, and failures that found none between two ticks."""

    @property
    def counts(self) -> list[ServerCounts]:
        """What became of the connections to each server, for the servers that were heard of last."""
        return [server.counts(self._since_ns) for server in self._servers.values()]

    def feed(self, time_ns: int, packet: bytes) -> None:
        """Take one packet, from its IP header on. Anything that is no control packet is passed over."""
        if len(packet) >= 34 and packet[0] == 0x45:
            total, fragment, protocol, seq, ack, offset_flags = _IPV4_TCP(packet)
            if protocol != ip.TCP or fragment & 0x1FFF:
                self._feed_other(time_ns, packet)
                return
            key = packet[12:24]
            payload = total - 20 - (offset_flags >> 12) * 4
        elif len(packet) >= 54 and packet[0] >> 4 == 6 and packet[6] == ip.TCP:
            total, _, seq, ack, offset_flags = _IPV6_TCP(packet)
            key = packet[8:44]
            payload = total - (offset_flags >> 12) * 4
        else:
            self._feed_other(time_ns, packet)
            return
        self._feed_tcp(time_ns, key, seq, ack, offset_flags, payload)

    def lost(self, now_ns: int) -> None:
        """Tell that control packets were lost: what began before now is not judged by silence."""
        self._blind_ns = now_ns

    def tick(self, now_ns: int) -> list[Failure]:
        """Judge what silence decides, and return the failures found since the last tick."""
        if not 0 <= now_ns - self._now_ns <= _CLOCK_STEP_NS:
            self._follow_clock(now_ns)
        self._now_ns = now_ns
        self._judge_starting(now_ns - self._policy.no_answer_ns)
        self._judge_stalled(now_ns - _STALLED_NS)
        self._judge_leaving(now_ns - _LEAVING_NS)
        if self._doubtful and now_ns - self._round_ns >= _ROUND_NS:
            self._round_ns = now_ns
            self._judge_doubtful(now_ns - self._policy.grace_ns)
        if now_ns - self._closed_since_ns > _CLOSED_NS or len(self._closed) > _MAX_CLOSED:
            self._closed_before, self._closed = self._closed, {}
            self._closed_since_ns = now_ns
        found, self._found = self._found, []
        return found

    # --- packets ---

    def _feed_other(self, time_ns: int, packet: bytes) -> None:
        found = ip.transport(packet)
        if found is None:
            return
        offset = found.offset
        if found.protocol == ip.TCP and len(packet) >= offset + 14:
            seq, ack, offset_flags = _TCP(packet, offset)
            payload = -1 if found.length is None else found.length - (offset_flags >> 12) * 4
            key = found.source + found.destination + packet[offset : offset + 4]
            self._feed_tcp(time_ns, key, seq, ack, offset_flags, payload)
        elif found.protocol == ip.UDP and packet[offset : offset + 2] == b"\x00\x35":
            self._on_dns(time_ns, packet[offset + 8 :])
        elif found.protocol in (ip.ICMP, ip.ICMPV6):
            quoted = ip.quoted_by_icmp_error(packet, found)
            if quoted is not None:
                self._icmp_error(time_ns, packet, quoted)

    def _feed_tcp(
        self, time_ns: int, key: bytes, seq: int, ack: int, offset_flags: int, payload: int
    ) -> None:
        if offset_flags & _SYN:
            if offset_flags & _ACK:
                self._syn_ack(time_ns, key, seq, ack)
            else:
                self._syn(time_ns, key, seq, max(payload, 0))
        elif offset_flags & _RST:
            self._rst(time_ns, key, seq, ack if offset_flags & _ACK else None)
        elif offset_flags & _FIN:
            if offset_flags & _ACK:  # RFC 9293, 3.10.7.4: a segment without ACK is dropped
                self._fin(time_ns, key, seq, ack, payload)

    def _syn(self, time_ns: int, key: bytes, seq: int, payload: int) -> None:
        known = self._table.get(key)
        if known is not None:
            if known.client_isn == seq:
                if time_ns - known.syn_ns >= _REPEATED_NS:
                    known.syns += 1
                    known.syn_ns = time_ns
                return
            self._superseded(known, time_ns)
        elif self._is_closed(key, seq):
            return
        other_way = reverse(key)
        other = self._table.get(other_way)
        if other is not None:
            if (
                other.server_isn is None
            ):  # simultaneous open (RFC 9293, figure 7): the first SYN is the client's
                other.server_isn = seq
                other.answer_ns = time_ns
                return
            self._forget(other)
        elif other_way == key:  # a socket connected to itself: its directions cannot be told apart
            return
        self._open(key, time_ns, seq, payload)

    def _syn_ack(self, time_ns: int, key: bytes, seq: int, ack: int) -> None:
        connection = self._table.get(reverse(key))
        if connection is None:
            return
        if connection.server_isn is None:
            if not 1 <= (ack - connection.client_isn) & _MODULO <= 1 + connection.syn_bytes:
                return  # it answers an older SYN: the client will reset it, and go on
            connection.server_isn = seq
            connection.answer_ns = connection.synack_ns = time_ns
            connection.synacks = 1
            self._winners.answered(connection)
        elif time_ns - connection.synack_ns >= _REPEATED_NS:
            connection.synack_ns = time_ns
            connection.synacks += 1
            if connection.synacks == 3:
                self._stalled.append(connection)

    def _fin(self, time_ns: int, key: bytes, seq: int, ack: int, payload: int) -> None:
        connection = self._table.get(key)
        if connection is not None:
            self._client_fin(connection, time_ns, seq, ack, payload)
            return
        connection = self._table.get(reverse(key))
        if connection is not None:
            self._server_fin(connection, time_ns, seq, ack, payload)
        elif not self._is_closed(key):
            self._closed[key] = -1  # its SYN was not seen: remembered, because a reset after a FIN is normal

    def _client_fin(self, connection: Connection, time_ns: int, seq: int, ack: int, payload: int) -> None:
        if connection.server_isn is None:
            connection.server.half_seen = True
            self._close(connection)
            return
        if connection.client_end is not None:
            return
        if payload < 0:
            self._close(connection)
            return
        spoke = (seq + payload - connection.client_isn - 1) & _MODULO
        heard = (ack - connection.server_isn - 1) & _MODULO
        if spoke and heard > 1:
            self._ended_well(connection, time_ns)
        elif spoke:
            connection.client_end, connection.heard, connection.left_ns = spoke, heard, time_ns
            self._leaving.append(connection)
        else:
            self._ended(
                connection,
                self._ending(
                    connection, Event.FIN, "client", time_ns, client_bytes=spoke, server_acked=heard
                ),
            )

    def _server_fin(self, connection: Connection, time_ns: int, seq: int, ack: int, payload: int) -> None:
        if connection.server_isn is None or payload < 0:
            self._close(connection)
            return
        sent = (seq + payload - connection.server_isn - 1) & _MODULO
        if connection.client_end is not None:
            self._left(connection, sent)
            return
        acked = (ack - connection.client_isn - 1) & _MODULO
        self._ended(
            connection,
            self._ending(connection, Event.FIN, "server", time_ns, client_acked=acked, server_bytes=sent),
        )

    def _rst(self, time_ns: int, key: bytes, seq: int, ack: int | None) -> None:
        connection = self._table.get(key)
        if connection is not None:
            self._client_rst(connection, time_ns, seq, ack)
            return
        connection = self._table.get(reverse(key))
        if connection is not None:
            self._server_rst(connection, time_ns, seq, ack)
        elif not self._is_closed(key):
            self._unknown_rst(time_ns, key)

    def _client_rst(self, connection: Connection, time_ns: int, seq: int, ack: int | None) -> None:
        if connection.server_isn is None:
            # Without ACK it answers a challenge to the SYN, and the SYN will be repeated (RFC 9293, 3.10.7.3).
            if ack is not None:
                connection.server.half_seen = True
                self._close(connection)
            return
        if connection.client_end is not None:  # it had closed altogether, and an answer came
            self._left(connection, None)
            return
        spoke = (seq - connection.client_isn - 1) & _MODULO
        if spoke >= _STALE and time_ns - connection.start_ns < _LATE_NS:
            return
        heard = None if ack is None else (ack - connection.server_isn - 1) & _MODULO
        self._ended(
            connection,
            self._ending(connection, Event.RST, "client", time_ns, client_bytes=spoke, server_acked=heard),
        )

    def _server_rst(self, connection: Connection, time_ns: int, seq: int, ack: int | None) -> None:
        acked = None if ack is None else (ack - connection.client_isn - 1) & _MODULO
        if connection.server_isn is None:
            if acked is None:
                return  # RFC 9293, 3.10.7.3: the client drops it
            if acked <= connection.syn_bytes:
                ending = self._ending(connection, Event.REFUSAL, "server", time_ns, client_acked=0)
                self._close(connection)
                self._doubtful.append((connection, ending))
                return
            sent = None
        else:
            sent = (seq - connection.server_isn - 1) & _MODULO
            if sent >= _STALE and time_ns - connection.start_ns < _LATE_NS:
                return
        if connection.client_end is not None:
            self._left(connection, sent)
            return
        self._ended(
            connection,
            self._ending(connection, Event.RST, "server", time_ns, client_acked=acked, server_bytes=sent),
        )

    def _unknown_rst(self, time_ns: int, key: bytes) -> None:
        """A reset of a connection that began before the detector, or found no room: its counts are unknown."""
        self._closed[key] = -1
        by_client = key[-4:-2] > key[-2:]  # the side with the higher port
        ending = Ending(Event.RST, "client" if by_client else "server", time_ns, None)
        client_key = key if by_client else reverse(key)
        self._report(FailureClass.RESET, ending, client_key, self._server(client_key), None)

    def _icmp_error(self, time_ns: int, packet: bytes, offset: int) -> None:
        quoted = ip.transport(packet, offset)
        if quoted is None or quoted.protocol != ip.TCP:
            return
        tcp = packet[quoted.offset : quoted.offset + 8]
        connection = self._table.get(quoted.source + quoted.destination + tcp[:4])
        if connection is None or connection.server_isn is not None or connection.doubted:
            return
        if int.from_bytes(tcp[4:], "big") == connection.client_isn:
            connection.doubted = True
            ending = self._ending(connection, Event.ICMP_ERROR, "network", time_ns)
            self._doubtful.append((connection, ending))

    # --- judging ---

    def _judge_starting(self, before_ns: int) -> None:
        starting = self._starting
        while starting and starting[0].start_ns <= before_ns:
            connection = starting.popleft()
            if connection.ended or connection.server_isn is not None or connection.doubted:
                continue
            self._unanswered(connection, self._now_ns)

    def _unanswered(self, connection: Connection, time_ns: int) -> None:
        self._close(connection)
        lone = connection.syns == 1
        if connection.start_ns > self._blind_ns and not (lone and connection.server.half_seen):
            self._doubtful.append((connection, self._ending(connection, Event.SILENCE, "nobody", time_ns)))

    def _judge_stalled(self, before_ns: int) -> None:
        stalled = self._stalled
        while stalled and stalled[0].synack_ns <= before_ns:
            connection = stalled.popleft()
            if not connection.ended and connection.start_ns > self._blind_ns:
                self._ended(connection, self._ending(connection, Event.SILENCE, "nobody", self._now_ns))

    def _judge_leaving(self, before_ns: int) -> None:
        leaving = self._leaving
        while leaving and leaving[0].left_ns <= before_ns:
            connection = leaving.popleft()
            if not connection.ended:
                self._left(connection, None)

    def _left(self, connection: Connection, sent: int | None) -> None:
        """Judge a client that closed first, before it had an answer; `sent` is what the server says it sent."""
        if sent is not None and sent > 1:  # half-closed, and answered
            self._ended_well(connection, connection.left_ns)
            return
        ending = self._ending(
            connection,
            Event.FIN,
            "client",
            connection.left_ns,
            client_bytes=connection.client_end,
            server_bytes=sent,
            server_acked=connection.heard,
        )
        self._ended(connection, ending)

    def _judge_doubtful(self, before_ns: int) -> None:
        due = []
        while self._doubtful and self._doubtful[0][1].time_ns <= before_ns:
            connection, ending = self._doubtful.popleft()
            if ending.event is Event.ICMP_ERROR:
                if connection.ended or connection.server_isn is not None:
                    continue
                self._close(connection)
            due.append((connection, ending))
        harmless = self._winners.reached_instead((connection, ending.time_ns) for connection, ending in due)
        for connection, ending in due:
            if connection not in harmless:
                self._apply_rules(connection, ending)

    def _ending(
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
    ) -> Ending:
        age_ns = time_ns - connection.start_ns
        answered = server_acked if server_bytes is None else server_bytes
        return Ending(
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
            late_answer=connection.answer_ns - connection.syn_ns < 0
            or connection.syns > 1
            or connection.answer_ns - connection.start_ns >= _LATE_NS,
            repeated_answer=connection.synacks > 1,
        )

    def _ended(self, connection: Connection, ending: Ending) -> None:
        self._close(connection)
        if ending.by == "client" and ending.mute and ending.late_answer and ending.event is Event.RST:
            self._doubtful.append((connection, ending))
        else:
            self._apply_rules(connection, ending)

    def _apply_rules(self, connection: Connection, ending: Ending) -> None:
        rule = rule_for(ending)
        failed = rule is not None and rule.failure_class is not None
        if rule is not None and rule.unless is not None:
            rare = self._habits.is_failure(pair_of(connection.key), rule.unless)
            failed = failed and (rare or not self._policy.exempt_habits)
        elif not failed and not ending.mute:
            self._habits.ended_well(pair_of(connection.key))
        if rule is not None and rule.failure_class is not None and failed:
            self._report(rule.failure_class, ending, connection.key, connection.server, connection.start_ns)
        elif ending.spoke and ending.answered:
            connection.server.went_well(connection.start_ns, ending.time_ns)

    def _ended_well(self, connection: Connection, time_ns: int) -> None:
        self._close(connection)
        self._habits.ended_well(pair_of(connection.key))
        connection.server.went_well(connection.start_ns, time_ns)

    def _report(
        self, failure_class: FailureClass, ending: Ending, key: bytes, server: Server, start_ns: int | None
    ) -> None:
        self.failures += 1
        server.failures[failure_class] = server.failures.get(failure_class, 0) + 1
        if failure_class not in self._policy.classes:
            return
        if len(self._found) >= _MAX_FOUND:
            self.forgotten += 1
            return
        client_end, server_end = ends(key)
        if self._concerns(client_end, server_end):
            self._found.append(
                Failure(
                    ending.time_ns,
                    failure_class,
                    client_end,
                    server_end,
                    ending.by,
                    start_ns,
                    client_bytes=ending.client_bytes,
                    client_acked=ending.client_acked,
                    server_bytes=ending.server_bytes,
                    server_acked=ending.server_acked,
                )
            )

    # --- the bounded tables ---

    def _open(self, key: bytes, time_ns: int, isn: int, payload: int) -> None:
        server = self._server(key)
        server.connections += 1
        self.connections += 1
        connection = self._table[key] = Connection(key, server, time_ns, isn, payload)
        self._starting.append(connection)
        if len(self._starting) > self._policy.max_starting:
            self._forget(self._starting.popleft())
        if len(self._table) > self._policy.max_connections:
            self._make_room()

    def _server(self, key: bytes) -> Server:
        address = server_of(key)
        server = self._servers.get(address)
        if server is None:
            server = self._servers[address] = Server(address)
            if len(self._servers) > self._policy.max_servers:
                self._servers.popitem(last=False)
        return server

    def _is_closed(self, key: bytes, isn: int | None = None) -> bool:
        """Whether this connection has ended; with `isn`, whether the one that began so has."""
        for closed in (self._closed, self._closed_before):
            if isn is not None:
                if closed.get(key) == isn:
                    return True
            elif key in closed or reverse(key) in closed:
                return True
        return False

    def _close(self, connection: Connection) -> None:
        connection.ended = True
        self._table.pop(connection.key, None)
        self._closed[connection.key] = connection.client_isn

    def _superseded(self, connection: Connection, time_ns: int) -> None:
        """The client has taken the same ports for another connection, so this one is over."""
        if connection.server_isn is None and connection.syns > 1:
            self._unanswered(connection, time_ns)
        else:
            self._close(connection)

    def _forget(self, connection: Connection) -> None:
        if not connection.ended:
            connection.ended = True
            self._table.pop(connection.key, None)
            self.forgotten += 1

    def _make_room(self) -> None:
        """Forget the oldest of the young in a flood, and otherwise the oldest: it may have ended unseen."""
        if len(self._starting) > self._policy.max_starting // 2:
            while self._starting and len(self._table) > self._policy.max_connections:
                self._forget(self._starting.popleft())
        if len(self._table) > self._policy.max_connections:
            for connection in list(islice(self._table.values(), _FORGET_AT_ONCE)):
                self._forget(connection)

    def _follow_clock(self, now_ns: int) -> None:
        """Move what is under way along when the clock was set, so that nothing seems to have waited long."""
        step_ns = now_ns - self._now_ns
        doubtful = [
            (connection, replace(ending, time_ns=ending.time_ns + step_ns))
            for connection, ending in self._doubtful
        ]
        self._doubtful = deque(doubtful)
        for connection in {
            *self._table.values(),
            *self._starting,
            *self._stalled,
            *self._leaving,
            *(connection for connection, _ in doubtful),
        }:
            connection.move(step_ns, self._now_ns, now_ns)
        self._closed_since_ns = self._round_ns = now_ns
