"""A point as the supervisor holds it: the namespace, its sockets, and the filters attached to them."""

import os
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from podcam.capture import (
    DROP_ALL,
    Geometry,
    LinkWatch,
    Namespace,
    Network,
    Traffic,
    answers_program,
    attach,
    control_program,
    find_namespace,
    hand_over,
    list_interfaces,
    open_answers_socket,
    open_control_socket,
    open_ring_socket,
    own_namespace,
    recording_program,
)
from podcam.errors import CaptureError, UsageError
from podcam.model.point import Gap
from podcam.recorder.channel import Message
from podcam.recorder.settings import PointSettings, RecordingSettings
from podcam.recorder.sockets import close_soon, open_together
from podcam.recorder.write_budget import CUT_PAYLOAD_BYTES, CUT_SNAPLEN

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MOST_LEARNED = 256
"""Addresses of which is told when they were learnt, the last ones: the header of every segment tells it."""


@dataclass(frozen=True, slots=True)
class Learned:
    """An address that a followed name got while the recorder ran."""

    name: str
    address: str
    learned_ns: int
    """When the answer with it was seen."""
    swapped_ns: int
    """When the kernel's filter let its packets pass: what came before is missing."""


def find_namespaces(specs: Iterable[str]) -> list[Namespace]:
    """The namespaces to record, each once; the recorder's own where none is named.

    Raises:
        UsageError: one does not exist, or two different ones have the same name.
        RightsError: one may not be seen.
    """
    found: dict[tuple[int, int], Namespace] = {}
    for spec in specs:
        namespace = find_namespace(spec)
        found.setdefault(namespace.identity, namespace)
    names = [namespace.name for namespace in found.values()]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two network namespaces are called {name}: record them with a recorder each")
    return list(found.values()) or [own_namespace()]


def check_interfaces(namespaces: Iterable[Namespace], names: Iterable[str]) -> None:
    """Raise UsageError when a namespace lacks one of these interfaces."""
    wanted = tuple(names)
    for namespace in namespaces if wanted else ():
        known = {interface.name for interface in list_interfaces(namespace)}
        for name in wanted:
            if name not in known:
                there = ", ".join(sorted(known)) or "none"
                raise UsageError(
                    f"there is no interface {name} in {namespace.name}: there are {there}, and any"
                )


class WatchedPoint:
    """The supervisor's side of a point.

    It keeps a copy of the sockets that the writer and the detector read: so it can swap their filters, and
    the kernel's ring survives the death of the writer. Interfaces that are chosen may come later.

    Args:
        settings: where, and under which name.
        recording: what is recorded.
        hosts: those that the filter lets pass, if it filters by hosts.
        shape: of the kernel's ring.
        control_frames: how many control packets wait at most to be read by the detector; 0 without one.
        limit_bytes: what its ring on disk may take.

    Raises:
        RightsError, CaptureError, UsageError: the sockets cannot be opened, or the filter is wrong.
    """

    def __init__(
        self,
        settings: PointSettings,
        recording: RecordingSettings,
        hosts: frozenset[Network],
        shape: Geometry,
        *,
        control_frames: int,
        limit_bytes: int | None = None,
    ) -> None:
        self.settings = settings
        self.id = settings.id
        self.name = settings.name
        self.recording = settings.recording
        self.shape = shape
        self._recording_limit_bytes = recording.ring.limit_bytes
        self.limit_bytes = recording.ring.limit_bytes if limit_bytes is None else limit_bytes
        self.segment_bytes = recording.ring.segment_bytes
        self.detecting = bool(control_frames)
        self.cut = False
        self.resizing: tuple[socket.socket, Geometry] | None = None
        """The ring that will be closed once the writer has read it to its end."""
        self.gaps: tuple[Gap, ...] = ()
        """When its ring on disk was not written, as far as it reaches back."""
        self._namespace = settings.namespace
        self._settings = recording.traffic
        self._hosts = hosts
        self._learned: tuple[Learned, ...] = ()
        self.control_frames = control_frames
        try:
            self.links = LinkWatch(self._namespace)
        except OSError as error:
            raise CaptureError(f"the interfaces of {self.name} cannot be seen: {error.strerror}") from error
        openers = [partial(open_ring_socket, self._namespace, shape, recording_program(self._traffic()))]
        if control_frames:
            program = control_program(self._control_traffic())
            openers.append(partial(open_control_socket, self._namespace, program, control_frames))
        if recording.traffic.names:
            openers.append(partial(open_answers_socket, self._namespace, answers_program(self._traffic())))
        try:
            opened = open_together(openers)
        except BaseException:
            self.links.close()
            raise
        self.opened_ns = time.time_ns()
        """When packets were recorded at the latest."""
        self.ring = opened.pop(0)
        self.control = opened.pop(0) if control_frames else None
        self.answers = opened.pop(0) if opened else None

    @property
    def kernel_bytes(self) -> int:
        """What its rings take in the kernel: while one is replaced, both."""
        return self.shape.ring_bytes + (self.resizing[1].ring_bytes if self.resizing else 0)

    def own_limit_bytes(self, recording_limit_bytes: int) -> int | None:
        """A limit that was set for its ring alone, as it holds on when its recording gets another one."""
        if self.limit_bytes == self._recording_limit_bytes:
            return None
        return min(self.limit_bytes, recording_limit_bytes)

    def filter(self) -> Mapping[str, Any]:
        """What the filter lets pass, for events, segments and clips."""
        settings = self._settings
        return {
            "interfaces": list(settings.interfaces),
            "hosts": sorted(map(str, self._hosts)) if self._filters_hosts else [],
            "names": list(settings.names),
            "ports": list(settings.ports),
            "follows_names": settings.filter_follows_names,
            "expression": settings.expression,
            "payload_bytes": CUT_PAYLOAD_BYTES if self.cut else settings.payload_bytes,
            "snaplen": settings.snaplen,
            "cut_by_write_budget": self.cut,
            "learned": [
                {"name": a.name, "address": a.address, "learned_ns": a.learned_ns, "swapped_ns": a.swapped_ns}
                for a in self._learned
            ],
        }

    def source(self) -> Message:
        """What the writer puts into the headers of segments."""
        return {
            "point": self.name,
            "node": self.settings.node or os.uname().nodename,
            "namespace": self._namespace.path,
            "boot_id": _BOOT_ID.read_text(encoding="ascii").strip(),
            "block_bytes": self.shape.block_bytes,
            "interfaces": [(i.index, i.name, i.hardware_type) for i in self.links.interfaces.values()],
            "filter": dict(self.filter()),
        }

    def follow(
        self, hosts: frozenset[Network], names: Mapping[str, str], learned_ns: Mapping[str, int]
    ) -> bool:
        """Let the filter hold these hosts from now on; whether that changed it.

        Args:
            hosts: all of them.
            names: by address, the name that has it.
            learned_ns: by address, when it was learnt.

        Raises:
            CaptureError: the kernel takes no filter that long; the old one stays.
        """
        before, self._hosts = self._hosts, hosts
        if hosts == before:
            return False
        try:
            self.refilter()
        except CaptureError:
            self._hosts = before
            self.refilter()
            raise
        swapped_ns = time.time_ns()
        added = {str(host.network_address) for host in hosts - before}
        kept = [learned for learned in self._learned if learned.address in names]
        kept += [
            Learned(name, address, learned_ns[address], swapped_ns)
            for address, name in sorted(names.items())
            if address in added
        ]
        self._learned = tuple(kept[-_MOST_LEARNED:])
        return True

    def cut_payload(self, *, cut: bool) -> None:
        """Keep headers only, as the write budget demands, or whole packets again.

        Raises:
            CaptureError: the kernel takes no filter that long; the old one stays.
        """
        before, self.cut = self.cut, cut
        try:
            self.refilter()
        except CaptureError:
            self.cut = before
            raise

    def refilter(self) -> None:
        """Attach the filters anew, after the interfaces, the hosts or the cut have changed. Loses nothing.

        Raises:
            CaptureError: the kernel takes no filter that long; the old one stays.
        """
        attach(self.ring, recording_program(self._traffic()))
        if self.control is not None:
            attach(self.control, control_program(self._control_traffic()))
        if self.answers is not None:
            attach(self.answers, answers_program(self._traffic()))

    def open_successor(self, shape: Geometry) -> None:
        """Open a ring of another shape, to which all packets go from now on.

        Raises:
            CaptureError: the kernel has no memory for it; nothing has changed.
        """
        successor = open_ring_socket(
            self._namespace, shape, recording_program(self._traffic()), beside=self.ring
        )
        hand_over(successor)
        self.resizing = self.ring, self.shape
        self.ring, self.shape = successor, shape

    def resized(self) -> None:
        """The writer has read the former ring to its end."""
        if self.resizing is not None:
            close_soon([self.resizing[0]])
            self.resizing = None

    def silence(self) -> None:
        """Let no further packet into the ring: it is about to be read to its end."""
        attach(self.ring, DROP_ALL)

    def close(self) -> None:
        """Close all sockets."""
        self.resized()
        self.links.close()
        close_soon(sock for sock in (self.ring, self.control, self.answers) if sock is not None)

    @property
    def _filters_hosts(self) -> bool:
        """Names with ports narrow triggers, not the filter: and then networks beside them cannot either."""
        return bool(self._settings.networks or self._settings.names) and (
            not self._settings.names or self._settings.filter_follows_names
        )

    def _traffic(self) -> Traffic:
        settings = self._settings
        payload, snaplen = settings.payload_bytes, settings.snaplen
        if self.cut:
            payload = CUT_PAYLOAD_BYTES if payload is None else min(payload, CUT_PAYLOAD_BYTES)
            snaplen = min(snaplen, CUT_SNAPLEN)
        return Traffic(
            hosts=tuple(self._hosts) if self._filters_hosts else None,
            ports=settings.ports or None,
            interfaces=self._indexes(),
            expression=settings.expression,
            payload=payload,
            snaplen=snaplen,
            own_only=settings.own_only,
            own_port=settings.own_port,
        )

    def _control_traffic(self) -> Traffic:
        return replace(self._traffic(), payload=None)

    def _indexes(self) -> tuple[int, ...] | None:
        names = self._settings.interfaces
        if not names:
            return None
        return tuple(index for index, interface in self.links.interfaces.items() if interface.name in names)
