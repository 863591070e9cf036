"""What a recorder is asked to do: frozen values, validated once, passed explicitly."""

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from podcam.capture import Namespace
from podcam.errors import UsageError
from podcam.model.failure import Failure
from podcam.model.point import Window
from podcam.model.verdict import FailureClass

SECOND_NS = 1_000_000_000
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class RingSettings:
    """How much is kept per point: `segments` times `segment_bytes` bound the bytes on disk."""

    segments: int = 10
    segment_bytes: int = 100_000_000

    @property
    def limit_bytes(self) -> int:
        """The most that one ring may take on disk."""
        return self.segments * self.segment_bytes


@dataclass(frozen=True, slots=True)
class TrafficSettings:
    """Which packets are recorded, and how much of each."""

    interfaces: tuple[str, ...] = ()
    """Names; none means all, those that come later too."""
    networks: tuple[Network, ...] = ()
    names: tuple[str, ...] = ()
    """DNS names. With ports they narrow triggers only, unless `narrow`: so a new address loses no packet."""
    ports: tuple[int, ...] = ()
    narrow: bool = False
    expression: str | None = None
    """A filter in libpcap's language, which a packet has to pass as well."""
    payload_bytes: int | None = None
    """Bytes kept after the transport header; None keeps all."""
    snaplen: int = 262_144
    own_only: bool = False
    """Leave out what is addressed to another host: in a pod that is what the node's bridge flooded, and may
    be of another namespace."""
    own_port: int | None = None
    """Leave out TCP on loopback from and to this port, where the recorder hands out what it recorded."""

    @property
    def filter_follows_names(self) -> bool:
        """Whether the kernel filter holds the addresses of `names`, and so has to follow them."""
        return bool(self.names) and (self.narrow or not self.ports)


@dataclass(frozen=True, slots=True)
class TriggerSettings:
    """What starts a clip, and how far a clip reaches."""

    on: frozenset[FailureClass]
    exempt_habits: bool = True
    """Leave out servers that close early as a habit: so for the default classes, not for those named."""
    before_ns: int = 60 * SECOND_NS
    after_ns: int = 10 * SECOND_NS


class Scope(StrEnum):
    """Which points a clip holds that a failure on the wire opened."""

    POD = "pod"
    """The one at which the connection failed."""
    RECORDING = "recording"
    """All of its recording."""


@dataclass(frozen=True, slots=True)
class RecordingSettings:
    """What a person asked for: which traffic, how big a ring per point, what makes a clip."""

    traffic: TrafficSettings = field(default_factory=TrafficSettings)
    ring: RingSettings = field(default_factory=RingSettings)
    trigger: TriggerSettings = field(default_factory=lambda: TriggerSettings(frozenset()))
    scope: Scope = Scope.RECORDING
    clips_per_hour: int | None = None
    """How many clips failures may open within an hour, those of other recorders that were joined included."""

    @property
    def detecting(self) -> bool:
        """Whether control packets are looked at: for triggers, or for the addresses of names."""
        return bool(self.trigger.on or self.traffic.names)

    def records_like(self, other: "RecordingSettings") -> bool:
        """Whether a point that is recorded for one is recorded just so for the other."""
        return (self.traffic, self.ring, self.trigger.on, self.trigger.exempt_habits) == (
            other.traffic,
            other.ring,
            other.trigger.on,
            other.trigger.exempt_habits,
        )

    def check(self, block_bytes: int) -> None:
        """Raise UsageError for what can be seen to be wrong before anything is opened.

        `block_bytes` is the size of the blocks of the kernel's rings.
        """
        if self.ring.segment_bytes < 2 * block_bytes:
            raise UsageError(
                f"--ring: a segment of {self.ring.segment_bytes:,} bytes is smaller than two kernel blocks "
                f"of {block_bytes:,}: take segments of at least {2 * block_bytes:,} bytes"
            )
        if self.ring.segments < 2:
            raise UsageError(
                "--ring: a ring needs at least two segments, so that one can go while one is written"
            )
        if self.traffic.narrow and not (self.traffic.names or self.traffic.networks):
            raise UsageError("--narrow needs --host: it makes the kernel's filter hold the host's addresses")


@dataclass(frozen=True, slots=True)
class PointSettings:
    """A point that is to be recorded."""

    id: str
    """Unique in the recorder; names the ring's folder."""
    name: str
    """What people call it: stands in segments and clips."""
    recording: str
    """For which recording, as it was defined."""
    namespace: Namespace
    search: tuple[str, ...] = ()
    """The DNS search domains of the programs there, where they are known: followed names are then looked up
    with them at the recorder's own name servers."""
    node: str | None = None
    """The host it lies on; None for what uname(2) calls this one."""


@dataclass(frozen=True, slots=True)
class KeepRequest:
    """A clip that somebody outside of the recorder asks for."""

    clip: str
    """Its id: the name of its folder below clips/."""
    recording: str
    points: frozenset[str] | None
    """The ids of those whose packets it holds; None for all of the recording, those that ended included."""
    window: Window
    reason: str
    created_ns: int
    joins: bool = False
    """Another recorder's wire detector made it: failures here extend it instead of opening another."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a new clip is about: whoever names clips makes an id of it."""

    recording: str
    point: str | None
    """The id of the point at which a connection failed; None where a person asked."""
    failure: Failure | None
    created_ns: int


@dataclass(frozen=True, slots=True)
class RecorderSettings:
    """One recorder: where its rings and clips lie, and what all its points share."""

    folder: Path
    kernel_memory_bytes: int = 128 * 1024 * 1024
    """Budget for all kernel rings together (locked memory that counts as the writer's RSS)."""
    clips_bytes: int = 4_000_000_000
    """Budget for all clips; the oldest unpinned ones go first."""
    write_bytes_per_second: int | None = None
    expected_points: int = 1
    """Up to so many points get an even share of the kernel's memory as they come; more come off worse at
    first."""
