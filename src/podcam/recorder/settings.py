"""What a recorder is asked to do: one frozen tree, validated once, passed explicitly."""

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from podcam.errors import UsageError
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


@dataclass(frozen=True, slots=True)
class RecorderSettings:
    """One recorder: its points, their traffic, their rings, and what makes it keep a clip."""

    folder: Path
    namespaces: tuple[str, ...] = ()
    """Network namespaces by NAME, PATH or PID; none means the recorder's own."""
    traffic: TrafficSettings = field(default_factory=TrafficSettings)
    ring: RingSettings = field(default_factory=RingSettings)
    trigger: TriggerSettings = field(default_factory=lambda: TriggerSettings(frozenset()))
    kernel_memory_bytes: int = 128 * 1024 * 1024
    """Budget for all kernel rings together (locked memory that counts as the writer's RSS)."""
    clips_bytes: int = 4_000_000_000
    """Budget for all clips; the oldest unpinned ones go first."""
    write_bytes_per_second: int | None = None

    def check(self, block_bytes: int) -> None:
        """Raise UsageError for what can be seen to be wrong before anything is opened."""
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
