"""Clips, as people or agents ask for them and as agents report of them; grants to read them. Pure.

Each `parse` takes an object as JSON holds it and raises InvalidObjectError, with a sentence, where it cannot
be read. Defaults are those of the schemas in `deploy/crds`, which the API server fills in before anybody
reads. A status is written by agents, of other versions too: so states that are not known are kept as they
are, and what is missing is None or empty. Times are nanoseconds since 1970 UTC.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from podcam.kube.fields import Fields, by_name, object_fields
from podcam.model.point import Endpoint, Window

_SECOND = 1_000_000_000
_FURTHEST_NS = 25 * 3600 * _SECOND
"""How far ahead a window may end: until then its clip is open on the nodes, and takes room."""
_KEY_BYTES = 32


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
class PartStatus:
    """What one agent reports of its part of a clip, as far as others act on it."""

    state: str
    """Freezing, Complete, Nothing, Failed, Removed."""
    message: str = ""
    agent_pod: str = ""
    agent_port: int | None = None
    public_key: bytes | None = None


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

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Read a Clip."""
        meta, fields = object_fields(body, "Clip")
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
        meta, fields = object_fields(body, "PacketGrant")
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


def _window(spec: Fields, created_ns: int) -> Window:
    # The API server rounds it down to the second: whoever made the clip saw up to a second more.
    made_ns = created_ns + _SECOND
    if "last" in spec.names():
        return Window(created_ns - spec.duration_ns("last"), made_ns)
    window = spec.part("window")
    start_ns, end_ns = window.time_ns("start"), window.time_ns("end")
    if end_ns < start_ns:
        spec.fail("window", "ends before it starts")
    if end_ns > made_ns + _FURTHEST_NS:
        spec.fail("window", "ends more than 25h after the clip was made")
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
    agent = part.part("agent")
    return PartStatus(
        state=part.text("state", ""),
        message=part.text("message", ""),
        agent_pod=agent.text("pod", ""),
        agent_port=agent.number_or_none("port"),
        public_key=_key(part),
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
