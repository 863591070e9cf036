"""A recorder for images without Python, musl and empty ones too: this interpreter, copied into one folder.

    TARGET/bin/python3            the interpreter; the file capability for the recorder belongs on it
    TARGET/lib/ld.so              the C library's loader
    TARGET/lib/                   the shared libraries that the interpreter maps
    TARGET/lib/python3.N/         Podcam, and the standard library but for what is large and never used here

It needs nothing of the image around it, and runs at that path, which stands in the interpreter:

    TARGET/bin/python3 -I -S -m podcam wrap … -- COMMAND

The capability is not on the loader, to be run as `ld.so --library-path … python3`: glibc's refuses to go on
when it is started so with more rights than its user has, and finds MALLOC_ARENA_MAX or TMPDIR in the
environment (2.36: `_dl_start_args_adjust: Assertion failed`); then the app would not start.

Which extension modules and shared libraries go along is not guessed: an interpreter imports what recording
imports, and the loader lists what that needs.
"""

import errno
import json
import os
import py_compile
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import podcam
from podcam.errors import PodcamError, RightsError, UsageError
from podcam.wrap.capabilities import NET_RAW
from podcam.wrap.elf import bound_to, is_elf, without_paths

_IMPORTED: Final = (
    "runpy",
    "podcam.cli.wrap",
    "podcam.wrap.beside",
    "podcam.wrap.http",
    "podcam.wrap.sudo",
    "podcam.cli.sidecar",
    "podcam.cli.record",
    "podcam.cli.clip",
    "podcam.cli.clips",
    "podcam.cli.export",
    "podcam.cli.doctor",
    "podcam.recorder",
    "encodings.ascii",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.utf_8",
)
_MAIN: Final = Path(podcam.__file__).with_name("__main__.py")
"""What `-m podcam` runs; importing it would run it."""
_PROBE: Final = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
files = {getattr(module, "__file__", None) for module in list(sys.modules.values())} - {None}
loaders = {line.split()[-1] for line in open("/proc/self/maps") if "/ld-linux" in line}
json.dump({"modules": sorted(files), "loaders": sorted(loaders)}, sys.stdout)
"""
_CAPABILITY: Final = struct.pack("<IIIII", 0x02000000, 1 << NET_RAW, 0, 0, 0)
"""struct vfs_cap_data of linux/capability.h: permitted, not effective, so that it starts without it, too."""
_LEFT_OUT: Final = frozenset(
    {
        "__pycache__",
        "asyncio",
        "config",
        "curses",
        "dist-packages",
        "distutils",
        "ensurepip",
        "idlelib",
        "lib-dynload",
        "lib2to3",
        "multiprocessing",
        "pydoc_data",
        "site-packages",
        "sqlite3",
        "test",
        "tests",
        "tkinter",
        "turtledemo",
        "unittest",
        "venv",
        "wsgiref",
        "xmlrpc",
    }
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What was made."""

    folder: Path
    bytes: int
    files: int
    capable: bool
    """Whether its interpreter has the file capability NET_RAW."""

    @property
    def command(self) -> tuple[str, ...]:
        """What stands in front of `wrap …` or `record …`."""
        return bundle_command(self.folder)


def bundle_command(folder: Path) -> tuple[str, ...]:
    """The command that runs a bundle's Podcam: the prefix of an app's command."""
    return (
        str(folder / "bin/python3"),
        "-I",
        "-S",
        "-m",
        "podcam",
    )


def make_bundle(folder: Path) -> Bundle:
    """Copy this interpreter and Podcam into `folder`, which may exist; with NET_RAW where that may be given.

    Raises:
        UsageError: this interpreter cannot be copied: it is not of glibc, or not linked as most are; or the
            folder has another Python.
        RightsError: the folder cannot be written.
    """
    folder = folder.absolute()
    if os.path.lexists(folder / "bin/python3") and not os.path.lexists(folder / "lib/ld.so"):
        raise UsageError(f"{folder} has a Python of its own: choose an empty folder, or that of a bundle")
    found = _imported()
    try:
        _copy_all(found, folder)
        capable = _set_capability(folder / "bin/python3")
    except OSError as error:
        raise RightsError(f"cannot write the recorder into {folder}: {error.strerror}") from error
    except (ValueError, struct.error) as error:
        raise UsageError(f"this Python cannot be copied: {error}") from error
    files = [path for path in folder.rglob("*") if path.is_file()]
    return Bundle(folder, sum(path.stat().st_size for path in files), len(files), capable)


@dataclass(frozen=True, slots=True)
class _Imported:
    """What an interpreter needs to record."""

    modules: tuple[Path, ...]
    loader: Path
    libraries: Mapping[str, Path]
    """By the name under which they are looked for."""


def _imported() -> _Imported:
    probe = subprocess.run(
        [sys.executable, "-I", "-c", _PROBE, str(Path(podcam.__file__).parents[1]), *_IMPORTED],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if probe.returncode:
        raise PodcamError(f"this Python cannot import what recording needs: {probe.stderr.decode()[-500:]}")
    told = json.loads(probe.stdout)
    if len(told["loaders"]) != 1:
        raise UsageError(
            "this Python is not of glibc: a recorder that runs anywhere can only be made of one that is"
        )
    loader = Path(told["loaders"][0])
    modules = {Path(module) for module in told["modules"]} | {_MAIN}
    programs = [Path(sys.executable).resolve(), *(module for module in modules if module.suffix == ".so")]
    libraries: dict[str, Path] = {}
    for program in programs:
        libraries.update(_libraries_of(program, loader))
    return _Imported(tuple(sorted(modules)), loader, libraries)


def _libraries_of(program: Path, loader: Path) -> Mapping[str, Path]:
    """What ldd(1) lists: `NAME => PATH (ADDRESS)`."""
    listed = subprocess.run(
        [loader, "--list", program], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    found = (line.split() for line in listed.stdout.splitlines() if " => /" in line)
    return {name: Path(path) for name, _arrow, path, *_ in found if not name.startswith("/")}


def _copy_all(found: _Imported, folder: Path) -> None:
    libraries, programs = folder / "lib", folder / "bin"
    python = libraries / f"python{sys.version_info.major}.{sys.version_info.minor}"
    for place in (programs, python / "lib-dynload"):
        place.mkdir(parents=True, exist_ok=True)
    loader = libraries / "ld.so"
    _write(loader, found.loader.read_bytes(), 0o755)
    for name, library in found.libraries.items():
        _copy(library, libraries / name)
    interpreter = Path(sys.executable).resolve().read_bytes()
    _write(programs / "python3", bound_to(interpreter, str(loader), str(libraries)), 0o755)
    standard = Path(sysconfig.get_path("stdlib"))
    places = [(path, python / path.relative_to(standard)) for path in _sources(standard)]
    places += [(path, python / "lib-dynload" / path.name) for path in found.modules if path.suffix == ".so"]
    own = Path(podcam.__file__).parent
    places += [(path, python / "podcam" / path.relative_to(own)) for path in _sources(own)]
    for path, target in places:
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(path, target)
        if path in found.modules and path.suffix == ".py":
            # Where nothing can be written, an import would else be compiled anew at each start.
            py_compile.compile(str(target), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def _sources(folder: Path) -> Iterable[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name.partition("-")[0] not in _LEFT_OUT and path.name not in _LEFT_OUT:
            yield from _sources(path)
        elif path.suffix == ".py":
            yield path


def _copy(source: Path, target: Path) -> None:
    content = source.read_bytes()
    if is_elf(content):
        _write(target, without_paths(content), 0o755)
    else:
        _write(target, content, 0o644)


def _write(target: Path, content: bytes, mode: int) -> None:
    """Hidden, then renamed: a copy that runs is replaced as a whole."""
    hidden = target.with_name(f".{target.name}.part")
    hidden.write_bytes(content)
    hidden.chmod(mode)
    hidden.rename(target)


def _set_capability(program: Path) -> bool:
    """Whether this process may: it takes SETFCAP, and a file system that keeps such attributes."""
    try:
        os.setxattr(program, "security.capability", _CAPABILITY)
    except OSError as error:
        if error.errno in {errno.EPERM, errno.EACCES, errno.ENOTSUP}:
            return False
        raise
    return True
