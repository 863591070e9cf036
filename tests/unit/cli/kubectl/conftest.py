"""A cluster with objects in it, for the verbs of `kubectl podcam`."""

from collections.abc import Iterator, Sequence
from types import TracebackType

import pytest

from fake_cluster import FakeCluster
from podcam.cli.kubectl import access
from podcam.cluster import Kubectl
from podcam.kube import CLIPS, GRANTS, NAMESPACES, NODES, PODS, RECORDINGS, Api


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """What the flags lead to, whatever they are."""
    with FakeCluster() as fake:
        fake.kinds |= {kind.plural for kind in (RECORDINGS, CLIPS, GRANTS, PODS, NODES, NAMESPACES)}
        fake.add(NAMESPACES, {"metadata": {"name": "shop"}})

        class Proxy:
            def __init__(self, options: Sequence[str] = ()) -> None:
                self._api = Api.at(fake.url)

            def __enter__(self) -> Api:
                return self._api

            def __exit__(
                self,
                kind: type[BaseException] | None,
                error: BaseException | None,
                trace: TracebackType | None,
            ) -> None:
                self._api.close()

        monkeypatch.setattr(access, "KubectlProxy", Proxy)
        monkeypatch.setattr(Kubectl, "namespace", lambda _: "default")
        yield fake
