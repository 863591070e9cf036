"""How a trigger becomes a clip: the cooldown decides, the writer freezes, the manifest tells."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Protocol

from podcam.clip import COMPLETE, OPEN, Clip, ClipStore, Manifest, open_clip, remove, write_manifest
from podcam.errors import ClipError, PodcamError
from podcam.model.failure import Failure, ServerCounts
from podcam.model.point import Gap, Window
from podcam.recorder.channel import Message
from podcam.recorder.events import failure_fields
from podcam.recorder.growing import GrowingClip, Origin
from podcam.recorder.keepers import Keepers, opened
from podcam.recorder.requests import Answer
from podcam.recorder.rings import RestingRing
from podcam.recorder.settings import KeepRequest, RecordingSettings, Scope, Subject
from podcam.recorder.windows import covers, span
from podcam.trigger import Counted, Keeper, OpenClip

_MOST_OPEN = 20
"""Clips that somebody outside asks for of one recording whose windows lie open at once: each costs the writer
time every second, with every point that it holds."""

NameClip = Callable[[Subject], str]
"""Makes the id of a new clip; an empty one lets it be made of its time and kind."""


class Rings(Protocol):
    """What clips ask about the rings of their recorder."""

    def source(self, point_id: str) -> Message:
        """A live point as the headers of its segments describe it."""

    def folder(self, point_id: str) -> str:
        """The name of the folder of a point's ring."""

    def gaps(self, point_id: str) -> tuple[Gap, ...]:
        """When the ring of a point was not written."""

    def live(self, recording: str) -> list[str]:
        """The points of a recording that the writer has, or is about to have."""

    def resting(self, recording: str) -> list[RestingRing]:
        """The rings of a recording's points that have ended."""


class Clips:
    """The clips of a running recorder.

    Args:
        store: where they lie.
        budget_bytes: what all of them may take.
        rings: what can be kept.
        freeze: has the writer keep segments, or (`drop`) no more of them.
        count: has the detector tell what became of the connections to each server (`counted`, then
            `all_counted`); returns False when there is nobody to ask.
        tell: takes events: `clip` when the first segments are kept, `complete` when all are, `removed` when
            the budget took one, `warning`.
        name: makes ids.
    """

    def __init__(
        self,
        store: ClipStore,
        budget_bytes: int,
        rings: Rings,
        *,
        freeze: Callable[[Message], object],
        count: Callable[[], bool],
        tell: Callable[..., None],
        name: NameClip,
    ) -> None:
        self._store = store
        self._budget_bytes = budget_bytes
        self._rings = rings
        self._freeze = freeze
        self._count = count
        self._tell = tell
        self._name = name
        self._keepers = Keepers()
        self._growing: dict[str, GrowingClip] = {}
        self._dropped: dict[str, KeepRequest | None] = {}
        """Clips whose folder is to go as soon as the writer has let go of them; with the request for another
        of that id, which has to wait so long."""
        self._crowding: set[str] = set()
        """Open clips whose windows are to end, as they take more than there is."""
        self._servers: dict[str, tuple[ServerCounts, ...]] = {}
        self._kept: Counter[str] = Counter()
        self._suppressed: Counter[str] = Counter()

    # --- what is recorded ---

    def define(self, recording: str, settings: RecordingSettings) -> None:
        """Failures at this recording's points become clips as these settings say."""
        self._keepers.define(recording, settings)

    def forget(self, recording: str) -> None:
        """Open no more clips for this recording; those that are open stay so until their windows end."""
        self._keepers.forget(recording)

    def counts(self, recording: str) -> dict[str, int]:
        """Since the start: clips that were kept, and failures that got none."""
        return {"clips": self._kept[recording], "suppressed": self._suppressed[recording]}

    # --- triggers ---

    def failed(
        self,
        recording: str,
        point: str,
        failures: Iterable[tuple[Failure, ServerCounts | None]],
        now_ns: int,
    ) -> None:
        """Connections failed; each comes with what was known of its server before."""
        scope = self._keepers.scope(recording)
        if scope is None:
            return
        points = frozenset((point,)) if scope is Scope.POD else None
        keeper = self._keepers.of(recording, points)
        keeper.due(now_ns)
        grown: dict[int, GrowingClip | None] = {}
        for failure, server in failures:
            decision = keeper.failure(failure, now_ns)
            if isinstance(decision, Counted):
                self._suppressed[recording] += 1
                continue
            if decision.clip not in grown:
                subject = Subject(recording, point, failure, now_ns)
                grown[decision.clip] = self._of(keeper, decision.clip) or self._begin(
                    subject, points, keeper, decision.clip, failure.sentence()
                )
            growing = grown[decision.clip]
            if growing is not None:
                growing.compare(point, server)
        for growing in filter(None, grown.values()):
            growing.changed = True
            self._request(growing)

    def asked(self, recording: str, window: Window, reason: str, now_ns: int, answer: Answer) -> None:
        """A person asks for a clip; `answer` is called with its path once it is complete."""
        keeper = self._keepers.of(recording, None)
        number = keeper.asked(window, now_ns).clip
        subject = Subject(recording, None, None, now_ns)
        growing = self._begin(subject, None, keeper, number, reason)
        if growing is None:
            answer({"error": "the clip could not be made: the recorder's output says why"})
            return
        growing.answer = answer
        self._request(growing)

    def keep(self, request: KeepRequest, now_ns: int) -> None:
        """Keep a clip that somebody else has made; told as `complete`, also if there is nothing of it here.

        One that is open is widened to the request's window. Of one that is complete only that is told, but
        one that was left open by a recorder that ended is gone on with.

        Raises:
            ClipError: it cannot be made, or too many of its recording lie open.
        """
        if request.clip in self._dropped:
            self._dropped[request.clip] = request
            return
        growing = self._growing.get(request.clip)
        if growing is not None:
            if growing.widen(request.window, now_ns):
                self._request(growing)
            return
        path = self._store.folder / request.clip
        clip = open_clip(path) if path.exists() else None
        if clip is not None and _is_enough(clip.manifest, request.window):
            self._tell_complete(clip, None)
            return
        if clip is None:
            self._refuse_beyond(request, now_ns)
        window = request.window if clip is None else span(clip.manifest.window, request.window)
        keeper = self._keepers.of(request.recording, request.points)
        joins = request.joins and window.end_ns > now_ns
        decision = (keeper.joined if joins else keeper.asked)(window, now_ns)
        new = opened(keeper, decision.clip)
        before = clip
        if clip is None:
            manifest = _manifest(
                request.clip, request.recording, request.points, new, request.reason, request.created_ns
            )
            clip = self._store.create(manifest, "kept")
        growing = GrowingClip(clip, request.recording, None, request.points, Origin.KEPT, keeper, new)
        self._growing[growing.id] = growing
        if before is not None:
            growing.go_on(self._ids(request.recording))
        self._request(growing)

    def drop(self, clip_id: str) -> None:
        """Remove a clip, open or not; nothing where there is none.

        Raises:
            ClipError: it cannot be removed.
        """
        growing = self._growing.pop(clip_id, None)
        if growing is None and clip_id in self._dropped:
            self._dropped[clip_id] = None
            return
        if growing is None:
            if (self._store.folder / clip_id).is_dir():
                remove(self._store.folder / clip_id)
            return
        self._dropped[clip_id] = None
        self._freeze({"do": "drop", "clip": clip_id})
        if growing.answer is not None:
            growing.answer({"error": "the clip was removed before it was complete"})

    # --- time and room ---

    def keep_time(self, now_ns: int) -> None:
        """Let the windows end that are over, and bring the manifests of the open clips up to date."""
        for keeper in {*self._keepers, *(growing.keeper for growing in self._growing.values())}:
            keeper.due(now_ns)
        for growing in self._growing.values():
            if growing.changed and growing.told:
                self._write(growing)
        self._keepers.forget_points(self._rings.live)

    def limit(self, budget_bytes: int) -> None:
        """All clips may take so many bytes from now on."""
        self._budget_bytes = budget_bytes
        self._keep_budget(None, newest="")

    def kept_so_far(self, clip_bytes: Mapping[str, int], now_ns: int) -> None:
        """The writer has kept so many bytes of the open clips.

        Where they reach the budget, those of the owner whose open clips take most end.
        """
        taken: Counter[str] = Counter()
        for growing in self._growing.values():
            growing.bytes = clip_bytes.get(growing.id, growing.bytes)
            taken[self._store.owner_of(growing.recording)] += growing.bytes
        most = max(taken, key=lambda owner: taken[owner]) if taken.total() > self._budget_bytes else None
        for growing in self._growing.values():
            crowding = growing.id in self._crowding or self._store.owner_of(growing.recording) == most
            if crowding and growing.lies_open(now_ns):
                self._cut_short(growing, now_ns)
        self._crowding.clear()

    # --- what the helpers say ---

    def counted(self, point: str, servers: tuple[ServerCounts, ...]) -> None:
        """What became of the connections to each server at a point, which is for the clips that are open."""
        if self._growing:
            self._servers[point] = servers

    def all_counted(self) -> None:
        """Every point's counts have come, or none will: complete the clips that waited for them."""
        for growing in [g for g in self._growing.values() if g.ended_ns is not None]:
            self._complete(growing)

    def part(self, message: Message) -> None:
        """The writer has kept so much of one point."""
        growing = self._growing.get(message["clip"])
        if growing is not None:
            growing.kept(message, self._rings.source(message["point"]))

    def frozen(self, message: Message, now_ns: int) -> None:
        """The writer has kept every part, until now or (`ended`) to the end of the window.

        That may cross the request for a longer one; then it tells of another end.
        """
        growing = self._growing.get(message["clip"])
        if growing is None:
            return
        if not growing.told:
            growing.told = True
            self._kept[growing.recording] += 1
            self._write(growing)
            self._tell_clip(growing)
        if message["ended"] and message["request"] == growing.requests:
            growing.ended_ns = now_ns
            if not self._count():
                self.all_counted()

    def dropped(self, clip_id: str, now_ns: int) -> None:
        """The writer keeps nothing more of a clip that is to go."""
        request = self._dropped.pop(clip_id, None)
        try:
            remove(self._store.folder / clip_id)
            if request is not None:
                self.keep(request, now_ns)
        except ClipError as error:
            self._tell("warning", None, text=str(error))
            if request is not None:
                path = str(self._store.folder / clip_id)
                fields = {"clip": clip_id, "path": path, "recording": request.recording or None}
                self._tell("removed", None, **fields, reason=str(error))

    def begun(self, recording: str, point: str) -> None:
        """The writer has another point of a recording: open clips of it hold that, too."""
        for growing in self._growing.values():
            if growing.recording == recording and growing.holds(point) and growing.ended_ns is None:
                self._request(growing)

    def rested(self, ring: RestingRing) -> None:
        """A point has ended; what its ring holds stays in the open clips."""
        for growing in self._growing.values():
            if growing.recording == ring.owner.recording and growing.holds(ring.owner.id):
                self._keep_resting(growing, ring)

    def request_again(self, now_ns: int) -> None:
        """Ask a new writer for what the old one was asked."""
        for growing in self._growing.values():
            if growing.ended_ns is None:
                self._request(growing)
        for clip_id in list(self._dropped):
            self.dropped(clip_id, now_ns)

    # --- inside ---

    def _of(self, keeper: Keeper, number: int) -> GrowingClip | None:
        of_it = (g for g in self._growing.values() if g.keeper is keeper and g.opened.number == number)
        return next(of_it, None)

    def _begin(
        self, subject: Subject, points: frozenset[str] | None, keeper: Keeper, number: int, reason: str
    ) -> GrowingClip | None:
        """Make a clip of what the keeper opened; None when it cannot be made, which is told."""
        new, failure = opened(keeper, number), subject.failure
        manifest = _manifest(self._name(subject), subject.recording, points, new, reason, subject.created_ns)
        try:
            clip = self._store.create(manifest, "asked" if failure is None else failure.failure_class)
        except ClipError as error:
            self._tell("warning", None, text=str(error))
            return None
        origin = Origin.ASKED if failure is None else Origin.WIRE
        point = subject.point or next(iter(self._rings.live(subject.recording)), None)
        growing = GrowingClip(clip, subject.recording, point, points, origin, keeper, new)
        self._growing[growing.id] = growing
        return growing

    def _refuse_beyond(self, request: KeepRequest, now_ns: int) -> None:
        """Raise ClipError for one more clip than a recording may have open by request."""
        if request.window.end_ns <= now_ns:
            return
        asked = (
            growing
            for growing in self._growing.values()
            if growing.recording == request.recording and growing.origin is Origin.KEPT
        )
        if sum(growing.lies_open(now_ns) for growing in asked) >= _MOST_OPEN:
            raise ClipError(
                f"{_MOST_OPEN} clips of {request.recording or 'this recording'} are open already: "
                "make another when the window of one of them has ended, or delete one"
            )

    def _ids(self, recording: str) -> dict[str, str]:
        """The ids of a recording's points, live and ended, by the folders of their rings."""
        resting = {ring.path.name: ring.owner.id for ring in self._rings.resting(recording)}
        return resting | {self._rings.folder(point): point for point in self._rings.live(recording)}

    def _request(self, growing: GrowingClip) -> None:
        live = [point for point in self._rings.live(growing.recording) if growing.holds(point)]
        for ring in self._rings.resting(growing.recording):
            if growing.holds(ring.owner.id) and ring.owner.id not in live:
                self._keep_resting(growing, ring)
        self._freeze(growing.request(live))

    def _keep_resting(self, growing: GrowingClip, ring: RestingRing) -> None:
        try:
            growing.keep_resting(ring)
        except PodcamError as error:
            text = f"{ring.owner.name} is missing in the clip: {error}"
            growing.warnings.append(text)
            self._tell("warning", None, text=f"{growing.clip.path}: {text}")

    def _cut_short(self, growing: GrowingClip, now_ns: int) -> None:
        growing.keeper.cut_short(growing.opened.number, now_ns)
        text = f"the clips reached the budget of {self._budget_bytes:,} bytes: its window ends early"
        growing.warnings.append(text)
        self._tell("warning", growing.point, text=f"{growing.clip.path}: {text}")
        self._request(growing)

    def _is_to_end(self, clip_id: str) -> bool:
        """End an open clip that takes too much, as soon as the time is known; False where it is not kept."""
        if clip_id in self._growing:
            self._crowding.add(clip_id)
        return clip_id in self._growing or clip_id in self._dropped

    def _complete(self, growing: GrowingClip) -> None:
        del self._growing[growing.id]
        manifest = self._write(growing)
        self._tell_complete(replace(growing.clip, manifest=manifest), growing.point)
        if growing.answer is not None:
            growing.answer({"clip": str(growing.clip.path)})
        if not self._growing:
            self._servers.clear()
        self._keep_budget(growing.point, newest=growing.id)

    def _write(self, growing: GrowingClip) -> Manifest:
        """Bring the manifest up to date: should the recorder die now, this is what is known of the clip."""
        growing.changed = False
        manifest = growing.manifest(self._servers, self._rings.gaps)
        try:
            write_manifest(growing.clip.path, manifest)
        except ClipError as error:
            self._tell("warning", growing.point, text=str(error))
        return manifest

    def _keep_budget(self, point: str | None, newest: str) -> None:
        try:
            for gone in self._store.remove_over(self._budget_bytes, newest, self._is_to_end):
                reason = "the clips reached their budget"
                self._tell("warning", point, text=f"{reason}: {gone.path} was removed")
                self._tell("removed", None, **_about(gone.path.name, gone), reason=reason)
        except ClipError as error:
            self._tell("warning", point, text=str(error))

    def _tell_clip(self, growing: GrowingClip) -> None:
        window, triggers = growing.opened.window, growing.opened.triggers
        self._tell(
            "clip",
            growing.point,
            **_about(growing.id, growing.clip),
            points=None if growing.points is None else sorted(growing.points),
            reason=growing.clip.manifest.reason,
            state=OPEN,
            window=asdict(window),
            failure=failure_fields(triggers[0]) if triggers else None,
            origin=growing.origin.value,
        )

    def _tell_complete(self, clip: Clip, point: str | None) -> None:
        packets = sum(part.totals.packets for part in clip.manifest.parts)
        held = sum(part.totals.bytes for part in clip.manifest.parts)
        self._tell("complete", point, **_about(clip.path.name, clip), packets=packets, bytes=held)


def _about(clip_id: str, clip: Clip) -> dict[str, str | None]:
    return {"clip": clip_id, "path": str(clip.path), "recording": clip.manifest.recording}


def _is_enough(manifest: Manifest, window: Window) -> bool:
    """Whether nothing is to be done for a clip on disk, of which this window is wanted."""
    return manifest.state == COMPLETE and not (manifest.interrupted and not covers(manifest.window, window))


def _manifest(
    clip_id: str,
    recording: str,
    points: frozenset[str] | None,
    opened: OpenClip,
    reason: str,
    created_ns: int,
) -> Manifest:
    return Manifest(
        id=clip_id,
        reason=reason,
        created_ns=created_ns,
        window=opened.window,
        triggers=tuple(opened.triggers),
        recording=recording or None,
        points=None if points is None else tuple(sorted(points)),
    )
