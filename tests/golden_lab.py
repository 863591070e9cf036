"""The lab of the golden captures: real PostgreSQL servers, and proxies that misbehave."""

import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")
SSL_REQUEST = struct.pack("!II", 8, 80877103)

Handler = Callable[[socket.socket], None]


def run(*command: object, check: bool = True, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(part) for part in command], check=check, capture_output=True, **options)  # type: ignore[call-overload,no-any-return]


def as_postgres(*command: object) -> None:
    run("runuser", "-u", "postgres", "--", *command)


@contextmanager
def postgres(folder: Path, binaries: Path, port: int, *, tls: Path | None = None) -> Iterator[None]:
    """A PostgreSQL server. Roles: `app` (SCRAM) and `legacy` (MD5) with password `secret`, and `trusted`."""
    data = folder / f"data-{port}"
    as_postgres(binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync")
    (data / "pg_hba.conf").write_text(
        "local all all trust\nhost all postgres all trust\nhost all trusted all trust\n"
        "host all legacy all md5\nhost all all all scram-sha-256\n"
    )
    settings = ["-c fsync=off", "-c listen_addresses=*", f"-c port={port}", f"-k {folder}"]
    if tls:
        settings += [
            "-c ssl=on",
            f"-c ssl_cert_file={tls / 'server.crt'}",
            f"-c ssl_key_file={tls / 'server.key'}",
        ]
    as_postgres(
        binaries / "pg_ctl", "-D", data, "-w", "-l", folder / f"log-{port}", "-o", " ".join(settings), "start"
    )
    try:
        for sql in (
            "create role app login password 'secret'",
            "create role trusted login",
            "set password_encryption = 'md5'; create role legacy login password 'secret'",
        ):
            run(binaries / "psql", "-h", folder, "-p", port, "-U", "postgres", "-c", sql)
        yield
    finally:
        as_postgres(binaries / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def make_certificate(folder: Path) -> None:
    """A self-signed certificate for the servers, and a stranger's that did not sign it."""
    for name in ("server", "stranger"):
        key, certificate, subject = folder / f"{name}.key", folder / f"{name}.crt", f"/CN={name}.example"
        request = (
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            3650,
            "-subj",
            subject,
        )
        run(*request, "-keyout", key, "-out", certificate)
    run("chown", "-R", "postgres", folder)
    (folder / "server.key").chmod(0o600)


def reset(connection: socket.socket) -> None:
    """Close with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def acknowledged(connection: socket.socket) -> None:
    """Give the kernel time to acknowledge what was received before the connection ends."""
    time.sleep(0.06)


class Listener:
    """A TCP server in a thread of its own; each connection goes to the handler."""

    def __init__(self, port: int, handler: Handler, host: str = "127.0.0.1", backlog: int = 16) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._handler = handler
        self._socket = socket.create_server((host, port), family=family, backlog=backlog)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError):
            self._handler(connection)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._thread.join()
        self._socket.close()


def relay(client: socket.socket, backend_port: int, first: bytes = b"") -> None:
    """Pass bytes both ways until both sides have closed."""
    backend = socket.create_connection(("127.0.0.1", backend_port))
    backend.sendall(first)

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=pump, args=(backend, client), daemon=True)
    back.start()
    pump(client, backend)
    back.join()
    client.close()


def server_tls(folder: Path, version: ssl.TLSVersion, alpn: list[str] | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


@contextmanager
def folder_for_everybody() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="podcam-golden-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        run("chown", "postgres", folder)
        yield folder
