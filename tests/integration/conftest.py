"""What many integration tests stand on: network namespaces, a recorder in them, an API server."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import network_lab as lab
from connections import Lab, a_lab
from kube_server import KubeServer
from numbered_datagrams import NumberedSender
from podcam.capture import Namespace
from podcam.kube import Api
from recorders import OwnRecorder, own_recorder


@pytest.fixture
def here() -> Iterator[Namespace]:
    with lab.namespace() as namespace:
        yield namespace


@pytest.fixture
def pods() -> Iterator[list[Namespace]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(lab.namespace()) for _ in range(3)]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnRecorder]:
    with own_recorder(tmp_path / "podcam", kernel_memory_bytes=16 << 20) as started:
        yield started


@pytest.fixture
def where() -> Iterator[Lab]:
    with a_lab() as made:
        yield made


@pytest.fixture
def sender(here: Namespace) -> Iterator[NumberedSender]:
    with contextlib.closing(NumberedSender(here)) as numbered:
        yield numbered


@pytest.fixture
def server() -> Iterator[KubeServer]:
    """An API server that answers as the test says."""
    with KubeServer() as running:
        yield running


@pytest.fixture
def api(server: KubeServer) -> Iterator[Api]:
    with Api.at(server.url) as connected:
        yield connected
