"""The connections that are followed, within bounds whatever arrives."""

from collections import deque
from collections.abc import Iterator
from itertools import islice

from podcam.trigger.classes import Policy
from podcam.trigger.connection import Connection
from podcam.trigger.keys import client_of, reverse
from podcam.trigger.peers import Peers

_MAX_ENDED = 8_192
"""Ended connections that are remembered, for what still comes of them: a reset after a FIN is normal."""

_FORGET_AT_ONCE = 1_024
"""Finding the oldest entry of a dict costs a scan over those that left before it: share it."""

_MAX_REDIRECTED = 16
"""Connections looked through for one that was answered elsewhere: on one host, answers come at once."""

_NO_ISN = -1


class Table:
    """Connections by their key in both directions; ended ones stay for a while.

    `starting` holds those that began last, oldest first, up to the policy's `max_starting`; whoever judges
    silence takes them from its left.
    """

    def __init__(self, policy: Policy, peers: Peers) -> None:
        self._max_connections = policy.max_connections
        self._max_starting = policy.max_starting
        self._peers = peers
        self._by_key: dict[bytes, Connection] = {}
        self._open = 0
        self._ended: deque[Connection] = deque()
        self.starting: deque[Connection] = deque()
        self.get = self._by_key.get
        """The connection of a key of either direction, also if it has ended lately."""
        self.opened = 0
        """Connections opened so far."""
        self.forgotten = 0
        """Connections that had to make room for others."""

    def open(
        self, key: bytes, reverse_key: bytes, start_ns: int, client_isn: int, syn_bytes: int
    ) -> Connection:
        """Follow a connection from its SYN on, in place of an older one with its key."""
        pair = self._peers.known_pair(key)
        server = self._peers.server(key) if pair is None else pair.server
        server.connections += 1
        self.opened += 1
        self._open += 1
        connection = Connection(key, reverse_key, pair, server, start_ns, client_isn, syn_bytes)
        self._by_key[key] = self._by_key[reverse_key] = connection
        self.starting.append(connection)
        if len(self.starting) > self._max_starting:
            self._forget(self.starting.popleft())
        if self._open > self._max_connections:
            self._make_room()
        return connection

    def answered_elsewhere(self, key: bytes, ack: int) -> Connection | None:
        """The connection whose SYN is answered from another address than it was sent to; followed there now.

        A client that is redirected on its own host (netfilter's REDIRECT, as in a mesh) shows so: its packets
        have the address of the proxy, those that it gets have the server's. `key` is of the answer, `ack` its
        acknowledgement.
        """
        asked = reverse(key)
        for connection in islice(reversed(self.starting), _MAX_REDIRECTED):
            if (
                (connection.client_isn + 1) & 0xFFFF_FFFF == ack
                and connection.server_isn is None
                and not connection.ended
                and client_of(connection.key) == client_of(asked)
            ):
                del self._by_key[connection.reverse_key]
                self._by_key[key] = connection
                connection.server.connections -= 1
                connection.reverse_key = key
                connection.pair = self._peers.known_pair(asked)
                connection.server = self._peers.server(asked)
                connection.server.connections += 1
                return connection
        return None

    def end(self, connection: Connection) -> None:
        """Follow it no longer, but remember it."""
        if not connection.ended:
            connection.ended = True
            self._open -= 1
            self._remember(connection)

    def end_unseen(self, key: bytes) -> Connection:
        """Remember the end of a connection whose SYN was not seen."""
        server = self._peers.server(key)
        connection = Connection(key, reverse(key), None, server, 0, _NO_ISN, 0)
        connection.syns = 0
        connection.ended = True
        self._by_key[key] = self._by_key[connection.reverse_key] = connection
        self._remember(connection)
        return connection

    def __iter__(self) -> Iterator[Connection]:
        """Everything that is followed or remembered."""
        return iter({*self._by_key.values(), *self.starting})

    def _remember(self, connection: Connection) -> None:
        self._ended.append(connection)
        if len(self._ended) > _MAX_ENDED:
            self._remove(self._ended.popleft())

    def _forget(self, connection: Connection) -> None:
        if not connection.ended:
            connection.ended = True
            self._open -= 1
            self.forgotten += 1
            self._remove(connection)

    def _remove(self, connection: Connection) -> None:
        for key in (connection.key, connection.reverse_key):
            if self._by_key.get(key) is connection:
                del self._by_key[key]

    def _make_room(self) -> None:
        """Forget the youngest in a flood, and otherwise the oldest: their ends may not have been seen."""
        if len(self.starting) > self._max_starting // 2:
            while self.starting and self._open > self._max_connections:
                self._forget(self.starting.popleft())
            return
        followed = (connection for connection in self._by_key.values() if not connection.ended)
        for connection in list(islice(followed, 2 * _FORGET_AT_ONCE)):
            self._forget(connection)
