"""Fixtures for tests on a real cluster: Podcam installed, a fresh namespace per test, users, the scenario.

PODCAM_E2E_KUBECONFIG     the cluster, as its administrator; without it all of these tests skip
PODCAM_E2E_CLUSTER        folder with the cluster's make-image, node-shell, node-stop and up; without it tests
                          that touch nodes skip, and the next has to be set
PODCAM_E2E_AGENT_IMAGE    the agent's image, where it is not made of this repository's files for the cluster
PODCAM_E2E_LAB_IMAGE      an image with Python 3.11 and PostgreSQL for the scenario (localhost/lab:latest)
"""

import itertools
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from e2e.cluster import AGENTS, SYSTEM, Cluster
from e2e.scenario import Scenario, deploy_scenario
from e2e.users import make_user

_REPOSITORY = Path(__file__).parents[2]
_HERE = Path(__file__).parent
_KINDS = ("recordings", "clips", "packetgrants")

_HOW_TO_GET_ONE = (
    "a cluster that may be changed is needed: PODCAM_E2E_KUBECONFIG=FILE make e2e; "
    "where ../shared/cluster is, its `setup` and `up` give one on this machine, and .ci/run does all of that"
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # The cluster's own controllers take a minute to find back from an outage: few tests wait for them.
    items.sort(key=lambda item: item.get_closest_marker("outage") is not None)
    why = _why_not(config)
    for item in items:
        if why is not None and item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.skip(reason=why))


def _why_not(config: pytest.Config) -> str | None:
    if not os.environ.get("PODCAM_E2E_KUBECONFIG"):
        return _HOW_TO_GET_ONE
    if hasattr(config, "workerinput"):
        return "there is one cluster, so these tests do not run side by side: make e2e"
    if shutil.which("kubectl") is None:
        return "kubectl is not on the PATH"
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows what the agents had to say meanwhile."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(cluster, Cluster):
        for title, command in (
            ("agents", ("get", "pods", "-n", SYSTEM, "-o", "wide")),
            ("agents' logs", ("logs", "-n", SYSTEM, "-l", AGENTS, "--prefix", "--tail=100")),
            ("podcam's objects", ("get", "podcam", "-A", "-o", "yaml")),
        ):
            done = cluster.run(*command)
            report.sections.append((title, (done.stdout + done.stderr)[-20_000:]))
    return report


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster(Path(os.environ["PODCAM_E2E_KUBECONFIG"]))


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder with the cluster's own programs: make-image, node-shell, node-stop, up."""
    folder = os.environ.get("PODCAM_E2E_CLUSTER")
    if not folder:
        pytest.skip("this touches the nodes: PODCAM_E2E_CLUSTER has to name the folder with node-shell")
    return Path(folder)


@pytest.fixture(scope="session")
def agent_image(request: pytest.FixtureRequest) -> str:
    """The agent's image, of the files in this repository unless another is named."""
    named = os.environ.get("PODCAM_E2E_AGENT_IMAGE")
    if named:
        return named
    tools: Path = request.getfixturevalue("tools")
    done = subprocess.run(
        [_REPOSITORY / "scripts" / "agent-image", tools], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def installed(cluster: Cluster, agent_image: str) -> None:
    """Podcam is applied to the cluster; its agents may not be there yet."""
    # What a person tried out on this cluster gives way to the files of this repository.
    cluster.kubectl("podcam", "install", "--image", agent_image, "--no-wait", "--force-conflicts")
    # A test machine's disk is often fuller than a node's should be.
    cluster.kubectl("set", "env", "-n", SYSTEM, "daemonset/podcam-agent", "PODCAM_FREE_FLOOR=5%")
    cluster.kubectl(
        "wait", "--for=condition=Established", *(f"crd/{kind}.podcam.dev" for kind in _KINDS), "--timeout=30s"
    )


@pytest.fixture(scope="session")
def agents(cluster: Cluster, installed: None) -> None:
    """An agent is ready on every node."""
    cluster.kubectl("rollout", "status", "-n", SYSTEM, "daemonset/podcam-agent", "--timeout=90s")


@pytest.fixture
def make_namespace(cluster: Cluster) -> Iterator[Callable[[], str]]:
    """Makes namespaces of the test's own; they go when it ends."""
    run = secrets.token_hex(3)
    numbers = itertools.count(1)
    made: list[str] = []

    def make() -> str:
        name = f"e2e-{run}-{next(numbers)}"
        cluster.kubectl("create", "namespace", name)
        made.append(name)
        # Pods are refused until their account is there, which takes a minute after an outage.
        account = ("serviceaccount/default", "-n", name)
        cluster.kubectl("wait", "--for=create", *account, "--timeout=150s", timeout_s=180)
        return name

    yield make
    if made:
        cluster.kubectl("delete", "namespace", "--wait=false", *made)


@pytest.fixture
def namespace(make_namespace: Callable[[], str]) -> str:
    """A fresh namespace."""
    return make_namespace()


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path) -> Callable[..., Cluster]:
    """user(namespace, name, {namespace: [cluster role, …]}) -> the cluster as that new user."""

    def make(namespace: str, name: str, roles: Mapping[str, Sequence[str]] | None = None) -> Cluster:
        return make_user(cluster, tmp_path, namespace, name, roles or {})

    return make


@pytest.fixture
def scenario(cluster: Cluster, namespace: str) -> Scenario:
    """The app, the faulty proxy and the database, in the test's namespace."""
    return deploy_scenario(cluster, namespace)
