"""The detector's process: reads the control sockets of all points and feeds the wire detectors.

A flood of control packets costs at most half a core, at a lower priority than the writer's, and no recorded
packet: what the sockets cannot hold meanwhile is dropped there, counted, and told.
"""

import functools
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from ipaddress import ip_address, ip_network
from itertools import islice

from podcam.capture import ControlRing, dropped, read_answers
from podcam.model.failure import Failure, ServerCounts
from podcam.model.point import Endpoint
from podcam.model.verdict import FailureClass
from podcam.recorder.channel import Channel, Message, Outbox
from podcam.recorder.settings import Network
from podcam.recorder.sockets import close_soon
from podcam.trigger import Detector, FollowedNames, Policy

_NICENESS = 5
_ROUND_SECONDS = 0.1
"""Packets that come within this time are read together: a wake-up costs more than a packet."""
_MOST_PACKETS = 2048
"""Read from one socket per round, so that no point starves another."""
_TICK_SECONDS = 1.0
_MOST_UNTOLD = 1024
_MOST_PER_MESSAGE = 100
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


class _Recording:
    """What is looked for at the points of one recording."""

    def __init__(self, message: Message) -> None:
        self.id = str(message["recording"])
        self.policy = Policy(
            classes=frozenset(map(FailureClass, message["on"])), exempt_habits=message["exempt_habits"]
        )
        networks, names = tuple(map(ip_network, message["networks"])), tuple(message["names"])
        self.names = FollowedNames(names)
        self.concerns = _Concerns(networks, self.names, everything=not networks and not names)


class _PointDetector:
    """One point: its control socket, the one that hears DNS answers if names are followed, its detector."""

    def __init__(
        self,
        point_id: str,
        control: socket.socket,
        frames: int,
        answers: socket.socket | None,
        detector: Detector,
    ) -> None:
        self.id = point_id
        self.control = control
        self.answers = answers
        self.detector = detector
        self._ring = ControlRing(control, frames)
        self.lost = 0
        self.told: tuple[int, int, int] | None = None
        """The counts of which the supervisor was told; first that it begins at zero again."""
        self._untold: deque[Message] = deque(maxlen=_MOST_UNTOLD)
        """Failures that the supervisor has not been told of: it may be slow."""
        self.forgone = 0
        """Failures that it will not be told of, but for their number."""

    def read(self) -> None:
        """Feed the detector with what has come."""
        for packets in self._ring.read(_MOST_PACKETS):
            self.detector.feed_all(
                packets.times_ns,
                packets.lengths,
                packets.frames,
                packets.stride_bytes,
                packets.offset_bytes,
            )
        if self.answers is not None:
            for time_ns, packet in read_answers(self.answers, _MOST_PACKETS):
                self.detector.feed(time_ns, packet)

    def close(self) -> None:
        """Let go of the sockets, for which the other points' packets need not wait."""
        self._ring.close()
        close_soon(sock for sock in (self.control, self.answers) if sock is not None)

    def found(self, failures: list[Failure]) -> None:
        """Keep these until they can be told."""
        for failure in failures:
            self.forgone += len(self._untold) == _MOST_UNTOLD
            server = self.detector.counts_of(failure.server)
            self._untold.append(
                {"failure": asdict(failure), "server": None if server is None else asdict(server)}
            )

    def tell(self, tell: Callable[[Message], object]) -> None:
        """Tell of them by a function that returns False when that has to wait."""
        while self._untold:
            some = list(islice(self._untold, _MOST_PER_MESSAGE))
            if tell({"is": "failures", "point": self.id, "failures": some}) is False:
                return
            for _ in some:
                self._untold.popleft()


class Detection:
    """Obeys its supervisor's messages until told to stop, or until the supervisor is gone."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._outbox = Outbox(channel)
        self._recordings: dict[str, _Recording] = {}
        self._points: dict[str, _PointDetector] = {}
        self._by_descriptor: dict[int, _PointDetector] = {}
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
            points = {self._by_descriptor[fd] for fd, _ in ready if fd in self._by_descriptor}
            for point in points:
                self._read(point)
            while self._channel.waits() and not self._stopping:  # a round may be long
                self._obey_next()
            if begun >= self._tick_due:
                self._keep_time()
            if points:
                took = time.monotonic() - begun
                time.sleep(max(_ROUND_SECONDS - took, took))
        self._finish()

    def _finish(self) -> None:
        for point in self._points.values():
            self._read_to_end(point)
        self._keep_time()
        self._tell_counts()
        self._outbox.finish()

    def _obey_next(self) -> None:
        received = self._channel.receive()
        if received is None:
            self._stopping = True
            return
        message, descriptors = received
        match message["do"]:
            case "define":
                self._recordings[message["recording"]] = _Recording(message)
            case "undefine":
                self._recordings.pop(message["recording"], None)
            case "add":
                self._add(message, [socket.socket(fileno=descriptor) for descriptor in descriptors])
            case "remove":
                self._remove(message["point"])
            case "learn":
                recording = self._recordings[message["recording"]]
                now_ns = time.time_ns()
                learned = [
                    recording.names.add(name, of_it, now_ns) for name, of_it in message["names"].items()
                ]
                if any(learned):
                    self._tell_addresses(recording, now_ns)
            case "forget":
                recording = self._recordings[message["recording"]]
                if recording.names.forget(message["before_ns"]):
                    self._tell_addresses(recording, time.time_ns())
            case "count":
                self._tell_counts()
            case "stop":
                self._stopping = True
            case unknown:
                raise ValueError(f"a message that the detector does not know: {unknown}")

    def _add(self, message: Message, sockets: list[socket.socket]) -> None:
        control, answers = sockets[0], sockets[1] if len(sockets) > 1 else None
        recording = self._recordings[message["recording"]]
        learn = functools.partial(self._learn, recording)
        detector = Detector(time.time_ns(), recording.policy, concerns=recording.concerns, on_dns=learn)
        point = _PointDetector(message["point"], control, message["frames"], answers, detector)
        self._points[point.id] = point
        for sock in sockets:
            self._by_descriptor[sock.fileno()] = point
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _remove(self, point_id: str) -> None:
        """The point is no longer recorded: report what it still has to tell."""
        point = self._points[point_id]
        self._read_to_end(point)
        self._keep_time()
        self._tell_counts_of(point)
        del self._points[point_id]
        for sock in (point.control, point.answers):
            if sock is not None:
                self._epoll.unregister(sock.fileno())
                del self._by_descriptor[sock.fileno()]
        point.close()

    def _read(self, point: _PointDetector) -> None:
        point.read()
        self._tick(point)

    def _read_to_end(self, point: _PointDetector) -> None:
        self._read(point)
        point.found(point.detector.finish(time.time_ns()))
        point.tell(self._outbox.put)

    def _tick(self, point: _PointDetector) -> None:
        point.found(point.detector.tick(time.time_ns()))
        point.tell(self._outbox.offer)

    def _learn(self, recording: _Recording, time_ns: int, message: bytes) -> None:
        if recording.names.learn(message, time_ns):
            self._tell_addresses(recording, time_ns)

    def _keep_time(self) -> None:
        self._tick_due = time.monotonic() + _TICK_SECONDS
        news = {}
        for point in self._points.values():
            lost = dropped(point.control)
            if lost:
                point.lost += lost
                point.detector.lost(time.time_ns())
            self._tick(point)
            unlisted = point.detector.unlisted + point.forgone
            counted = (point.detector.connections, unlisted, point.lost)
            if counted != point.told:
                news[point.id] = counted
        if news and self._outbox.offer({"is": "status", "points": news}):
            for point in self._points.values():
                point.told = news.get(point.id, point.told)

    def _tell_addresses(self, recording: _Recording, learned_ns: int) -> None:
        names = recording.names.by_name
        self._outbox.put(
            {"is": "addresses", "recording": recording.id, "names": names, "learned_ns": learned_ns}
        )

    def _tell_counts(self) -> None:
        for point in self._points.values():
            self._tell_counts_of(point)
        self._outbox.put({"is": "counted"})

    def _tell_counts_of(self, point: _PointDetector) -> None:
        counts = map(asdict, _most_telling(point.detector.counts))
        self._outbox.put({"is": "counts", "point": point.id, "servers": list(counts)})


def _most_telling(counts: list[ServerCounts]) -> list[ServerCounts]:
    return sorted(counts, key=lambda c: (-sum(c.failures.values()), -c.connections))[:_MOST_SERVERS]
