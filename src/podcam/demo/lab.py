"""Where the story is played: a place for the app and a place for the service, with a wire between them.

Best is a network namespace for each, joined by a veth pair. That takes CAP_SYS_ADMIN: root's, or that of a
user namespace of one's own, in which ordinary users keep their own uid (initdb refuses uid 0 there, too) with
the capabilities as ambient ones. Some systems let unshare(2) succeed and deny the capabilities afterwards
(Ubuntu 24.04), so what is tested is the capability itself. Where there are no namespaces but packet sockets
may be opened (an ordinary container as root), the loopback of this one has to do.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import TypeVar

from podcam.demo.namespaces import NetworkNamespace, join
from podcam.errors import CaptureError, RightsError

_T = TypeVar("_T")

# Documentation addresses (RFC 5737, RFC 3849): whoever meets them in a capture knows that they are made up.
_APP = {4: ip_interface("192.0.2.10/24"), 6: ip_interface("2001:db8::10/64")}
_SERVICE = {4: ip_interface("192.0.2.20/24"), 6: ip_interface("2001:db8::20/64")}
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}

_OWN_USER_NAMESPACE = ["unshare", "--user", "--map-current-user", "--keep-caps"]
_ETH_P_ALL = 0x0003


@dataclass(frozen=True, slots=True)
class Place:
    """Where one side lives: a network namespace (None: the one that we are in) and its address."""

    namespace: NetworkNamespace | None
    address: str

    def call(self, do: Callable[[], _T]) -> _T:
        """Run `do` there; sockets and child processes that it makes stay there."""
        return do() if self.namespace is None else self.namespace.call(do)

    def start(self, name: str, do: Callable[[], None]) -> threading.Thread:
        """Run `do` there in a thread of its own, and do not wait."""
        if self.namespace is not None:
            return self.namespace.start(name, do)
        thread = threading.Thread(target=do, name=name, daemon=True)
        thread.start()
        return thread


@dataclass(frozen=True, slots=True)
class Lab:
    """Two places that reach each other."""

    app: Place
    service: Place

    @property
    def description(self) -> str:
        """One line for people."""
        if self.app.namespace is None:
            return f"the loopback of this machine ({self.app.address}): it lets us have no network namespaces"
        return f"two network namespaces of its own (app {self.app.address}, database {self.service.address})"


@contextlib.contextmanager
def open_lab(*, ipv6: bool) -> Iterator[Lab]:
    """A lab of the best kind that this process may have; `settle` says which, and must have been called.

    Raises CaptureError when the kernel has no such addresses.
    """
    version = 6 if ipv6 else 4
    with contextlib.ExitStack() as cleanup:
        try:
            if not _may_make_namespaces():
                _try_address(_LOOPBACK[version])
                place = Place(None, _LOOPBACK[version])
                yield Lab(app=place, service=place)
                return
            app, service = (
                cleanup.enter_context(contextlib.closing(NetworkNamespace.create())) for _ in range(2)
            )
            join(app, service, [(_APP[version], _SERVICE[version])])
        except OSError as error:
            raise CaptureError(f"this machine has no IPv{version} for the demo to use: {error}") from error
        yield Lab(Place(app, str(_APP[version].ip)), Place(service, str(_SERVICE[version].ip)))


def settle(command: Sequence[str]) -> None:
    """Come to where a lab can be opened: at best start `command` again in a user namespace of one's own.

    Returns when this process can open a lab as it is; raises RightsError, saying what to do, when none is
    allowed.
    """
    if _may_make_namespaces():
        return
    if os.geteuid() != 0 and shutil.which("unshare") and _may_have_user_namespace():
        sys.stdout.flush()
        os.execvp(_OWN_USER_NAMESPACE[0], [*_OWN_USER_NAMESPACE, *command])  # noqa: S606
    if not _may_open_packet_sockets():
        raise RightsError(
            "recording needs the right to open packet sockets, and this system gives it neither here nor in "
            "a user namespace: run the demo as root, or in a container with the capability NET_RAW"
        )


def _may_have_user_namespace() -> bool:
    probe = [*_OWN_USER_NAMESPACE, sys.executable, "-m", "podcam.demo.lab"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def _may_make_namespaces() -> bool:
    try:
        with contextlib.closing(NetworkNamespace.create()) as namespace:
            return namespace.call(_may_open_packet_sockets)
    except OSError:
        return False


def _may_open_packet_sockets() -> bool:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)).close()
    except OSError:
        return False
    return True


def _try_address(address: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as attempt:
        attempt.bind((address, 0))


if __name__ == "__main__":
    sys.exit(0 if _may_make_namespaces() else 1)
