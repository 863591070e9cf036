"""Network namespaces: finding one, and opening a socket inside.

A socket stays in the namespace where it was made, so that one recorder records many namespaces: a thread
enters, opens the socket, and ends. See network_namespaces(7), setns(2), ioctl_ns(2).
"""

import errno
import fcntl
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from podcam.capture._libc import CLONE_NEWNET, CLONE_NEWUSER, setns
from podcam.errors import CaptureError, PodcamError, RightsError, UsageError

_NAMED = Path("/run/netns")  # ip-netns(8)
_OWN = Path("/proc/self/ns/net")
_OWN_USER = Path("/proc/self/ns/user")
_NS_GET_USERNS = 0xB701  # linux/nsfs.h
_NEEDS_SYS_ADMIN = "run podcam as root, or give it the capability CAP_SYS_ADMIN"


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace.

    `name` is what people call it; `path` the file that stands for it, None for the one Podcam runs in;
    `identity` is (device, inode) of that file: equal for two paths to one namespace.
    """

    name: str
    path: str | None
    identity: tuple[int, int]


def own_namespace(name: str = "local") -> Namespace:
    """Return the namespace that this process runs in."""
    return Namespace(name, None, _identity(_OWN.stat()))


def find_namespace(spec: str) -> Namespace:
    """Find a namespace by `ip netns` name, by path (it has a slash), or by process id (only digits).

    Raises:
        UsageError: no such namespace or process, or the file is not a network namespace.
        RightsError: the file of the process may not be read.
    """
    name, path = _locate(spec)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(_not_found(spec, path)) from None
    except PermissionError:
        raise RightsError(
            f"the network namespace {path} of another user's process may not be read: run podcam as root or "
            "as that user, or give it CAP_SYS_PTRACE"
        ) from None
    except OSError as error:
        raise UsageError(f"the network namespace {spec} cannot be found: {error.strerror}") from None
    if status.st_dev != _OWN.stat().st_dev:
        raise UsageError(
            f"{path} is not a network namespace (an empty file here means that its mount is not visible: "
            "in a container, mount the folder with propagation HostToContainer)"
        )
    return Namespace(name, str(path), _identity(status))


def open_inside(namespace: Namespace, make_socket: Callable[[], socket.socket]) -> socket.socket:
    """Call `make_socket` inside the namespace and return its socket, to be used from anywhere.

    A namespace that another user namespace owns (a rootless container) is entered by a child process, as
    only a process without threads may join a user namespace; it passes the socket back.

    Raises:
        CaptureError: the namespace is gone.
        RightsError: entering it, or `make_socket`, is not permitted.
    """
    if namespace.path is None:
        return make_socket()
    net = _open(namespace, namespace.path)
    try:
        return _in_thread(namespace, net, make_socket)
    except _EnteringDenied:
        owner = _foreign_owner(net)
        if owner is None:
            raise RightsError(
                f"entering the network namespace {namespace.name}: {_NEEDS_SYS_ADMIN}"
            ) from None
        try:
            return _in_child(namespace, net, owner, make_socket)
        finally:
            os.close(owner)
    finally:
        os.close(net)


def _locate(spec: str) -> tuple[str, Path]:
    if spec.isascii() and spec.isdigit():
        return f"pid-{spec}", Path("/proc", spec, "ns", "net")
    if "/" not in spec:
        if spec in {"", ".", ".."}:
            raise UsageError(f"{spec!r} is not the name of a network namespace")
        return spec, _NAMED / spec
    path = Path(spec)
    match path.parts:
        case ["/", "proc", pid, "ns", "net"] if pid.isdigit():
            return f"pid-{pid}", path
        case _:
            return path.name, path


def _not_found(spec: str, path: Path) -> str:
    if spec.isdigit():
        return f"there is no process {spec} here (a namespace named {spec} is reached as {_NAMED / spec})"
    if "/" in spec:
        return f"there is no network namespace {path}"
    names = sorted(entry.name for entry in _NAMED.iterdir()) if _NAMED.is_dir() else []
    known = ", ".join(names[:10]) + (", …" if len(names) > 10 else "") or "none"
    return (
        f"there is no network namespace {spec} in {_NAMED} (known there: {known}); "
        "a path or a process id works too"
    )


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _open(namespace: Namespace, path: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise CaptureError(f"the network namespace {namespace.name} is gone ({path})") from None
    except PermissionError:
        raise RightsError(f"the network namespace {path} may not be opened: {_NEEDS_SYS_ADMIN}") from None
    except OSError as error:
        raise CaptureError(f"the network namespace {path} cannot be opened: {error.strerror}") from error
    if _identity(os.fstat(fd)) != namespace.identity:
        os.close(fd)
        raise CaptureError(f"the network namespace {namespace.name} is gone ({path} is another one now)")
    return fd


class _EnteringDenied(Exception):  # noqa: N818 - a signal to the other way in, never seen outside
    pass


def _enter(namespace: Namespace, net: int) -> None:
    try:
        setns(net, CLONE_NEWNET)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise _EnteringDenied from error
        if error.errno == errno.EINVAL:
            raise UsageError(f"{namespace.path} is a namespace, but not a network namespace") from None
        raise


def _in_thread(namespace: Namespace, net: int, make_socket: Callable[[], socket.socket]) -> socket.socket:
    made: list[socket.socket] = []
    failed: list[BaseException] = []

    def enter_and_make() -> None:
        try:
            _enter(namespace, net)
            made.append(make_socket())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failed.append(error)

    thread = threading.Thread(target=enter_and_make, name="netns")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def _foreign_owner(net: int) -> int | None:
    """Return a descriptor of the user namespace that owns `net`, None if it is our own or out of reach."""
    try:
        owner = fcntl.ioctl(net, _NS_GET_USERNS)
    except PermissionError:
        return None
    if _identity(os.fstat(owner)) != _identity(_OWN_USER.stat()):
        return owner
    os.close(owner)
    return None


def _in_child(
    namespace: Namespace, net: int, owner: int, make_socket: Callable[[], socket.socket]
) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    pid = os.fork()
    if pid == 0:
        _make_and_pass(net, owner, make_socket, theirs)
    theirs.close()
    with ours:
        reason, fds, _, _ = socket.recv_fds(ours, 4096, 1)
    os.waitpid(pid, 0)
    if fds:
        return socket.socket(fileno=fds[0])
    what = reason.decode() or "the process that entered it died"
    raise RightsError(f"entering the network namespace {namespace.name} of a rootless container: {what}")


def _make_and_pass(
    net: int, owner: int, make_socket: Callable[[], socket.socket], channel: socket.socket
) -> None:
    """In the child: never returns."""
    try:
        setns(owner, CLONE_NEWUSER)
        setns(net, CLONE_NEWNET)
        with make_socket() as made:
            socket.send_fds(channel, [b"made"], [made.fileno()])
    except (OSError, PodcamError) as error:
        channel.sendall(str(error).encode()[:4000])
    finally:
        os._exit(0)
