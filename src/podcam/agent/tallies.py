"""What an agent counts per recording, for its status and for the metrics."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from podcam.agent.metrics import RunningTotals
from podcam.recorder import Event

_MOST_WARNINGS = 8
_WARNED_NS = 3600 * 1_000_000_000
"""How long a warning stands in the status of its recording."""


@dataclass(slots=True)
class RecordingTally:
    """One recording on this node, since the agent started."""

    failures: Counter[str] = field(default_factory=Counter)
    """By class."""
    clips: Counter[str] = field(default_factory=Counter)
    """Parts kept, by origin."""
    clips_failed: int = 0
    suppressed: int = 0
    warnings: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=_MOST_WARNINGS))

    def warn(self, now_ns: int, text: str) -> None:
        """Something is not as it should be; said again, it stands once."""
        for known in [known for known in self.warnings if known[1] == text]:
            self.warnings.remove(known)
        self.warnings.append((now_ns, text))

    def standing(self, now_ns: int) -> tuple[str, ...]:
        """The warnings of the last hour."""
        return tuple(text for said_ns, text in self.warnings if now_ns - said_ns < _WARNED_NS)


class Tallies:
    """All recordings of this node; tells of which one people should hear soon."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.totals = RunningTotals()
        self._now_ns = now_ns
        self._recordings: dict[str, RecordingTally] = {}
        self._changed: list[Callable[[str], None]] = []

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """Have `changed` told of each recording that has a warning or a clip more."""
        self._changed.append(changed)

    def of(self, recording: str) -> RecordingTally:
        """What was counted of a recording."""
        return self._recordings.setdefault(recording, RecordingTally())

    def warn(self, recording: str, text: str) -> None:
        """Something about a recording is not as it should be."""
        self.of(recording).warn(self._now_ns(), text)
        self._tell(recording)

    def count_clip(self, recording: str, origin: str) -> None:
        """A part of a clip is kept."""
        self.of(recording).clips[origin] += 1
        self._tell(recording)

    def take(self, point_id: str, event: Event) -> None:
        """Hear an event of a point: `status` or `stopped`, which carry its counts."""
        counts = {
            name: value
            for name in ("packets", "bytes", "dropped", "connections")
            if isinstance(value := event.get(name), int)
        }
        self.totals.take(point_id, point_id.rpartition("/")[0], counts)

    def forget(self, kept: Iterable[str]) -> None:
        """Forget all recordings but these."""
        kept = set(kept)
        for recording in self._recordings.keys() - kept:
            del self._recordings[recording]
        self.totals.forget(kept)

    def counts(self, recording: str) -> Mapping[str, int]:
        """The sums of packets, bytes, drops and connections."""
        return self.totals.of(recording)

    def _tell(self, recording: str) -> None:
        for changed in self._changed:
            changed(recording)
