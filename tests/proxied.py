"""Exchanges through a proxy on the client's own host, as a point of that host sees them.

As under netfilter's REDIRECT: on `lo` the app's packets go to the proxy, and the answers come from the server
that the app asked for; the proxy's own connection goes out by `eth0`.
"""

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from conversations import TERMINATE, WELCOME, startup
from traces import ACK, FIN, MS, PSH, RST, START_NS, Talk, Timed

POD, PROXY, SERVER = "10.0.0.1", ("127.0.0.1", 15001), ("10.0.0.2", 5432)
POD_V6, PROXY_V6, SERVER_V6 = "fd00::1", ("::1", 15001), ("fd00::2", 5432)
DATA = PSH | ACK


def redirected(packets: Sequence[Timed], proxy: tuple[str, int] = PROXY, pod: str = POD) -> list[Timed]:
    """The packets of a connection as `lo` shows them when its client is redirected."""
    source, size = (12, 4) if "." in pod else (8, 16)
    here, target = ip_address(pod).packed, source + size
    ports = target + size + 2

    def to_proxy(data: bytes) -> bytes:
        if data[source : source + size] != here:
            return data
        head, kept = data[:target] + ip_address(proxy[0]).packed, data[target + size : ports]
        return head + kept + struct.pack("!H", proxy[1]) + data[ports + 2 :]

    return [(time_ns, to_proxy(data)) for time_ns, data in packets]


@dataclass
class Exchange:
    """What an app asks through the proxy, and gets; each message takes `lag_ms` through the proxy."""

    port: int
    at_ms: float = 0.0
    lag_ms: float = 0.2
    server: tuple[str, int] = SERVER
    pod: str = POD
    near: Talk = field(init=False)
    far: Talk = field(init=False)

    def __post_init__(self) -> None:
        isn = (self.port * 7_919, self.port * 104_729)
        self._now_ns = START_NS + int(self.at_ms * MS)
        self.near = Talk((self.pod, self.port), self.server, isn)
        self.far = Talk((self.pod, self.port + 20_000), self.server, (isn[0] ^ 0x5A5A5A, isn[1] ^ 0xA5A5))
        self._both(self.near.open)
        self._both(self.far.open)

    def ask(self, payload: bytes) -> "Exchange":
        self._both(lambda: self.near.client(DATA, payload))
        self._both(lambda: self.far.client(DATA, payload))
        return self

    def answer(self, payload: bytes) -> "Exchange":
        self._both(lambda: self.far.server(DATA, payload))
        self._both(lambda: self.near.server(DATA, payload))
        return self

    def log_in(self) -> "Exchange":
        return self.ask(startup()).answer(WELCOME)

    def leave(self) -> "Exchange":
        """The app says goodbye, and the proxy does so, too."""
        self.ask(TERMINATE)
        for talk in (self.near, self.far):
            self._both(lambda talk=talk: (talk.client(FIN | ACK), talk.server(FIN | ACK), talk.client(ACK)))
        return self

    def server_resets(self) -> "Exchange":
        """And the proxy then closes the app's connection, as they do."""
        self._both(lambda: (self.far.server(ACK), self.far.server(RST | ACK)))
        self._both(lambda: (self.near.server(FIN | ACK), self.near.client(FIN | ACK), self.near.server(ACK)))
        return self

    def app_resets(self) -> "Exchange":
        self._both(lambda: self.near.client(RST | ACK))
        self._both(lambda: self.far.client(RST | ACK))
        return self

    def proxy_resets(self) -> "Exchange":
        """Both of its connections, the app's first."""
        self._both(lambda: self.near.server(RST | ACK))
        self._both(lambda: self.far.client(RST | ACK))
        return self

    def wait(self, milliseconds: float) -> "Exchange":
        self._now_ns += int(milliseconds * MS)
        return self

    @property
    def packets(self) -> list[Timed]:
        """Both legs, the app's as `lo` has it."""
        proxy = PROXY if "." in self.pod else PROXY_V6
        return [*redirected(self.near.packets, proxy, self.pod), *self.far.packets]

    def _both(self, act: object) -> None:
        """Let packets be sent now, 10 µs apart, and the next thing happen a lag later."""
        before = {id(talk): len(talk.packets) for talk in self._talks()}
        for talk in self._talks():
            talk.now_ns = self._now_ns
        act()  # type: ignore[operator]
        for talk in self._talks():
            first = before[id(talk)]
            for number, (_, data) in enumerate(talk.packets[first:]):
                self._now_ns += MS // 100
                talk.packets[first + number] = (self._now_ns, data)
        self._now_ns += int(self.lag_ms * MS)

    def _talks(self) -> list[Talk]:
        return [talk for talk in (getattr(self, "near", None), getattr(self, "far", None)) if talk]


def alike(count: int, dice: random.Random, *, most_apart_ms: float, rounds: int = 3) -> list[Exchange]:
    """Exchanges that say the same things, begun one after the other at odd times."""
    exchanges, at_ms = [], 0.0
    for number in range(count):
        exchange = Exchange(20_000 + number, at_ms, lag_ms=dice.uniform(0.05, 0.5)).log_in()
        for _ in range(rounds):
            exchange.wait(dice.uniform(0, 3)).ask(b"Q" + bytes(9)).answer(b"D" + bytes(30))
        exchanges.append(exchange.leave())
        at_ms += dice.uniform(0, most_apart_ms)
    return exchanges
