"""One connection as the wire detector follows it."""

from podcam.trigger.keys import reverse
from podcam.trigger.peers import Pair, Server


class Connection:
    """A connection whose SYN was seen. Times are in ns since 1970 UTC, 0 while they are unknown.

    What most connections never need is set on the class: an instance then costs a third of the time.
    """

    syns = 1
    """SYNs seen, copies at other interfaces left out; 0 where only what came of them was."""
    syn_ns = 0
    """Time of the last repeated SYN."""
    server_isn: int | None = None
    """The server's initial sequence number, None until its SYN was seen."""
    answer_ns = 0
    """Time of the first SYN-ACK."""
    synacks = 0
    synack_ns = 0
    """Time of the last repeated SYN-ACK."""
    left_ns = 0
    """When the client closed before it had an answer."""
    client_end = 0
    """Bytes that it had sent by then."""
    heard = 0
    """Bytes of the server that it had acknowledged then."""
    doubted = False
    """Whether an ICMP error quoted its SYN."""
    ended = False
    excused: tuple[bytes, ...] = ()
    """Servers at which a parallel connect of the same client failed, harmlessly."""

    def __init__(
        self,
        key: bytes,
        reverse_key: bytes,
        pair: Pair | None,
        server: Server,
        start_ns: int,
        client_isn: int,
        syn_bytes: int,
    ) -> None:
        self.key = key
        """As in the client's packets."""
        self.reverse_key = reverse_key
        """As in the server's packets: not the other way round where the client is redirected on its host."""
        self.pair = pair
        self.server = server
        self.start_ns = start_ns
        self.client_isn = client_isn
        self.syn_bytes = syn_bytes
        """Payload of the SYN (RFC 7413), which the SYN-ACK may acknowledge."""

    @property
    def asked(self) -> bytes:
        """The key with the server as the client addressed it."""
        return reverse(self.reverse_key)

    def follow_clock_back(self, step_ns: int, now_ns: int) -> None:
        """The clock was set back to `now_ns`, by -`step_ns`: move all times that it could not have told."""
        for name in ("start_ns", "syn_ns", "answer_ns", "synack_ns", "left_ns"):
            if getattr(self, name) > now_ns:
                setattr(self, name, getattr(self, name) + step_ns)
