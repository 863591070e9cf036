"""What lies on disk as an ordered set of packets: a clip, a ring, or a single segment.

The order is part of the clip's contract, because frames are numbered by it: whoever reads a clip and whoever
reads its export must count alike.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, TypeVar

from podcam.clip.manifest import MANIFEST, Manifest, read_manifest
from podcam.clip.missing import first_packets_missing, gap_sentence
from podcam.errors import ClipError, SegmentError
from podcam.model.point import Endpoint, Gap, Interface, Point, Window, gap_from_json
from podcam.ring import FLAG_PAYLOAD_CUT, RecordedPacket, SegmentReader, segments_in
from podcam.ring.segment import Metadata

_Item = TypeVar("_Item")

CUT_SHORT = "ended before the clip's window did: the clip's end may be missing"
"""What a recorder did whose manifest says `interrupted`."""

UNKNOWN_POINT = Point(name="unknown", node="unknown")
"""Of segments whose header is torn."""


@dataclass(slots=True)
class Part:
    """The packets of one point. `problems` fills up while they are read."""

    point: Point
    segments: tuple[Path, ...]
    windows: tuple[Window, ...] = ()
    """Only packets within one of them belong to it; all do where there are none."""
    dropped: int | None = None
    """Packets that the recorder lost; None where only its segments tell."""
    problems: list[str] = field(default_factory=list)
    gaps: tuple[Gap, ...] = ()
    """Where nothing was recorded, in the order of time; `problems` tells them too. Of what is no clip, they
    fill up, too: only its segments tell them."""

    def hear(self, record: Metadata) -> None:
        """Take what a segment's record says of gaps, where no manifest does."""
        gap = None if self.windows else _gap_of(record)
        if gap is not None:
            self.gaps += (gap,)
            self.problems.append(gap_sentence(self.point.name, gap))


class PartPacket(NamedTuple):
    """A packet with the part it belongs to and the interface it was seen at."""

    part: int
    interface: Interface
    packet: RecordedPacket


@dataclass(frozen=True, slots=True)
class PacketSet:
    """One or more parts; `manifest` where they are a clip."""

    path: Path
    parts: tuple[Part, ...]
    manifest: Manifest | None = None

    @property
    def names(self) -> dict[str, str]:
        """By address, what people call who has it, as far as the clip knows.

        What its manifest lists goes before the followed names that its failures and counts carry.
        """
        clip = self.manifest
        if clip is None:
            return {}
        ends: list[Endpoint] = [end for failure in clip.triggers for end in (failure.client, failure.server)]
        ends += [counts.server for part in clip.parts for counts in part.servers]
        return {end.ip: end.name for end in ends if end.name} | dict(clip.names)

    def packets(self) -> Iterator[PartPacket]:
        """All packets, in the order that numbers the frames.

        Each part keeps the order in which it was recorded. Parts are merged by time: the part whose next
        packet has the lowest key is next, where the key is the latest time seen so far in that part (a clock
        set back does not reorder a part); equal keys go to the part named first.
        """
        streams = [_packets_of(number, part) for number, part in enumerate(self.parts)]
        yield from streams[0] if len(streams) == 1 else merged(streams, lambda item: item.packet.time_ns)


def open_packets(path: Path) -> PacketSet:
    """A clip's folder, a ring's folder, a folder of rings, or a segment, as a set of packets.

    Raises:
        ClipError: it is none of these, or it or its manifest cannot be read.
        SegmentError: the segment cannot be read.
    """
    try:
        return _opened(path)
    except OSError as error:
        raise ClipError(f"cannot read {path}: {error.strerror}") from error


def _opened(path: Path) -> PacketSet:
    if path.is_file() and path.name != MANIFEST:
        return PacketSet(path, (_part_of([path]),))
    folder = path.parent if path.is_file() else path
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
        return PacketSet(
            folder, tuple(_clip_part(folder, manifest, n) for n in range(len(manifest.parts))), manifest
        )
    path.stat()
    rings = [segments for ring in (folder, *_folders(folder)) if (segments := segments_in(ring))]
    if not rings:
        raise ClipError(
            f"{path} holds neither a clip nor segments: name a clip (`podcam clips` lists them), a folder "
            "of segments, or a single one"
        )
    return PacketSet(folder, tuple(map(_part_of, rings)))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _clip_part(clip: Path, manifest: Manifest, number: int) -> Part:
    part = manifest.parts[number]
    windows, point = manifest.windows_of(part), part.point.name
    gaps = tuple(sorted(part.gaps, key=lambda gap: gap.since_ns))
    cut_short = manifest.interrupted and number == 0  # it is one recorder's, whatever its points: told once
    return Part(
        part.point,
        tuple(clip / part.folder / name for name in part.segments),
        windows,
        part.totals.dropped,
        [
            *([f"the recorder {CUT_SHORT}"] if cut_short else []),
            *part.warnings,
            *(gap_sentence(point, gap) for gap in gaps),
            *first_packets_missing(point, part.filter, windows),
        ],
        gaps,
    )


def _part_of(segments: list[Path]) -> Part:
    headers = (SegmentReader(path).header for path in segments)
    point = next((header.source.point for header in headers if header), UNKNOWN_POINT)
    return Part(point, tuple(segments))


def _gap_of(record: Metadata) -> Gap | None:
    """The gap that a record tells of; None for others, and for a writer that went on where one had ended."""
    if record.kind != "gap" or "since_ns" not in record.body:
        return None
    try:
        return gap_from_json(record.body)
    except (ArithmeticError, KeyError, TypeError, ValueError):
        return None


def merged(streams: Sequence[Iterator[_Item]], time_of: Callable[[_Item], int]) -> Iterator[_Item]:
    """The order of `PacketSet.packets`, for items of any kind."""
    keyed = [_with_key(stream, time_of) for stream in streams]
    return (item for _, item in heapq.merge(*keyed, key=itemgetter(0)))


def _with_key(items: Iterator[_Item], time_of: Callable[[_Item], int]) -> Iterator[tuple[int, _Item]]:
    latest_ns = 0
    for item in items:
        latest_ns = max(latest_ns, time_of(item))
        yield latest_ns, item


def _packets_of(number: int, part: Part) -> Iterator[PartPacket]:
    windows = [(window.start_ns, window.end_ns) for window in part.windows]
    for path in part.segments:
        try:
            reader = SegmentReader(path)
        except SegmentError as error:
            part.problems.append(str(error))
            continue
        interfaces = reader.interfaces
        payload_cut = False
        for record in reader.records():
            if isinstance(record, Metadata):
                part.hear(record)
                continue
            for packet in reader.packets_of(record):
                time_ns = packet.time_ns
                if windows and not any(start <= time_ns <= end for start, end in windows):
                    continue
                payload_cut = payload_cut or bool(record.flags & FLAG_PAYLOAD_CUT)
                interface = interfaces.get(packet.interface)
                if interface is None or interface.hardware_type != packet.hardware_type:
                    interface = Interface(packet.interface, f"if{packet.interface}", packet.hardware_type)
                    interfaces[packet.interface] = interface
                yield PartPacket(number, interface, packet)
        if payload_cut:
            part.problems.append(f"{path.name}: the write budget was reached: payload is cut in a part of it")
        part.problems.extend(f"{path.name}: {problem}" for problem in reader.problems)
