"""An API server made of kmock, for tests: it answers requests in turn, as the test said beforehand.

    with KubeServer() as server:
        server.answers(page([pod("a")], version="10"), events(added(pod("b"), "11")))
        … list, then watch, at server.url …
        assert server.asked[1].params["resourceVersion"] == "10"

When it has no answer left, a watch stays open and silent until the server ends, and everything else is a 500.
"""

import asyncio
import gc
import re
import threading
import warnings
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Self

import kmock
from kmock import Response  # type: ignore[attr-defined]  # public, but not in its __all__

Object = dict[str, Any]
PATIENCE_SECONDS = 30.0


class KubeServer:
    """Runs in a thread of its own; use as a context manager."""

    def __init__(self) -> None:
        self.asked: list[kmock.Request] = []
        """All requests so far."""
        self._changed = threading.Condition()
        self._answers: deque[Any] = deque()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kube-server")
        self._handler = kmock.RawHandler()
        self._server: kmock.Server | None = None
        self._end: asyncio.Event | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return str(self._server.url).rstrip("/")

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())  # what is closing closes
        self._loop.close()
        self._server = None
        with warnings.catch_warnings():  # of clients that came while it closed: aiohttp closes none of these
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    def answers(self, *payloads: Any) -> None:
        """The next answers: whatever kmock takes, such as a dict, bytes, `refused`, `events`."""
        self._answers.extend(payloads)

    def wait_asked(self, count: int) -> Sequence[kmock.Request]:
        """All requests, once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) >= count, PATIENCE_SECONDS), self.asked
            return tuple(self.asked)

    async def _start(self) -> None:
        self._end = asyncio.Event()
        await self._handler.__aenter__()
        self._server = await kmock.Server(self._handler).__aenter__()
        self._handler[re.compile("/.*")] << self._answer

    async def _stop(self) -> None:
        assert self._end is not None
        assert self._server is not None
        self._end.set()
        await self._server.__aexit__(None, None, None)
        await self._handler.__aexit__(None, None, None)

    def _answer(self, request: kmock.Request) -> Any:
        with self._changed:
            self.asked.append(request)
            self._changed.notify_all()
            payload = self._answers.popleft() if self._answers else None
        if payload is None:
            payload = self._silence if "watch" in request.params else refused(500, "nothing left to say")
        # Said each time: kmock remembers the last status otherwise.
        return payload if isinstance(payload, Response) else Response(status=200, payload=payload)

    async def _silence(self) -> AsyncIterator[bytes]:
        assert self._end is not None
        yield b""
        await self._end.wait()

    def _run(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_SECONDS)


def page(objects: Sequence[Object], version: str, following: str | None = None) -> Object:
    """A list's answer; `following` is the token for the next page."""
    metadata = {"resourceVersion": version, **({"continue": following} if following else {})}
    return {"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": list(objects)}


def refused(code: int, message: str, reason: str = "", **details: Any) -> Response:
    """The API server's own refusal."""
    return Response(status=code, payload=status(code, message, reason, **details))


def status(code: int, message: str, reason: str = "", **details: Any) -> Object:
    """A Status object."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
        "details": details,
    }


def events(*each: Object) -> Callable[[], AsyncIterator[Any]]:
    """A watch that tells these, and ends."""

    async def stream() -> AsyncIterator[Any]:
        yield b""
        for event in each:
            yield event

    return stream


def named(name: str, version: str = "1", namespace: str = "shop") -> Object:
    """An object that has a name."""
    return {"metadata": {"name": name, "namespace": namespace, "resourceVersion": version}}


def added(name: str, version: str) -> Object:
    return {"type": "ADDED", "object": named(name, version)}


def deleted(name: str, version: str) -> Object:
    return {"type": "DELETED", "object": named(name, version)}


def bookmark(version: str) -> Object:
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}


def error(code: int, message: str, reason: str = "") -> Object:
    return {"type": "ERROR", "object": status(code, message, reason)}
