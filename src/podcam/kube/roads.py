"""Ways to an API server: over TLS from inside a cluster, through a unix socket, or a plain URL."""

import os
import socket
import ssl
from collections.abc import Callable
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from podcam.errors import UnreachableError, UsageError

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_CONNECT_SECONDS = 10.0

_KEEPALIVE_IDLE_SECONDS, _KEEPALIVE_INTERVAL_SECONDS, _KEEPALIVE_PROBES = 15, 5, 3
_UNACKNOWLEDGED_MS = 30_000
"""A peer that vanished is noticed after half a minute, without a request to the API server: tcp(7)."""


class Road(Protocol):
    """How connections to one API server are made, and what every request carries."""

    @property
    def place(self) -> str:
        """What people call where it leads."""
        ...

    @property
    def relayed(self) -> bool:
        """Whether something stands between that answers itself when it cannot reach the API server."""
        ...

    def connection(self) -> HTTPConnection:
        """A new connection that is not open yet."""
        ...

    def headers(self) -> dict[str, str]:
        """Headers for every request, such as who asks."""
        ...


class UrlRoad:
    """To `http://host:port` or `https://host:port`.

    Args:
        url: where the API server is.
        token: gives the bearer token for the next request.
        ca: the file of the authorities that may have signed the server's certificate; None for the system's.
    """

    def __init__(self, url: str, *, token: Callable[[], str] | None = None, ca: Path | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageError(f"{url} is not the address of an API server, such as https://10.0.0.1:6443")
        self.place = url
        self.relayed = False
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = _TlsContext(ca) if parts.scheme == "https" else None
        self._token = token

    def connection(self) -> HTTPConnection:
        """A new connection that is not open yet.

        Raises:
            UnreachableError: the file of authorities cannot be read.
        """
        if self._tls is None:
            return _TcpConnection(self._host, self._port, timeout=_CONNECT_SECONDS)
        context = self._tls.current()
        return _TlsConnection(self._host, self._port, timeout=_CONNECT_SECONDS, context=context)

    def headers(self) -> dict[str, str]:
        """The bearer token, if there is one."""
        return {} if self._token is None else {"Authorization": f"Bearer {self._token()}"}


class SocketRoad:
    """To an HTTP server at a unix socket, such as `kubectl proxy`."""

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self.relayed = True
        self._path = path

    def connection(self) -> HTTPConnection:
        """A new connection that is not open yet."""
        return _UnixConnection(self._path)

    def headers(self) -> dict[str, str]:
        """None: whoever is at the socket knows who asks."""
        return {}


def in_cluster_road(account: Path = _SERVICE_ACCOUNT) -> UrlRoad:
    """The way that every pod has: its service account, and the environment that the kubelet sets.

    Raises:
        UsageError: this is no pod, or it has no service account.
    """
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise UsageError(
            "this is not a pod of a cluster, as KUBERNETES_SERVICE_HOST is not set: from outside, "
            "use `kubectl podcam`"
        )
    if not (account / "token").exists():
        raise UsageError(
            f"this pod has no service account's token at {account}: set automountServiceAccountToken to true"
        )
    host = f"[{host}]" if ":" in host else host
    return UrlRoad(f"https://{host}:{port}", token=TokenFile(account / "token"), ca=account / "ca.crt")


class _Stamp:
    """Tells whether a file is another one than last time, without reading it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None

    def changed(self) -> bool:
        """Whether the file is new since the last call. Raises OSError when it is not there."""
        status = self.path.stat()
        stamp = status.st_ino, status.st_mtime_ns, status.st_size
        if stamp == self._seen:
            return False
        self._seen = stamp
        return True


class TokenFile:
    """A bearer token in a file that the kubelet replaces before the token expires (hourly)."""

    def __init__(self, path: Path) -> None:
        self._stamp = _Stamp(path)
        self._token = ""

    def __call__(self) -> str:
        """The token as it is now.

        Raises:
            UnreachableError: the file cannot be read, or is empty.
        """
        try:
            if self._stamp.changed() or not self._token:
                self._token = self._stamp.path.read_text().strip()
        except OSError as error:
            raise UnreachableError(
                f"the token at {self._stamp.path} cannot be read: {error.strerror}"
            ) from None
        if not self._token:
            raise UnreachableError(f"the token at {self._stamp.path} is empty")
        return self._token


class _TlsContext:
    """One context for all connections, made again when the file of authorities changes."""

    def __init__(self, ca: Path | None) -> None:
        self._stamp = None if ca is None else _Stamp(ca)
        self._context: ssl.SSLContext | None = None

    def current(self) -> ssl.SSLContext:
        try:
            changed = self._stamp is not None and self._stamp.changed()
            if changed or self._context is None:
                ca = None if self._stamp is None else self._stamp.path
                self._context = ssl.create_default_context(cafile=ca)
                if ca is not None:
                    # Python 3.13 wants extensions that the authorities of older clusters do not have.
                    self._context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        except OSError as error:
            where = "the system's authorities" if self._stamp is None else self._stamp.path
            raise UnreachableError(f"the API server cannot be verified: {where}: {error}") from None
        return self._context


class _TcpConnection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _notice_a_dead_peer(self.sock)


class _TlsConnection(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _notice_a_dead_peer(self.sock)


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_CONNECT_SECONDS)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self.timeout)
        try:
            sock.connect(str(self._path))
        except OSError:
            sock.close()
            raise
        self.sock = sock


def _notice_a_dead_peer(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
