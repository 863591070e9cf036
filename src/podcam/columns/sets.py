"""The kernels in their two forms: plain Python for small captures, compiled for large ones.

Compiled kernels are kept in a cache folder named after everything that they are made from: numba itself
notices neither a change in a function that a cached one calls, nor a change of constants.
"""

import hashlib
import os
import sys
import tempfile
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from podcam.columns import layout
from podcam.columns.kernels import analysis, memory, records, segments, sides, streams, tcp
from podcam.columns.kernels.memory import Memory

_MODULES: tuple[ModuleType, ...] = (memory, records, segments, analysis, streams, sides, tcp)


@dataclass(frozen=True, slots=True)
class KernelSet:
    """The kernels that a capture is read with. Their arguments are described where they are defined."""

    compiled: bool
    walk_pcap: Callable[..., tuple[int, int, int]]
    walk_pcapng: Callable[..., tuple[int, int, int]]
    walk_block: Callable[..., tuple[int, int, int]]
    read_segments: Callable[..., None]
    follow: Callable[..., None]
    refill_slots: Callable[..., None]

    def memory(self, data: npt.NDArray[np.uint8]) -> Memory:
        """Bytes in the shape that these kernels read fastest."""
        return cast("Memory", data) if self.compiled else view(data)


def view(data: npt.NDArray[np.uint8]) -> memoryview:
    """Bytes as Python reads them fastest."""
    return memoryview(cast("bytes", data))


@cache
def plain() -> KernelSet:
    """The kernels as they are written."""
    return _set(compiled=False, find=lambda function: function)


@cache
def compiled() -> KernelSet:
    """The same kernels by numba, from the cache where they were compiled before."""
    # Only here: importing numba takes half a second, which a small capture need not wait for.
    import numba  # noqa: PLC0415

    folder = cache_folder()
    settings = vars(numba.config)
    before = settings["CACHE_DIR"]
    settings["CACHE_DIR"] = str(folder) if folder else before
    # Inlined, the small functions cost no passing of arguments, and no counting of references.
    decorate = numba.njit(cache=folder is not None, nogil=True, forceinline=True)
    twins: dict[Any, Any] = {}
    try:
        scopes = [(module, dict(vars(module))) for module in _MODULES]
        for module, scope in scopes:
            for name, function in vars(module).items():
                if isinstance(function, types.FunctionType) and function.__module__ == module.__name__:
                    twins[function] = decorate(types.FunctionType(function.__code__, scope, name))
    finally:
        settings["CACHE_DIR"] = before
    for _, scope in scopes:
        scope.update(
            {n: twins[f] for n, f in scope.items() if isinstance(f, types.FunctionType) and f in twins}
        )
        scope["int64"] = numba.int64
    return _set(compiled=True, find=lambda function: twins[function])


def _set(*, compiled: bool, find: Callable[[Any], Any]) -> KernelSet:
    return KernelSet(
        compiled=compiled,
        walk_pcap=find(records.walk_pcap),
        walk_pcapng=find(records.walk_pcapng),
        walk_block=find(records.walk_block),
        read_segments=find(segments.read_segments),
        follow=find(tcp.follow),
        refill_slots=find(streams.refill_slots),
    )


def are_compiled() -> bool:
    """Whether compiled kernels are there already, so that they need only be loaded."""
    folder = cache_folder()
    return folder is not None and any(folder.rglob("*.nbc"))


@cache
def cache_folder() -> Path | None:
    """Where compiled kernels are kept; None where nothing can be written."""
    # Only here: it reads half of the e-mail library first.
    from importlib.metadata import version  # noqa: PLC0415

    sources = hashlib.sha256()
    for part in (version("numba"), version("llvmlite"), np.__version__, sys.version):
        sources.update(part.encode())
    for module in (*_MODULES, layout):
        sources.update(Path(str(module.__file__)).read_bytes())
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        root = Path(base) if base else Path.home() / ".cache"
        folder = root / "podcam" / f"kernels-{sources.hexdigest()[:16]}"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return None
