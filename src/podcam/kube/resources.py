"""Podcam's custom resources, and what it needs of pods and namespaces, as frozen values. Pure.

Each `parse` takes an object as JSON holds it and raises InvalidObjectError, with a sentence, where it cannot
be read. Defaults are those of the schemas in `deploy/crds`, which the API server fills in before anybody
reads. Times are nanoseconds since 1970 UTC. A status is written by agents, of other versions too: so states
that are not known are kept as they are, and what is missing is None or empty.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Self

from podcam.kube.fields import Fields, by_name
from podcam.kube.kinds import GROUP
from podcam.kube.selectors import LabelSelector
from podcam.model.point import Endpoint, Gap, Window
from podcam.model.verdict import FailureClass

MAX_PAYLOAD = f"{GROUP}/max-payload"
"""Annotation of a namespace: the most bytes of payload that may be kept of its pods' packets."""
ALLOW_HOST_NETWORK = f"{GROUP}/allow-host-network"
"""Annotation of a namespace: "true" lets its recordings take in pods in the node's own network."""

CONFIG_HASH = "kubernetes.io/config.hash"
"""Annotation of a static pod's image in the API: the uid that the kubelet itself uses for it."""

_NUMBER = re.compile(r"[0-9]{1,18}")
_NAMES = ("namespace", "name", "uid")
"""Of an object's metadata."""
_SECOND = 1_000_000_000
_KEY_BYTES = 32

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod, as far as recording it goes."""

    namespace: str
    name: str
    uid: str
    node: str
    """"" while it has none."""
    labels: Mapping[str, str]
    host_network: bool
    runtime_class: str | None
    phase: str
    ip: str | None
    ips: tuple[str, ...]
    deleting: bool
    finished: bool
    """All its containers have ended, and none will start again."""
    created_ns: int
    node_uid: str = ""
    """What its node calls it: another uid than the API server's for a static pod."""

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Read a Pod."""
        meta, fields = _meta(body, "Pod")
        spec, status = fields.part("spec"), fields.part("status")
        phase = status.text("phase", "Pending")
        ips = tuple(filter(None, (each.text("ip", "") for each in status.parts("podIPs"))))
        ip = status.text_or_none("podIP") or None
        uid = meta.text("uid")
        return cls(
            namespace=meta.text("namespace"),
            name=meta.text("name"),
            uid=uid,
            node=spec.text("nodeName", ""),
            labels=meta.text_map("labels"),
            host_network=spec.flag("hostNetwork"),
            runtime_class=spec.text_or_none("runtimeClassName"),
            phase=phase,
            ip=ip,
            ips=ips or (() if ip is None else (ip,)),
            deleting=meta.text_or_none("deletionTimestamp") is not None,
            finished=phase in {"Succeeded", "Failed"},
            created_ns=meta.time_ns("creationTimestamp"),
            node_uid=meta.text_map("annotations").get(CONFIG_HASH, uid),
        )


@dataclass(frozen=True, slots=True)
class NamespaceLimits:
    """What a namespace lets recordings do, by its annotations; one that cannot be read allows nothing."""

    name: str
    max_payload_bytes: int | None = None
    """None: no limit."""
    allow_host_network: bool = False
    problems: tuple[str, ...] = ()
    """Sentences about annotations that cannot be read."""

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Read a Namespace."""
        meta, _ = _meta(body, "Namespace")
        annotations = meta.text_map("annotations")
        problems = []
        text = annotations.get(MAX_PAYLOAD)
        if text is not None and not _NUMBER.fullmatch(text):
            problems.append(f"{MAX_PAYLOAD} is {text!r}, and not a number of bytes: taken as 0")
            text = "0"
        max_payload_bytes = None if text is None else int(text)
        text = annotations.get(ALLOW_HOST_NETWORK, "false")
        if text not in {"true", "false"}:
            problems.append(f'{ALLOW_HOST_NETWORK} is {text!r}, and not "true" or "false": taken as false')
        return cls(meta.text("name"), max_payload_bytes, text == "true", tuple(problems))


@dataclass(frozen=True, slots=True)
class PointStatus:
    """What one agent reports of one pod of a recording."""

    pod: str
    state: str
    """Waiting, Recording, Ended, Refused."""
    reason: str = ""
    message: str = ""
    since_ns: int | None = None


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What one agent reports of a recording; None where it does not know."""

    points: tuple[PointStatus, ...] = ()
    warnings: tuple[str, ...] = ()
    ring_bytes: int | None = None
    dropped: int | None = None
    failures: int | None = None
    clips: int | None = None
    suppressed: int | None = None
    updated_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition, as everywhere in Kubernetes."""

    type: str
    status: str
    """True, False, Unknown."""
    reason: str = ""
    message: str = ""
    since_ns: int | None = None


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
    points: str = ""
    """Of its status: pods recorded of those concerned, `3/3`."""
    nodes: Mapping[str, NodeStatus] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    observed_generation: int | None = None

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Read a Recording."""
        meta, fields = _meta(body, "Recording")
        spec, status = fields.part("spec"), fields.part("status")
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
            points=status.text("points", ""),
            nodes={name: _node_status(part) for name, part in by_name(status.part("nodes")).items()},
            conditions=tuple(map(_condition, status.parts("conditions"))),
            observed_generation=status.number_or_none("observedGeneration"),
        )

    def wants(self, pod: Pod) -> bool:
        """Whether it names the pod, by its labels or its name, in its own namespace."""
        if pod.namespace != self.namespace:
            return False
        return pod.name in self.pods if self.selector is None else self.selector.matches(pod.labels)


@dataclass(frozen=True, slots=True)
class ClipTrigger:
    """The failure that a clip was made for."""

    failure_class: str
    pod: str
    node: str | None
    time_ns: int
    client: Endpoint | None = None
    server: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class PodPart:
    """What a part holds of one pod; None where it is not known."""

    pod: str
    packets: int | None = None
    size_bytes: int | None = None
    first_ns: int | None = None
    last_ns: int | None = None
    dropped: int | None = None
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True, slots=True)
class PartStatus:
    """What one agent reports of its part of a clip."""

    state: str
    """Freezing, Complete, Nothing, Failed, Removed."""
    message: str = ""
    window: Window | None = None
    packets: int | None = None
    size_bytes: int | None = None
    pods: tuple[PodPart, ...] = ()
    agent_pod: str = ""
    agent_port: int | None = None
    public_key: bytes | None = None
    updated_ns: int | None = None


@dataclass(frozen=True, slots=True)
class ClipObject:
    """A clip, and what the agents report of it."""

    namespace: str
    name: str
    uid: str
    created_ns: int
    recording: str
    window: Window
    reason: str
    pods: tuple[str, ...] | None
    """Only these; None: all of the recording."""
    expected_nodes: tuple[str, ...] | None
    """Whose parts are expected; None: those that the recording's status names."""
    trigger: ClipTrigger | None = None
    origin_node: str | None = None
    """Whose wire detector made it."""
    parts: Mapping[str, PartStatus] = field(default_factory=dict)
    state: str = ""
    """Freezing, Complete, Incomplete; "" while nobody has said."""
    parts_complete: str = ""
    """Parts that are there of those expected, `2/2`."""
    missing: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Read a Clip."""
        meta, fields = _meta(body, "Clip")
        spec, status = fields.part("spec"), fields.part("status")
        created_ns = meta.time_ns("creationTimestamp")
        present = spec.names()
        trigger = _trigger(spec.part("trigger")) if "trigger" in present else None
        return cls(
            namespace=meta.text("namespace"),
            name=meta.text("name"),
            uid=meta.text("uid"),
            created_ns=created_ns,
            recording=spec.text("recording"),
            window=_window(spec, created_ns),
            reason=spec.text("reason", "asked for"),
            pods=spec.texts("pods") if "pods" in present else None,
            expected_nodes=spec.texts("nodes") if "nodes" in present else None,
            trigger=trigger,
            origin_node=None if trigger is None else trigger.node,
            parts={name: _part_status(part) for name, part in by_name(status.part("parts")).items()},
            state=status.text("state", ""),
            parts_complete=status.text("partsComplete", ""),
            missing=status.texts("missing"),
            conditions=tuple(map(_condition, status.parts("conditions"))),
        )


@dataclass(frozen=True, slots=True)
class Grant:
    """Somebody who may read packets asks for those of one clip, sealed to a key."""

    namespace: str
    name: str
    uid: str
    clip: str
    public_key: bytes
    """X25519, 32 bytes."""
    created_ns: int

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Read a PacketGrant."""
        meta, fields = _meta(body, "PacketGrant")
        spec = fields.part("spec")
        spec.text("publicKey")
        return cls(
            namespace=meta.text("namespace"),
            name=meta.text("name"),
            uid=meta.text("uid"),
            clip=spec.text("clip"),
            public_key=_key(spec) or b"",
            created_ns=meta.time_ns("creationTimestamp"),
        )


def _meta(body: Any, kind: str) -> tuple[Fields, Fields]:
    """An object's metadata, and the whole of it."""
    metadata = body.get("metadata") if isinstance(body, dict) else None
    metadata = metadata if isinstance(metadata, dict) else {}
    name = "/".join(str(metadata[part]) for part in ("namespace", "name") if metadata.get(part))
    fields = Fields(body, f"{kind} {name}".rstrip())
    meta = fields.part("metadata")
    for part in _NAMES:
        meta.name_or_none(part)
    return meta, fields


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


def _node_status(part: Fields) -> NodeStatus:
    return NodeStatus(
        points=tuple(
            PointStatus(
                pod=point.text("pod", ""),
                state=point.text("state", ""),
                reason=point.text("reason", ""),
                message=point.text("message", ""),
                since_ns=point.time_ns_or_none("since"),
            )
            for point in part.parts("points")
        ),
        warnings=part.texts("warnings"),
        ring_bytes=part.number_or_none("ringBytes"),
        dropped=part.number_or_none("dropped"),
        failures=part.number_or_none("failures"),
        clips=part.number_or_none("clips"),
        suppressed=part.number_or_none("suppressed"),
        updated_ns=part.time_ns_or_none("updated"),
    )


def _condition(part: Fields) -> Condition:
    return Condition(
        type=part.text("type", ""),
        status=part.text("status", ""),
        reason=part.text("reason", ""),
        message=part.text("message", ""),
        since_ns=part.time_ns_or_none("lastTransitionTime"),
    )


def _window(spec: Fields, created_ns: int) -> Window:
    if "last" in spec.names():
        # The API server rounds it down to the second: whoever made the clip saw up to a second more.
        return Window(created_ns - spec.duration_ns("last"), created_ns + _SECOND)
    window = spec.part("window")
    start_ns, end_ns = window.time_ns("start"), window.time_ns("end")
    if end_ns < start_ns:
        spec.fail("window", "ends before it starts")
    return Window(start_ns, end_ns)


def _trigger(part: Fields) -> ClipTrigger:
    return ClipTrigger(
        failure_class=part.text("class"),
        pod=part.text("pod"),
        node=part.text_or_none("node"),
        time_ns=part.time_ns("time"),
        client=_endpoint(part, "client"),
        server=_endpoint(part, "server"),
    )


def _endpoint(part: Fields, name: str) -> Endpoint | None:
    side = part.part(name)
    return Endpoint(side.text("ip", ""), side.number("port", 0)) if side.names() else None


def _part_status(part: Fields) -> PartStatus:
    agent, window = part.part("agent"), part.part("window")
    start_ns, end_ns = window.time_ns_or_none("start"), window.time_ns_or_none("end")
    return PartStatus(
        state=part.text("state", ""),
        message=part.text("message", ""),
        window=None if start_ns is None or end_ns is None else Window(start_ns, end_ns),
        packets=part.number_or_none("packets"),
        size_bytes=part.number_or_none("bytes"),
        pods=tuple(map(_pod_part, part.parts("pods"))),
        agent_pod=agent.text("pod", ""),
        agent_port=agent.number_or_none("port"),
        public_key=_key(part),
        updated_ns=part.time_ns_or_none("updated"),
    )


def _pod_part(part: Fields) -> PodPart:
    return PodPart(
        pod=part.text("pod", ""),
        packets=part.number_or_none("packets"),
        size_bytes=part.number_or_none("bytes"),
        first_ns=part.time_ns_or_none("first"),
        last_ns=part.time_ns_or_none("last"),
        dropped=part.number_or_none("dropped"),
        gaps=tuple(
            Gap(since_ns, until_ns, gap.text("reason", ""))
            for gap in part.parts("gaps")
            if (since_ns := gap.time_ns_or_none("since")) is not None
            and (until_ns := gap.time_ns_or_none("until")) is not None
        ),
    )


def _key(part: Fields) -> bytes | None:
    text = part.text_or_none("publicKey")
    if text is None:
        return None
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        part.fail("publicKey", f"is not {_KEY_BYTES} bytes in base64")
    return key
