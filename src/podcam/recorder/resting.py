"""What is done to a recorder's folder while no recorder runs there: clips by hand, and clips left open."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from podcam.clip import COMPLETE, OPEN, Clip, ClipPart, ClipStore, Manifest, write_manifest
from podcam.errors import ClipError, SegmentError
from podcam.model.point import Window
from podcam.recorder.clips import ended
from podcam.recorder.folder import RecorderFolder
from podcam.ring import SegmentHeader, SegmentReader, freeze, read_totals, segments_in


def clip_at_rest(folder: RecorderFolder, last_ns: int, reason: str) -> Clip:
    """Keep the last `last_ns` nanoseconds that the rings of the folder hold, counted from their last packet.

    Raises:
        ClipError: the rings hold nothing.
        RightsError: they may not be read.
    """
    end_ns = max((_last_ns(ring) for ring in folder.rings()), default=0)
    if not end_ns:
        raise ClipError(
            f"no recorder runs in {folder.path}, and it has no packets either: start `podcam record` first, "
            "or name the recorder's folder with --dir"
        )
    window = Window(end_ns - last_ns, end_ns)
    manifest = Manifest(id="", reason=reason, created_ns=time.time_ns(), window=window)
    return _complete(folder, ClipStore(folder.clips).create(manifest, "asked"))


def complete_left_open(folder: RecorderFolder, warn: Callable[[str], None]) -> None:
    """Complete the clips whose recorder died before they were, with what the rings still hold."""
    why = "the recorder ended before this clip was complete: its end may be missing"
    for clip in ClipStore(folder.clips).clips():
        manifest = clip.manifest
        if manifest.state != OPEN:
            continue
        window = ended(manifest.window, manifest.created_ns, time.time_ns())
        left = replace(manifest, window=window, warnings=(*manifest.warnings, why))
        try:
            _complete(folder, replace(clip, manifest=left))
        except (ClipError, SegmentError) as error:
            warn(f"the last recorder left {clip.path} open, and it cannot be completed: {error}")
        else:
            warn(f"the last recorder left {clip.path} open: completed as far as it goes")


def _complete(folder: RecorderFolder, clip: Clip) -> Clip:
    parts = _parts(folder.rings(), clip)
    manifest = replace(clip.manifest, parts=tuple(parts), state=COMPLETE)
    write_manifest(clip.path, manifest)
    return replace(clip, manifest=manifest)


def _parts(rings: Iterable[Path], clip: Clip) -> Iterable[ClipPart]:
    before = {part.folder: part for part in clip.manifest.parts}
    for ring in rings:
        known = before.get(ring.name)
        windows = clip.manifest.windows_of(known) if known else (clip.manifest.window,)
        frozen = freeze(ring, clip.path / ring.name, windows)
        header = next(filter(None, map(_header, segments_in(frozen.folder))), None)
        if header is None:
            continue
        yield ClipPart(
            point=header.source.point,
            folder=ring.name,
            segments=tuple(frozen.segments),
            totals=frozen.totals,
            how=frozen.how,
            interfaces=header.source.interfaces,
            filter=header.source.filter,
            comparisons=known.comparisons if known else (),
            servers=known.servers if known else (),
        )


def _header(segment: Path) -> SegmentHeader | None:
    try:
        return SegmentReader(segment).header
    except SegmentError:
        return None


def _last_ns(ring: Path) -> int:
    for path in reversed(segments_in(ring)):
        last_ns = read_totals(path).last_ns
        if last_ns is not None:
            return last_ns
    return 0
