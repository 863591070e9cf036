"""What the wire detector keeps of one connection and of one server."""

from podcam.model.failure import ServerCounts
from podcam.model.point import Endpoint
from podcam.model.verdict import FailureClass
from podcam.wire.ip import address_text


class Server:
    """What became of the connections to one server; `address` is its IP address and port, as in packets."""

    __slots__ = ("address", "connections", "failures", "good_end_ns", "good_start_ns", "half_seen")

    def __init__(self, address: bytes) -> None:
        self.address = address
        self.connections = 0
        self.failures: dict[FailureClass, int] = {}
        self.good_start_ns: int | None = None
        self.good_end_ns: int | None = None
        self.half_seen = False
        """Whether its answers were missing where they must have come: its silence says nothing."""

    def went_well(self, start_ns: int, end_ns: int) -> None:
        """Remember a connection that ended well."""
        self.good_start_ns, self.good_end_ns = start_ns, end_ns

    def counts(self, since_ns: int) -> ServerCounts:
        """The counts as others see them."""
        return ServerCounts(
            server=endpoint(self.address[:-2], self.address[-2:]),
            since_ns=since_ns,
            connections=self.connections,
            failures=dict(self.failures),
            last_good_start_ns=self.good_start_ns,
            last_good_end_ns=self.good_end_ns,
        )


class Connection:
    """One connection whose SYN was seen.

    `key` is client address, server address, client port and server port, as they stand in the client's packets.
    """

    __slots__ = (
        "answer_ns",
        "client_end",
        "client_isn",
        "doubted",
        "ended",
        "excused",
        "heard",
        "key",
        "left_ns",
        "server",
        "server_isn",
        "start_ns",
        "syn_bytes",
        "syn_ns",
        "synack_ns",
        "synacks",
        "syns",
    )

    def __init__(self, key: bytes, server: Server, start_ns: int, client_isn: int, syn_bytes: int) -> None:
        self.key = key
        self.server = server
        self.start_ns = self.syn_ns = start_ns
        self.client_isn = client_isn
        self.syn_bytes = syn_bytes
        """Payload of the SYN (RFC 7413), which the SYN-ACK may acknowledge."""
        self.syns = 1
        self.server_isn: int | None = None
        self.answer_ns = 0
        """Time of the first SYN-ACK; 0 while there is none."""
        self.synacks = 0
        self.synack_ns = 0
        """Time of the latest SYN-ACK."""
        self.client_end: int | None = None
        """Bytes that the client had sent when it closed before it had an answer."""
        self.heard = 0
        """Bytes of the server that the client had acknowledged then."""
        self.left_ns = 0
        self.doubted = False
        """Whether an ICMP error quoted its SYN."""
        self.ended = False
        self.excused: tuple[bytes, ...] = ()
        """Servers at which a parallel connect of the same client failed, harmlessly."""

    def move(self, step_ns: int, before_ns: int, now_ns: int) -> None:
        """Follow a clock that was set from `before_ns` to `now_ns`, which is `step_ns` from where it would be.

        Times that the clock as it is now could have told are left alone.
        """
        for name in ("start_ns", "syn_ns", "answer_ns", "synack_ns", "left_ns"):
            time_ns = getattr(self, name)
            if time_ns and (time_ns > now_ns if step_ns < 0 else time_ns <= before_ns):
                setattr(self, name, time_ns + step_ns)


def reverse(key: bytes) -> bytes:
    """The key as it stands in packets of the other direction."""
    if len(key) == 12:
        return key[4:8] + key[:4] + key[10:] + key[8:10]
    return key[16:32] + key[:16] + key[34:] + key[32:34]


def server_of(key: bytes) -> bytes:
    """Address and port of the second side of a key."""
    return key[4:8] + key[10:] if len(key) == 12 else key[16:32] + key[34:]


def pair_of(key: bytes) -> bytes:
    """A key without the client's port: the same for all connections between a client and a server."""
    return key[:8] + key[10:] if len(key) == 12 else key[:32] + key[34:]


def ends(key: bytes) -> tuple[Endpoint, Endpoint]:
    """The first and the second side of a key."""
    size = (len(key) - 4) // 2
    client, server = key[:size], key[size:-4]
    return endpoint(client, key[-4:-2]), endpoint(server, key[-2:])


def endpoint(address: bytes, port: bytes) -> Endpoint:
    """An address of 4 or 16 bytes and a port in network byte order."""
    return Endpoint(address_text(address), int.from_bytes(port, "big"))
