"""What was counted at a point since the recorder began, through the deaths of writers and detectors."""

from collections.abc import Sequence
from dataclasses import dataclass, field

_WRITTEN = 4
"""Packets, bytes, drops, freezes: as the writer counts them."""
_DETECTED = 3
"""Connections, failures that were not listed, control packets lost: as the detector counts them."""


@dataclass(slots=True)
class _Counters:
    """Counters of a process that begins at zero whenever it is started again."""

    latest: tuple[int, ...]
    earlier: tuple[int, ...]

    @classmethod
    def zero(cls, count: int) -> "_Counters":
        return cls((0,) * count, (0,) * count)

    def sums(self) -> tuple[int, ...]:
        return tuple(map(sum, zip(self.earlier, self.latest, strict=True)))

    def begin_anew(self) -> None:
        self.earlier = self.sums()
        self.latest = (0,) * len(self.latest)


@dataclass(slots=True)
class Tally:
    """The counts of one point."""

    recording: bool = False
    """Whether the present writer has opened its ring."""
    ring_bytes: int = 0
    oldest_ns: int | None = None
    failures: int = 0
    """Those that were reported."""
    _written: _Counters = field(default_factory=lambda: _Counters.zero(_WRITTEN))
    _detected: _Counters = field(default_factory=lambda: _Counters.zero(_DETECTED))
    _totals: dict[str, int | None] | None = None
    """What `totals` gave, until something changes: an idle point is asked every second."""

    def wrote(self, values: Sequence[int]) -> int:
        """Take the writer's counts, ring bytes and oldest time; return the bytes written since the last."""
        self._totals = None
        before = self._written.latest[1]
        *counts, self.ring_bytes, self.oldest_ns = values
        self._written.latest = tuple(counts)
        return self._written.latest[1] - before

    def detected(self, values: Sequence[int]) -> None:
        """Take the detector's counts."""
        self._totals = None
        self._detected.latest = tuple(values)

    def failed(self, failures: int) -> None:
        """So many more were reported."""
        self._totals = None
        self.failures += failures

    def begin_writing_anew(self) -> None:
        """The writer was started again."""
        self._written.begin_anew()
        self.recording = False

    def begin_detecting_anew(self) -> None:
        """The detector was started again."""
        self._detected.begin_anew()

    def totals(self, *, detecting: bool) -> dict[str, int | None]:
        """As `status` and `stopped` events carry them; null for what is not looked at."""
        if self._totals is None:
            packets, written_bytes, dropped, freezes = self._written.sums()
            connections, unlisted, not_seen = self._detected.sums()
            self._totals = {
                "packets": packets,
                "bytes": written_bytes,
                "dropped": dropped,
                "freezes": freezes,
                "ring_bytes": self.ring_bytes,
                "oldest_ns": self.oldest_ns,
                "connections": connections if detecting else None,
                "failures": self.failures + unlisted if detecting else None,
                "control_dropped": not_seen if detecting else None,
            }
        return self._totals
