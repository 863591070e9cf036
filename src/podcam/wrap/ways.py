"""Which way leads to packets in this container, or on this machine, and why the others do not. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from podcam.wrap.capabilities import NET_RAW, Capabilities


class Way(StrEnum):
    """How the recorder beside an app gets the right to open packet sockets."""

    ROOT = "root"
    """It runs as root, with NET_RAW; the app may be given another user (`--user`)."""
    FILE = "file"
    """The container's command is a file-capped copy of the recorder."""
    SUDO = "sudo"
    """One narrow sudoers line."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What was found in a container, or on a machine."""

    uid: int
    capabilities: Capabilities
    file_capability: bool
    """Whether the file that was started for this program has NET_RAW."""
    set_id_ignored: bool
    """Whether it lies on a file system that is mounted so that the kernel ignores that (nosuid)."""
    sudo: bool
    """Whether sudo is installed."""
    sudo_allows: bool
    """Whether it lets this user start the recorder."""
    packet_sockets: bool
    """Whether the kernel knows AF_PACKET at all."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One way: `why_not` is None where it works, else says what is missing and who gives it."""

    way: Way
    why_not: str | None


_NO_SOCKETS = "the kernel has no packet sockets (AF_PACKET): a sandbox such as gVisor"
_BOUNDED = (
    "nothing here may have NET_RAW (it is not in the bounding set): the runtime or `drop: [ALL]` took it "
    "away; add NET_RAW to the container's capabilities where Pod Security allows it"
)
_NO_NEW_PRIVILEGES = "NoNewPrivs is set (in a pod: allowPrivilegeEscalation is false), which turns sudo off"


def ways(found: Surroundings) -> Sequence[Verdict]:
    """All ways, in the order in which they are tried."""
    return [
        Verdict(Way.ROOT, _why_not_root(found)),
        Verdict(Way.FILE, _why_not_file(found)),
        Verdict(Way.SUDO, _why_not_sudo(found)),
    ]


def _why_not_root(found: Surroundings) -> str | None:
    if found.uid != 0:
        return (
            f"this is user {found.uid}, not root (where a container has runAsUser 0, `podcam wrap --user "
            f"{found.uid}` gives the app its user)"
        )
    return _why_no_socket(found) or (
        None if found.capabilities.is_permitted(NET_RAW) else "root lacks the capability NET_RAW here"
    )


def _why_not_file(found: Surroundings) -> str | None:
    if found.uid == 0:
        return "root needs no file capability"
    why = _why_no_socket(found)
    if why is not None or found.capabilities.is_permitted(NET_RAW):
        return why
    if not found.file_capability:
        return (
            "this program has no file capability: `podcam bundle`, as root with SETFCAP (for a pod, in an "
            "init container), makes a copy that has it"
        )
    if found.set_id_ignored:
        return "this program lies on a volume that is mounted nosuid, where file capabilities do not count"
    if found.capabilities.no_new_privileges:
        return (
            "this program did not get NET_RAW: under NoNewPrivs (in a pod: allowPrivilegeEscalation is "
            "false) it has to be the container's command itself, not started by a shell or another program"
        )
    return "this program has NET_RAW and did not get it: is this a user namespace?"


def _why_not_sudo(found: Surroundings) -> str | None:
    why = _why_no_socket(found)
    if why is not None:
        return why
    if found.uid == 0:
        return "root needs no sudo"
    if not found.sudo:
        return "sudo is not installed here"
    if found.capabilities.no_new_privileges:
        return _NO_NEW_PRIVILEGES
    if found.sudo_allows:
        return None
    return (
        "sudo does not let this user start the recorder: `podcam wrap --sudo …` says which sudoers line does"
    )


def _why_no_socket(found: Surroundings) -> str | None:
    if not found.packet_sockets:
        return _NO_SOCKETS
    return _BOUNDED if found.capabilities.is_bounded(NET_RAW) else None
