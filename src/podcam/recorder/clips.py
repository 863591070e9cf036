"""How a trigger becomes a clip: the cooldown decides, the writer freezes, the manifest tells."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from podcam.clip import COMPLETE, OPEN, Clip, ClipPart, ClipStore, Manifest, write_manifest
from podcam.errors import ClipError
from podcam.model.failure import Failure, ServerCounts
from podcam.model.point import Interface, Point, Window
from podcam.recorder.channel import Message
from podcam.recorder.settings import SECOND_NS
from podcam.ring import Totals
from podcam.trigger import Counted, Keeper

_MOST_COMPARED = 5
"""Good connections kept beside a window, per point: one for each of the first servers that fail."""
_GOOD_MARGIN_NS = SECOND_NS // 100
"""Around a good connection: its last packet may be acknowledged a little later."""
_LONGEST_GOOD_NS = 60 * SECOND_NS
"""Of a good connection that lasted longer the beginning is kept: start-ups are what is compared."""

Answer = Callable[[Message], None]


@dataclass(slots=True)
class _Growing:
    """A clip whose window has not ended, or whose last segments are still being kept."""

    number: int
    clip: Clip
    point: str
    window: Window
    triggers: list[Failure] = field(default_factory=list)
    comparisons: dict[str, list[Window]] = field(default_factory=dict)
    parts: dict[str, ClipPart] = field(default_factory=dict)
    answer: Answer | None = None
    told: bool = False


class Clips:
    """The clips of a running recorder.

    Args:
        store: where they lie.
        budget_bytes: what all of them may take.
        keeper: which failures become clips.
        source: describes a point as the headers of its segments do.
        freeze: takes a request for the writer.
        tell: takes events: `clip` when the first segments are kept, `complete` when all are, `warning`.
    """

    def __init__(
        self,
        store: ClipStore,
        budget_bytes: int,
        keeper: Keeper,
        *,
        source: Callable[[str], Message],
        freeze: Callable[[Message], None],
        tell: Callable[..., None],
    ) -> None:
        self.kept = 0
        """Since the start."""
        self._store = store
        self._budget_bytes = budget_bytes
        self._keeper = keeper
        self._source = source
        self._freeze = freeze
        self._tell = tell
        self._growing: dict[str, _Growing] = {}
        self._servers: dict[str, tuple[ServerCounts, ...]] = {}

    def failed(self, point: str, failure: Failure, server: ServerCounts | None, now_ns: int) -> None:
        """A connection failed; `server` says what was known of its server before."""
        self._keeper.due(now_ns)
        decision = self._keeper.failure(failure, now_ns)
        if isinstance(decision, Counted):
            return
        growing = next((g for g in self._growing.values() if g.number == decision.clip), None)
        if growing is None:
            growing = self._open(decision.clip, point, failure.sentence(), failure.failure_class, now_ns)
            if growing is None:
                return
            growing.triggers = next(c.triggers for c in self._keeper.open if c.number == decision.clip)
        changed = _compare(growing, point, server)
        if changed or growing.window != decision.window:
            growing.window = decision.window
            self._request(growing)

    def asked(self, point: str, window: Window, reason: str, now_ns: int, answer: Answer) -> None:
        """A person asks for a clip; `answer` is called with its path once it is complete."""
        decision = self._keeper.asked(window, now_ns)
        growing = self._open(decision.clip, point, reason, "asked", now_ns)
        if growing is None:
            answer({"error": "the clip could not be made: the recorder's output says why"})
            return
        growing.window, growing.answer = window, answer
        self._request(growing)

    def keep_time(self, now_ns: int) -> bool:
        """Close what has ended; whether a clip is about to be completed, so that counts are wanted."""
        return bool(self._keeper.due(now_ns))

    def counted(self, point: str, servers: tuple[ServerCounts, ...]) -> None:
        """What became of the connections to each server at a point."""
        self._servers[point] = servers

    def part(self, message: Message) -> None:
        """The writer has kept so much of one point."""
        growing = self._growing.get(message["clip"])
        if growing is None:
            return
        name = message["point"]
        source = self._source(name)
        growing.parts[name] = ClipPart(
            point=Point(source["point"], source["node"], source["namespace"]),
            folder=message["folder"],
            segments=tuple(message["segments"]),
            totals=Totals(**message["totals"]),
            how=message["how"],
            interfaces=tuple(Interface(*interface) for interface in source["interfaces"]),
            filter=source["filter"],
            comparisons=tuple(growing.comparisons.get(name, ())),
        )

    def frozen(self, clip_id: str, now_ns: int, *, ended: bool) -> None:
        """The writer has kept every part, until now or (`ended`) to the end of the window."""
        growing = self._growing.get(clip_id)
        if growing is None:
            return
        if ended:
            now_ns = max(now_ns, growing.window.start_ns)
            growing.window = replace(growing.window, end_ns=min(growing.window.end_ns, now_ns))
        manifest = replace(
            growing.clip.manifest,
            window=growing.window,
            state=COMPLETE if ended else OPEN,
            triggers=tuple(growing.triggers),
            parts=tuple(
                replace(part, servers=self._servers.get(name, ())) for name, part in growing.parts.items()
            ),
        )
        path = str(growing.clip.path)
        try:
            write_manifest(growing.clip.path, manifest)
        except ClipError as error:
            self._tell("warning", growing.point, text=str(error))
        if not growing.told:
            growing.told = True
            self.kept += 1
            self._tell("clip", growing.point, path=path, reason=manifest.reason, state=manifest.state)
        if ended:
            del self._growing[clip_id]
            self._tell(
                "complete", growing.point, path=path, packets=sum(p.totals.packets for p in manifest.parts)
            )
            if growing.answer is not None:
                growing.answer({"clip": path})
            self._keep_budget(growing.point)

    def request_again(self) -> None:
        """Ask a new writer for what the old one was asked."""
        for growing in self._growing.values():
            self._request(growing)

    def _open(self, number: int, point: str, reason: str, label: str, now_ns: int) -> _Growing | None:
        manifest = Manifest(id="", reason=reason, created_ns=now_ns, window=Window(now_ns, now_ns))
        try:
            clip = self._store.create(manifest, label)
        except ClipError as error:
            self._tell("warning", point, text=str(error))
            return None
        growing = _Growing(number, clip, point, manifest.window)
        self._growing[clip.manifest.id] = growing
        return growing

    def _request(self, growing: _Growing) -> None:
        window = growing.window
        comparisons: Mapping[str, Any] = {
            point: [(w.start_ns, w.end_ns) for w in windows] for point, windows in growing.comparisons.items()
        }
        self._freeze(
            {
                "do": "freeze",
                "clip": growing.clip.manifest.id,
                "folder": str(growing.clip.path),
                "window": (window.start_ns, window.end_ns),
                "comparisons": comparisons,
            }
        )

    def _keep_budget(self, point: str) -> None:
        try:
            for gone in self._store.remove_over(self._budget_bytes):
                self._tell("warning", point, text=f"the clips reached their budget: {gone.path} was removed")
        except ClipError as error:
            self._tell("warning", point, text=str(error))


def _compare(growing: _Growing, point: str, server: ServerCounts | None) -> bool:
    """Keep the last good connection to the server beside the window; whether that is new."""
    if server is None or server.last_good_start_ns is None or server.last_good_end_ns is None:
        return False
    kept = growing.comparisons.setdefault(point, [])
    end_ns = min(server.last_good_end_ns, server.last_good_start_ns + _LONGEST_GOOD_NS)
    good = Window(server.last_good_start_ns - _GOOD_MARGIN_NS, end_ns + _GOOD_MARGIN_NS)
    inside = growing.window.start_ns <= good.start_ns
    if inside or len(kept) >= _MOST_COMPARED or any(w.overlaps(good.start_ns, good.end_ns) for w in kept):
        return False
    kept.append(good)
    return True
