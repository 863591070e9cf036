"""List, then watch, against an API server made of kmock, and one of plain sockets where lines are cut."""

import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kube_server import (
    PATIENCE_SECONDS,
    KubeServer,
    added,
    bookmark,
    deleted,
    error,
    events,
    named,
    page,
    refused,
)
from podcam.errors import (
    ForbiddenError,
    KubernetesError,
    NotInstalledError,
    UnauthorizedError,
    UnreachableError,
)
from podcam.kube import (
    PODS,
    RECORDINGS,
    Api,
    Change,
    Changed,
    Deleted,
    Kind,
    Listed,
    Lost,
    WatchSettings,
    list_objects,
    list_then_watch,
)

HASTY = WatchSettings(silence=30.0, shortest=0.0, first_pause=0.01, longest_pause=0.02)
"""`shortest`: watches of these tests may end at once."""


class Watch:
    """A list_then_watch in a thread, and what it told and waited."""

    def __init__(self, url: str, kind: Kind = PODS, settings: WatchSettings = HASTY, **how: Any) -> None:
        self.told: list[Change] = []
        self.paused: list[float] = []
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._api = Api.at(url)
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(kind, settings, how))

    def _run(self, kind: Kind, settings: WatchSettings, how: dict[str, Any]) -> None:
        try:
            list_then_watch(
                self._api,
                kind,
                handle=self._handle,
                stop=self._stop,
                settings=settings,
                wait=self._wait,
                **how,
            )
        except BaseException as error:  # noqa: BLE001 - told where the test looks
            self._failed.append(error)

    def _handle(self, change: Change) -> None:
        with self._changed:
            self.told.append(change)
            self._changed.notify_all()

    def _wait(self, seconds: float) -> None:
        with self._changed:
            self.paused.append(seconds)
            self._changed.notify_all()
        self._stop.wait(0.001)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._api.close()
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        assert not self._failed

    def until(self, done: Callable[[list[Change]], bool]) -> list[Change]:
        with self._changed:
            assert self._changed.wait_for(lambda: done(self.told), PATIENCE_SECONDS), self.told
            return list(self.told)

    def count(self, count: int) -> list[Change]:
        return self.until(lambda told: len(told) >= count)


def names(change: Change) -> list[str]:
    objects = change.objects if isinstance(change, Listed) else (change.object,)  # type: ignore[union-attr]
    return [each["metadata"]["name"] for each in objects]


def test_what_there_is_then_what_becomes_of_it(server: KubeServer) -> None:
    server.answers(
        page([named("a"), named("b")], version="10"),
        events(added("c", "11"), {"type": "MODIFIED", "object": named("a", "12")}, deleted("b", "13")),
    )
    with Watch(server.url) as watch:
        told = watch.count(4)
    assert [type(change) for change in told] == [Listed, Changed, Changed, Deleted]
    assert [names(change) for change in told] == [["a", "b"], ["c"], ["a"], ["b"]]


def test_selectors_go_with_the_list_and_the_watch(server: KubeServer) -> None:
    server.answers(page([], version="10"))
    with Watch(server.url, namespace="shop", field_selector="spec.nodeName=n", label_selector="app=web"):
        listing, watching = server.wait_asked(2)
    for request in (listing, watching):
        assert request.url.path == "/api/v1/namespaces/shop/pods"
        assert request.params["fieldSelector"] == "spec.nodeName=n"
        assert request.params["labelSelector"] == "app=web"
    assert "resourceVersion" not in listing.params
    assert listing.params["limit"] == "500"
    assert watching.params["allowWatchBookmarks"] == "true"
    assert watching.params["resourceVersion"] == "10"
    assert 900 <= int(watching.params["timeoutSeconds"]) <= 1800


def test_a_list_comes_in_pages(server: KubeServer) -> None:
    server.answers(
        page([named("a")], version="10", following="more"),
        page([named("b")], version="10", following="still more"),
        page([named("c")], version="10"),
    )
    with Watch(server.url) as watch:
        (listed,) = watch.count(1)
        requests = server.wait_asked(4)
    assert names(listed) == ["a", "b", "c"]
    assert [request.params.get("continue") for request in requests] == [None, "more", "still more", None]


def test_pages_that_expired_are_asked_for_as_one(server: KubeServer) -> None:
    server.answers(
        page([named("a")], version="10", following="more"),
        refused(410, "The provided continue parameter is too old", "Expired"),
        page([named("a"), named("b")], version="20"),
    )
    with Api.at(server.url) as api:
        listed = list_objects(api, PODS)
    assert [each["metadata"]["name"] for each in listed.objects] == ["a", "b"]
    assert listed.version == "20"
    assert "limit" not in server.asked[2].params


def test_a_watch_that_ends_goes_on_where_it_was(server: KubeServer) -> None:
    server.answers(page([], version="10"), events(added("a", "11")), events(), events(added("b", "12")))
    with Watch(server.url) as watch:
        told = watch.count(3)
        requests = server.wait_asked(5)
    assert [names(change) for change in told] == [[], ["a"], ["b"]]
    assert [request.params.get("resourceVersion") for request in requests] == [None, "10", "11", "11", "12"]


def test_a_bookmark_moves_the_version_and_is_not_told(server: KubeServer) -> None:
    server.answers(page([], version="10"), events(bookmark("500")))
    with Watch(server.url) as watch:
        requests = server.wait_asked(3)
        assert [type(change) for change in watch.told] == [Listed]
    assert requests[2].params["resourceVersion"] == "500"


@pytest.mark.parametrize(
    "gone",
    [
        refused(410, "too old resource version: 10 (500)", "Expired"),
        refused(410, "gone", "Gone"),
        events(error(410, "too old resource version: 10 (500)", "Expired")),
        events(bookmark("11"), error(410, "too old resource version", "Expired")),
    ],
    ids=["status Expired", "status Gone", "event", "event after a bookmark"],
)
def test_a_version_that_is_too_old_makes_a_new_list(server: KubeServer, gone: Any) -> None:
    server.answers(page([named("a")], version="10"), gone, page([named("b")], version="600"))
    with Watch(server.url) as watch:
        told = watch.count(2)
        requests = server.wait_asked(4)
    assert [names(change) for change in told] == [["a"], ["b"]]  # so a was deleted meanwhile
    assert "watch" not in requests[2].params
    assert requests[3].params["resourceVersion"] == "600"


def test_versions_that_are_always_too_old_make_no_storm(server: KubeServer) -> None:
    rounds = 6
    for version in range(rounds):
        server.answers(page([], version=str(version)), refused(410, "too old", "Expired"))
    settings = WatchSettings(first_pause=0.5, longest_pause=15.0)
    with Watch(server.url, settings=settings, uniform=lambda _, most: most) as watch:
        server.wait_asked(2 * rounds + 1)  # so the last pause is over
    assert watch.paused[:rounds] == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0]


def test_what_was_told_makes_good_for_failures_before(server: KubeServer) -> None:
    too_old = error(410, "too old", "Expired")
    server.answers(*[refused(500, "no")] * 3, page([], version="10"), events(bookmark("11"), too_old))
    server.answers(page([], version="20"))
    settings = WatchSettings(first_pause=0.5, longest_pause=15.0)
    with Watch(server.url, settings=settings, uniform=lambda _, most: most, now=lambda: 0.0) as watch:
        server.wait_asked(7)
    assert watch.paused == [0.5, 1.0, 2.0, 0.5]


def test_every_storm_is_told(server: KubeServer) -> None:
    for version in ("10", "20"):
        server.answers(page([], version=version), *[refused(500, "no")] * 2)
    server.answers(page([], version="30"))
    with Watch(server.url) as watch:
        told = watch.count(5)
    assert [type(change) for change in told] == [Listed, Lost, Listed, Lost, Listed]


def test_watches_that_end_at_once_and_tell_nothing_make_no_storm(server: KubeServer) -> None:
    server.answers(page([], version="10"), *[events()] * 4, events(bookmark("11")), events())
    settings = WatchSettings(first_pause=1.0, longest_pause=15.0)
    with Watch(server.url, settings=settings, uniform=lambda _, most: most, now=lambda: 0.0) as watch:
        server.wait_asked(8)
    assert watch.paused[:4] == [1.0, 2.0, 4.0, 8.0]
    assert watch.paused[4] == 1.0  # what was told makes good for what was before


def test_a_storm_of_failures_is_told_once_and_made_good_by_a_list(server: KubeServer) -> None:
    server.answers(
        page([named("a")], version="10"),
        *[refused(500, "etcdserver: leader changed")] * 3,
        refused(503, "apiserver is shutting down"),
        page([named("b")], version="20"),
        events(added("c", "21")),
    )
    with Watch(server.url) as watch:
        told = watch.count(4)
        server.wait_asked(8)
    assert [type(change) for change in told] == [Listed, Lost, Listed, Changed]
    assert isinstance(told[1], Lost)
    assert "etcdserver: leader changed" in str(told[1].why)


def test_an_error_in_a_watch_makes_a_new_list(server: KubeServer) -> None:
    server.answers(page([], version="10"), events(error(500, "internal")), page([named("a")], version="20"))
    with Watch(server.url) as watch:
        told = watch.count(3)
    assert [type(change) for change in told] == [Listed, Lost, Listed]


@pytest.mark.parametrize("line", [b"[]\n", b"{}\n", b"\xff\n", b'{"type": "ADDED", "object": {}}\n', b"\n"])
def test_what_is_no_event_makes_a_new_list(server: KubeServer, line: bytes) -> None:
    server.answers(page([], version="10"), (line,), page([named("a")], version="20"))
    with Watch(server.url) as watch:
        told = watch.count(3)
    assert [type(change) for change in told] == [Listed, Lost, Listed]


@pytest.mark.parametrize(
    ("refusal", "why"),
    [
        (refused(401, "Unauthorized"), UnauthorizedError),
        (refused(403, "no"), ForbiddenError),
        (refused(404, ""), NotInstalledError),
        (refused(429, "later"), KubernetesError),
        ({"kind": "Something"}, UnreachableError),
    ],
)
def test_why_the_server_is_lost_is_told(server: KubeServer, refusal: Any, why: type[KubernetesError]) -> None:
    server.answers(refusal, page([], version="10"))
    with Watch(server.url, RECORDINGS) as watch:
        lost, listed = watch.count(2)
    assert isinstance(lost, Lost)
    assert type(lost.why) is why
    assert isinstance(listed, Listed)


def test_the_server_says_how_long_to_wait(server: KubeServer) -> None:
    server.answers(
        refused(429, "too many requests", "TooManyRequests", retryAfterSeconds=7), page([], version="10")
    )
    with Watch(server.url) as watch:
        watch.count(2)
    assert 7.0 <= watch.paused[0] <= 7.0 + HASTY.longest_pause


def test_nobody_makes_it_wait_for_long() -> None:
    away = b"HTTP/1.1 503 Maintenance\r\nRetry-After: 86400\r\nContent-Length: 0\r\n\r\n"
    with RawServer(away, LIST) as server, Watch(server.url) as watch:
        watch.count(2)
    assert 60.0 <= watch.paused[0] <= 61.0


def test_a_connection_without_a_word_is_broken_off_and_the_watch_goes_on(server: KubeServer) -> None:
    """As after the peer vanished: no byte, and no end either."""
    server.answers(page([], version="10"))  # and then silence
    with Watch(server.url, settings=WatchSettings(silence=0.05, shortest=0.0)) as watch:
        requests = server.wait_asked(4)
        assert [type(change) for change in watch.told] == [Listed]
    assert [request.params.get("resourceVersion") for request in requests[1:4]] == ["10", "10", "10"]


def test_an_idle_watch_asks_for_nothing(server: KubeServer) -> None:
    server.answers(page([], version="10"))
    with Watch(server.url):
        server.wait_asked(2)
    assert len(server.asked) == 2


def test_a_server_that_is_away_at_the_start_is_told_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Watch(f"http://127.0.0.1:{port}") as watch:
        (lost,) = watch.count(1)
        watch.until(lambda _: len(watch.paused) >= 5)
        assert len(watch.told) == 1
    assert isinstance(lost, Lost)
    assert "cannot be reached: Connection refused" in str(lost.why)


def test_the_back_off_has_a_bound_and_full_jitter() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    bounds: list[tuple[float, float]] = []

    def lowest(least: float, most: float) -> float:
        bounds.append((least, most))
        return 0.0 if len(bounds) % 2 else most

    settings = WatchSettings(first_pause=0.5, longest_pause=15.0)
    with Watch(f"http://127.0.0.1:{port}", settings=settings, uniform=lowest) as watch:
        watch.until(lambda _: len(bounds) >= 40)
    assert bounds[:7] == [(0.0, most) for most in (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0)]
    assert max(watch.paused) == 15.0


class Held(bytes):
    """An answer after which the connection stays open, without another byte."""


class RawServer:
    """Answers each connection with the next bytes, then cuts it; holds it when it has no more."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._held: list[socket.socket] = []

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            request = b""
            while b"\r\n\r\n" not in request:
                piece = connection.recv(4096)
                if not piece:
                    break
                request += piece
            if not request:
                connection.close()
                return
            self.asked.append(request.split(b" ")[1].decode())
            if not self._answers:
                self._held.append(connection)
                continue
            said = self._answers.pop(0)
            connection.sendall(said)
            if isinstance(said, Held):
                self._held.append(connection)
            else:
                connection.close()

    def __enter__(self) -> "RawServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join(PATIENCE_SECONDS)
        for each in (self._listener, *self._held):
            each.close()


def answer(body: bytes, *, whole: bool = True) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % (len(body) + (not whole)) + body


def chunks(*pieces: bytes, end: bytes = b"") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


def line(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode() + b"\n"


LIST = answer(json.dumps(page([named("a")], version="10")).encode())
WHOLE = line(added("b", "11"))
HALF = line(added("c", "12"))[:-20]


@pytest.mark.parametrize(
    "cut",
    [
        chunks(WHOLE + HALF),
        chunks(WHOLE, HALF),
        chunks(WHOLE, end=b"%x\r\n" % 200 + HALF),
        chunks(WHOLE, HALF, end=b"0\r\n\r\n"),
        chunks(WHOLE, end=b"ff"),
        chunks(WHOLE[:5], WHOLE[5:], end=b"no chunk\r\n"),
        b"HTTP/1.1 200 OK\r\n\r\n" + WHOLE + HALF,
    ],
    ids=[
        "in a line",
        "between chunks",
        "in a chunk",
        "orderly",
        "in a chunk's head",
        "garbage",
        "not chunked",
    ],
)
def test_a_watch_that_breaks_in_the_middle_of_a_line_goes_on_after_the_last_whole_one(cut: bytes) -> None:
    with RawServer(LIST, cut, chunks(line(added("c", "12")))) as server, Watch(server.url) as watch:
        told = watch.count(3)
        assert [type(change) for change in told] == [Listed, Changed, Changed]
        assert [names(change) for change in told] == [["a"], ["b"], ["c"]]
        assert "resourceVersion=11" in server.asked[2]


def test_lines_come_in_any_pieces() -> None:
    lines = b"".join(line(added(name, version)) for name, version in (("b", "11"), ("c", "12"), ("d", "13")))
    for size in (1, 7, 100, 1000):
        pieces = [lines[at : at + size] for at in range(0, len(lines), size)]
        with RawServer(LIST, Held(chunks(*pieces))) as server, Watch(server.url) as watch:
            told = watch.count(4)
            assert [names(change) for change in told] == [["a"], ["b"], ["c"], ["d"]]


@pytest.mark.parametrize(
    "nothing", [b"", b"HTTP/1.1 2", b"garbage\r\n\r\n", answer(b'{"items": []', whole=False)]
)
def test_an_answer_that_breaks_off_is_asked_for_again(nothing: bytes) -> None:
    with RawServer(nothing, LIST) as server, Watch(server.url) as watch:
        lost, listed = watch.count(2)
        assert isinstance(lost, Lost)
        assert isinstance(lost.why, UnreachableError)
        assert names(listed) == ["a"]


def test_a_line_without_end_is_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podcam.kube.watching._MOST_LINE_BYTES", 1000)
    again = chunks(line(added("c", "12")))
    endless = Held(chunks(WHOLE, b"x" * 2000))
    with RawServer(LIST, endless, again) as server, Watch(server.url) as watch:
        told = watch.count(3)
        assert [names(change) for change in told] == [["a"], ["b"], ["c"]]
        assert "resourceVersion=11" in server.asked[2]
