"""The overlay for OpenShift, rendered and checked against the schemas; it has not been run there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from e2e.cluster import SYSTEM, Cluster, Object

pytestmark = pytest.mark.usefixtures("installed")

_HERE = Path(__file__).parent
_OVERLAY = _HERE.parents[1] / "deploy" / "overlays" / "openshift"


@pytest.fixture
def constraints_kind(cluster: Cluster) -> Iterator[None]:
    """The API server knows the kind that only OpenShift has, for as long as the test takes."""
    definition = _HERE / "openshift.yaml"
    cluster.kubectl("apply", "-f", definition)
    cluster.kubectl("wait", "--for=condition=Established", "-f", definition, "--timeout=30s")
    yield
    cluster.kubectl("delete", "-f", definition)


def test_the_api_server_takes_every_object_of_it(cluster: Cluster, constraints_kind: None) -> None:
    cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-k", _OVERLAY)


def test_the_constraints_allow_what_the_agent_asks_for_and_nothing_more(cluster: Cluster) -> None:
    rendered = [found for found in yaml.safe_load_all(cluster.kubectl("kustomize", _OVERLAY)) if found]
    allowed = _of(rendered, "SecurityContextConstraints")
    pod = _of(rendered, "DaemonSet")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    security = container["securityContext"]

    assert pod["metadata"]["annotations"]["openshift.io/required-scc"] == allowed["metadata"]["name"]
    assert sorted(allowed["allowedCapabilities"]) == sorted(security["capabilities"]["add"])
    # The token is projected by the API server.
    kinds = {kind for volume in pod["spec"]["volumes"] for kind in volume if kind != "name"}
    assert set(allowed["volumes"]) == kinds | {"projected"}
    assert allowed["allowPrivilegeEscalation"] is security["allowPrivilegeEscalation"] is False
    assert allowed["readOnlyRootFilesystem"] is security["readOnlyRootFilesystem"] is True
    assert allowed["seLinuxContext"]["seLinuxOptions"] == pod["spec"]["securityContext"]["seLinuxOptions"]
    assert {key for key, value in allowed.items() if key.startswith("allow") and value is True} == {
        "allowHostDirVolumePlugin"
    }
    (use,) = (
        found for found in rendered if found["kind"] == "Role" and found["metadata"]["name"] != "podcam-road"
    )
    assert use["metadata"]["namespace"] == SYSTEM
    (rule,) = use["rules"]
    assert (rule["verbs"], rule["resourceNames"]) == (["use"], [allowed["metadata"]["name"]])


def _of(rendered: list[Object], kind: str) -> Object:
    (found,) = (found for found in rendered if found["kind"] == kind)
    return found
