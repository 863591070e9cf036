"""What `podcam diagnose` says: the values behind the JSON contract `podcam.diagnosis/1`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from podcam.model.connection import TcpCounts
from podcam.model.point import Endpoint
from podcam.model.verdict import Fault, Phase, Protocol, VerdictId


@dataclass(frozen=True, slots=True)
class Evidence:
    """A frame that proves something. `frame` is the number that Wireshark shows for the file `capture`."""

    capture: int
    frame: int
    time_ns: int
    note: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a connection, who is at fault, and the packets that prove it."""

    id: VerdictId
    failed: bool
    fault: Fault
    phase: Phase
    summary: str
    evidence: tuple[Evidence, ...] = ()
    candidates: tuple[str, ...] = ()
    protocol: Protocol = Protocol.UNKNOWN
    protocol_detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CaptureSummary:
    """One file, segment or clip that was read."""

    path: str
    packets: int
    bytes: int
    first_ns: int | None
    last_ns: int | None
    link_types: tuple[int, ...]
    """LINKTYPE_* numbers, as in pcap files."""
    points: tuple[str, ...]
    dropped: int | None
    """Packets that the recorder is known to have lost; None when the file does not say."""
    warnings: tuple[str, ...] = ()


class LegEnd(StrEnum):
    """A side of a proxy between client and server, or the proxy itself."""

    CLIENT = "client"
    PROXY = "proxy"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Leg:
    """Where an exchange goes on at the other side of a proxy that ends TCP: a guess, by times and sizes.

    `connection` is the id of the other leg, `towards` whether it is the one of the client or of the server;
    `began` tells, when one of them failed, on which side of the proxy, or whether in it.
    """

    connection: int
    towards: LegEnd
    began: LegEnd | None = None


@dataclass(frozen=True, slots=True)
class DiagnosedConnection:
    """One row of the diagnosis: a connection at one point, with its verdict."""

    id: int
    end_to_end: int
    capture: int
    point: str
    transport: str
    tcp_stream: int | None
    tunnel: tuple[str, ...]
    client: Endpoint
    server: Endpoint
    start_ns: int
    end_ns: int
    client_packets: int
    server_packets: int
    client_bytes: int
    server_bytes: int
    tcp: TcpCounts | None
    verdict: Verdict
    proxy: Endpoint | None = None
    """Where the kernel of the client's host sent it in place of its server (netfilter's REDIRECT)."""
    answers_tcp_stream: int | None = None
    """The `tcp.stream` of what came back, where a redirection makes two of one connection."""
    leg: Leg | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The verdicts of a set of captures."""

    captures: tuple[CaptureSummary, ...]
    connections: tuple[DiagnosedConnection, ...]
    comparisons: Mapping[int, int] = field(default_factory=dict)
    """For a failed connection's id, the id of the nearest good connection to the same server."""
