"""How a trigger becomes a clip: the cooldown decides, the writer freezes, the manifest tells."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from podcam.clip import COMPLETE, OPEN, Clip, ClipPart, ClipStore, Manifest, write_manifest
from podcam.errors import ClipError
from podcam.model.failure import Failure, ServerCounts
from podcam.model.point import Interface, Point, Window
from podcam.recorder.channel import Message
from podcam.recorder.requests import Answer
from podcam.recorder.settings import SECOND_NS
from podcam.ring import Totals, segments_in
from podcam.trigger import Counted, Keeper, OpenClip

_MOST_COMPARED = 5
"""Good connections kept beside a window, per point: one for each of the first servers that fail."""
_GOOD_MARGIN_NS = SECOND_NS // 100
"""Around a good connection: its last packet may be acknowledged a little later."""
_LONGEST_GOOD_NS = 60 * SECOND_NS
"""Of a good connection that lasted longer the beginning is kept: start-ups are what is compared."""


@dataclass(slots=True)
class _Growing:
    """A clip whose window has not ended, or whose last segments are still being kept."""

    clip: Clip
    point: str
    opened: OpenClip
    comparisons: dict[str, list[Window]] = field(default_factory=dict)
    parts: dict[str, ClipPart] = field(default_factory=dict)
    bytes: int = 0
    """What has been kept of it so far, on disk."""
    answer: Answer | None = None
    told: bool = False
    changed: bool = False
    """Since its manifest was written."""
    ended_ns: int | None = None
    """When the writer had kept the last of it."""
    warnings: list[str] = field(default_factory=list)


class Clips:
    """The clips of a running recorder.

    Args:
        store: where they lie.
        budget_bytes: what all of them may take.
        keeper: which failures become clips.
        source: describes a point as the headers of its segments do.
        freeze: takes a request for the writer.
        count: asks what became of the connections to each server (`counted`, then `all_counted`); False when
            there is nobody to ask.
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
        count: Callable[[], bool],
        tell: Callable[..., None],
    ) -> None:
        self.kept = 0
        """Since the start."""
        self._store = store
        self._budget_bytes = budget_bytes
        self._keeper = keeper
        self._source = source
        self._freeze = freeze
        self._count = count
        self._tell = tell
        self._growing: dict[str, _Growing] = {}
        self._servers: dict[str, tuple[ServerCounts, ...]] = {}

    def failed(
        self, point: str, failures: Iterable[tuple[Failure, ServerCounts | None]], now_ns: int
    ) -> None:
        """Connections failed; each comes with what was known of its server before."""
        self._keeper.due(now_ns)
        grown: dict[int, _Growing] = {}
        for failure, server in failures:
            decision = self._keeper.failure(failure, now_ns)
            if isinstance(decision, Counted):
                continue
            growing = grown.get(decision.clip) or self._of_number(decision.clip)
            if growing is None:
                growing = self._open(decision.clip, point, failure.sentence(), failure.failure_class, now_ns)
            if growing is not None:
                grown[decision.clip] = growing
                _compare(growing, point, server)
        for growing in grown.values():
            growing.changed = True
            self._request(growing)

    def asked(self, point: str, window: Window, reason: str, now_ns: int, answer: Answer) -> None:
        """A person asks for a clip; `answer` is called with its path once it is complete."""
        decision = self._keeper.asked(window, now_ns)
        growing = self._open(decision.clip, point, reason, "asked", now_ns)
        if growing is None:
            answer({"error": "the clip could not be made: the recorder's output says why"})
            return
        growing.answer = answer
        self._request(growing)

    def keep_time(self, now_ns: int) -> None:
        """Let the windows end that are over, and bring the manifests of the open clips up to date."""
        self._keeper.due(now_ns)
        for growing in self._growing.values():
            if growing.changed and growing.told:
                self._write(growing)

    def kept_so_far(self, clip_bytes: Mapping[str, int], now_ns: int) -> None:
        """The writer has kept so many bytes of the open clips; they end where the budget does."""
        for clip_id, kept in clip_bytes.items():
            if clip_id in self._growing:
                self._growing[clip_id].bytes = kept
        if sum(growing.bytes for growing in self._growing.values()) <= self._budget_bytes:
            return
        for growing in self._growing.values():
            if growing.opened.window.end_ns > now_ns:
                self._keeper.cut_short(growing.opened.number, now_ns)
                text = f"the clip reached the budget of {self._budget_bytes:,} bytes: its window ends early"
                growing.warnings.append(text)
                self._tell("warning", growing.point, text=f"{growing.clip.path}: {text}")
                self._request(growing)

    def counted(self, point: str, servers: tuple[ServerCounts, ...]) -> None:
        """What became of the connections to each server at a point."""
        self._servers[point] = servers

    def all_counted(self) -> None:
        """Every point's counts have come, or none will: complete the clips that waited for them."""
        for growing in [g for g in self._growing.values() if g.ended_ns is not None]:
            self._complete(growing)

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
            segments=tuple(path.name for path in segments_in(growing.clip.path / message["folder"])),
            totals=Totals(**message["totals"]),
            how=message["how"],
            interfaces=tuple(Interface(*interface) for interface in source["interfaces"]),
            filter=source["filter"],
        )

    def frozen(self, clip_id: str, now_ns: int, *, ended: bool) -> None:
        """The writer has kept every part, until now or (`ended`) to the end of the window."""
        growing = self._growing.get(clip_id)
        if growing is None:
            return
        if not growing.told:
            growing.told = True
            self.kept += 1
            self._write(growing)
            manifest = growing.clip.manifest
            self._tell("clip", growing.point, path=str(growing.clip.path), reason=manifest.reason, state=OPEN)
        if ended:
            growing.ended_ns = now_ns
            if not self._count():
                self.all_counted()

    def request_again(self) -> None:
        """Ask a new writer for what the old one was asked."""
        for growing in self._growing.values():
            if growing.ended_ns is None:
                self._request(growing)

    def _of_number(self, number: int) -> _Growing | None:
        return next((g for g in self._growing.values() if g.opened.number == number), None)

    def _open(self, number: int, point: str, reason: str, label: str, now_ns: int) -> _Growing | None:
        opened = next(clip for clip in self._keeper.open if clip.number == number)
        manifest = Manifest(
            id="",
            reason=reason,
            created_ns=now_ns,
            window=opened.window,
            triggers=tuple(opened.triggers),
        )
        try:
            clip = self._store.create(manifest, label)
        except ClipError as error:
            self._tell("warning", point, text=str(error))
            return None
        growing = _Growing(clip, point, opened)
        self._growing[clip.manifest.id] = growing
        return growing

    def _request(self, growing: _Growing) -> None:
        window = growing.opened.window
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

    def _complete(self, growing: _Growing) -> None:
        del self._growing[growing.clip.manifest.id]
        self._write(growing)
        path = str(growing.clip.path)
        packets = sum(part.totals.packets for part in growing.parts.values())
        self._tell("complete", growing.point, path=path, packets=packets)
        if growing.answer is not None:
            growing.answer({"clip": path})
        self._keep_budget(growing.point, newest=growing.clip.manifest.id)

    def _write(self, growing: _Growing) -> None:
        """Bring the manifest up to date: should the recorder die now, this is what is known of the clip."""
        growing.changed = False
        opened, ended_ns = growing.opened, growing.ended_ns
        window = opened.window
        if ended_ns is not None:
            window = ended(window, growing.clip.manifest.created_ns, ended_ns)
        manifest = replace(
            growing.clip.manifest,
            window=window,
            state=OPEN if ended_ns is None else COMPLETE,
            triggers=tuple(opened.triggers),
            parts=tuple(
                replace(
                    part,
                    comparisons=tuple(growing.comparisons.get(name, ())),
                    servers=self._servers.get(name, ()),
                )
                for name, part in growing.parts.items()
            ),
            warnings=(*growing.warnings, *_unlisted(opened)),
        )
        try:
            write_manifest(growing.clip.path, manifest)
        except ClipError as error:
            self._tell("warning", growing.point, text=str(error))

    def _keep_budget(self, point: str, newest: str) -> None:
        try:
            for gone in self._store.remove_over(self._budget_bytes, spared=newest):
                self._tell("warning", point, text=f"the clips reached their budget: {gone.path} was removed")
        except ClipError as error:
            self._tell("warning", point, text=str(error))


def ended(window: Window, created_ns: int, now_ns: int) -> Window:
    """What of a clip's window has passed; all of it if the clock was set back since the clip was made."""
    return replace(window, end_ns=min(window.end_ns, now_ns)) if now_ns >= created_ns else window


def _unlisted(opened: OpenClip) -> tuple[str, ...]:
    if opened.failures <= len(opened.triggers):
        return ()
    return (f"of {opened.failures:,} failures in its window the first {len(opened.triggers)} are listed",)


def _compare(growing: _Growing, point: str, server: ServerCounts | None) -> None:
    """Keep the last good connection to the server beside the window, if it lies before that."""
    if server is None or server.last_good_start_ns is None or server.last_good_end_ns is None:
        return
    kept = growing.comparisons.setdefault(point, [])
    end_ns = min(server.last_good_end_ns, server.last_good_start_ns + _LONGEST_GOOD_NS)
    good = Window(server.last_good_start_ns - _GOOD_MARGIN_NS, end_ns + _GOOD_MARGIN_NS)
    inside = growing.opened.window.start_ns <= good.start_ns
    if inside or len(kept) >= _MOST_COMPARED or any(w.overlaps(good.start_ns, good.end_ns) for w in kept):
        return
    kept.append(good)
