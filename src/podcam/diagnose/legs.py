"""Which two connections are one exchange that a proxy at the point passed on: a guess, and named so.

A proxy that ends TCP (of a mesh, PgBouncer) takes a connection and makes another; nothing in the packets says
which belongs to which. What they say is when each began and ended, and how many bytes went each way when. A
pair is joined only where these leave no other choice.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from podcam.model.connection import Conversation, TcpFlags
from podcam.model.point import Endpoint

_SECOND: Final = 1_000_000_000
_CONNECTS_WITHIN_NS: Final = 5 * _SECOND
"""A proxy makes its connection when it accepts one, or when it has read what is asked of it."""
_ENDS_WITHIN_NS: Final = 2 * _SECOND
"""When one has ended, the proxy soon ends the other."""
_TLS_BYTES: Final = 16_384
_TLS_PER_MILLE: Final = 50
"""Of handshake, certificates and record headers, when one of two legs is encrypted."""
_UNDERWAY_BYTES: Final = 65_536
"""That a proxy may hold."""
_MOST_COMPARED: Final = 1_000_000
"""Pairs of connections at a point: with more nothing is said, as to leave some out would make false pairs."""
_MOST_READ: Final = 2_000
"""Pairs whose packets are compared."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A connection as far as its being passed on shows in it.

    `proxy` is where the kernel sent it in place of its server; times are in nanoseconds since 1970 UTC, None
    for what did not happen or was not seen: the first bytes of each side, and the first FIN or RST.
    """

    id: int
    client: Endpoint
    server: Endpoint
    proxy: Endpoint | None
    start_ns: int
    asked_ns: int | None
    answered_ns: int | None
    ended_ns: int | None
    client_bytes: int
    server_bytes: int
    encrypted: bool
    failed: bool

    @property
    def silent(self) -> bool:
        """Whether no byte was sent."""
        return not self.client_bytes and not self.server_bytes


@dataclass(frozen=True, slots=True)
class Legs:
    """For the leg towards the client the one towards the server; and where that is not clear."""

    further: Mapping[int, int] = field(default_factory=dict)
    doubtful: Mapping[int, int] = field(default_factory=dict)
    """For a connection that may have gone on as several, or have come from several, as how many."""


def join_legs(stretches: Iterable[Stretch], in_step: Callable[[int, int], bool]) -> Legs:
    """Pairs of connections at one point that are two legs of one exchange.

    Args:
        stretches: the connections that were seen at the point from their beginning.
        in_step: whether of two connections, by their ids, the second can be the first passed on, as all their
            packets say; asked only where several could be, and for so many pairs.
    """
    known = sorted(stretches, key=lambda stretch: stretch.start_ns)
    starts = [stretch.start_ns for stretch in known]
    rivals = {near.id: _begun_meanwhile(near, starts) for near in known}
    if sum(map(len, rivals.values())) > _MOST_COMPARED:
        return Legs()
    forwards: defaultdict[int, set[int]] = defaultdict(set)
    backwards: defaultdict[int, set[int]] = defaultdict(set)
    for near in known:
        for far in (known[at] for at in rivals[near.id]):
            if far is not near and _meet_in_proxy(near, far) and _one_exchange(near, far):
                forwards[near.id].add(far.id)
                backwards[far.id].add(near.id)
    _strike_out(forwards, backwards, in_step)
    return Legs(
        {
            near: next(iter(fars))
            for near, fars in forwards.items()
            if len(fars) == 1 and len(backwards[next(iter(fars))]) == 1
        },
        {
            one: len(others)
            for links in (forwards, backwards)
            for one, others in links.items()
            if len(others) > 1
        },
    )


def _begun_meanwhile(near: Stretch, starts: Sequence[int]) -> range:
    """Places, in the order of their starts, of those that a proxy may have begun for this one."""
    latest = (near.start_ns if near.asked_ns is None else near.asked_ns) + _CONNECTS_WITHIN_NS
    return range(bisect_left(starts, near.start_ns), bisect_right(starts, latest))


def _strike_out(
    forwards: Mapping[int, set[int]], backwards: Mapping[int, set[int]], in_step: Callable[[int, int], bool]
) -> None:
    """Where a connection has several candidates, drop those whose packets say that it is another."""
    contested = [
        (near, far)
        for near, fars in forwards.items()
        for far in sorted(fars)
        if len(fars) > 1 or len(backwards[far]) > 1
    ]
    for near, far in contested[:_MOST_READ]:
        if not in_step(near, far):
            forwards[near].discard(far)
            backwards[far].discard(near)


def _meet_in_proxy(near: Stretch, far: Stretch) -> bool:
    """Whether the server's end of one and the client's end of the other can be one program of this host."""
    if far.proxy is not None:
        return False
    if near.proxy is not None:
        return far.client.ip == near.client.ip or is_loopback(far.client.ip)
    if is_loopback(near.server.ip):  # a proxy that the client knows of
        return not is_loopback(far.client.ip) and not is_loopback(far.server.ip)
    if is_loopback(far.client.ip):  # to the program that the proxy stands before
        return not is_loopback(near.client.ip)
    return far.client.ip == near.server.ip and far.server.ip != near.server.ip


def is_loopback(ip: str) -> bool:
    """Whether an address is of its own host only."""
    return ip.startswith("127.") or ip == "::1"


def _one_exchange(near: Stretch, far: Stretch) -> bool:
    """Whether times and sizes allow that the second is the first passed on."""
    if not _times_fit(near, far):
        return False
    if near.encrypted == far.encrypted:
        return _sizes_fit(near, far)
    return _of_a_mesh(near, far) and _sizes_fit_but_for_tls(near, far)


def _of_a_mesh(near: Stretch, far: Stretch) -> bool:
    """Whether it is an app's own proxy: only there can one leg be taken for another that is encrypted."""
    own = near.proxy is not None or is_loopback(far.client.ip)
    return own and near.server.port == far.server.port


def _times_fit(near: Stretch, far: Stretch) -> bool:
    if near.ended_ns is not None:
        if far.start_ns > near.ended_ns:
            return False
        if far.ended_ns is not None and abs(near.ended_ns - far.ended_ns) > _ENDS_WITHIN_NS:
            return False
    if near.answered_ns is not None and (far.answered_ns is None or far.answered_ns > near.answered_ns):
        return False  # the proxy answered by itself
    if near.encrypted != far.encrypted or far.asked_ns is None:
        return True
    return near.asked_ns is not None and near.asked_ns <= far.asked_ns


def _sizes_fit(near: Stretch, far: Stretch) -> bool:
    """Whether what came is what went on; of what broke off, or goes on, the last may be on its way."""
    up, down = near.client_bytes - far.client_bytes, far.server_bytes - near.server_bytes
    if far.silent:  # it never connected
        return far.failed and not near.server_bytes
    if near.ended_ns is not None and far.ended_ns is not None and not near.failed and not far.failed:
        return up == down == 0
    return min(up, down) == 0 and max(up, down) <= _UNDERWAY_BYTES


def _sizes_fit_but_for_tls(near: Stretch, far: Stretch) -> bool:
    plain, encrypted = (near, far) if far.encrypted else (far, near)
    broken = near.failed or far.failed
    return all(
        (less <= more or broken) and more <= less + less * _TLS_PER_MILLE // 1000 + _TLS_BYTES
        for less, more in (
            (plain.client_bytes, encrypted.client_bytes),
            (plain.server_bytes, encrypted.server_bytes),
        )
    )


def in_step(near: Conversation, far: Conversation) -> bool:
    """Whether no byte left the proxy before as many had come to it, in either direction.

    Of connections that are not encrypted; where one's beginning was not seen, nothing speaks against it.
    """
    return _came_first(near, far, from_client=True) and _came_first(far, near, from_client=False)


def _came_first(first: Conversation, second: Conversation, *, from_client: bool) -> bool:
    came, went = (_progress(talk, from_client=from_client) for talk in (first, second))
    if came is None or went is None:
        return True
    at = so_far = 0
    for time_ns, count in went:
        while at < len(came) and came[at][0] <= time_ns:
            so_far = max(so_far, came[at][1])
            at += 1
        if count > so_far:
            return False
    return True


def _progress(talk: Conversation, *, from_client: bool) -> Sequence[tuple[int, int]] | None:
    """When one side had sent how many bytes; None where its first sequence number was not seen."""
    sent = [p for p in talk.packets if p.icmp is None and p.from_client is from_client]
    isn = next((packet.seq for packet in sent if packet.has(TcpFlags.SYN)), None)
    if isn is None:
        return None if any(packet.payload_bytes for packet in sent) else ()
    return [
        (packet.time_ns, (packet.seq + packet.payload_bytes - isn - 1) & 0xFFFF_FFFF)
        for packet in sent
        if packet.payload_bytes and not packet.has(TcpFlags.SYN)
    ]
