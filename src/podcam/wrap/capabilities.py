"""The capabilities of this process, and of files: capabilities(7).

A file capability gives a *permitted* set to a program that is executed; what counts is the *effective* set,
which the program takes from it by itself (capset(2)). So an image works where the right cannot be had, too:
with `cap_net_raw+p` the program starts without it, with `+ep` it would not start at all.
"""

import ctypes
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DAC_OVERRIDE: Final = 1
"""linux/capability.h"""
NET_RAW: Final = 13
SYS_ADMIN: Final = 21

_VERSION_3: Final = 0x20080522
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
"""linux/prctl.h"""
_XATTR: Final = "security.capability"
_VFS_REVISIONS: Final = {0x01000000: 1, 0x02000000: 2, 0x03000000: 2}
"""linux/capability.h: VFS_CAP_REVISION_* to the number of 32-bit words per set."""
_libc: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The sets of a process, as bit masks, and whether it may gain more by executing a program."""

    effective: int
    permitted: int
    bounding: int
    no_new_privileges: bool

    def is_effective(self, capability: int) -> bool:
        """Whether it counts now."""
        return bool(self.effective >> capability & 1)

    def is_permitted(self, capability: int) -> bool:
        """Whether the process may take it."""
        return bool(self.permitted >> capability & 1)

    def is_bounded(self, capability: int) -> bool:
        """Whether no program that this process starts can have it, not even root."""
        return not self.bounding >> capability & 1


def of_this_process() -> Capabilities:
    """Read from /proc/self/status, see proc_pid_status(5)."""
    return parse_status(Path("/proc/self/status").read_text(encoding="ascii", errors="replace"))


def parse_status(text: str) -> Capabilities:
    """The sets that a /proc/PID/status tells.

    Raises:
        KeyError: it tells none.
    """
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return Capabilities(
        effective=int(fields["CapEff"], 16),
        permitted=int(fields["CapPrm"], 16),
        bounding=int(fields["CapBnd"], 16),
        no_new_privileges=fields.get("NoNewPrivs", "0").strip() == "1",
    )


def take(capability: int) -> bool:
    """Make a permitted capability effective; whether it counts now."""
    own = of_this_process()
    if own.is_effective(capability):
        return True
    return own.is_permitted(capability) and _set(own.effective | 1 << capability, own.permitted)


def confine_to(capabilities: Iterable[int]) -> None:
    """Make these effective, as far as they are permitted; give up all others for good.

    Nothing that this process executes gets them back, set-user-id programs included.
    """
    kept = of_this_process().permitted & sum(1 << each for each in set(capabilities))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _set(kept, kept)


def own_proc() -> None:
    """Let the files below /proc/self be this user's own after a start with file capabilities.

    The kernel gives them to root then (proc_pid(5), PR_SET_DUMPABLE of prctl(2)), and closes `environ`,
    `comm` and `oom_score_adj` to the process itself. Others of the same user gain no look into it: for that
    they would need the capabilities that it has (ptrace(2), access mode checking).
    """
    _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def _set(effective: int, permitted: int) -> bool:
    """capset(2); nothing is inheritable."""
    header = struct.pack("=Ii", _VERSION_3, 0)
    words = [(mask >> shift) & 0xFFFFFFFF for shift in (0, 32) for mask in (effective, permitted, 0)]
    return bool(_libc.capset(header, struct.pack("=6I", *words)) == 0)


def of_file(path: Path) -> int | None:
    """The permitted set that a file gives to whoever executes it; None when it gives none."""
    try:
        return parse_file_capability(os.getxattr(path, _XATTR))
    except (OSError, ValueError):
        return None


def parse_file_capability(value: bytes) -> int:
    """The permitted set in the extended attribute `security.capability` (struct vfs_cap_data).

    Raises:
        ValueError: it is none.
    """
    if len(value) < 12:
        raise ValueError("too short for file capabilities")
    words = _VFS_REVISIONS.get(struct.unpack_from("<I", value)[0] & 0xFF000000)
    if words is None or len(value) < 4 + 8 * words:
        raise ValueError("file capabilities of an unknown revision")
    permitted = 0
    for word in range(words):
        permitted |= struct.unpack_from("<I", value, 4 + 8 * word)[0] << 32 * word
    return permitted
