"""Keeps a recorder from writing anywhere but into its own folder: landlock(7).

An app that runs as another user often may write into the volume that holds this folder. A link that it lays
there must not lead a recorder that runs as root to the files of others.
"""

import ctypes
import os
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from podcam.errors import RightsError

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
"""The same numbers on all machines that Linux came to since: asm-generic/unistd.h."""
_VERSION: Final = 1
_BENEATH: Final = 1
"""LANDLOCK_CREATE_RULESET_VERSION, LANDLOCK_RULE_PATH_BENEATH of linux/landlock.h"""
_WRITE_FILE: Final = 1 << 1
_WRITES: Final = _WRITE_FILE | 0x3FF << 4
"""Remove, make whatever, and link from folder to folder (LANDLOCK_ACCESS_FS_REFER)."""
_TRUNCATE: Final = 1 << 14
_LEAST_ABI, _TRUNCATE_ABI = 2, 3
"""Linux 5.19: before, nothing may be linked from folder to folder, as a clip is. Linux 6.2."""
_MOST_LINKS: Final = 40
"""As the kernel follows them: path_resolution(7)."""
_PLACE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_libc: Final = ctypes.CDLL(None, use_errno=True)


def write_only_below(folder: Path) -> bool:
    """Let this process, and all that it starts, change files below this folder alone; make it if need be.

    Takes NO_NEW_PRIVS, or SYS_ADMIN. Returns whether the kernel holds the process to it.

    Raises:
        RightsError: the folder cannot be made, or a link of another user leads to it.
    """
    try:
        descriptor = _opened(folder)
    except OSError as error:
        raise RightsError(
            f"cannot make {folder}: {error.strerror}: choose a folder of your own with --dir"
        ) from None
    try:
        return _restrict(descriptor)
    finally:
        os.close(descriptor)


def _restrict(folder: int) -> bool:
    abi = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    if abi < _LEAST_ABI:
        return False
    writes = _WRITES | (_TRUNCATE if abi >= _TRUNCATE_ABI else 0)
    handled = struct.pack("=Q", writes)
    rules = _libc.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0)
    if rules < 0:
        return False
    try:
        _allow(rules, folder, writes)
        with suppress(OSError):
            null = os.open(os.devnull, os.O_PATH | os.O_CLOEXEC)
            try:
                _allow(rules, null, writes & (_WRITE_FILE | _TRUNCATE))
            finally:
                os.close(null)
        return bool(_libc.syscall(_RESTRICT_SELF, rules, 0) == 0)
    finally:
        os.close(rules)


def _allow(rules: int, place: int, access: int) -> None:
    _libc.syscall(_ADD_RULE, rules, _BENEATH, struct.pack("=Qi", access, place), 0)


def _opened(folder: Path) -> int:
    """The folder, made where it is not there, by links of this user and of root alone."""
    ahead = [*folder.absolute().parts[1:]]
    links = 0
    here = os.open("/", _PLACE)
    try:
        while ahead:
            name = ahead.pop(0)
            found = _opened_or_made(name, here, 0o777 if ahead else 0o700)
            status = os.fstat(found)
            if stat.S_ISLNK(status.st_mode):
                target = os.readlink(b"", dir_fd=found).decode(errors="surrogateescape")
                os.close(found)
                links += 1
                _check_link(folder, status.st_uid, links)
                ahead = [part for part in (*target.split("/"), *ahead) if part]
                if not target.startswith("/"):
                    continue
                found = os.open("/", _PLACE)
            here, left = found, here
            os.close(left)
    except BaseException:
        os.close(here)
        raise
    return here


def _opened_or_made(name: str, parent: int, mode: int) -> int:
    try:
        return os.open(name, _PLACE, dir_fd=parent)
    except FileNotFoundError:
        os.mkdir(name, mode, dir_fd=parent)
        return os.open(name, _PLACE, dir_fd=parent)


def _check_link(folder: Path, owner: int, links: int) -> None:
    if owner not in {0, os.geteuid()} or links > _MOST_LINKS:
        raise RightsError(
            f"a link of user {owner} leads to {folder}, and is not followed: "
            "name the folder itself with --dir"
        )
