"""Files in memory: one after another, as if they were one."""

import ctypes
import mmap
import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import IO, Final

import numpy as np
import numpy.typing as npt
import zstandard

from podcam.errors import CaptureFileError

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_COPY_BYTES: Final = 1 << 20


class MappedFiles:
    """Some files, mapped one behind the other into one stretch of memory, so that a position tells which.

    `data` is all of it, `starts` where each file begins and `sizes` how long each is; what lies between the
    end of a file and the next start is zero. With `may_miss`, a missing file is empty, and warned of.

    Raises:
        CaptureFileError: a file is not there, or cannot be read.
    """

    def __init__(self, paths: Sequence[Path], *, may_miss: bool = False) -> None:
        self.warnings: list[str] = []
        self._may_miss = may_miss
        with ExitStack() as stack:
            unpacked = {path: file for path in paths if (file := self._unpacked(path, stack))}
            self.sizes = [self._size(path, unpacked.get(path)) for path in paths]
            self.starts: list[int] = []
            total = 0
            for size in self.sizes:
                self.starts.append(total)
                total += size + -size % mmap.PAGESIZE
            self._region = mmap.mmap(
                -1, max(total, mmap.PAGESIZE), flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ
            )
            self.data: npt.NDArray[np.uint8] = np.frombuffer(self._region, np.uint8)
            for path, start, size in zip(paths, self.starts, self.sizes, strict=True):
                self._map(path, unpacked.get(path), self.data.ctypes.data + start, size)

    def forget(self) -> None:
        """Let the kernel take back the pages read so far; they are read again where they are wanted."""
        self._region.madvise(mmap.MADV_DONTNEED)

    def _unpacked(self, path: Path, stack: ExitStack) -> IO[bytes] | None:
        """What a compressed file, or a pipe, holds; None where the file itself can be mapped."""
        try:
            if self._may_miss and not path.exists():
                self.warnings.append(f"{path.name} is missing")
                return None
            with path.open("rb") as file:
                source: IO[bytes] = file
                if not file.seekable():
                    source = stack.enter_context(_copy_of(_pieces(file)))
                start = source.read(4)
                source.seek(0)
                if start[:2] == _GZIP:
                    return stack.enter_context(self._copy_what_unpacks(_gunzip(source), path))
                if start == _ZSTD:
                    reader = zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True)
                    return stack.enter_context(self._copy_what_unpacks(_pieces(reader), path))
                return None if source is file else source
        except OSError as error:
            raise CaptureFileError(f"cannot read {path}: {error.strerror or error}") from error

    def _copy_what_unpacks(self, pieces: Iterator[bytes], path: Path) -> IO[bytes]:
        failures: list[Exception] = []

        def until_failure() -> Iterator[bytes]:
            try:
                yield from pieces
            except (EOFError, zlib.error, zstandard.ZstdError) as error:
                failures.append(error)

        copy = _copy_of(until_failure())
        if failures and not os.fstat(copy.fileno()).st_size:
            copy.close()
            raise CaptureFileError(f"cannot unpack {path}: {failures[0]}")
        self.warnings += [
            f"cut or damaged: only what could be unpacked was read ({error})" for error in failures
        ]
        return copy

    def _size(self, path: Path, unpacked: IO[bytes] | None) -> int:
        if unpacked:
            return os.fstat(unpacked.fileno()).st_size
        try:
            return path.stat().st_size
        except FileNotFoundError:
            if self._may_miss:
                return 0
            raise CaptureFileError(f"{path} has just been removed") from None

    def _map(self, path: Path, unpacked: IO[bytes] | None, address: int, size: int) -> None:
        """Files are opened one by one: a node's rings have more than a process may hold open."""
        if size == 0:
            return
        try:
            with nullcontext(unpacked) if unpacked else path.open("rb") as file:
                _map_at(address, size, file.fileno())
        except OSError as error:
            raise CaptureFileError(f"cannot read {path}: {error.strerror}") from error


def _copy_of(pieces: Iterator[bytes]) -> IO[bytes]:
    """An unnamed file with some content, at its start."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
    try:
        copy.writelines(pieces)
        copy.flush()
        copy.seek(0)
    except BaseException:
        copy.close()
        raise
    return copy


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_COPY_BYTES):
        yield piece


def _gunzip(file: IO[bytes]) -> Iterator[bytes]:
    """All members of a gzip file; of one that is cut, all that can be had."""
    member, whole = zlib.decompressobj(zlib.MAX_WBITS | 16), False
    for packed in _pieces(file):
        rest = packed
        while rest:
            yield member.decompress(rest)
            rest = member.unused_data
            whole = member.eof
            if whole:
                member = zlib.decompressobj(zlib.MAX_WBITS | 16)
    if not whole:
        raise EOFError("it ends before its end mark")


def _map_at(address: int, size: int, fd: int) -> None:
    """Map a file over a part of memory that is already ours; Python's mmap cannot choose where."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    ]
    map_fixed = 0x10  # MAP_FIXED of asm-generic/mman-common.h
    mapped = libc.mmap(address, size, mmap.PROT_READ, mmap.MAP_PRIVATE | map_fixed, fd, 0)
    if mapped != address:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
