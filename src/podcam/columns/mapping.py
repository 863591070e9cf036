"""Files in memory: one after another, as if they were one."""

import ctypes
import mmap
import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
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
            files = [self._open(path, stack) for path in paths]
            self.sizes = [os.fstat(file.fileno()).st_size for file in files]
            self.starts: list[int] = []
            total = 0
            for size in self.sizes:
                self.starts.append(total)
                total += size + -size % mmap.PAGESIZE
            self._region = mmap.mmap(
                -1, max(total, mmap.PAGESIZE), flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ
            )
            self.data: npt.NDArray[np.uint8] = np.frombuffer(self._region, np.uint8)
            for file, start, size in zip(files, self.starts, self.sizes, strict=True):
                if size:
                    _map_at(self.data.ctypes.data + start, size, file.fileno())

    def forget(self) -> None:
        """Let the kernel take back the pages read so far; they are read again where they are wanted."""
        self._region.madvise(mmap.MADV_DONTNEED)

    def _open(self, path: Path, stack: ExitStack) -> IO[bytes]:
        """A file whose bytes can be mapped: itself, or what it unpacks to."""
        try:
            if self._may_miss and not path.exists():
                self.warnings.append(f"{path.name} is missing")
                return stack.enter_context(Path(os.devnull).open("rb"))
            file = stack.enter_context(path.open("rb"))
            start = file.read(4) if file.seekable() else b""
            if start[:2] != _GZIP and start != _ZSTD and file.seekable():
                return file
            target = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 # it is one
            self._unpack(file, start, target, path)
        except OSError as error:
            raise CaptureFileError(f"cannot read {path}: {error.strerror or error}") from error
        return target

    def _unpack(self, file: IO[bytes], start: bytes, target: IO[bytes], path: Path) -> None:
        """Copy a compressed file, or a pipe, to one that can be mapped."""
        if start:
            file.seek(0)
        pieces: Iterator[bytes]
        if start[:2] == _GZIP:
            pieces = _gunzip(file)
        elif start == _ZSTD:
            pieces = _pieces(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
        else:
            pieces = _pieces(file)
        try:
            target.writelines(pieces)
        except (EOFError, zlib.error, zstandard.ZstdError) as error:
            if not target.tell():
                raise CaptureFileError(f"cannot unpack {path}: {error}") from error
            self.warnings.append(f"cut or damaged: only what could be unpacked was read ({error})")
        target.flush()


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
