"""Who decides about the clips of each recording: its keepers, and the rate that they share."""

from collections.abc import Callable, Collection, Iterator

from podcam.recorder.settings import RecordingSettings, Scope
from podcam.trigger import Keeper, OpenClip, Rate


class Keepers:
    """The keepers of all recordings.

    A recording has one, or, where a failure's clip holds its point alone, one for each such point too: what
    fails at one point neither extends nor silences the clips of another.
    """

    def __init__(self) -> None:
        self._settings: dict[str, RecordingSettings] = {}
        self._rates: dict[str, Rate] = {}
        self._keepers: dict[tuple[str, str | None], Keeper] = {}
        """By recording and, for clips of one point alone, that point."""

    def __iter__(self) -> Iterator[Keeper]:
        return iter(self._keepers.values())

    def define(self, recording: str, settings: RecordingSettings) -> None:
        """Decide on this recording's failures as these settings say; if they changed, from scratch."""
        if self._settings.get(recording) != settings:
            self.forget(recording)
        self._settings[recording] = settings
        self._rates.setdefault(recording, Rate(settings.clips_per_hour))

    def forget(self, recording: str) -> None:
        """There is no such recording any more."""
        self._settings.pop(recording, None)
        self._rates.pop(recording, None)
        for key in [key for key in self._keepers if key[0] == recording]:
            del self._keepers[key]

    def scope(self, recording: str) -> Scope | None:
        """Which points the clip of a failure holds; None for a recording that is not defined."""
        settings = self._settings.get(recording)
        return None if settings is None else settings.scope

    def of(self, recording: str, points: frozenset[str] | None) -> Keeper:
        """Who decides about clips of these points; None stands for all of the recording."""
        settings = self._settings.get(recording)
        if settings is None:  # only what was asked for is kept of a recording that is gone
            return Keeper()
        alone = settings.scope is Scope.POD and points is not None and len(points) == 1
        key = (recording, next(iter(points)) if alone and points else None)
        if key not in self._keepers:
            self._keepers[key] = Keeper(
                before_ns=settings.trigger.before_ns,
                after_ns=settings.trigger.after_ns,
                rate=self._rates[recording],
            )
        return self._keepers[key]

    def forget_points(self, live: Callable[[str], Collection[str]]) -> None:
        """Forget those of points that have ended, once their clips have; `live` are a recording's others."""
        for (recording, point), keeper in list(self._keepers.items()):
            if point is not None and not keeper.open and point not in live(recording):
                del self._keepers[recording, point]


def opened(keeper: Keeper, number: int) -> OpenClip:
    """The open clip that a keeper gave this number."""
    return next(clip for clip in keeper.open if clip.number == number)
