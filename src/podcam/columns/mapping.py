"""Files in memory: one after another, as if they were one."""

import ctypes
import gzip
import mmap
import os
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

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
    end of a file and the next start is zero.

    Raises:
        CaptureFileError: a file is not there, or cannot be read.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.warnings: list[str] = []
        files = [self._open(path) for path in paths]
        try:
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
        finally:
            for file in files:
                file.close()

    def forget(self) -> None:
        """Let the kernel take back the pages read so far; they are read again where they are wanted."""
        self._region.madvise(mmap.MADV_DONTNEED)

    def _open(self, path: Path) -> BinaryIO:
        try:
            file = path.open("rb")
            start = file.read(4)
            if start[:2] == _GZIP or start == _ZSTD or not file.seekable():
                return self._unpacked(file, start, path)
        except OSError as error:
            raise CaptureFileError(f"cannot read {path}: {error.strerror or error}") from error
        return file

    def _unpacked(self, file: BinaryIO, start: bytes, path: Path) -> BinaryIO:
        """The content of a compressed file as a temporary one."""
        target = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
        with file:
            file.seek(0)
            source: BinaryIO
            if start[:2] == _GZIP:
                source = gzip.GzipFile(fileobj=file)  # type: ignore[assignment]
            else:
                source = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
            try:
                while piece := source.read(_COPY_BYTES):
                    target.write(piece)
            except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
                if not target.tell():
                    raise CaptureFileError(f"cannot unpack {path}: {error}") from error
                self.warnings.append(
                    f"{path} is cut or damaged: only what could be unpacked was read ({error})"
                )
        target.flush()
        return target


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
