"""The ring: the bounded, most recent packets of one point, as segments in one folder."""

import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from podcam.errors import ClipError, RightsError, SegmentError, StorageFullError, UsageError
from podcam.model.point import Window
from podcam.ring.eviction import Stored, to_fit, to_free
from podcam.ring.freeze import FrozenPart, in_order, keep, kept_in, overlaps, segments_in
from podcam.ring.notices import Notice, NotKept, PacketsLost, RingGrew, RingShrunk, TornSegment
from podcam.ring.reader import SegmentReader
from podcam.ring.segment import (
    END_BYTES,
    NATIVE,
    Source,
    Totals,
    header_bytes,
    interfaces_to_json,
    metadata_record,
    parse_segment_name,
)
from podcam.ring.writer import SegmentWriter

_DENIED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_Buffer = memoryview | bytearray


@dataclass(slots=True)
class _Freeze:
    windows: tuple[Window, ...]
    segments: dict[str, Totals]
    how: str = "link"


class Ring:
    """Appends blocks to segments, and gives up the oldest so that the folder never exceeds the limit.

    Goes on after what is there. Not for use by two processes, or threads, at once: the recorder's lock sees
    to that. Nothing here prints: what a person should know is in `take_notices`.

    Args:
        folder: made if it is not there.
        source: what is recorded; goes into the header of every segment.
        limit_bytes: what all segments may take together, at any moment.
        segment_bytes: when to begin the next segment; at most half of the limit, so that rolling keeps half.
        now_ns: the time, nanoseconds since 1970 UTC, as in all methods.
        close: closes the descriptor of an evicted segment, by which its space becomes free. That takes 10 to
            30 ms for 100 MB (measured), in which packets wait: a recorder has it done in a thread.

    Raises:
        UsageError: the limit is too small to hold a block.
        RightsError: the folder cannot be made or written.
        StorageFullError: there is no room for a first segment.
    """

    def __init__(
        self,
        folder: Path,
        source: Source,
        *,
        limit_bytes: int,
        segment_bytes: int,
        now_ns: int,
        close: Callable[[int], None] = os.close,
    ) -> None:
        self._measure(source)
        if min(limit_bytes, 2 * segment_bytes) < self._least_bytes:
            raise UsageError(
                f"a ring of {limit_bytes:,} bytes in segments of {segment_bytes:,} is too small for kernel "
                f"blocks of {source.block_bytes:,}: give it {self._least_bytes:,} bytes or more"
            )
        self.folder = folder
        self.source = source
        self.packets = 0
        """Written since the start."""
        self.dropped = 0
        """Known to be lost since the start."""
        self._limit_bytes = limit_bytes
        self._allowed_bytes = limit_bytes
        self._segment_bytes = segment_bytes
        self._close_evicted = close
        self._unreported_drops = 0
        self._notices: list[Notice] = []
        self._freezes: dict[Path, _Freeze] = {}
        self._unsynced: set[Path] = set()
        self._closed: list[tuple[Path, Totals]] = []
        self._closed_bytes = 0
        self._take_over()
        self._active = self._begin(now_ns)
        while not self._active.is_open and self._give_up_space(0, now_ns):
            self._active = self._begin(now_ns)
        if not self._active.is_open:
            raise StorageFullError(f"{folder} is on a full file system: free some space, or record elsewhere")

    @property
    def bytes(self) -> int:
        """What all segments take together."""
        return self._closed_bytes + (self._active.size if self._active.is_open else 0)

    @property
    def limit_bytes(self) -> int:
        """What they may take: less than asked for while the file system is full."""
        return self._allowed_bytes

    @property
    def oldest_ns(self) -> int | None:
        """How far the ring reaches back; None while it holds no packet."""
        for _, totals in self._closed:
            if totals.first_ns is not None:
                return totals.first_ns
        return self._active.totals.first_ns

    def append(self, blocks: Sequence[_Buffer], *, now_ns: int, dropped: int = 0, flags: int = 0) -> None:
        """Writes retired blocks of the kernel's ring, each cut to its `blk_len`, oldest first.

        Their private areas are filled in on the way. `dropped` is how many packets were lost since the last
        call; call without blocks to tell of drops alone.

        Raises:
            SegmentError: the file system fails in another way than being full.
        """
        self._unreported_drops += dropped
        self.dropped += dropped
        self._grow_back()
        todo = list(blocks)
        while todo:
            if len(todo[0]) > self._allowed_bytes - self._header_bytes - END_BYTES:
                self._lose([todo.pop(0)])
                continue
            run = self._next_run(todo, now_ns)
            written = self._write(run, now_ns, flags)
            del todo[:written]
            if written < len(run) and not self._give_up_space(len(todo[0]), now_ns):
                self._lose(todo)
                return

    def note(self, kind: str, body: Mapping[str, object], now_ns: int) -> None:
        """Writes a metadata record (`gap`, …) where the ring is now; left out on a full file system."""
        size = len(metadata_record(kind, now_ns, body))
        if not self._fits(size):
            self._begin_next(now_ns)
        if self._evict(self.bytes + size + END_BYTES) and self._active.is_open:
            self._active.write_metadata(kind, now_ns, body)

    def change_source(self, source: Source, now_ns: int) -> None:
        """From here on the packets come from other interfaces, through another filter, in other blocks."""
        before, self.source = self.source, source
        self._measure(source)
        if source.interfaces != before.interfaces:
            self.note("interfaces", {"interfaces": interfaces_to_json(source.interfaces)}, now_ns)
        if source.filter != before.filter:
            self.note("filter", {"filter": source.filter}, now_ns)

    def limit(self, limit_bytes: int, now_ns: int) -> None:
        """The ring may take so many bytes from now on, or what two blocks need if that is more.

        What is too much leaves at once, the open segment included where it alone is too large.
        """
        limit_bytes = max(limit_bytes, self._least_bytes)
        whole = self._allowed_bytes == self._limit_bytes
        self._limit_bytes = limit_bytes
        # One that a full disk made smaller stays so until there is room again.
        self._allowed_bytes = limit_bytes if whole else min(self._allowed_bytes, limit_bytes)
        if self._active.is_open and self._active.size + END_BYTES > self._allowed_bytes:
            self._begin_next(now_ns)
        self._evict(self.bytes + END_BYTES)

    def roll(self, now_ns: int) -> None:
        """Closes the segment and begins the next one; does nothing while it holds no packet."""
        if self._active.packets:
            self._begin_next(now_ns)

    def freeze(self, into: Path, windows: Iterable[Window], now_ns: int) -> FrozenPart:
        """Links every segment that overlaps a window into the folder, and each later one as it closes.

        Goes on until `release`; call again to widen the windows. What the folder holds already stays.

        Raises:
            ClipError: the segments can neither be linked nor copied.
        """
        frozen = self._freezes.pop(into, None) or _Freeze((), kept_in(into))
        frozen.windows = tuple(windows)
        for path, totals in self._closed:
            _keep_if_wanted(path, totals, into, frozen)
        self._freezes[into] = frozen
        self.roll(now_ns)  # last, as it may evict
        return FrozenPart(into, in_order(frozen.segments), frozen.how)

    def widen(self, into: Path, windows: Iterable[Window]) -> FrozenPart:
        """Changes the windows of a freeze; unlike `freeze` it begins no segment, and may be called often.

        Raises:
            ClipError: the segments can neither be linked nor copied.
        """
        frozen = self._freezes.setdefault(into, _Freeze((), kept_in(into)))
        frozen.windows = tuple(windows)
        for path, totals in self._closed:
            _keep_if_wanted(path, totals, into, frozen)
        return FrozenPart(into, in_order(frozen.segments), frozen.how)

    def frozen_bytes(self, into: Path) -> int:
        """What a freeze has kept so far."""
        frozen = self._freezes.get(into)
        return sum(totals.bytes for totals in frozen.segments.values()) if frozen else 0

    def release(self, into: Path, now_ns: int) -> FrozenPart:
        """Ends a freeze: what overlaps its windows until now is linked.

        Raises:
            ClipError: the segments can neither be linked nor copied.
        """
        frozen = self._freezes.get(into)
        part = self.freeze(into, frozen.windows if frozen else (), now_ns)
        self._freezes.pop(into, None)
        return part

    def forget(self, into: Path) -> None:
        """Ends a freeze whose clip is not wanted any more; nothing is kept for it from now on."""
        self._freezes.pop(into, None)

    def take_notices(self) -> list[Notice]:
        """What happened since the last call."""
        notices, self._notices = self._notices, []
        return notices

    def take_unsynced(self) -> list[Path]:
        """What was written to since the last call: what `sync` makes survive a power cut."""
        paths, self._unsynced = self._unsynced, set()
        return sorted(paths) + [self.folder] * bool(paths)

    def close(self, now_ns: int) -> None:
        """Closes the open segment."""
        active = self._active
        if not active.is_open:
            return
        active.close(now_ns)
        self._add_closed(active.path, active.totals)
        for into, frozen in list(self._freezes.items()):
            try:
                _keep_if_wanted(active.path, active.totals, into, frozen)
            except ClipError as error:
                del self._freezes[into]
                self._notices.append(NotKept(into, str(error)))

    def _measure(self, source: Source) -> None:
        self._header_bytes = header_bytes(source)
        self._least_bytes = 2 * (self._header_bytes + source.block_bytes + END_BYTES)

    def _take_over(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            paths = segments_in(self.folder)
        except OSError as error:
            kind = RightsError if error.errno in _DENIED else SegmentError
            raise kind(f"cannot record in {self.folder}: {error.strerror}") from error
        last = parse_segment_name(paths[-1].name) if paths else None
        self._sequence = last[0] if last else 0
        for path in paths:
            self._add_closed(path, self._totals_of(path))

    def _totals_of(self, path: Path) -> Totals:
        try:
            reader = SegmentReader(path)
        except SegmentError as error:
            self._notices.append(TornSegment(path, (str(error),)))
            return Totals(bytes=path.stat().st_size)
        totals = reader.totals()
        if reader.problems:
            self._notices.append(TornSegment(path, tuple(reader.problems)))
        return totals

    def _add_closed(self, path: Path, totals: Totals) -> None:
        self._closed.append((path, totals))
        self._closed_bytes += totals.bytes

    def _begin(self, now_ns: int) -> SegmentWriter:
        self._evict(self._closed_bytes + self._header_bytes + END_BYTES)
        self._sequence += 1
        active = SegmentWriter(self.folder, self.source, self._sequence, now_ns)
        self._unsynced.add(active.path)
        return active

    def _begin_next(self, now_ns: int) -> None:
        self.close(now_ns)
        self._active = self._begin(now_ns)

    def _fits(self, size: int) -> bool:
        """Whether a record goes into the open segment: one that holds nothing yet takes any."""
        return self._active.is_open and (self._active.is_fresh or size <= self._room())

    def _room(self) -> int:
        limit = min(self._segment_bytes, self._allowed_bytes // 2)
        return limit - self._active.size - END_BYTES

    def _next_run(self, blocks: Sequence[_Buffer], now_ns: int) -> list[_Buffer]:
        """The blocks, at least one, that go into the open segment together; it is a new one if need be."""
        if not self._fits(len(blocks[0])):
            self._begin_next(now_ns)
        room = self._room() - len(blocks[0])
        count = 1
        while count < len(blocks) and len(blocks[count]) <= room:
            room -= len(blocks[count])
            count += 1
        return list(blocks[:count])

    def _write(self, run: Sequence[_Buffer], now_ns: int, flags: int) -> int:
        """How many of the blocks were written; none of them where they would exceed the limit."""
        if not self._evict(self.bytes + sum(map(len, run)) + END_BYTES) or not self._active.is_open:
            return 0
        before = self._active.packets
        written = self._active.append(run, written_ns=now_ns, dropped=self._unreported_drops, flags=flags)
        if written:
            self.packets += self._active.packets - before
            self._unreported_drops = 0
            self._unsynced.add(self._active.path)
        return written

    def _evict(self, wanted_bytes: int) -> bool:
        """Removes the oldest segments so that the ring can be this large; whether it can."""
        stored = (_stored(*segment) for segment in self._closed)
        for gone in to_fit(stored, wanted_bytes, self._allowed_bytes):
            self._remove(gone, self._close_evicted)
            wanted_bytes -= gone.bytes
        return wanted_bytes <= self._allowed_bytes

    def _remove(self, gone: Stored, close: Callable[[int], None]) -> None:
        with suppress(FileNotFoundError):  # somebody tidied up by hand
            path = self.folder / gone.name
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            path.unlink()
            close(descriptor)
        self._closed = [segment for segment in self._closed if segment[0].name != gone.name]
        self._closed_bytes -= gone.bytes

    def _give_up_space(self, size: int, now_ns: int) -> bool:
        """After the file system proved full: goes on within what there is, if the ring can free any of it."""
        victims = self._unlinked_oldest(size)
        if not victims and self._active.packets:
            self.close(now_ns)
            victims = self._unlinked_oldest(size)
        for gone in victims:
            self._remove(gone, os.close)
        allowed = max(self._least_bytes, self.bytes + size + END_BYTES)
        if victims and allowed < self._allowed_bytes:
            self._allowed_bytes = allowed
            self._notices.append(RingShrunk(allowed))
        return bool(victims)

    def _unlinked_oldest(self, size: int) -> list[Stored]:
        stored = (_stored(path, totals, _links(path)) for path, totals in self._closed)
        return to_free(stored, size + self._least_bytes)

    def _grow_back(self) -> None:
        if self._allowed_bytes == self._limit_bytes:
            return
        file_system = os.statvfs(self.folder)
        free = file_system.f_bavail * file_system.f_frsize
        # Half of what is free: other rings of the file system want to grow, too. By whole segments, and only
        # when there is well more than giving one up frees, lest the ring shrinks and grows by turns.
        segment = min(self._segment_bytes, self._allowed_bytes // 2)
        allowed = min(self._limit_bytes, self.bytes + free // 2)
        if free > 3 * segment and allowed >= min(self._limit_bytes, self._allowed_bytes + segment):
            self._allowed_bytes = allowed
            self._notices.append(RingGrew(allowed))

    def _lose(self, blocks: Sequence[_Buffer]) -> None:
        packets = sum(NATIVE.head.unpack_from(block)[3] for block in blocks)
        self._unreported_drops += packets
        self.dropped += packets
        last = self._notices[-1] if self._notices else None
        if isinstance(last, PacketsLost):
            packets += last.packets
            self._notices.pop()
        self._notices.append(PacketsLost(packets))


def _stored(path: Path, totals: Totals, links: int = 1) -> Stored:
    return Stored(path.name, totals.bytes, links)


def _links(path: Path) -> int:
    try:
        return path.stat().st_nlink
    except FileNotFoundError:  # somebody tidied up by hand
        return 0


def _keep_if_wanted(segment: Path, totals: Totals, into: Path, frozen: _Freeze) -> None:
    if segment.name not in frozen.segments and overlaps(totals, frozen.windows):
        if keep(segment, into) == "copy":
            frozen.how = "copy"
        frozen.segments[segment.name] = totals
