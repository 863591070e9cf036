"""The API server, with a count of what it was asked and how it answered."""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from podcam.errors import KubernetesError
from podcam.kube import Answer, Api, Object
from podcam.kube.roads import Road


class CountedApi(Api):
    """An `Api` that counts its requests; a watch counts when it begins."""

    def __init__(self, road: Road, **options: Any) -> None:
        super().__init__(road, **options)
        self._counts: Counter[tuple[str, str]] = Counter()
        self._counting = threading.Lock()

    @property
    def answers(self) -> Mapping[tuple[str, str], int]:
        """Requests by verb and by code of the answer: `ok`, the status of a refusal, or `unreachable`."""
        with self._counting:
            return dict(self._counts)

    def get(self, path: str, params: Mapping[str, str | int] | None = None) -> Object:
        """As in `Api`; with parameters it is a list."""
        with self._counted("list" if params else "get"):
            return super().get(path, params)

    def create(self, path: str, body: Mapping[str, Any], **options: Any) -> Object:
        """As in `Api`."""
        with self._counted("create"):
            return super().create(path, body, **options)

    def apply(self, path: str, body: Mapping[str, Any], **options: Any) -> Object:
        """As in `Api`."""
        with self._counted("apply"):
            return super().apply(path, body, **options)

    def delete(self, path: str, **options: Any) -> Object:
        """As in `Api`."""
        with self._counted("delete"):
            return super().delete(path, **options)

    def watch(self, path: str, params: Mapping[str, str | int], *, silence_seconds: float) -> Answer:
        """As in `Api`."""
        with self._counted("watch"):
            return super().watch(path, params, silence_seconds=silence_seconds)

    @contextmanager
    def _counted(self, verb: str) -> Iterator[None]:
        code = "ok"
        try:
            yield
        except KubernetesError as error:
            code = str(error.status or "unreachable")
            raise
        finally:
            with self._counting:
                self._counts[verb, code] += 1
