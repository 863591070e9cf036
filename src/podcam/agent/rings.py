"""The rings on a node's disk: how large they are and may be, and when those of ended points go."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Protocol

from podcam.agent import budget
from podcam.agent.budget import Disk, EndedRing, LiveRing, Plan
from podcam.agent.clock import Clock
from podcam.agent.disk_use import ClipSizes, bytes_alone
from podcam.agent.log import Log
from podcam.agent.matching import Refusal
from podcam.agent.naming import PointId
from podcam.agent.points import NodePoint, Points
from podcam.agent.recording_status import PointState
from podcam.agent.settings import AgentSettings
from podcam.errors import PodcamError
from podcam.model.point import Window
from podcam.recorder import RecorderFolder, resting_ring, resting_rings
from podcam.ring import parse_segment_name, read_totals, segments_in

_SECOND_NS = 1_000_000_000
DEFAULT_RETENTION_NS = 3600 * _SECOND_NS
"""Of rings whose recording is not known any more."""
_LOOK_LASTS_SECONDS = 10.0
"""For so long new points are admitted by what was seen: a look takes long where much lies, and their packets
pass by."""


@dataclass(frozen=True, slots=True)
class RingTerms:
    """What a recording asks for per pod."""

    asked_bytes: int
    segment_bytes: int
    retention_ns: int = DEFAULT_RETENTION_NS


@dataclass(slots=True)
class _Look:
    """What lay on the disk when somebody looked, without what was removed since."""

    taken: float
    """On the monotonic clock."""
    disk: Disk
    clips_bytes: int
    ring_bytes: dict[str, int]
    """What each ring takes that no clip holds too, by point."""
    last_ns: dict[str, int]
    """When those that hold a segment were last written."""

    def forget(self, point_id: str) -> None:
        """A ring was removed."""
        self.last_ns.pop(point_id, None)
        freed_bytes = self.ring_bytes.pop(point_id, 0)
        self.disk = replace(self.disk, free_bytes=self.disk.free_bytes + freed_bytes)


class LimitingRecorder(Protocol):
    """The part of a recorder that keeps within limits."""

    def limit(self, point_id: str, limit_bytes: int) -> None:
        """Let the ring of a live point take so much from now on. Raises PodcamError."""

    def limit_clips(self, limit_bytes: int) -> None:
        """Let all clips take so much from now on."""

    def totals(self) -> Mapping[str, Mapping[str, int | None]]:
        """The counts of the live points, by their ids."""


class Rings:
    """All rings and clips of the agent's folder, held within what the node can spare.

    Args:
        settings: how much that is.
        folder: where they lie.
        recorder: writes the rings of live points.
        points: those of the node.
        terms: what a recording asks for, while it is known.
        log: for what goes.
        clock: what time it is.
        removed: is told of points whose ring went, and of the reason.
    """

    def __init__(
        self,
        settings: AgentSettings,
        folder: RecorderFolder,
        recorder: LimitingRecorder,
        points: Points,
        *,
        terms: Callable[[str], RingTerms | None],
        log: Log,
        clock: Clock,
        removed: Callable[[str, budget.Cause], None],
    ) -> None:
        self.plan = Plan()
        self._settings = settings
        self._folder = folder
        self._recorder = recorder
        self._points = points
        self._terms = terms
        self._log = log
        self._clock = clock
        self._removed = removed
        self._known_terms: dict[str, RingTerms] = {}
        self._limits: dict[str, int] = {}
        self._clips_limit = 0
        self._clip_sizes = ClipSizes(folder.clips)
        self._seen = _Look(-inf, Disk(0, 0, 0), 0, {}, {})
        self._ended: dict[str, float] = {}
        """When the points of ended rings ended, on the monotonic clock: setting the wall clock does not make
        them older."""
        self._disowned: set[str] = set()
        """Points whose rings hold what was recorded for a recording that is gone, until they are removed."""

    def restore(self) -> None:
        """Take up the rings that an earlier agent left."""
        rings = resting_rings(self._folder)
        for empty in set(self._folder.rings()) - {ring.path for ring in rings.values()}:
            self._remove_folder(self._folder.point_of(empty))
        for point_id, ring in rings.items():
            try:
                point = PointId.parse(point_id)
            except ValueError:
                continue  # not one of a cluster's
            self._points.rest(point_id, point.recording_id, point.pod, ring.last_ns)

    def disown(self, recording: str) -> None:
        """A recording is gone: its rings go as soon as they are not written any more.

        One of the same name may be another's: of a namespace that was deleted, and made anew for somebody
        else.
        """
        self._disowned |= {point.id for point in self._points.of(recording) if point.recorded or point.live}
        self.drop_disowned()

    def disown_strangers(self, since_ns: Callable[[str], int | None]) -> None:
        """Disown what an earlier agent left of recordings that are gone.

        Args:
            since_ns: when a recording was made; None where there is none. One that is younger than the end
                of a ring has the name of the one that the ring was written for, and is another.
        """
        rings = resting_rings(self._folder)
        for point in self._points.all.values():
            if point.live or point.id not in rings:
                continue
            made_ns = since_ns(point.recording)
            if made_ns is None or rings[point.id].last_ns < made_ns:
                self._disowned.add(point.id)
        self.drop_disowned()

    def drop_disowned(self) -> None:
        """Remove the disowned rings that are not written any more."""
        for point_id in sorted(self._disowned):
            point = self._points.all.get(point_id)
            written = point is not None and point.live
            if not written and self._remove(budget.Removal(point_id, budget.Cause.RECORDING)):
                self._disowned.discard(point_id)

    def admit(self, point_id: str, recording: str) -> int | Refusal | None:
        """How many bytes a new point's ring may take (None: as many as asked), or why it has no room."""
        self.drop_disowned()
        if point_id in self._disowned:
            return Refusal(
                "RingNotRemoved",
                "what was recorded of this pod for a recording of the same name, which was deleted, cannot "
                "be removed from the node, and must not be mixed with what comes: the agent's log says why",
            )
        terms = self._terms_of(recording)
        if self._clock.monotonic() - self._seen.taken > _LOOK_LASTS_SECONDS:
            self._seen = self._look()
        plan = self._carry_out([LiveRing(point_id, 0, terms.asked_bytes, terms.segment_bytes)])
        if point_id in plan.refused:
            return Refusal("NodeBudget", plan.refused[point_id])
        limit = plan.limits[point_id]
        self._limits[point_id] = limit
        return None if limit >= terms.asked_bytes else limit

    def started(self, point_id: str) -> None:
        """The recorder has opened a point, maybe anew: then it does not know of its limit."""
        limit = self._limits.get(point_id)
        if limit is not None:
            self._limit(point_id, limit)

    def keep_within(self) -> None:
        """Let go what is over the budgets, and give back what there is room for."""
        self.drop_disowned()
        self._seen = self._look()
        self._carry_out([])
        self._forget_lost()

    def reach(self, recording: str, pods: tuple[str, ...] | None, window: Window) -> bool:
        """Whether a ring of the recording may hold packets of the window."""
        totals = self._recorder.totals()
        return any(
            self._reaches(point, totals.get(point.id, {}).get("oldest_ns"), window)
            for point in self._points.of(recording)
            if pods is None or point.pod in pods
        )

    def bytes_of(self, recording: str) -> int:
        """What the rings of a recording take on disk."""
        totals = self._recorder.totals()
        sizes = [
            totals.get(point.id, {}).get("ring_bytes") or self._seen.ring_bytes.get(point.id, 0)
            for point in self._points.of(recording)
        ]
        return sum(sizes)

    def limits_of(self, recording: str) -> tuple[int, int]:
        """What the live rings of a recording may take, and what was asked for them."""
        live = [point for point in self._points.of(recording) if point.live]
        asked = self._terms_of(recording).asked_bytes
        return sum(self._limits.get(point.id, asked) for point in live), asked * len(live)

    @property
    def clips_bytes(self) -> int:
        """What all clips took at the last look."""
        return self._seen.clips_bytes

    def clips_limit(self) -> int:
        """What all clips may take as things stand."""
        whole = os.statvfs(self._folder.path)
        disk_bytes = self._settings.disk_budget.of(whole.f_blocks * whole.f_frsize)
        return disk_bytes // 2 if self._settings.clips_bytes is None else self._settings.clips_bytes

    def _reaches(self, point: NodePoint, oldest_ns: int | None, window: Window) -> bool:
        """Whether the window overlaps what the point's ring holds, or, as long as it is live, may come to."""
        if not point.live:
            ring = resting_ring(self._folder.ring(point.id))
            return ring is not None and window.overlaps(_first_ns(ring.path), ring.last_ns)
        if oldest_ns is None:  # the recorder has not told yet how far the ring reaches back
            ring = resting_ring(self._folder.ring(point.id))
            oldest_ns = point.since_ns if ring is None else _first_ns(ring.path)
        # one that began in the future began before the clock was set back: then nobody can tell
        return oldest_ns <= window.end_ns or oldest_ns > self._clock.now_ns()

    # --- the plan ---

    def _look(self) -> _Look:
        resting = resting_rings(self._folder)
        paths = {point.id: self._folder.ring(point.id) for point in self._points.all.values() if point.live}
        paths |= {point_id: ring.path for point_id, ring in resting.items()}
        return _Look(
            taken=self._clock.monotonic(),
            disk=self.disk(),
            clips_bytes=self._clip_sizes.total_bytes(),
            ring_bytes={point_id: bytes_alone(path) for point_id, path in paths.items()},
            last_ns={point_id: ring.last_ns for point_id, ring in resting.items()},
        )

    def _carry_out(self, new: list[LiveRing]) -> Plan:
        live = [self._live_ring(point) for point in self._points.all.values() if point.live]
        self.plan = plan = budget.plan(
            self._seen.disk,
            [ring for ring in live if ring.point not in {other.point for other in new}],
            list(self._ended_rings()),
            self._seen.clips_bytes,
            self._clock.now_ns(),
            new=new,
            before=self.plan,
        )
        for removal in plan.removals:
            self._remove(removal)
        for ring in live:
            limit = plan.limits.get(ring.point)
            if limit is not None and self._limits.get(ring.point, ring.asked_bytes) != limit:
                self._limit(ring.point, limit)
        self._limits = {point: limit for point, limit in self._limits.items() if point in plan.limits}
        clips_limit = min(self.clips_limit(), plan.clips_bytes)
        if clips_limit != self._clips_limit:
            self._clips_limit = clips_limit
            self._recorder.limit_clips(clips_limit)
        return plan

    def _forget_lost(self) -> None:
        """Points that ended before a packet came, or whose rings somebody else removed: nothing is kept."""
        for point in list(self._points.all.values()):
            if point.state is PointState.ENDED and not point.live and point.id not in self._seen.last_ns:
                self._remove_folder(point.id)
                self._points.lose_ring(point.id)
        concerned = self._points.recordings
        self._known_terms = {
            recording: terms for recording, terms in self._known_terms.items() if recording in concerned
        }

    def disk(self) -> Disk:
        """The file system that holds them."""
        whole = os.statvfs(self._folder.path)
        size_bytes = whole.f_blocks * whole.f_frsize
        return Disk(
            free_bytes=whole.f_bavail * whole.f_frsize,
            budget_bytes=self._settings.disk_budget.of(size_bytes),
            floor_bytes=self._settings.free_floor.of(size_bytes),
        )

    def _live_ring(self, point: NodePoint) -> LiveRing:
        terms = self._terms_of(point.recording)
        return LiveRing(
            point.id, self._seen.ring_bytes.get(point.id, 0), terms.asked_bytes, terms.segment_bytes
        )

    def _ended_rings(self) -> Iterator[EndedRing]:
        known, self._ended = self._ended, {}
        now_ns, now = self._clock.now_ns(), self._clock.monotonic()
        for point_id, last_ns in self._seen.last_ns.items():
            point = self._points.all.get(point_id)
            if point is not None and point.live:
                continue
            ended = known.get(point_id)
            if ended is None:
                since_ns = point.since_ns if point is not None and point.recorded else last_ns
                ended = now - max(0, now_ns - max(last_ns, since_ns)) / _SECOND_NS
            self._ended[point_id] = ended
            ended_ns = now_ns - int((now - ended) * _SECOND_NS)
            recording = point_id.rpartition("/")[0]
            yield EndedRing(
                point_id, self._seen.ring_bytes[point_id], ended_ns, self._terms_of(recording).retention_ns
            )

    def _terms_of(self, recording: str) -> RingTerms:
        terms = self._terms(recording)
        if terms is None:
            return self._known_terms.get(recording, RingTerms(0, 0))
        self._known_terms[recording] = terms
        return terms

    def _limit(self, point_id: str, limit_bytes: int) -> None:
        self._limits[point_id] = limit_bytes
        try:
            self._recorder.limit(point_id, limit_bytes)
        except PodcamError as error:
            self._log.warning("a ring's limit cannot be set", point=point_id, why=error)

    def _remove(self, removal: budget.Removal) -> bool:
        if not self._remove_folder(removal.point):
            return False
        self._log.info("removed the ring of an ended point", point=removal.point, why=removal.cause.value)
        self._removed(removal.point, removal.cause)
        self._seen.forget(removal.point)
        self._points.lose_ring(removal.point)
        return True

    def _remove_folder(self, point_id: str) -> bool:
        try:
            self._folder.remove_ring(point_id)
        except PodcamError as error:
            self._log.error("a ring cannot be removed", point=point_id, why=error)
            return False
        return True


def _first_ns(ring: Path) -> int:
    """When what a ring holds begins: the first segment was made then, or its first packet came before."""
    for segment in segments_in(ring):
        with suppress(FileNotFoundError):
            _, made_ns = parse_segment_name(segment.name) or (0, 0)
            first_ns = read_totals(segment).first_ns
            return made_ns if first_ns is None else min(made_ns, first_ns)
    return 0
