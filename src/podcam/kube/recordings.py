"""Recordings, as people write them. Pure.

`parse` takes an object as JSON holds it and raises InvalidObjectError, with a sentence, where it cannot be
read. Defaults are those of the schema in `deploy/crds`, which the API server fills in before anybody reads.
The status, which is much larger than all that people write, is left as JSON for who reports in it. Times are
nanoseconds since 1970 UTC.
"""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Self

from podcam.kube.core import Pod
from podcam.kube.fields import Fields, object_fields
from podcam.kube.selectors import LabelSelector
from podcam.model.verdict import FailureClass

_SECOND = 1_000_000_000

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Recording:
    """Which pods are recorded, what of their traffic, and what becomes a clip."""

    namespace: str
    name: str
    uid: str
    generation: int
    created_ns: int
    selector: LabelSelector | None
    """Exactly one of `selector` and `pods` is given."""
    pods: tuple[str, ...] = ()
    target: tuple[str, str] | None = None
    """What a person named: its kind and name."""
    ports: tuple[int, ...] = ()
    hosts: tuple[str, ...] = ()
    """As spelled; `networks` and `names` together."""
    networks: tuple[Network, ...] = ()
    names: tuple[str, ...] = ()
    narrow: bool = False
    interfaces: tuple[str, ...] = ()
    payload_bytes: int | None = None
    snaplen: int | None = None
    ring_segments: int = 10
    ring_segment_bytes: int = 25_000_000
    on: tuple[FailureClass, ...] | None = None
    """None: those that the detector takes by itself."""
    before_ns: int = 60 * _SECOND
    after_ns: int = 10 * _SECOND
    clips_per_hour: int = 12
    scope: str = "recording"
    """`pod` or `recording`."""
    retention_ns: int = 3600 * _SECOND
    host_network: bool = False

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Read a Recording."""
        meta, fields = object_fields(body, "Recording")
        spec = fields.part("spec")
        ring, triggers, target = spec.part("ring"), spec.part("triggers"), spec.part("target")
        selector, pods = _selector(spec), spec.texts("pods")
        if (selector is None) == (not pods):
            spec.fail("", "has to have either selector or pods")
        networks, names = _hosts(spec)
        scope = spec.text("scope", "recording")
        if scope not in {"pod", "recording"}:
            spec.fail("scope", f"is {scope!r}, and not pod or recording")
        return cls(
            namespace=meta.text("namespace"),
            name=meta.text("name"),
            uid=meta.text("uid"),
            generation=meta.number("generation", 0),
            created_ns=meta.time_ns("creationTimestamp"),
            selector=selector,
            pods=pods,
            target=(target.text("kind"), target.text("name")) if target.names() else None,
            ports=spec.numbers("ports", 1, 65535),
            hosts=spec.texts("hosts"),
            networks=networks,
            names=names,
            narrow=spec.flag("narrow"),
            interfaces=spec.texts("interfaces"),
            payload_bytes=spec.number_or_none("payload"),
            snaplen=spec.number_or_none("snaplen"),
            ring_segments=ring.number("segments", 10),
            ring_segment_bytes=ring.size_bytes("segmentSize", 25_000_000),
            on=_classes(triggers),
            before_ns=triggers.duration_ns("before", 60 * _SECOND),
            after_ns=triggers.duration_ns("after", 10 * _SECOND),
            clips_per_hour=triggers.number("clipsPerHour", 12),
            scope=scope,
            retention_ns=spec.duration_ns("retention", 3600 * _SECOND),
            host_network=spec.flag("hostNetwork"),
        )

    def wants(self, pod: Pod) -> bool:
        """Whether it names the pod, by its labels or its name, in its own namespace."""
        if pod.namespace != self.namespace:
            return False
        return pod.name in self.pods if self.selector is None else self.selector.matches(pod.labels)


def _selector(spec: Fields) -> LabelSelector | None:
    if "selector" not in spec.names():
        return None
    spec.part("selector")
    try:
        return LabelSelector.parse(spec.raw("selector"))
    except ValueError as error:
        spec.fail("selector", f"is wrong: {error}")


def _hosts(spec: Fields) -> tuple[tuple[Network, ...], tuple[str, ...]]:
    """Addresses and networks, and what is none and so a name."""
    networks, names = [], []
    for host in spec.texts("hosts"):
        try:
            networks.append(ip_network(host, strict=False))
        except ValueError:
            if not host or "/" in host or ":" in host:
                spec.fail("hosts", f"holds {host!r}, which is no name, address or network")
            names.append(host)
    return tuple(networks), tuple(names)


def _classes(triggers: Fields) -> tuple[FailureClass, ...] | None:
    if "classes" not in triggers.names():
        return None
    try:
        return tuple(FailureClass(name) for name in triggers.texts("classes"))
    except ValueError as error:
        triggers.fail("classes", f"is wrong: {error}")
