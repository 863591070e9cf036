"""The app of the story: it logs in to its database, asks one question, leaves, and comes again.

Speaks just enough of PostgreSQL's protocol itself, so that it reports an error as an app would, and knows the
port that it happened on.
https://www.postgresql.org/docs/current/protocol-flow.html
"""

import base64
import contextlib
import hashlib
import hmac
import secrets
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

_PROTOCOL_3_0 = 196608
_SSL_REQUEST = 80877103
_AUTHENTICATION_OK, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 10, 11, 12


class DatabaseError(Exception):
    """What the app would show: the connection failed, or the server answered with an error."""


@dataclass(frozen=True, slots=True)
class Login:
    """Where the database is, and who asks."""

    host: str
    port: int
    user: str
    password: str
    database: str
    tls: ssl.SSLContext | None = None
    tls_name: str | None = None
    timeout_s: float = 3.0


class Session:
    """One connection, logged in. Raises DatabaseError, as every method does."""

    def __init__(self, login: Login) -> None:
        self._login = login
        try:
            self._socket = socket.create_connection((login.host, login.port), login.timeout_s)
        except OSError as error:
            raise DatabaseError(f"could not connect to server: {_reason(error)}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def log_in(self) -> None:
        """TLS when asked for, StartupMessage, authentication, up to the first ReadyForQuery."""
        login = self._login
        if login.tls is not None:
            self._send(struct.pack("!II", 8, _SSL_REQUEST))
            if self._receive(1) != b"S":
                raise DatabaseError("server does not support SSL, but SSL was required")
            try:
                self._socket = login.tls.wrap_socket(self._socket, server_hostname=login.tls_name)
            except OSError as error:
                raise DatabaseError(f"SSL error: {_reason(error)}") from error
        parameters = {"user": login.user, "database": login.database, "application_name": "podcam demo"}
        settings = b"".join(f"{key}\0{value}\0".encode() for key, value in parameters.items()) + b"\0"
        self._send(struct.pack("!II", 8 + len(settings), _PROTOCOL_3_0) + settings)
        self._authenticate()
        self._until_ready()

    def query(self, sql: str) -> list[bytes]:
        """The rows of a simple query, each as the server encodes it (DataRow without its head)."""
        self._send_message(b"Q", sql.encode() + b"\0")
        return [body for kind, body in self._until_ready() if kind == b"D"]

    def leave(self) -> None:
        """Say goodbye, and wait for the server to do the same.

        All in one segment with the FIN: on a busy machine the server's FIN would come first now and then, and
        look as if it had closed by itself.
        """
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        self._send_message(b"X", b"")
        if isinstance(self._socket, ssl.SSLSocket):
            self._socket.settimeout(0)
            with contextlib.suppress(ssl.SSLWantReadError):  # libpq does not wait for the server's, either
                self._socket.unwrap()
            self._socket = socket.socket(fileno=self._socket.detach())
            self._socket.settimeout(self._login.timeout_s)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            while self._socket.recv(4096):
                pass

    def _authenticate(self) -> None:
        scram = _Scram(self._login.password)
        while True:
            kind, body = self._receive_message()
            if kind != b"R":
                raise DatabaseError(f"expected an authentication request, got {kind!r}")
            (request,) = struct.unpack_from("!I", body)
            if request == _AUTHENTICATION_OK:
                return
            if request == _SASL:
                first = scram.first()
                name = b"SCRAM-SHA-256\0"
                self._send_message(b"p", name + struct.pack("!I", len(first)) + first)
            elif request == _SASL_CONTINUE:
                self._send_message(b"p", scram.final(body[4:]))
            elif request != _SASL_FINAL:
                raise DatabaseError(f"authentication request {request} is not supported")

    def _until_ready(self) -> list[tuple[bytes, bytes]]:
        messages: list[tuple[bytes, bytes]] = []
        while True:
            message = self._receive_message()
            if message[0] == b"Z":
                return messages
            messages.append(message)

    def _receive_message(self) -> tuple[bytes, bytes]:
        kind, length = struct.unpack("!cI", self._receive(5))
        body = self._receive(length - 4)
        if kind == b"E":
            fields = {field[:1]: field[1:].decode() for field in body.split(b"\0") if field}
            raise DatabaseError(f"{fields.get(b'S')}: {fields.get(b'M')}")
        return kind, body

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                more = self._socket.recv(size - len(data))
            except OSError as error:
                raise DatabaseError(f"could not receive data from server: {_reason(error)}") from error
            if not more:
                raise DatabaseError("server closed the connection unexpectedly")
            data += more
        return data

    def _send_message(self, kind: bytes, body: bytes) -> None:
        self._send(kind + struct.pack("!I", 4 + len(body)) + body)

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise DatabaseError(f"could not send data to server: {_reason(error)}") from error

    @property
    def port(self) -> int:
        """The port on this side."""
        port: int = self._socket.getsockname()[1]
        return port


class _Scram:
    """SCRAM-SHA-256 without channel binding: RFC 5802, RFC 7677."""

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self._bare = b"n=,r=" + secrets.token_urlsafe(18).encode()

    def first(self) -> bytes:
        return b"n,," + self._bare

    def final(self, server_first: bytes) -> bytes:
        attributes = {part[:1]: part[2:] for part in server_first.split(b",")}
        salt, iterations = base64.b64decode(attributes[b"s"]), int(attributes[b"i"])
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = b"c=" + base64.b64encode(b"n,,") + b",r=" + attributes[b"r"]
        signed = b",".join((self._bare, server_first, without_proof))
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = bytes(key ^ sign for key, sign in zip(client_key, signature, strict=True))
        return without_proof + b",p=" + base64.b64encode(proof)


@dataclass(frozen=True, slots=True)
class AppError:
    """An error as the app's log shows it."""

    time_ns: int
    number: int
    port: int | None
    message: str


def run_app(
    login: Login,
    *,
    connections: int,
    interval_s: float,
    stop: threading.Event,
    progress: Callable[[int, AppError | None], None],
) -> None:
    """Come and ask `connections` times, one by one; `progress` gets each number, with its error if any."""
    for number in range(1, connections + 1):
        progress(number, _ask(login, number))
        if stop.wait(interval_s):
            return


def _ask(login: Login, number: int) -> AppError | None:
    port = None
    try:
        with Session(login) as session:
            port = session.port
            session.log_in()
            session.query("select 1")
            session.leave()
    except DatabaseError as error:
        return AppError(time.time_ns(), number, port, str(error))
    return None


def _reason(error: OSError) -> str:
    return "timeout expired" if isinstance(error, TimeoutError) else error.strerror or str(error)
