"""What many integration tests stand on: network namespaces, a recorder in them, an API server."""

from collections.abc import Iterator

import pytest

import network_lab as lab
from kube_server import KubeServer
from podcam.capture import Namespace
from podcam.kube import Api


@pytest.fixture
def here() -> Iterator[Namespace]:
    with lab.namespace() as namespace:
        yield namespace


@pytest.fixture
def server() -> Iterator[KubeServer]:
    """An API server that answers as the test says."""
    with KubeServer() as running:
        yield running


@pytest.fixture
def api(server: KubeServer) -> Iterator[Api]:
    with Api.at(server.url) as connected:
        yield connected
