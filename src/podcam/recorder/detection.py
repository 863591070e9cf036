"""The detector's process: reads the control sockets of all points and feeds the wire detectors.

A flood of control packets costs at most half a core, at a lower priority than the writer's, and no recorded
packet: what the sockets cannot hold meanwhile is dropped there, counted, and told.
"""

import os
import select
import socket
import time
from dataclasses import asdict
from ipaddress import ip_address

from podcam.capture import ControlReader, dropped
from podcam.model.failure import ServerCounts
from podcam.model.point import Endpoint
from podcam.recorder.channel import Channel
from podcam.recorder.settings import Network
from podcam.trigger import Detector, FollowedNames, Policy

_NICENESS = 5
_ROUND_SECONDS = 0.02
"""Packets that come within this time are read together: a wake-up costs more than a packet."""
_MOST_PACKETS = 2048
"""Read from one socket per round, so that no point starves another."""
_TICK_SECONDS = 1.0
_MOST_SERVERS = 100
"""So many servers get into a manifest, those with the most failures first."""


class _Concerns:
    """Whether a connection is one that the user asked about: one side of it is a chosen host."""

    def __init__(self, networks: tuple[Network, ...], names: FollowedNames, *, everything: bool) -> None:
        self._networks = networks
        self._names = names
        self._everything = everything

    def __call__(self, client: Endpoint, server: Endpoint) -> bool:
        return self._everything or self._chosen(server.ip) or self._chosen(client.ip)

    def _chosen(self, ip: str) -> bool:
        if self._names.name_of(ip) is not None:
            return True
        address = ip_address(ip)
        return any(address in network for network in self._networks)


class _PointDetector:
    """One point: its control socket and its detector."""

    def __init__(self, name: str, sock: socket.socket, detector: Detector) -> None:
        self.name = name
        self.socket = sock
        self.detector = detector
        self.lost = 0
        self.told = (0, 0)


class Detection:
    """Obeys its supervisor's messages until told to stop, or until the supervisor is gone."""

    def __init__(
        self, channel: Channel, policy: Policy, networks: tuple[Network, ...], names: tuple[str, ...]
    ) -> None:
        self._channel = channel
        self._policy = policy
        self._names = FollowedNames(names)
        self._concerns = _Concerns(networks, self._names, everything=not networks and not names)
        self._reader = ControlReader()
        self._points: dict[int, _PointDetector] = {}
        self._epoll = select.epoll()
        self._epoll.register(channel.fileno(), select.EPOLLIN)
        self._tick_due = time.monotonic()
        self._stopping = False

    def run(self) -> None:
        """Until the end."""
        os.nice(_NICENESS)
        while not self._stopping:
            ready = self._epoll.poll(max(0.0, self._tick_due - time.monotonic()))
            begun = time.monotonic()
            points = [self._points[descriptor] for descriptor, _ in ready if descriptor in self._points]
            for point in points:
                self._read(point)
            if len(points) < len(ready):
                self._obey_next()
            if begun >= self._tick_due:
                self._keep_time()
            if points:
                took = time.monotonic() - begun
                time.sleep(max(_ROUND_SECONDS - took, took))
        for point in self._points.values():
            self._read(point)
        self._keep_time()
        self._tell_counts()

    def _obey_next(self) -> None:
        received = self._channel.receive()
        if received is None:
            self._stopping = True
            return
        message, descriptors = received
        match message["do"]:
            case "add":
                self._add(message["point"], socket.socket(fileno=descriptors[0]))
            case "learn":
                if self._names.add(message["name"], message["addresses"], time.time_ns()):
                    self._tell_addresses(message["name"])
            case "forget":
                if self._names.forget(message["before_ns"]):
                    self._tell_addresses(None)
            case "count":
                self._tell_counts()
            case "stop":
                self._stopping = True
            case unknown:
                raise ValueError(f"a message that the detector does not know: {unknown}")

    def _add(self, name: str, sock: socket.socket) -> None:
        detector = Detector(time.time_ns(), self._policy, concerns=self._concerns, on_dns=self._learn)
        self._points[sock.fileno()] = _PointDetector(name, sock, detector)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _read(self, point: _PointDetector) -> None:
        feed = point.detector.feed
        for time_ns, _hardware, _kind, _interface, packet in self._reader.read(point.socket, _MOST_PACKETS):
            feed(time_ns, packet)
        self._tick(point)

    def _tick(self, point: _PointDetector) -> None:
        for failure in point.detector.tick(time.time_ns()):
            server = point.detector.counts_of(failure.server)
            self._channel.send(
                {
                    "is": "failure",
                    "point": point.name,
                    "failure": asdict(failure),
                    "server": None if server is None else asdict(server),
                }
            )

    def _learn(self, time_ns: int, message: bytes) -> None:
        new = self._names.learn(message, time_ns)
        if new:
            self._tell_addresses(self._names.name_of(next(iter(new))), time_ns)

    def _keep_time(self) -> None:
        self._tick_due = time.monotonic() + _TICK_SECONDS
        news = {}
        for point in self._points.values():
            lost = dropped(point.socket)
            if lost:
                point.lost += lost
                point.detector.lost(time.time_ns())
            self._tick(point)
            counted = (point.detector.connections, point.lost)
            if counted != point.told:
                news[point.name] = point.told = counted
        if news:
            self._channel.send({"is": "status", "points": news})

    def _tell_addresses(self, name: str | None, learned_ns: int | None = None) -> None:
        self._channel.send(
            {
                "is": "addresses",
                "name": name,
                "addresses": sorted(self._names.addresses),
                "learned_ns": learned_ns or time.time_ns(),
            }
        )

    def _tell_counts(self) -> None:
        for point in self._points.values():
            counts = map(asdict, _most_telling(point.detector.counts))
            self._channel.send({"is": "counts", "point": point.name, "servers": list(counts)})


def _most_telling(counts: list[ServerCounts]) -> list[ServerCounts]:
    return sorted(counts, key=lambda c: (-sum(c.failures.values()), -c.connections))[:_MOST_SERVERS]
