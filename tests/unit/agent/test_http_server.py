"""The server itself: health, metrics, and clients that behave badly."""

import http.client
import json
import socket
from contextlib import closing
from pathlib import Path

import pytest

from podcam.agent.http import AgentServer
from podcam.sealed import PrivateKey
from podcam.serving import Limits
from served_clips import FakeServed, grant_for, keep_clip, packet, serving
from waiting import wait_until


def connected(server: AgentServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def get(server: AgentServer, path: str) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()


def raw(server: AgentServer, request: bytes) -> bytes:
    """All that comes back until the server hangs up."""
    with connected(server) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_health() -> None:
    served = FakeServed()
    with serving(served) as server:
        assert get(server, "/healthz") == (200, b"ok\n")
        served.ill = "the writer ended"
        status, body = get(server, "/healthz")
        assert (status, json.loads(body)) == (503, {"error": "the writer ended"})


def test_metrics() -> None:
    with serving(FakeServed()) as server:
        assert get(server, "/metrics") == (200, b"podcam_points 3\n")


def test_both_address_families() -> None:
    server = AgentServer(FakeServed(), PrivateKey.new(), port=0)
    server.start()
    try:
        for address in ("127.0.0.1", "::1") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
            with closing(http.client.HTTPConnection(address, server.port, timeout=30)) as connection:
                connection.request("GET", "/healthz")
                assert connection.getresponse().status == 200
    finally:
        server.close()


def test_port_that_is_taken() -> None:
    with serving(FakeServed()) as server, pytest.raises(OSError, match="in use"):
        AgentServer(FakeServed(), PrivateKey.new(), address="127.0.0.1", port=server.port)


def test_one_connection_serves_many_requests() -> None:
    with (
        serving(FakeServed()) as server,
        closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection,
    ):
        for path, status in (("/healthz", 200), ("/nothing", 404), ("/metrics", 200)):
            connection.request("GET", path)
            response = connection.getresponse()
            assert (response.status, response.will_close) == (status, False)
            response.read()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "CONNECT"])
def test_other_methods(method: str) -> None:
    with serving(FakeServed()) as server:
        head, _, body = raw(server, f"{method} /healthz HTTP/1.1\r\nHost: a\r\n\r\n".encode()).partition(
            b"\r\n\r\n"
        )
        assert head.startswith(b"HTTP/1.1 501 ")
        assert method in json.loads(body)["error"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"junk\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET " + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\0\0\r\n\r\n",
    ],
)
def test_what_is_no_request(request_bytes: bytes) -> None:
    with serving(FakeServed()) as server:
        answer = raw(server, request_bytes)
        assert b'{"error": ' in answer
        assert get(server, "/healthz")[0] == 200


def test_body_is_not_taken_for_the_next_request() -> None:
    hidden = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
    with serving(FakeServed()) as server:
        for how in (b"Content-Length: %d" % len(hidden), b"Transfer-Encoding: chunked"):
            answer = raw(server, b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + how + b"\r\n\r\n" + hidden)
            assert answer.count(b"HTTP/1.1 ") == 1
            assert b"podcam_points" not in answer


def test_nothing_is_logged(capfd: pytest.CaptureFixture[str]) -> None:
    with serving(FakeServed()) as server:
        get(server, "/healthz")
        get(server, "/nothing")
        raw(server, b"junk\r\n\r\n")
        connected(server).close()
    assert capfd.readouterr() == ("", "")


def test_defect_is_told_and_costs_one_connection(capfd: pytest.CaptureFixture[str]) -> None:
    served = FakeServed()

    def broken() -> str:
        raise ZeroDivisionError

    served.metrics = broken  # type: ignore[method-assign]
    with serving(served) as server:
        with pytest.raises(http.client.RemoteDisconnected):
            get(server, "/metrics")
        assert get(server, "/healthz")[0] == 200
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_silent_client_is_left() -> None:
    with serving(FakeServed(), limits=Limits(silence_seconds=0.05)) as server, connected(server) as client:
        assert client.recv(1) == b""


def test_client_that_takes_nothing_is_left_and_blocks_nobody(tmp_path: Path) -> None:
    served = FakeServed()
    reader = PrivateKey.new()
    served.allow(grant_for(reader))
    large = [packet(second, bytes(500_000)) for second in range(40)]
    served.clips["shop", "broken"] = keep_clip(tmp_path, "shop_broken", "node-1", {"web-1": [large]})
    with serving(served, limits=Limits(silence_seconds=3)) as server, connected(server) as client:
        client.sendall(b"GET /v1/grants/shop/pull-1/files/0 HTTP/1.1\r\nHost: a\r\n\r\n")
        head = client.recv(1000)
        size = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
        assert size > 20_000_000
        assert get(server, "/healthz")[0] == 200  # while the other one stands still
        wait_until(lambda: not server_connections(server))
        client.settimeout(30)
        assert sum(map(len, iter(lambda: client.recv(1 << 20), b""))) < size


def test_those_that_stand_still_make_room_for_others() -> None:
    with serving(FakeServed(), limits=Limits(connections=4)) as server:
        crowd = [connected(server) for _ in range(12)]
        try:
            assert get(server, "/healthz")[0] == 200
            wait_until(lambda: len(server_connections(server)) <= 4)
            for client in crowd[:8]:
                assert client.recv(1) == b""
        finally:
            for client in crowd:
                client.close()


def test_one_that_moves_stays() -> None:
    with (
        serving(FakeServed(), limits=Limits(connections=3)) as server,
        closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as busy,
    ):
        busy.request("GET", "/healthz")
        assert busy.getresponse().read() == b"ok\n"
        local = busy.sock
        for _ in range(6):
            with connected(server), connected(server):
                busy.request("GET", "/healthz")
                assert busy.getresponse().read() == b"ok\n"
        assert busy.sock is local  # http.client would have connected anew


def test_waiting_for_grants_is_bounded() -> None:
    """A crowd that asks for grants that never come keeps no more than so many threads waiting."""
    served = FakeServed()
    with serving(served) as server:
        crowd = [connected(server) for _ in range(20)]
        try:
            for client in crowd:
                client.sendall(b"GET /v1/grants/shop/none/index HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_until(lambda: len(served.waited) == 20)
            assert served.waited.count(3.0) == 16
            assert get(server, "/healthz")[0] == 200
            served.arrived.set()
            for client in crowd:
                assert client.recv(100).startswith(b"HTTP/1.1 403 ")
        finally:
            for client in crowd:
                client.close()


def test_close_breaks_off_what_is_open() -> None:
    with serving(FakeServed()) as server:
        client = connected(server)
        client.sendall(b"GET /healthz HTTP/1.1\r\n")
        wait_until(lambda: server_connections(server))
    with closing(client):
        assert client.recv(1) == b""


def server_connections(server: AgentServer) -> list[socket.socket]:
    return list(server._server._connections)
