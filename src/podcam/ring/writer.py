"""Writing segments: whole blocks of the kernel with one system call, no work per packet."""

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from zlib import crc32

from podcam.errors import SegmentError
from podcam.ring.segment import (
    BLOCK_MAGIC,
    END_BYTES,
    HEAD_BYTES,
    NATIVE,
    SegmentHeader,
    Source,
    Totals,
    metadata_record,
    parse_block,
    segment_name,
)

_IOV_MAX: Final = 1024
_PIECE_BYTES: Final = 256 * 1024
"""What one `writev` takes: ext4 (Linux 6.18) copies pieces up to this two to three times as fast as larger
ones, for which it allocates larger folios (2.4 to 3.3 GB/s against 0.8 to 1.6, measured)."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class SegmentWriter:
    """Writes one segment. Never looks at single packets: counts and times come from the heads of the blocks.

    `size` is that of the file. A full file system is told by what the methods return.

    Raises:
        SegmentError: the file cannot be made or written.
    """

    def __init__(self, folder: Path, source: Source, sequence: int, created_ns: int) -> None:
        self.path = folder / segment_name(sequence, created_ns)
        tag = crc32(f"{source.point.name}/{source.boot_id}/{sequence}/{created_ns}".encode())
        self.header = SegmentHeader(source, sequence, created_ns, tag)
        self.size = 0
        self._content = Totals()
        try:
            self._fd = os.open(
                self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            if error.errno not in _FULL:
                raise SegmentError(f"cannot make a segment in {folder}: {error.strerror}") from error
            self._fd = -1
            return
        if not self.write_metadata("segment", created_ns, self.header.to_json()):
            os.close(self._fd)
            self._fd = -1
            self.path.unlink()
        self._header_bytes = self.size

    @property
    def is_open(self) -> bool:
        """False after `close`, and when the file system had no room to begin with: no file is left then."""
        return self._fd >= 0

    @property
    def is_fresh(self) -> bool:
        """Whether nothing came after the header yet."""
        return self.size == self._header_bytes

    @property
    def packets(self) -> int:
        """Packets written so far."""
        return self._content.packets

    @property
    def totals(self) -> Totals:
        """What the segment holds so far."""
        return replace(self._content, bytes=self.size)

    def append(
        self, blocks: Sequence[memoryview | bytearray], *, written_ns: int, dropped: int = 0, flags: int = 0
    ) -> int:
        """Writes whole blocks of a packet ring, each cut to its `blk_len`, with few calls of `writev`.

        Fills in the private area of each block first, in place: `dropped` (packets lost since the append
        before) goes to the first of them, `written_ns` and `flags` to all.

        Returns:
            How many blocks were written; fewer than given when the file system is full. The file then ends
            with the last whole one.
        """
        tag = self.header.tag
        for block in blocks:
            NATIVE.private.pack_into(block, HEAD_BYTES, BLOCK_MAGIC, dropped, written_ns, flags, tag)
            dropped = 0
        written = self._write(blocks)
        content = self._content
        for block in blocks[:written]:
            record = parse_block(NATIVE, memoryview(block), 0)
            if record is None:
                raise SegmentError(f"{self.path}: what was written is not a block of a packet ring")
            content = content.plus(record)
        self._content = content
        return written

    def write_metadata(
        self, kind: str, time_ns: int, body: Mapping[str, object], least_bytes: int = 0
    ) -> bool:
        """Writes a record of Podcam's own; `body` is JSON. False when the file system is full."""
        return bool(self._write([metadata_record(kind, time_ns, body, least_bytes)]))

    def close(self, time_ns: int) -> None:
        """Ends the file with its totals, which spare readers a scan; a full file system leaves them out."""
        try:
            self.write_metadata("end", time_ns, self.totals.to_json(), END_BYTES)
        finally:
            os.close(self._fd)
            self._fd = -1

    def _write(self, records: Sequence[memoryview | bytearray | bytes]) -> int:
        """Appends the records; how many fitted in whole."""
        todo = [memoryview(record) for record in records]
        position = end = self.size
        full = False
        while todo and not full:
            try:
                count = os.writev(self._fd, _first_piece(todo))
            except OSError as error:
                full, count = error.errno in _FULL, 0
                if not full:
                    os.ftruncate(self._fd, end)
                    raise SegmentError(f"cannot write {self.path}: {error.strerror}") from error
            position += count
            while todo and count >= len(todo[0]):
                count -= len(todo.pop(0))
                end = position - count
            if count:
                todo[0] = todo[0][count:]
        if position > end:
            os.ftruncate(self._fd, end)
        self.size = end
        return len(records) - len(todo)


def _first_piece(views: list[memoryview]) -> list[memoryview]:
    """What the next `writev` takes: whole views, and the beginning of one, up to `_PIECE_BYTES`."""
    piece: list[memoryview] = []
    room = _PIECE_BYTES
    for view in views[:_IOV_MAX]:
        piece.append(view[:room])
        room -= len(piece[-1])
        if room == 0:
            break
    return piece


def sync(paths: Iterable[Path]) -> None:
    """Waits until files and folders survive a power cut; may take seconds, so not where packets wait.

    What was evicted meanwhile is passed over.

    Raises:
        SegmentError: the disk fails.
    """
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise SegmentError(f"cannot write {path} to disk: {error.strerror}") from error
        finally:
            os.close(descriptor)
