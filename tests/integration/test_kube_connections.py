"""The connections of the client: kept, replaced, given up, closed under who waits."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from kube_server import PATIENCE_SECONDS
from podcam.errors import UnreachableError
from podcam.kube import CLIPS, Api, path_of
from podcam.kube.roads import UrlRoad
from scripted_server import Script, request_on

PATH = path_of(CLIPS, "shop", "c")
OBJECT = b'{"kind": "Clip"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(OBJECT) + OBJECT


def answer_all(connection: socket.socket, _: int) -> None:
    while request_on(connection):
        connection.sendall(OK)


def test_one_connection_serves_one_request_after_the_other() -> None:
    with Script(answer_all) as server, Api.at(server.url) as api:
        for _ in range(5):
            assert api.get(PATH) == {"kind": "Clip"}
        assert server.connections == 1


def test_many_threads_ask_at_once() -> None:
    with Script(answer_all) as server, Api.at(server.url) as api, ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda _: api.get(PATH), range(200)))) == 200


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced() -> None:
    closed = threading.Event()

    def answer_once(connection: socket.socket, _: int) -> None:
        request_on(connection)
        connection.sendall(OK)
        connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    with Script(answer_once) as server, Api.at(server.url) as api:
        api.get(PATH)
        assert closed.wait(PATIENCE_SECONDS)
        api.create(PATH, {})  # may not be repeated, so must not be sent into nothing
        assert server.connections == 2


def hang_up_on_second(connection: socket.socket, number: int) -> None:
    if number > 1:
        answer_all(connection, number)
        return
    request_on(connection)
    connection.sendall(OK)
    request_on(connection)


def test_what_may_be_repeated_is_when_a_kept_connection_breaks() -> None:
    with Script(hang_up_on_second) as server, Api.at(server.url) as api:
        api.get(PATH)
        assert api.get(PATH) == {"kind": "Clip"}
        assert server.connections == 2


def test_creating_is_not_repeated_as_nobody_knows_whether_it_happened() -> None:
    with Script(hang_up_on_second) as server, Api.at(server.url) as api:
        api.get(PATH)
        with pytest.raises(UnreachableError, match="the connection broke off"):
            api.create(PATH, {})
        assert server.connections == 1


def test_a_fresh_connection_that_breaks_is_not_tried_again() -> None:
    def hear_and_hang_up(connection: socket.socket, _: int) -> None:
        request_on(connection)

    with Script(hear_and_hang_up) as server, Api.at(server.url) as api:
        with pytest.raises(UnreachableError, match="the connection broke off"):
            api.get(PATH)
        assert server.connections == 1


def test_a_server_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    def wait_for_the_client(connection: socket.socket, _: int) -> None:
        while connection.recv(65_536):
            pass

    with (
        Script(wait_for_the_client) as server,
        Api(UrlRoad(server.url), answer_seconds=0.05) as api,
        pytest.raises(UnreachableError, match="no answer in time"),
    ):
        api.get(PATH)


def test_closing_wakes_whoever_waits() -> None:
    asked = threading.Event()

    def wait_for_the_client(connection: socket.socket, _: int) -> None:
        request_on(connection)
        asked.set()
        while connection.recv(65_536):
            pass

    with Script(wait_for_the_client) as server, ThreadPoolExecutor(1) as pool:
        api = Api.at(server.url)
        waiting = pool.submit(api.get, PATH)
        assert asked.wait(PATIENCE_SECONDS)
        began = time.monotonic()
        api.close()
        with pytest.raises(UnreachableError):
            waiting.result(PATIENCE_SECONDS)
        assert time.monotonic() - began < 10
        with pytest.raises(UnreachableError, match="was closed here"):
            api.get(PATH)
