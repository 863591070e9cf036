"""What is missing on this machine, or in this container, and how to get it: `podcam doctor`.

Every finding was tried, not guessed: a packet socket is opened, a file is linked.
"""

import ctypes.util
import importlib.util
import os
import shutil
import socket
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from podcam.wrap.capabilities import NET_RAW, SYS_ADMIN, of_file, of_this_process, take
from podcam.wrap.sudo import sudo_allows_a_recorder
from podcam.wrap.ways import Surroundings, ways

_ANALYSIS: Final = ("numpy", "numba", "rich", "zstandard")
_LEAST_FREE_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    found: str
    remedy: str | None = None
    """What to do, where something is missing."""
    needed: bool = True
    """Whether Podcam cannot record without it."""


def examine(folder: Path) -> list[Finding]:
    """Look at everything that recording needs here; `folder` is where rings and clips would lie."""
    return [*_rights(), _other_namespaces(), *_folder(folder), _libpcap(), _analysis()]


def surroundings() -> Surroundings:
    """What this process may do; takes NET_RAW if it may."""
    take(NET_RAW)
    program = Path("/proc/self/exe")
    return Surroundings(
        uid=os.geteuid(),
        capabilities=of_this_process(),
        file_capability=bool((of_file(program) or 0) >> NET_RAW & 1),
        set_id_ignored=bool(os.statvfs(program).f_flag & os.ST_NOSUID),
        sudo=shutil.which("sudo") is not None,
        sudo_allows=sudo_allows_a_recorder(),
        packet_sockets=_knows_packet_sockets(),
    )


def _rights() -> Iterable[Finding]:
    tried = ways(surroundings())
    works = next((way for way in tried if way.why_not is None), None)
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except OSError as error:
        if works is not None:
            yield Finding("packet sockets", f"not directly ({error.strerror}), but by way of {works.way}")
        else:
            yield Finding("packet sockets", str(error.strerror), "one of the ways below has to work")
    else:
        yield Finding("packet sockets", "may be opened")
    for way in tried:
        yield Finding(f"way: {way.way}", "works" if way.why_not is None else "no", way.why_not, needed=False)


def _knows_packet_sockets() -> bool:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _other_namespaces() -> Finding:
    if of_this_process().is_effective(SYS_ADMIN):
        return Finding("other network namespaces", "may be entered (--netns)", needed=False)
    remedy = "--netns takes root, or the capability SYS_ADMIN; this one's own is recorded without"
    return Finding("other network namespaces", "may not be entered", remedy, needed=False)


def _folder(folder: Path) -> Iterable[Finding]:
    places = (folder, *folder.absolute().parents)
    existing = next(path for path in places if os.access(path, os.F_OK))
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(
            "folder",
            f"{folder}: {existing} may not be written",
            "name the folder that is recorded into, or one of your own, with --dir",
        )
        return
    usage = shutil.disk_usage(existing)
    room = f"{folder}: {usage.free / 1e9:.1f} of {usage.total / 1e9:.1f} GB free"
    scarce = usage.free < _LEAST_FREE_SHARE * usage.total
    yield Finding(
        "folder", room, "free some space, or record with a smaller --ring" if scarce else None, needed=False
    )
    links = _can_link(existing)
    yield Finding(
        "hard links",
        "a clip costs no room and no time" if links else f"cannot be made in {existing}",
        None
        if links
        else "clips are copied, which takes room and time: choose another file system with --dir",
        needed=False,
    )


def _can_link(folder: Path) -> bool:
    with suppress(OSError), tempfile.TemporaryDirectory(prefix=".podcam-", dir=folder) as place:
        first = Path(place, "first")
        first.touch()
        Path(place, "second").hardlink_to(first)
        return True
    return False


def _libpcap() -> Finding:
    if ctypes.util.find_library("pcap"):
        return Finding("libpcap", "found (for --bpf)", needed=False)
    remedy = "only --bpf needs it (Debian, Ubuntu: apt-get install libpcap0.8)"
    return Finding("libpcap", "not found", remedy, needed=False)


def _analysis() -> Finding:
    missing = [name for name in _ANALYSIS if importlib.util.find_spec(name) is None]
    if not missing:
        return Finding("analysis", "`podcam diagnose` has what it needs", needed=False)
    remedy = (
        "recording does not need them; `podcam diagnose` does: `pip install .` in Podcam's repository, "
        "here or elsewhere"
    )
    return Finding("analysis", f"not installed: {', '.join(missing)}", remedy, needed=False)
