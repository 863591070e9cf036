"""Freezing: hard links to the segments that overlap a window. Moves no bytes where a link will do."""

import errno
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from podcam.errors import ClipError, RightsError, SegmentError
from podcam.model.point import Window
from podcam.ring.reader import SegmentReader
from podcam.ring.segment import Totals, parse_segment_name

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_NO_LINKS: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS})
"""What link(2) says where the file system, or the border of two, has no place for one."""


@dataclass(frozen=True, slots=True)
class FrozenPart:
    """The segments of one ring that a clip holds, by name, in the order in which they were recorded."""

    folder: Path
    segments: Mapping[str, Totals]
    how: str = "link"
    """`link`, or `copy` when at least one had to be copied."""

    @property
    def totals(self) -> Totals:
        """Of all segments together."""
        known = self.segments.values()
        return Totals(
            packets=sum(t.packets for t in known),
            bytes=sum(t.bytes for t in known),
            dropped=sum(t.dropped for t in known),
            first_ns=min((t.first_ns for t in known if t.first_ns is not None), default=None),
            last_ns=max((t.last_ns for t in known if t.last_ns is not None), default=None),
        )


def freeze(ring: Path, into: Path, windows: Iterable[Window]) -> FrozenPart:
    """Keeps those segments of a ring that overlap one of the windows, when no recorder writes to it.

    What `into` holds already stays, so that a freeze can be repeated and widened.

    Raises:
        ClipError: the segments can neither be linked nor copied.
    """
    windows = tuple(windows)
    segments = kept_in(into)
    how = "link"
    for path in segments_in(ring):
        totals = read_totals(path)
        if overlaps(totals, windows):
            segments[path.name] = totals
            if keep(path, into) == "copy":
                how = "copy"
    return FrozenPart(into, in_order(segments), how)


def in_order(segments: Mapping[str, Totals]) -> dict[str, Totals]:
    """The segments in the order in which they were recorded: widening a window adds older ones later."""
    return dict(sorted(segments.items(), key=lambda named: parse_segment_name(named[0]) or (0, 0)))


def kept_in(folder: Path) -> dict[str, Totals]:
    """What a clip's folder holds of a ring, the part that left the ring meanwhile included."""
    return {path.name: read_totals(path) for path in segments_in(folder)}


def overlaps(totals: Totals, windows: Iterable[Window]) -> bool:
    """Whether a segment can hold packets of one of the windows."""
    first_ns, last_ns = totals.first_ns, totals.last_ns
    if first_ns is None or last_ns is None:
        return False
    return any(window.overlaps(first_ns, last_ns) for window in windows)


def segments_in(folder: Path) -> list[Path]:
    """The segments of a folder, in the order in which they were made; empty when there is no such folder.

    Raises:
        RightsError: the folder may not be read.
        SegmentError: it cannot be read.
    """
    try:
        named = [(parse_segment_name(entry.name), entry) for entry in folder.iterdir()]
    except FileNotFoundError:
        return []
    except PermissionError:
        raise RightsError(f"{folder}: you may not read it: run as the user who records there") from None
    except OSError as error:
        raise SegmentError(f"cannot read {folder}: {error.strerror}") from error
    return [path for _, path in sorted((key, path) for key, path in named if key is not None)]


def read_totals(path: Path) -> Totals:
    """What a segment holds; of a file that cannot be read at all, its size alone."""
    try:
        return SegmentReader(path).totals()
    except SegmentError:
        return Totals(bytes=path.stat().st_size)


def keep(segment: Path, into: Path) -> str:
    """Puts a segment into a clip's folder: `link`, or `copy` where no link can be made.

    Raises:
        ClipError: neither can be done.
    """
    target = into / segment.name
    try:
        into.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            os.link(segment, target)
        except FileExistsError:
            return "link" if target.samefile(segment) else "copy"
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _copy(segment, target)
            return "copy"
    except OSError as error:
        raise ClipError(f"cannot keep {segment} in {into}: {error.strerror}") from error
    return "link"


def _copy(segment: Path, target: Path) -> None:
    """Written hidden, synced, renamed: a clip never shows half a segment."""
    hidden = target.with_name(f".{target.name}.part")
    try:
        with segment.open("rb") as source, os.fdopen(os.open(hidden, _CREATE, 0o600), "wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
            os.fsync(copy.fileno())
        hidden.rename(target)
    except OSError:
        hidden.unlink(missing_ok=True)
        raise
