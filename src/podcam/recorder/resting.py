"""What is kept of rings that nobody writes to: of ended points, or all while no recorder runs."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from podcam.clip import COMPLETE, OPEN, Clip, ClipPart, ClipStore, Manifest, write_manifest
from podcam.errors import ClipError, SegmentError
from podcam.model.point import Window
from podcam.recorder.folder import RecorderFolder
from podcam.recorder.rings import RestingRing, resting_ring, resting_rings
from podcam.recorder.windows import ended, gaps_within
from podcam.ring import SegmentHeader, SegmentReader, freeze, read_totals, segments_in

LEFT_OPEN = "the recorder ended before this clip was complete: its end may be missing"


def clip_at_rest(folder: RecorderFolder, last_ns: int, reason: str) -> Clip:
    """Keep the last `last_ns` nanoseconds that the rings of the folder hold, counted from their last packet.

    Raises:
        ClipError: the rings hold nothing.
        RightsError: they may not be read.
    """
    rings = resting_rings(folder)
    end_ns = max(map(_last_packet_ns, rings.values()), default=0)
    if not end_ns:
        raise ClipError(
            f"no recorder runs in {folder.path}, and it has no packets either: start `podcam record` first, "
            "or name the recorder's folder with --dir"
        )
    window = Window(end_ns - last_ns, end_ns)
    manifest = Manifest(id="", reason=reason, created_ns=time.time_ns(), window=window)
    return _complete(ClipStore(folder.clips).create(manifest, "asked"), rings.values())


def complete_left_open(folder: RecorderFolder, warn: Callable[[str], None]) -> None:
    """Complete the clips whose recorder died before they were, with what the rings still hold.

    One that has no manifest yet goes: whoever asked for it may ask again.
    """
    store = ClipStore(folder.clips)
    store.remove_unbegun()
    left_open = [clip for clip in store.clips() if clip.manifest.state == OPEN]
    rings = resting_rings(folder) if left_open else {}
    for clip in left_open:
        manifest = clip.manifest
        window = ended(manifest.window, manifest.created_ns, time.time_ns())
        left = replace(manifest, window=window, interrupted=True, warnings=(*manifest.warnings, LEFT_OPEN))
        concerned = [ring for ring in rings.values() if _concerns(manifest, ring)]
        try:
            _complete(replace(clip, manifest=left), concerned)
        except (ClipError, SegmentError) as error:
            warn(f"the last recorder left {clip.path} open, and it cannot be completed: {error}")
        else:
            warn(f"the last recorder left {clip.path} open: completed as far as it goes")


def part_of(ring: RestingRing, clip: Clip, windows: tuple[Window, ...]) -> ClipPart | None:
    """Keep what a ring holds of some windows in a clip; None when the clip then has nothing of it.

    What the clip's folder has of the ring already stays, also when the ring has given it up.

    Raises:
        ClipError, SegmentError, RightsError: it can neither be linked nor copied, or not be read.
    """
    frozen = freeze(ring.path, clip.path / ring.path.name, windows)
    headers = [header for header in map(_header, segments_in(frozen.folder)) if header]
    if not headers:
        return None
    interfaces = {i.index: i for header in headers for i in header.source.interfaces}
    latest = headers[-1].source
    return ClipPart(
        point=latest.point,
        folder=ring.path.name,
        segments=tuple(frozen.segments),
        totals=frozen.totals,
        how=frozen.how,
        interfaces=tuple(interfaces.values()),
        filter=latest.filter,
        gaps=gaps_within(windows, ring.owner.gaps),
    )


def _concerns(manifest: Manifest, ring: RestingRing) -> bool:
    return ring.owner.recording == (manifest.recording or "") and (
        manifest.points is None or ring.owner.id in manifest.points
    )


def _complete(clip: Clip, rings: Iterable[RestingRing]) -> Clip:
    manifest = replace(clip.manifest, parts=tuple(_parts(rings, clip)), state=COMPLETE)
    write_manifest(clip.path, manifest)
    return replace(clip, manifest=manifest)


def _parts(rings: Iterable[RestingRing], clip: Clip) -> Iterable[ClipPart]:
    """One per ring, and those of rings that are gone, with what the clip's folder has of them."""
    before = {part.folder: part for part in clip.manifest.parts}
    rings = list(rings)
    there = {ring.path.name for ring in rings}
    gone = [
        resting_ring(path) for path in sorted(clip.path.iterdir()) if path.is_dir() and path.name not in there
    ]
    for ring in (*rings, *filter(None, gone)):
        known = before.get(ring.path.name)
        windows = clip.manifest.windows_of(known) if known else (clip.manifest.window,)
        part = part_of(ring, clip, windows)
        if part is not None and known is not None:
            part = replace(
                part,
                how=part.how if ring.path.name in there else known.how,
                gaps=part.gaps if ring.path.name in there else known.gaps,
                comparisons=known.comparisons,
                servers=known.servers,
                warnings=known.warnings,
            )
        if part is not None:
            yield part


def _header(segment: Path) -> SegmentHeader | None:
    try:
        return SegmentReader(segment).header
    except SegmentError:
        return None


def _last_packet_ns(ring: RestingRing) -> int:
    for path in reversed(segments_in(ring.path)):
        last_ns = read_totals(path).last_ns
        if last_ns is not None:
            return last_ns
    return 0
