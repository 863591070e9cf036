"""Connections written down as what each side sends, for the tests of the report.

Talk().client(SYN).server(SYN_ACK).client(ACK).client(startup(), ms=0.1).server(ACK).server(RST_ACK, ms=1.8)
"""

from dataclasses import dataclass, field, replace

from podcam.model.connection import NO_EVENTS, Conversation, IcmpError, Packet, TcpEvent, TcpFlags
from podcam.model.diagnosis import (
    CaptureSummary,
    DiagnosedConnection,
    Diagnosis,
    Evidence,
    Verdict,
)
from podcam.model.point import Endpoint
from podcam.model.verdict import Fault, Phase, Protocol, VerdictId

START_NS = 1_763_863_200_000_000_000  # 2025-11-23 02:00:00 UTC

SYN = TcpFlags.SYN
SYN_ACK = TcpFlags.SYN | TcpFlags.ACK
ACK = TcpFlags.ACK
FIN_ACK = TcpFlags.FIN | TcpFlags.ACK
RST_ACK = TcpFlags.RST | TcpFlags.ACK
RST = TcpFlags.RST

Sent = TcpFlags | bytes

CLIENT = Endpoint("10.1.2.3", 51544)
SERVER = Endpoint("10.0.0.5", 5432, "db.example")


@dataclass
class Talk:
    """Builds a conversation; every packet comes `ms` milliseconds after the one before it."""

    client_end: Endpoint = CLIENT
    server_end: Endpoint = SERVER
    id: int = 0
    first_frame: int = 1
    start_ns: int = START_NS
    packets: list[Packet] = field(default_factory=list)
    _next: dict[bool, int] = field(default_factory=lambda: {True: 1000, False: 9_000_000})

    def client(self, sent: Sent, *, ms: float = 0.02, events: TcpEvent = NO_EVENTS) -> "Talk":
        return self._sent(sent, from_client=True, ms=ms, events=events)

    def server(self, sent: Sent, *, ms: float = 0.02, events: TcpEvent = NO_EVENTS) -> "Talk":
        return self._sent(sent, from_client=False, ms=ms, events=events)

    def icmp(self, error: IcmpError, *, ms: float = 0.02) -> "Talk":
        """An ICMP error that quotes the client's last packet."""
        quoted = self.packets[-1]
        moved = replace(quoted, frame=quoted.frame + 1, time_ns=quoted.time_ns + int(ms * 1e6), icmp=error)
        self.packets.append(moved)
        return self

    def _sent(self, sent: Sent, *, from_client: bool, ms: float, events: TcpEvent) -> "Talk":
        payload = sent if isinstance(sent, bytes) else b""
        flags = (TcpFlags.PSH | TcpFlags.ACK) if isinstance(sent, bytes) else sent
        seq = self._next[from_client]
        takes = len(payload) + bool(flags & (TcpFlags.SYN | TcpFlags.FIN))
        if events & TcpEvent.RETRANSMISSION:
            seq -= takes
        else:
            self._next[from_client] += takes
        self.packets.append(
            Packet(
                frame=self.packets[-1].frame + 1 if self.packets else self.first_frame,
                time_ns=self.packets[-1].time_ns + round(ms * 1e6) if self.packets else self.start_ns,
                from_client=from_client,
                flags=flags,
                seq=seq,
                ack=self._next[not from_client] if flags & TcpFlags.ACK else 0,
                window=64240,
                ttl=64,
                ip_id=0,
                payload_bytes=len(payload),
                payload=payload,
                events=events,
            )
        )
        return self

    def conversation(self, capture_ends_after_s: float = 0.0) -> Conversation:
        return Conversation(
            id=self.id,
            capture=0,
            point="web-0",
            tcp_stream=self.id,
            client=self.client_end,
            server=self.server_end,
            packets=tuple(self.packets),
            syn_seen=any(packet.has(SYN) for packet in self.packets),
            capture_first_ns=START_NS,
            capture_last_ns=self.packets[-1].time_ns + int(capture_ends_after_s * 1e9),
            capture_dropped=False,
        )


def message(kind: bytes, body: bytes = b"") -> bytes:
    """A PostgreSQL message."""
    return kind + (len(body) + 4).to_bytes(4) + body


def startup(user: str = "app") -> bytes:
    body = (196608).to_bytes(4) + b"user\0" + user.encode() + b"\0database\0shop\0client_encoding\0UTF8\0\0"
    return (len(body) + 4).to_bytes(4) + body


SASL = message(b"R", (10).to_bytes(4) + b"SCRAM-SHA-256\0\0")
SASL_RESPONSE = message(b"p", b"x" * 60)
SASL_CONTINUE = message(b"R", (11).to_bytes(4) + b"y" * 84)
WELCOME = (
    message(b"R", (12).to_bytes(4) + b"v=" + b"z" * 44)
    + message(b"R", (0).to_bytes(4))
    + b"".join(message(b"S", b"setting%d\0value\0" % n) for n in range(13))
    + message(b"K", bytes(8))
    + message(b"Z", b"I")
)
QUERY = message(b"Q", b"select 1\0")
ROWS = (
    message(b"T", bytes(30)) + message(b"D", bytes(10)) + message(b"C", b"SELECT 1\0") + message(b"Z", b"I")
)
TERMINATE = message(b"X")


def opened(talk: Talk) -> Talk:
    return talk.client(SYN).server(SYN_ACK).client(ACK)


def good(talk: Talk) -> Talk:
    """A session from SYN to the last ACK."""
    opened(talk).client(startup(), ms=0.09).server(ACK).server(SASL, ms=0.6).client(SASL_RESPONSE, ms=0.2)
    talk.server(SASL_CONTINUE, ms=0.5).client(SASL_RESPONSE, ms=4.1).server(WELCOME, ms=1.3)
    talk.client(QUERY, ms=0.15).server(ROWS, ms=0.4).client(TERMINATE, ms=0.1).client(FIN_ACK, ms=0.01)
    return talk.server(FIN_ACK, ms=0.1).client(ACK)


def reset_in_startup(talk: Talk) -> Talk:
    """The server acknowledges the StartupMessage, and resets."""
    return opened(talk).client(startup(), ms=0.082).server(ACK).server(RST_ACK, ms=1.8)


def row(talk: Talk, verdict: Verdict, *, end_to_end: int | None = None) -> DiagnosedConnection:
    return DiagnosedConnection(
        id=talk.id,
        end_to_end=talk.id if end_to_end is None else end_to_end,
        capture=0,
        point="web-0",
        transport="tcp",
        tcp_stream=talk.id,
        tunnel=(),
        client=talk.client_end,
        server=talk.server_end,
        start_ns=talk.packets[0].time_ns,
        end_ns=talk.packets[-1].time_ns,
        client_packets=sum(packet.from_client for packet in talk.packets),
        server_packets=sum(not packet.from_client for packet in talk.packets),
        client_bytes=sum(packet.payload_bytes for packet in talk.packets if packet.from_client),
        server_bytes=sum(packet.payload_bytes for packet in talk.packets if not packet.from_client),
        tcp=None,
        verdict=verdict,
    )


OK = Verdict(VerdictId.OK, False, Fault.NONE, Phase.CLOSING, "Ended as PostgreSQL sessions end.")
PROBE = Verdict(VerdictId.PROBE, False, Fault.NONE, Phase.HANDSHAKE, "Opened and left without a byte.")


def startup_reset_verdict(talk: Talk) -> Verdict:
    notes = {3: "StartupMessage, 53 bytes", 4: "the server acknowledges it", 5: "the server resets"}
    return Verdict(
        VerdictId.RESET_DURING_STARTUP,
        True,
        Fault.SERVER,
        Phase.STARTUP,
        "The server acknowledged the StartupMessage (53 bytes) and reset the connection 1.8 ms later, "
        "without sending a byte.",
        evidence=tuple(
            Evidence(0, talk.packets[at].frame, talk.packets[at].time_ns, note) for at, note in notes.items()
        ),
        candidates=(
            "a proxy or load balancer in front of the server",
            "the server ran into its start-up timeout or was told to stop",
        ),
        protocol=Protocol.POSTGRESQL,
        protocol_detail={"user": "app", "database": "shop"},
    )


def diagnosis(*rows: DiagnosedConnection, comparisons: dict[int, int] | None = None) -> Diagnosis:
    return Diagnosis(
        captures=(
            CaptureSummary(
                path="proxy.pcap",
                packets=4812,
                bytes=1_203_411,
                first_ns=START_NS,
                last_ns=START_NS + 60 * 10**9,
                link_types=(1,),
                points=("web-0",),
                dropped=0,
            ),
        ),
        connections=rows,
        comparisons=comparisons or {},
    )
