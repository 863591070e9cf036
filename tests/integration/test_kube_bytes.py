"""Bytes that come through the API server from a pod: by range, told when cut, never all held at once."""

import socket
import tracemalloc
from collections.abc import Callable

import pytest

from kube_server import KubeServer, refused
from podcam.errors import KubernetesError, UnreachableError
from podcam.kube import PODS, Api, path_of
from scripted_server import Script, request_on


def test_a_part_of_a_pods_bytes_is_asked_for_by_range(server: KubeServer, api: Api) -> None:
    server.answers((b"abc", b"def"))
    path = f"{path_of(PODS, 'podcam-system', 'podcam-agent-x')}:9472/proxy/v1/x"
    with api.get_bytes(path, {"Range": "bytes=100-"}, params={"a": "1"}) as answer:
        assert answer.status == 200
        assert b"".join(answer) == b"abcdef"
    assert server.asked[0].headers["Range"] == "bytes=100-"
    assert server.asked[0].headers.get("Accept") is None
    assert server.asked[0].params == {"a": "1"}


def backend(head: bytes, body: bytes) -> Callable[[socket.socket, int], None]:
    def converse(connection: socket.socket, _: int) -> None:
        request_on(connection)
        connection.sendall(b"HTTP/1.1 " + head + b"\r\n\r\n" + body)

    return converse


def test_the_backends_own_answers_come_through() -> None:
    refused_body = b'{"error": "no such grant"}'
    head = b"403 Forbidden\r\nX-Own: yes\r\nContent-Length: %d" % len(refused_body)
    with (
        Script(backend(head, refused_body)) as server,
        Api.at(server.url) as api,
        api.get_bytes("/x") as answer,
    ):
        assert answer.status == 403
        assert answer.headers["x-own"] == "yes"
        assert answer.read(1000) == refused_body
        assert answer.read(1000) == b""
    head = b"206 Partial Content\r\nContent-Range: bytes 4-6/7\r\nContent-Length: 3"
    with Script(backend(head, b"xyz")) as server, Api.at(server.url) as api, api.get_bytes("/x") as answer:
        assert (answer.status, answer.headers["Content-Range"]) == (206, "bytes 4-6/7")
        buffer = bytearray(2)
        assert answer.readinto(buffer) == 2
        assert (bytes(buffer), answer.read(10)) == (b"xy", b"z")


def test_the_api_servers_own_refusal_of_the_road_is_raised(server: KubeServer, api: Api) -> None:
    server.answers(refused(503, "error trying to reach service: dial tcp 10.0.0.1:9472: i/o timeout"))
    with pytest.raises(KubernetesError, match="error trying to reach service"):
        api.get_bytes("/api/v1/namespaces/podcam-system/pods/x:9472/proxy/v1/x")


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"200 OK\r\nContent-Length: 100", b"x" * 60),
        (b"200 OK\r\nTransfer-Encoding: chunked", b"3c\r\n" + b"x" * 60 + b"\r\n"),
        (b"200 OK\r\nTransfer-Encoding: chunked", b"64\r\n" + b"x" * 60),
    ],
)
def test_bytes_that_end_early_are_not_taken_for_all(head: bytes, body: bytes) -> None:
    with Script(backend(head, body)) as server, Api.at(server.url) as api, api.get_bytes("/x") as answer:
        buffer = bytearray(60)
        assert answer.readinto(buffer) == 60
        assert bytes(buffer) == b"x" * 60
        with pytest.raises(UnreachableError, match="the connection broke off"):
            answer.read(1000)


def test_a_big_answer_is_not_held_in_memory() -> None:
    size = 64 << 20

    def send_much(connection: socket.socket, _: int) -> None:
        request_on(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        piece = bytes(1 << 20)
        for _ in range(64):
            connection.sendall(piece)

    with Script(send_much) as server, Api.at(server.url) as api, api.get_bytes("/x") as answer:
        tracemalloc.start()
        try:
            assert sum(map(len, answer)) == size
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()
