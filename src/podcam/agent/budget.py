"""What stands above all rings and clips of a node: a budget, and a floor of free space.

Pure: sizes and the time come in, a plan goes out. When the disk gets short, rings of ended pods go first,
those that ended first before all others; then the rings of live pods shrink, the largest first: all above a
common level go down to it, but none below two segments, so that who asks for much takes nothing from who
asks for little; then clips have to give; a new point is refused last.

It gets short before it is full: a ring counts with twice what it holds (or its limit, if that is less), so
that it cannot outgrow the budget between two plans.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

_SHRINK_TO = 95
_GROW_ABOVE = 85
"""Per cent of the room: rings that shrink leave a little free, and grow only when there is clearly more. So
the limits do not change with every packet."""


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system that holds the agent's folder, in bytes."""

    free_bytes: int
    budget_bytes: int
    """What all rings and clips may take."""
    floor_bytes: int
    """What must stay free, whoever fills it: more than the kubelet's thresholds for eviction."""


@dataclass(frozen=True, slots=True)
class LiveRing:
    """The ring of a point that is recorded, or is to be."""

    point: str
    bytes: int
    """What it takes that no clip holds too: what would be free without it."""
    asked_bytes: int
    """How large it was asked to be."""
    segment_bytes: int

    @property
    def least_bytes(self) -> int:
        """It never shrinks below this: two segments, so that one can go while the other is written."""
        return min(2 * self.segment_bytes, self.asked_bytes)


@dataclass(frozen=True, slots=True)
class EndedRing:
    """The ring of a point that is recorded no more, kept for a while."""

    point: str
    bytes: int
    """What it takes that no clip holds too."""
    ended_ns: int
    retention_ns: int
    """How long it is kept, if there is room."""


class Cause(StrEnum):
    """Why the ring of an ended point goes."""

    RETENTION = "its retention time is over"
    RECORDING = "its recording was deleted"
    BUDGET = "the disk budget of the node is used up"
    FLOOR = "the node's disk is short of free space"


@dataclass(frozen=True, slots=True)
class Removal:
    """The ring of an ended point that has to go."""

    point: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done now, and what the next plan has to know of this one."""

    limits: Mapping[str, int] = field(default_factory=dict)
    """Bytes by point, for all live rings and the new ones that are accepted."""
    removals: tuple[Removal, ...] = ()
    """In the order in which they should go."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """New points that cannot be recorded, each with a sentence that says why."""
    clips_bytes: int = 0
    """The most that clips may take now, whatever their own budget is: less than they have only where live
    rings need the rest."""
    notes: tuple[str, ...] = ()
    """Sentences for the status of recordings, while something is less than was asked for."""
    level_bytes: int | None = None
    """The most that a live ring gets, but for two segments; None: as much as was asked."""
    share: float = 1.0
    """What the live rings get together of what was asked for."""
    pressed: frozenset[str] = frozenset()
    """Points whose rings would use more than the level: they count with what they were asked to hold."""


def plan(
    disk: Disk,
    live: Sequence[LiveRing],
    ended: Sequence[EndedRing],
    clips_bytes: int,
    now_ns: int,
    *,
    new: Sequence[LiveRing] = (),
    before: Plan | None = None,
) -> Plan:
    """Divide the disk.

    Args:
        disk: what there is, with all rings and clips already on it.
        live: the rings that are recorded into.
        ended: the rings that lie there otherwise; what is left of new points' earlier rings, too.
        clips_bytes: what the clips take, files that several clips or rings share counted once.
        now_ns: the wall clock.
        new: points that are to be recorded, in the order of their coming. What they take comes from `ended`.
        before: the plan that was carried out last.
    """
    before = before or Plan()
    used_bytes = clips_bytes + sum(ring.bytes for ring in live) + sum(ring.bytes for ring in ended)
    above_floor = max(0, used_bytes + disk.free_bytes - disk.floor_bytes)
    allowed_bytes = min(disk.budget_bytes, above_floor)
    cause = Cause.FLOOR if above_floor < disk.budget_bytes else Cause.BUDGET
    room_bytes = allowed_bytes - clips_bytes

    resting = {ring.point: ring.bytes for ring in ended}
    coming = [replace(ring, bytes=resting.get(ring.point, 0)) for ring in new]
    accepted, refused = _accept(live, coming, room_bytes, disk, cause)
    rings = [*live, *accepted]
    recorded = {ring.point for ring in rings}
    pressed = before.pressed & recorded
    others = [ring for ring in ended if ring.point not in recorded]
    removals, kept_bytes = _remove(others, room_bytes - _claims(rings, pressed), now_ns, cause)
    room_bytes -= kept_bytes
    level_bytes = _level(rings, room_bytes, pressed, before.level_bytes)
    limits = {ring.point: _limit(ring, level_bytes) for ring in rings}
    asked_bytes, limit_bytes = sum(ring.asked_bytes for ring in rings), sum(limits.values())
    short = limit_bytes < asked_bytes
    pressed |= {ring.point for ring in rings if _reach(ring) >= limits[ring.point]}
    least_bytes = sum(ring.least_bytes for ring in rings)
    return Plan(
        limits=limits,
        removals=tuple(removals),
        refused=refused,
        clips_bytes=max(0, allowed_bytes - least_bytes),
        notes=tuple(
            _notes(
                _shortage(disk, cause),
                max(limits.values()) if short else None,
                clips_bytes + least_bytes - allowed_bytes,
            )
        ),
        level_bytes=level_bytes if short else None,
        share=limit_bytes / asked_bytes if short else 1.0,
        pressed=pressed if short else frozenset(),
    )


def _accept(
    live: Iterable[LiveRing], new: Iterable[LiveRing], room_bytes: int, disk: Disk, cause: Cause
) -> tuple[list[LiveRing], dict[str, str]]:
    """The new points that fit once all others have shrunk, and why the rest does not."""
    left_bytes = room_bytes - sum(ring.least_bytes for ring in live)
    accepted: list[LiveRing] = []
    refused: dict[str, str] = {}
    for ring in new:
        if ring.least_bytes <= left_bytes:
            accepted.append(ring)
            left_bytes -= ring.least_bytes
        else:
            refused[ring.point] = (
                f"{_shortage(disk, cause)}: this point needs at least {size(ring.least_bytes)} for its ring, "
                f"and {size(max(0, left_bytes))} are left with all other rings at their smallest: "
                "record fewer pods, ask for smaller segments, or give the agent more room"
            )
    return accepted, refused


def _remove(
    ended: Iterable[EndedRing], room_bytes: int, now_ns: int, cause: Cause
) -> tuple[list[Removal], int]:
    """The ended rings that must go for the others to fit, and what those others take."""
    removals: list[Removal] = []
    kept: list[EndedRing] = []
    for ring in sorted(ended, key=lambda ring: (ring.ended_ns, ring.point)):
        if now_ns - ring.ended_ns >= ring.retention_ns:
            removals.append(Removal(ring.point, Cause.RETENTION))
        else:
            kept.append(ring)
    kept_bytes = sum(ring.bytes for ring in kept)
    for ring in kept:
        if kept_bytes <= max(0, room_bytes):
            break
        if ring.bytes:
            removals.append(Removal(ring.point, cause))
            kept_bytes -= ring.bytes
    return removals, kept_bytes


def _level(
    rings: Sequence[LiveRing], room_bytes: int, pressed: frozenset[str], last_bytes: int | None
) -> int:
    """The level above which no ring gets more; the last one, as long as that will do."""
    whole_bytes = max((ring.asked_bytes for ring in rings), default=0)
    last = whole_bytes if last_bytes is None else min(last_bytes, whole_bytes)
    if _highest_level(rings, room_bytes, pressed) < last:
        return _highest_level(rings, room_bytes * _SHRINK_TO // 100, pressed)
    if _highest_level(rings, room_bytes * _GROW_ABOVE // 100, pressed) > last:
        return _highest_level(rings, room_bytes * _SHRINK_TO // 100, pressed)
    return last


def _highest_level(rings: Sequence[LiveRing], room_bytes: int, pressed: frozenset[str]) -> int:
    """To which the room fills all rings evenly, as water does: each from its least to what it claims."""
    left_bytes = room_bytes - sum(ring.least_bytes for ring in rings)
    if left_bytes < 0:
        return 0
    turns = [(ring.least_bytes, 1) for ring in rings] + [(_claim(ring, pressed), -1) for ring in rings]
    level = filling = 0
    for turn, change in sorted(turns):
        if filling * (turn - level) > left_bytes:
            return level + left_bytes // filling
        left_bytes -= filling * (turn - level)
        level, filling = turn, filling + change
    return max((ring.asked_bytes for ring in rings), default=0)


def _claims(rings: Iterable[LiveRing], pressed: frozenset[str]) -> int:
    return sum(_claim(ring, pressed) for ring in rings)


def _claim(ring: LiveRing, pressed: frozenset[str]) -> int:
    """What it may come to take before there is another plan, if it gets what was asked for."""
    return ring.asked_bytes if ring.point in pressed else min(ring.asked_bytes, _reach(ring))


def _reach(ring: LiveRing) -> int:
    """How large it may have become by the next plan, if nothing limits it."""
    return max(ring.least_bytes, 2 * ring.bytes + ring.segment_bytes)


def _limit(ring: LiveRing, level_bytes: int) -> int:
    return min(ring.asked_bytes, max(ring.least_bytes, level_bytes))


def _notes(shortage: str, most_bytes: int | None, missing_bytes: int) -> Iterable[str]:
    if most_bytes is not None:
        yield f"{shortage}: no ring gets more than {size(most_bytes)}, and those of ended pods are not kept"
    if missing_bytes > 0:
        yield (
            f"{shortage}: {size(missing_bytes)} of clips have to go although all rings are at "
            "their smallest: pull what you need"
        )


def _shortage(disk: Disk, cause: Cause) -> str:
    if cause is Cause.FLOOR:
        return f"the node's disk is short: {size(disk.floor_bytes)} of it have to stay free"
    return f"the disk budget of the node, {size(disk.budget_bytes)}, is used up"


def size(size_bytes: int) -> str:
    """A size as people write it, in powers of ten: `250 MB`, `1.5 GB`."""
    value, unit = float(size_bytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if unit != "bytes" and value < 9.95 else f"{value:.0f} {unit}"
