"""What `podcam record` shows while it runs: a live line in a terminal, log lines in a pipe, or JSON."""

import json
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from podcam.cli.arguments import format_size

_SECOND_NS = 1_000_000_000
Event = dict[str, Any]
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Reporter(Protocol):
    """Takes the recorder's events."""

    def show(self, events: Sequence[Event]) -> None:
        """Show those of one moment that matter."""

    def close(self) -> None:
        """The recorder has ended."""


class JsonLines:
    """Every event as one JSON object on a line of standard output."""

    def show(self, events: Sequence[Event]) -> None:
        """Write them at once."""
        if events:
            print("\n".join(map(_encode, events)), flush=True)

    def close(self) -> None:
        """Nothing is left to do."""


class PlainLines:
    """A line on standard error for what matters."""

    def __init__(self) -> None:
        self._last: dict[str, Event] = {}

    def show(self, events: Sequence[Event]) -> None:
        """Show what matters to a person who reads a log."""
        for event in events:
            text = _spell(event)
            if event["event"] == "stopped":
                self._last[event["point"]] = event
            if text is not None:
                self._print(f"{_clock(event['time_ns'])} {text}")

    def close(self) -> None:
        """Sum up."""
        if self._last:
            self._print(_totals(list(self._last.values())))

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class LiveLine(PlainLines):
    """The same, above a line that is rewritten every second."""

    def __init__(self) -> None:
        super().__init__()
        self._points: dict[str, Event] = {}

    def show(self, events: Sequence[Event]) -> None:
        """Show them, or put their numbers into the live line."""
        for event in events:
            if event["event"] == "status":
                self._points[event["point"]] = event
        super().show(events)
        if self._points:
            self._draw()

    def close(self) -> None:
        """Leave the totals in place of the live line."""
        self._clear()
        super().close()

    def _print(self, line: str) -> None:
        self._clear()
        super()._print(line)
        if self._points:
            self._draw()

    def _draw(self) -> None:
        width = shutil.get_terminal_size().columns - 1
        line = _totals(list(self._points.values()))
        sys.stderr.write(f"\r\x1b[2K{line[:width]}")
        sys.stderr.flush()

    def _clear(self) -> None:
        sys.stderr.write("\r\x1b[2K")


def _spell(event: Event) -> str | None:
    """The line for people; None for what they need not see."""
    point = event["point"]
    match event["event"]:
        case "started":
            on = ", ".join(event["on"]) or "nothing: `podcam clip` keeps what you ask for"
            return (
                f"recording {point} into {event['dir']}, at most {format_size(event['ring_limit_bytes'])}; "
                f"a clip is kept on {on}"
            )
        case "failure":
            return f"{point}: {event['text']}"
        case "clip":
            return f"{point}: clip {event['path']}"
        case "complete":
            return f"{point}: clip complete, see: podcam diagnose {event['path']}"
        case "warning":
            return event["text"] if point is None else f"{point}: {event['text']}"
        case _:
            return None


def _totals(points: list[Event]) -> str:
    def total(key: str) -> int:
        return sum(point[key] or 0 for point in points)

    parts = [
        f"{total('packets'):,} packets",
        format_size(total("bytes")),
        f"{total('dropped'):,} dropped",
        f"ring {format_size(total('ring_bytes'))}{_reach(points)}",
    ]
    if points[0]["connections"] is not None:
        parts += [_count(total("connections"), "connection"), f"{total('failures'):,} failed"]
    parts.append(_count(points[0]["clips"], "clip"))
    return " · ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _reach(points: list[Event]) -> str:
    """How far the rings reach back: the shortest, as that is what can be counted on."""
    oldest = [point["oldest_ns"] for point in points if point["oldest_ns"] is not None]
    if not oldest:
        return ""
    seconds = max(0, points[0]["time_ns"] - max(oldest)) // _SECOND_NS
    if seconds < 60:
        return f" = {seconds} s"
    return (
        f" = {seconds // 3600} h {seconds % 3600 // 60} min" if seconds >= 3600 else f" = {seconds // 60} min"
    )


def _clock(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns // _SECOND_NS):%H:%M:%S}"
