"""A point as the supervisor holds it: the namespace, its sockets, and the filters attached to them."""

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from podcam.capture import (
    Geometry,
    LinkWatch,
    Namespace,
    Network,
    Traffic,
    attach,
    control_program,
    find_namespace,
    hand_over,
    open_control_socket,
    open_ring_socket,
    own_namespace,
    recording_program,
)
from podcam.errors import CaptureError, UsageError
from podcam.recorder.channel import Message
from podcam.recorder.settings import TrafficSettings
from podcam.recorder.write_budget import CUT_PAYLOAD_BYTES, CUT_SNAPLEN

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


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


class WatchedPoint:
    """The supervisor's side of a point.

    It keeps a copy of the sockets that the writer and the detector read: so it can swap their filters, and
    the kernel's ring survives the death of the writer.

    Raises:
        RightsError, CaptureError, UsageError: the sockets cannot be opened, or the filter is wrong.
    """

    def __init__(
        self,
        namespace: Namespace,
        traffic: TrafficSettings,
        addresses: frozenset[Network],
        shape: Geometry,
        *,
        detecting: bool,
    ) -> None:
        self.name = namespace.name
        self.base = self.shape = shape
        self.cut = False
        self.learned: tuple[Learned, ...] = ()
        self.resizing: socket.socket | None = None
        """The ring socket that will be closed once the writer has read it to its end."""
        self._namespace = namespace
        self._settings = traffic
        self._addresses = addresses
        self._follows_dns = bool(traffic.names)
        self.links = LinkWatch(namespace)
        self._check_interfaces()
        wanted = self._traffic()
        self.ring = open_ring_socket(namespace, shape, recording_program(wanted))
        self.control = (
            open_control_socket(namespace, control_program(self._control_traffic(), dns=self._follows_dns))
            if detecting
            else None
        )

    def filter(self) -> Mapping[str, Any]:
        """What the filter lets pass, for events, segments and clips."""
        settings = self._settings
        return {
            "interfaces": list(settings.interfaces),
            "hosts": sorted(map(str, self._addresses)) if self._filters_hosts else [],
            "names": list(settings.names),
            "ports": list(settings.ports),
            "follows_names": settings.filter_follows_names,
            "expression": settings.expression,
            "payload_bytes": CUT_PAYLOAD_BYTES if self.cut else settings.payload_bytes,
            "snaplen": settings.snaplen,
            "cut_by_write_budget": self.cut,
            "learned": [
                {"name": a.name, "address": a.address, "learned_ns": a.learned_ns, "swapped_ns": a.swapped_ns}
                for a in self.learned
            ],
        }

    def source(self) -> Message:
        """What the writer puts into the headers of segments."""
        return {
            "point": self.name,
            "node": os.uname().nodename,
            "namespace": self._namespace.path,
            "boot_id": _BOOT_ID.read_text(encoding="ascii").strip(),
            "block_bytes": self.shape.block_bytes,
            "interfaces": [(i.index, i.name, i.hardware_type) for i in self.links.interfaces.values()],
            "filter": dict(self.filter()),
        }

    def follow(self, addresses: frozenset[Network]) -> None:
        """Let the filter hold these hosts from now on.

        Raises:
            CaptureError: the kernel takes no filter that long; the old one stays.
        """
        before, self._addresses = self._addresses, addresses
        try:
            self.refilter()
        except CaptureError:
            self._addresses = before
            raise

    def refilter(self) -> None:
        """Attach the filters anew, after the interfaces, the hosts or the cut have changed. Loses nothing."""
        attach(self.ring, recording_program(self._traffic()))
        if self.control is not None:
            attach(self.control, control_program(self._control_traffic(), dns=self._follows_dns))

    def open_successor(self, shape: Geometry) -> socket.socket:
        """Open a ring of another shape, to which all packets go from now on.

        Raises:
            CaptureError: the kernel has no memory for it; nothing has changed.
        """
        successor = open_ring_socket(
            self._namespace, shape, recording_program(self._traffic()), beside=self.ring
        )
        hand_over(successor)
        self.resizing, self.ring, self.shape = self.ring, successor, shape
        return successor

    def resized(self) -> None:
        """The writer has read the former ring to its end."""
        if self.resizing is not None:
            self.resizing.close()
            self.resizing = None

    def close(self) -> None:
        """Close all sockets."""
        self.resized()
        self.ring.close()
        self.links.close()
        if self.control is not None:
            self.control.close()

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
            hosts=tuple(self._addresses) if self._filters_hosts else None,
            ports=settings.ports or None,
            interfaces=self._indexes(),
            expression=settings.expression,
            payload=payload,
            snaplen=snaplen,
        )

    def _control_traffic(self) -> Traffic:
        return replace(self._traffic(), payload=None)

    def _indexes(self) -> tuple[int, ...] | None:
        names = self._settings.interfaces
        if not names:
            return None
        return tuple(index for index, interface in self.links.interfaces.items() if interface.name in names)

    def _check_interfaces(self) -> None:
        known = {interface.name for interface in self.links.interfaces.values()}
        for name in self._settings.interfaces:
            if name not in known:
                there = ", ".join(sorted(known)) or "none"
                raise UsageError(f"there is no interface {name} in {self.name}: there are {there}, and any")


def networks_of(addresses: Iterable[str]) -> frozenset[Network]:
    """Addresses as networks of one host each."""
    return frozenset(ip_network(address) for address in addresses)
