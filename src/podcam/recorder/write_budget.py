"""When the disks cannot take what the network brings: which points keep headers only, decided from rates.

Pure: time comes in as an argument, and the decision goes out as two sets of names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

CUT_PAYLOAD_BYTES = 64
"""What is kept after the transport header while a point is cut: enough for the first bytes of a request."""
CUT_SNAPLEN = 256
"""What is kept of a whole packet then: fragments and what is neither TCP nor UDP are cut here."""

_SECOND_NS = 1_000_000_000
_CALM_SHARE = 0.5
_FIRST_PATIENCE_NS = 10 * _SECOND_NS
_LONGEST_PATIENCE_NS = 300 * _SECOND_NS


@dataclass(slots=True)
class WriteBudget:
    """Keeps what is written under `bytes_per_second`, seen over each measured stretch.

    The points that write more than an even share are cut first, largest first, until the rest fits. A cut
    point is restored when all together have stayed below half the budget for a while; each cut that follows
    soon doubles that while (10 s to 5 min), so that a steady overload does not swap filters all the time.
    """

    bytes_per_second: float
    cut: set[str] = field(default_factory=set)
    _patience_ns: int = _FIRST_PATIENCE_NS
    _calm_since_ns: int | None = None
    _restored_ns: int | None = None

    def measured(self, written: Mapping[str, int], seconds: float, now_ns: int) -> tuple[set[str], set[str]]:
        """Take the bytes that each point wrote in the last `seconds`; return (points to cut, to restore)."""
        total = sum(written.values()) / seconds
        if total > self.bytes_per_second:
            return self._cut(written, seconds, total, now_ns), set()
        if not self.cut or total > self.bytes_per_second * _CALM_SHARE:
            self._calm_since_ns = None
            return set(), set()
        if self._calm_since_ns is None:
            self._calm_since_ns = now_ns
        if now_ns - self._calm_since_ns < self._patience_ns:
            return set(), set()
        restored, self.cut = self.cut, set()
        self._calm_since_ns, self._restored_ns = None, now_ns
        return set(), restored

    def _cut(self, written: Mapping[str, int], seconds: float, total: float, now_ns: int) -> set[str]:
        self._calm_since_ns = None
        whole = {name: count / seconds for name, count in written.items() if name not in self.cut}
        fresh: set[str] = set()
        for name, rate in sorted(whole.items(), key=lambda item: -item[1]):
            if total <= self.bytes_per_second or rate == 0:
                break
            fresh.add(name)
            total -= rate
        if fresh and self._restored_ns is not None:
            soon = now_ns - self._restored_ns < 2 * self._patience_ns
            self._patience_ns = (
                min(2 * self._patience_ns, _LONGEST_PATIENCE_NS) if soon else _FIRST_PATIENCE_NS
            )
        self.cut |= fresh
        return fresh
