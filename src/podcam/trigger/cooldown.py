"""Which failures become clips: merging while a clip is open, a cooldown after it.

A storm of failures makes one growing clip, then, while it lasts, clips that are further and further apart:
the first one shows how it began, and must not be pushed out of the budget by its successors.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass

from podcam.model.failure import Failure
from podcam.model.point import Window

_SECOND = 1_000_000_000

_MAX_KEYS = 4096
"""Servers and classes whose cooldown is remembered; the one that was heard of least recently goes first."""

_MAX_TRIGGERS = 100
"""Failures that an open clip lists; the others are counted."""

_LOOK_BACK = 30 * _SECOND
"""A window reaches back to the SYN of the connection that failed, if that is not longer ago than this."""

_HOUR = 3600 * _SECOND

_CLOCK_STEP = 5 * _SECOND
"""A clock that went back by more than this has been set."""


@dataclass(slots=True)
class OpenClip:
    """A clip whose window has not ended."""

    number: int
    window: Window
    opened_ns: int
    triggers: list[Failure]
    failures: int
    """How many failures it holds, of which `triggers` lists the first."""


@dataclass(frozen=True, slots=True)
class Opened:
    """Keep a new clip with this window."""

    clip: int
    window: Window


@dataclass(frozen=True, slots=True)
class Extended:
    """The open clip takes this failure in; its window may have grown."""

    clip: int
    window: Window


@dataclass(frozen=True, slots=True)
class Counted:
    """No clip for this failure."""

    why: str


Decision = Opened | Extended | Counted


@dataclass(slots=True)
class _Cooldown:
    until_ns: int
    pause_ns: int
    """How long this cooldown lasts in all."""


class Rate:
    """How many clips failures may open within any hour, those that were joined included; None: any number."""

    def __init__(self, clips_per_hour: int | None) -> None:
        self.clips_per_hour = clips_per_hour
        self._opened_ns: deque[int] = deque(maxlen=clips_per_hour)

    def used_up(self, now_ns: int) -> bool:
        """Whether there must be no other clip now."""
        if self.clips_per_hour is None:
            return False
        return len(self._opened_ns) >= self.clips_per_hour and self._opened_ns[0] > now_ns - _HOUR

    def opened(self, now_ns: int) -> None:
        """A clip was opened, or joined."""
        if self.clips_per_hour is not None:
            self._opened_ns.append(now_ns)

    def clear(self) -> None:
        """The clock was set back: when the others were opened tells nothing any more."""
        self._opened_ns.clear()


class Keeper:
    """Decides what becomes of every trigger. Pure: `now_ns` comes in.

    `before_ns` and `after_ns` are kept around a failure. `cooldown_ns` is the shortest time between the end
    of a clip and another for the same server and class; it doubles, up to `longest_cooldown_ns`, while that
    server goes on failing so. `longest_ns` bounds one window. Within any hour failures open at most as
    many clips as `rate` allows, which several keepers may share.
    """

    def __init__(
        self,
        *,
        before_ns: int = 60 * _SECOND,
        after_ns: int = 10 * _SECOND,
        cooldown_ns: int = 60 * _SECOND,
        longest_cooldown_ns: int = 600 * _SECOND,
        longest_ns: int = 600 * _SECOND,
        rate: Rate | None = None,
    ) -> None:
        self._before_ns = before_ns
        self._after_ns = after_ns
        self._cooldown_ns = cooldown_ns
        self._longest_cooldown_ns = longest_cooldown_ns
        self._longest_ns = max(longest_ns, before_ns + after_ns)
        self._rate = rate or Rate(None)
        self._numbers = 0
        self._growing: OpenClip | None = None
        self._asked: list[OpenClip] = []
        self._keys: set[Hashable] = set()
        self._cooldowns: OrderedDict[Hashable, _Cooldown] = OrderedDict()
        self._latest_ns = 0

    @property
    def open(self) -> tuple[OpenClip, ...]:
        """The clips whose windows have not ended, oldest first."""
        growing = () if self._growing is None else (self._growing,)
        return tuple(sorted((*growing, *self._asked), key=lambda clip: clip.number))

    def failure(self, failure: Failure, now_ns: int) -> Decision:
        """Decide on a failure that the wire detector reported."""
        key = (failure.server.ip, failure.server.port, failure.failure_class)
        window = self._window(failure)
        if self._growing is not None:
            return self._extend(self._growing, key, failure, window)
        cooldown = self._cooldowns.get(key)
        if cooldown is not None and now_ns < cooldown.until_ns:
            return Counted("cooldown")
        if self._rate.used_up(now_ns):
            return Counted(f"there were {self._rate.clips_per_hour} clips within the hour")
        self._rate.opened(now_ns)
        self._keys = {key}
        self._growing = self._new(window, now_ns, [failure])
        return Opened(self._growing.number, window)

    def asked(self, window: Window, now_ns: int) -> Opened:
        """Open a clip that a person or an alert asks for: its own, never merged, never suppressed."""
        clip = self._new(window, now_ns, [])
        self._asked.append(clip)
        return Opened(clip.number, window)

    def joined(self, window: Window, now_ns: int) -> Opened:
        """Open a clip that another recorder's detector made: failures here extend it, as if it were our own.

        While a clip of our own is open, that one goes on taking them.
        """
        if self._growing is not None:
            return self.asked(window, now_ns)
        self._rate.opened(now_ns)
        self._keys = set()
        self._growing = self._new(window, now_ns, [])
        return Opened(self._growing.number, window)

    def widen(self, number: int, window: Window) -> Window | None:
        """Let an open clip hold this window too, whatever its length; None when it is not open."""
        for clip in self.open:
            if clip.number == number:
                start_ns = min(clip.window.start_ns, window.start_ns)
                clip.window = Window(start_ns, max(clip.window.end_ns, window.end_ns))
                return clip.window
        return None

    def cut_short(self, number: int, now_ns: int) -> Window | None:
        """End the window of an open clip now, as when it takes too much room; None when it is not open."""
        for clip in self.open:
            if clip.number == number:
                clip.window = Window(min(clip.window.start_ns, now_ns), min(clip.window.end_ns, now_ns))
                return clip.window
        return None

    def due(self, now_ns: int) -> list[OpenClip]:
        """Close the clips whose windows have ended, and return them.

        A clock that was set back ends every window: no clip stays open for as long as that.
        """
        set_back = now_ns < self._latest_ns - _CLOCK_STEP
        if set_back:
            self._cooldowns.clear()
            self._rate.clear()
        self._latest_ns = now_ns
        closed = [clip for clip in self.open if set_back or clip.window.end_ns <= now_ns]
        if self._growing is not None and self._growing in closed:
            self._cool_down(self._growing.opened_ns, now_ns if set_back else self._growing.window.end_ns)
            self._growing = None
        self._asked = [clip for clip in self._asked if clip not in closed]
        return closed

    def _window(self, failure: Failure) -> Window:
        start_ns = failure.time_ns - self._before_ns
        if failure.start_ns is not None and failure.start_ns >= failure.time_ns - _LOOK_BACK:
            start_ns = min(start_ns, failure.start_ns)
        return Window(start_ns, failure.time_ns + self._after_ns)

    def _new(self, window: Window, now_ns: int, triggers: list[Failure]) -> OpenClip:
        self._numbers += 1
        return OpenClip(self._numbers, window, now_ns, triggers, len(triggers))

    def _extend(self, clip: OpenClip, key: Hashable, failure: Failure, window: Window) -> Decision:
        start_ns = min(clip.window.start_ns, window.start_ns)
        end_ns = max(clip.window.end_ns, window.end_ns)
        clip.window = Window(start_ns, max(clip.window.end_ns, min(end_ns, start_ns + self._longest_ns)))
        clip.failures += 1
        if len(clip.triggers) < _MAX_TRIGGERS:
            clip.triggers.append(failure)
        if len(self._keys) < _MAX_KEYS:
            self._keys.add(key)
        return Extended(clip.number, clip.window)

    def _cool_down(self, opened_ns: int, closed_ns: int) -> None:
        """Start the cooldown of every server and class that the clip held.

        It doubles for those that did not stay well for as long as their last cooldown was.
        """
        for key in self._keys:
            last = self._cooldowns.pop(key, None)
            pause_ns = self._cooldown_ns
            if last is not None and opened_ns < last.until_ns + last.pause_ns:
                pause_ns = min(last.pause_ns * 2, self._longest_cooldown_ns)
            self._cooldowns[key] = _Cooldown(closed_ns + pause_ns, pause_ns)
        while len(self._cooldowns) > _MAX_KEYS:
            self._cooldowns.popitem(last=False)
        self._keys = set()
