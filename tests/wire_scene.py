"""What passes a wire detector, told as what each side does:

scene = Scene()
talk = scene.connect()
talk.client_sends(83)
talk.server_resets()
assert scene.wait(2) == ["reset-early by server"]
"""

import struct
from ipaddress import ip_address

import frames
from podcam.model.failure import Failure
from podcam.model.point import Endpoint
from podcam.model.verdict import FailureClass
from podcam.trigger import Detector, Policy

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
START_NS = 1_763_863_200_000_000_000
MODULO = 1 << 32

CLIENT = "10.0.0.1"
SERVER = "10.0.0.2"

ALL = Policy(classes=frozenset(FailureClass))
EVERY_CLOSE = Policy(classes=frozenset(FailureClass), exempt_habits=False)


def segment(
    source: tuple[str, int], target: tuple[str, int], flags: int, seq: int, ack: int, payload: int = 0
) -> bytes:
    """A TCP segment from its IP header on; `payload` bytes are on the wire, none of them captured."""
    tcp = struct.pack(">HHIIBBHHH", source[1], target[1], seq % MODULO, ack % MODULO, 0x50, flags, 512, 0, 0)
    ip = frames.ipv6 if ":" in source[0] else frames.ipv4
    whole = ip(tcp + bytes(payload), 6, source[0], target[0])
    return whole[: len(whole) - payload]


class Talk:
    """One connection; sequence numbers follow from what the two sides did."""

    def __init__(
        self, scene: "Scene", client: tuple[str, int], server: tuple[str, int], isn: tuple[int, int]
    ) -> None:
        self.scene = scene
        self.client, self.server = client, server
        self.client_isn, self.server_isn = isn
        self.sent = {"client": 0, "server": 0}
        self.finished = {"client": 0, "server": 0}
        self.target = server

    def syn(self, payload: int = 0) -> "Talk":
        return self._put("client", SYN, self.client_isn, 0, payload)

    def syn_ack(self) -> "Talk":
        return self._put("server", SYN | ACK, self.server_isn, self.client_isn + 1)

    def redirected(self, proxy: tuple[str, int]) -> "Talk":
        """The client's packets go to a proxy on its own host, and seem to be answered by the server."""
        self.target = proxy
        return self

    def client_sends(self, count: int) -> "Talk":
        self.sent["client"] += count
        return self

    def server_sends(self, count: int) -> "Talk":
        self.sent["server"] += count
        return self

    def client_closes(self) -> "Talk":
        return self._closes("client")

    def server_closes(self) -> "Talk":
        return self._closes("server")

    def client_resets(self, *, bare: bool = False) -> "Talk":
        return self._resets("client", bare)

    def server_resets(self, *, bare: bool = False) -> "Talk":
        """With ACK, as by a socket with unread bytes; `bare` as without a socket."""
        return self._resets("server", bare)

    def refused(self) -> "Talk":
        return self._put("server", RST | ACK, 0, self.client_isn + 1)

    def icmp(self, kind: int, code: int, *, seq: int | None = None, quoted_bytes: int = 8) -> "Talk":
        """An error that quotes the SYN."""
        seq = self.client_isn if seq is None else seq
        quoted = segment(self.client, self.server, SYN, seq, 0)
        version6 = ":" in self.client[0]
        quoted = quoted[: (40 if version6 else 20) + quoted_bytes]
        error = frames.icmp(kind, code, quoted)
        self.scene.feed(
            frames.ipv6(error, 58, "fd00::ff", self.client[0])
            if version6
            else frames.ipv4(error, 1, "10.0.0.254", self.client[0])
        )
        return self

    def after(self, seconds: float) -> "Talk":
        self.scene.pass_time(seconds)
        return self

    def _closes(self, side: str) -> "Talk":
        seq, ack = self._numbers(side)
        self._put(side, FIN | ACK, seq, ack)
        self.finished[side] = 1
        return self

    def _resets(self, side: str, bare: bool) -> "Talk":
        seq, ack = self._numbers(side)
        return self._put(side, RST if bare else RST | ACK, seq, 0 if bare else ack)

    def _numbers(self, side: str) -> tuple[int, int]:
        other = "server" if side == "client" else "client"
        isn = {"client": self.client_isn, "server": self.server_isn}
        return tuple(isn[who] + 1 + self.sent[who] + self.finished[who] for who in (side, other))  # type: ignore[return-value]

    def _put(self, side: str, flags: int, seq: int, ack: int, payload: int = 0) -> "Talk":
        source, target = (self.client, self.target) if side == "client" else (self.server, self.client)
        self.scene.feed(segment(source, target, flags, seq, ack, payload))
        return self


class Scene:
    """A detector, a clock that only moves when told, and the connections that pass."""

    def __init__(self, policy: Policy | None = None, **settings: object) -> None:
        self.now_ns = START_NS
        self.detector = Detector(self.now_ns, policy, **settings)  # type: ignore[arg-type]
        self.failures: list[Failure] = []
        self._ports = 40_000

    def talk(
        self,
        *,
        client: str = CLIENT,
        server: str = SERVER,
        port: int = 5432,
        client_port: int | None = None,
        isn: tuple[int, int] = (1_000, 5_000),
    ) -> Talk:
        """A connection of which nothing has passed yet."""
        if client_port is None:
            self._ports += 1
            client_port = self._ports
        return Talk(self, (client, client_port), (server, port), isn)

    def connect(self, **settings: object) -> Talk:
        """A connection whose handshake has passed."""
        talk = self.talk(**settings).syn()  # type: ignore[arg-type]
        self.pass_time(0.001)
        return talk.syn_ack().after(0.001)

    def good(self, times: int = 1, **settings: object) -> None:
        """Connections as they should be."""
        for _ in range(times):
            talk = self.connect(**settings).client_sends(120).server_sends(400).after(0.01)
            talk.client_closes().after(0.001).server_closes().after(0.01)

    def feed(self, packet: bytes) -> None:
        self.detector.feed(self.now_ns, packet)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with a tick at least every quarter of a second."""
        end_ns = self.now_ns + round(seconds * 1e9)
        while self.now_ns < end_ns:
            self.now_ns = min(end_ns, self.now_ns + 250_000_000)
            self.failures += self.detector.tick(self.now_ns)

    def wait(self, seconds: float = 0.0) -> list[str]:
        """Let time pass, and tell what failed since this was last asked."""
        self.pass_time(seconds)
        self.failures += self.detector.tick(self.now_ns)
        told = [f"{failure.failure_class} by {failure.by}" for failure in self.failures]
        self.last = self.failures
        self.failures = []
        return told


def endpoint(address: str, port: int) -> Endpoint:
    return Endpoint(str(ip_address(address)), port)
