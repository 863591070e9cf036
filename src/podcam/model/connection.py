"""A connection as the rules see it: the packets of one TCP connection at one point, in the order of the file.

Only the connections that matter are ever put into this shape; all others stay rows of columns.
"""

from dataclasses import dataclass
from enum import IntFlag

from podcam.model.point import Endpoint, Gap


class TcpFlags(IntFlag):
    """RFC 9293, section 3.1."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80


class TcpEvent(IntFlag):
    """What Wireshark's `tcp.analysis` would say of a packet."""

    RETRANSMISSION = 1 << 0
    FAST_RETRANSMISSION = 1 << 1
    SPURIOUS_RETRANSMISSION = 1 << 2
    OUT_OF_ORDER = 1 << 3
    LOST_SEGMENT = 1 << 4
    ACK_LOST_SEGMENT = 1 << 5
    DUPLICATE_ACK = 1 << 6
    ZERO_WINDOW = 1 << 7
    WINDOW_FULL = 1 << 8
    WINDOW_UPDATE = 1 << 9
    KEEP_ALIVE = 1 << 10
    KEEP_ALIVE_ACK = 1 << 11
    ZERO_WINDOW_PROBE = 1 << 12
    ZERO_WINDOW_PROBE_ACK = 1 << 13
    REUSED_PORTS = 1 << 14


NO_EVENTS = TcpEvent(0)


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP or ICMPv6 error that quotes a packet of the connection."""

    version: int
    """4 or 6"""
    type: int
    code: int
    sender: str
    """The address that sent the error."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet of a connection.

    `seq`, `ack` and `window` are raw (unsigned, not scaled); `payload` is what was captured of the TCP
    payload, which has `payload_bytes` bytes on the wire (a capture cut by a snap length holds fewer).
    `from_client` tells the direction; for an ICMP error it is that of the *quoted* packet, and `icmp` is set.
    """

    frame: int
    time_ns: int
    from_client: bool
    flags: int
    seq: int
    ack: int
    window: int
    ttl: int
    ip_id: int
    payload_bytes: int
    payload: bytes = b""
    events: TcpEvent = NO_EVENTS
    icmp: IcmpError | None = None

    def has(self, flags: int) -> bool:
        """Whether all of these TCP flags are set."""
        return self.flags & flags == flags


@dataclass(frozen=True, slots=True)
class TcpCounts:
    """How often each thing that Wireshark's `tcp.analysis` names happened."""

    retransmissions: int
    fast_retransmissions: int
    out_of_order: int
    duplicate_acks: int
    zero_windows: int
    lost_segments: int
    handshake_ns: int | None


@dataclass(frozen=True, slots=True)
class Conversation:
    """One TCP connection at one point, with its packets.

    The client is who sent the SYN; where no SYN was seen, `syn_seen` is false and the client is the side with
    the higher port.
    """

    id: int
    capture: int
    """Index into the captures of the diagnosis."""
    point: str
    tcp_stream: int | None
    client: Endpoint
    server: Endpoint
    packets: tuple[Packet, ...]
    syn_seen: bool
    capture_first_ns: int
    capture_last_ns: int
    """First and last packet of the whole capture: what lies outside was not seen."""
    capture_dropped: bool
    """Whether the capture is known to have lost packets."""
    gaps: tuple[Gap, ...] = ()
    """Where nothing was recorded at its point, in the order of time."""
    tunnel: tuple[str, ...] = ()
    counts: TcpCounts | None = None
    client_packets: int = 0
    server_packets: int = 0
    client_bytes: int = 0
    """Payload bytes sent by that side; retransmitted bytes count once."""
    server_bytes: int = 0

    @property
    def start_ns(self) -> int:
        """Time of the first packet."""
        return self.packets[0].time_ns

    @property
    def end_ns(self) -> int:
        """Time of the last packet."""
        return self.packets[-1].time_ns
