"""What clips do with stretches of time. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from podcam.model.point import Gap, Window


def covers(window: Window, other: Window) -> bool:
    """Whether the other window lies within the first."""
    return window.start_ns <= other.start_ns and other.end_ns <= window.end_ns


def span(window: Window, other: Window) -> Window:
    """The shortest window that covers both."""
    return Window(min(window.start_ns, other.start_ns), max(window.end_ns, other.end_ns))


def ended(window: Window, created_ns: int, now_ns: int) -> Window:
    """What of a clip's window has passed; all of it if the clock was set back since the clip was made."""
    return replace(window, end_ns=min(window.end_ns, now_ns)) if now_ns >= created_ns else window


def gaps_within(windows: Iterable[Window], gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """Those of a ring's gaps that reach into one of the windows."""
    windows = tuple(windows)
    return tuple(gap for gap in gaps if any(w.overlaps(gap.since_ns, gap.until_ns) for w in windows))
