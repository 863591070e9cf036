"""What people asked for, and the names in it: which addresses they have, and when they are looked up."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from podcam.recorder.following import Following
from podcam.recorder.loop import Loop
from podcam.recorder.names import Asker, Lookups, asker_of
from podcam.recorder.points import WatchedPoint
from podcam.recorder.settings import PointSettings, RecordingSettings

_LOOKUP_SECONDS = 300.0
"""A name for which no answer came by for so long is looked up."""


@dataclass(slots=True)
class Recording:
    """One recording."""

    settings: RecordingSettings
    following: Following
    askers: dict[str, Asker] = field(default_factory=dict)
    """By point: how its programs get addresses, where names are followed."""
    heard_seconds: float = field(default_factory=time.monotonic)
    """When addresses were last told of, or asked for."""
    unknown: set[str] = field(default_factory=set)
    """Names that were told to have no address."""

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are followed."""
        return self.settings.traffic.names


class Recordings:
    """All recordings of a recorder, by id.

    Args:
        loop: where answers to look-ups arrive.
        learn: takes the addresses that were looked up, by name, for a recording.
        warn: takes what a person should know about a point, or about all (None).
        unknown: takes a recording and a name of it that has no address.
    """

    def __init__(
        self,
        loop: Loop,
        learn: Callable[[str, Mapping[str, Iterable[str]]], None],
        warn: Callable[[str | None, str], None],
        unknown: Callable[[str, str], None],
    ) -> None:
        self._by_id: dict[str, Recording] = {}
        self._learn = learn
        self._warn = warn
        self._unknown = unknown
        self._lookups = Lookups(loop, self._looked_up, _LOOKUP_SECONDS)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, recording_id: str) -> Recording | None:
        """The recording with this id, if there is one."""
        return self._by_id.get(recording_id)

    def define(
        self,
        recording_id: str,
        settings: RecordingSettings,
        addresses: Mapping[str, Iterable[str]],
        now_ns: int,
    ) -> Recording:
        """Put a recording in the place of the one with this id; addresses of names that stay are kept."""
        before = self._by_id.get(recording_id)
        known = before.following.names if before else {}
        resolved = {**known, **addresses}
        wanted = {name: tuple(resolved[name]) for name in settings.traffic.names if name in resolved}
        following = Following(settings.traffic, wanted, now_ns, warn=self._warn)
        recording = self._by_id[recording_id] = Recording(settings, following)
        return recording

    def forget(self, recording_id: str) -> bool:
        """There is no such recording any more; whether there was one."""
        return self._by_id.pop(recording_id, None) is not None

    def begin(self, point: PointSettings) -> None:
        """A point is recorded: look up the names that have no address yet as its programs would."""
        recording = self._by_id[point.recording]
        if not recording.names:
            return
        asker = recording.askers[point.id] = asker_of(point)
        for name in recording.names:
            if not recording.following.names.get(name):
                self._lookups.ask(name, asker)

    def end(self, point: PointSettings) -> None:
        """A point is recorded no longer."""
        recording = self._by_id.get(point.recording)
        if recording is not None:
            recording.askers.pop(point.id, None)

    def keep_time(self) -> None:
        """Look up the names of which nobody has heard for long."""
        now = time.monotonic()
        for recording in self._by_id.values():
            if now - recording.heard_seconds > _LOOKUP_SECONDS:
                recording.heard_seconds = now
                for asker in set(recording.askers.values()):
                    for name in recording.names:
                        self._lookups.ask(name, asker)

    def moved(
        self,
        recording_id: str,
        names: Mapping[str, Iterable[str]],
        learned_ns: int,
        points: Iterable[WatchedPoint],
    ) -> tuple[list[WatchedPoint], list[WatchedPoint]]:
        """A recording's names have these addresses: as `Following.moved`."""
        recording = self._by_id.get(recording_id)
        if recording is None:
            return [], []
        recording.heard_seconds = time.monotonic()
        return recording.following.moved(names, learned_ns, points)

    def close(self) -> None:
        """Ask no more."""
        self._lookups.close()

    def _looked_up(self, name: str, asker: Asker, addresses: frozenset[str]) -> None:
        for recording_id, recording in self._by_id.items():
            if name not in recording.names or asker not in recording.askers.values():
                continue
            if addresses:
                self._learn(recording_id, {name: addresses})
            elif not recording.following.names.get(name) and name not in recording.unknown:
                recording.unknown.add(name)
                self._unknown(recording_id, name)
