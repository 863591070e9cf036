"""What is known of servers, and of how the connections between a client and a server usually end.

A health check that is closed by the server each time is no failure; the same end between an application and
its database, after a hundred that went otherwise, is one. So habits belong to the pair of client address and
server: the kubelet's do not hide, and are not hidden by, those of the pods.
"""

from collections import OrderedDict

from podcam.model.failure import ServerCounts
from podcam.model.verdict import FailureClass
from podcam.trigger.keys import endpoint, pair_of, server_of
from podcam.trigger.rules import Habit, Usual

_MAX_SPARED = 64
"""Working servers that are passed over to find one to forget."""

_MAX_GOOD = 8
"""Good exchanges of a pair that are remembered."""
_ENOUGH_GOOD = 2


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


class Pair:
    """A client address and a server: how their connections ended."""

    __slots__ = ("_good", "ended", "ends", "server")

    def __init__(self, server: Server) -> None:
        self.server = server
        self.ended = 0
        self.ends: dict[Habit, int] = {}
        self._good: list[tuple[int, int]] = []
        """Bytes of the client and the server in the last exchanges that the client ended."""

    def ended_well(self, client_bytes: int, server_bytes: int) -> None:
        """Count the everyday end, and remember how much was said."""
        self.ended += 1
        self._good.append((client_bytes, server_bytes))
        if len(self._good) > _MAX_GOOD:
            del self._good[0]

    def is_complete(self, client_bytes: int | None, server_bytes: int | None) -> bool:
        """Whether as much was said, by both sides, as in exchanges that ended well.

        One alone does not tell: a client that leaves over a rejection looks like any that is content.
        """
        if client_bytes is None or server_bytes is None:
            return False
        smaller = sum(spoke <= client_bytes and answered <= server_bytes for spoke, answered in self._good)
        return smaller >= _ENOUGH_GOOD

    def is_rare(self, usual: Usual) -> bool:
        """Whether this end is rare enough here to be a failure; counts it."""
        times = self.ends.get(usual.habit, 0)
        rare = usual.at_first if self.ended < usual.ended else times < usual.share * self.ended
        self.ended += 1
        self.ends[usual.habit] = times + 1
        return rare


class Peers:
    """Servers and pairs, `limit` of each; the ones that were met first are forgotten first.

    A pair is remembered once one of its connections has ended, so that the made-up clients of a SYN flood do
    not push out real ones; nor do the silent addresses of a scan push out servers that work.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._servers: OrderedDict[bytes, Server] = OrderedDict()
        self._pairs: OrderedDict[bytes, Pair] = OrderedDict()

    @property
    def servers(self) -> list[Server]:
        """All servers known."""
        return list(self._servers.values())

    def find(self, address: bytes) -> Server | None:
        """The server with this IP address and port, as in packets; it does not count as heard of."""
        return self._servers.get(address)

    def known_pair(self, key: bytes) -> Pair | None:
        """The pair that a connection's key belongs to, if it is remembered."""
        return self._pairs.get(pair_of(key))

    def pair(self, key: bytes, server: Server) -> Pair:
        """The same, remembered from now on."""
        name = pair_of(key)
        pair = self._pairs.get(name)
        if pair is None:
            pair = self._pairs[name] = Pair(server)
            if len(self._pairs) > self._limit:
                self._pairs.popitem(last=False)
        return pair

    def server(self, key: bytes) -> Server:
        """The server of a connection's key."""
        address = server_of(key)
        server = self._servers.get(address)
        if server is None:
            server = self._servers[address] = Server(address)
            if len(self._servers) > self._limit:
                self._forget_server()
        return server

    def _forget_server(self) -> None:
        for _ in range(_MAX_SPARED):
            address, server = next(iter(self._servers.items()))
            if server.good_start_ns is None:
                break
            self._servers.move_to_end(address)
        self._servers.popitem(last=False)
