"""A pod with a mesh's proxy: an init container redirects the app, and the diagnosis joins the two legs."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from e2e.cluster import Cluster, Object, wait_for
from e2e.scenario import Scenario
from e2e.test_agent_records import diagnosis, is_complete, recording, wait_for_clip, wait_until_recorded

pytestmark = pytest.mark.usefixtures("agents")

PORT, PROXY_PORT, PROXY_UID = 5432, 15001, 1337
IMAGE = "localhost/podcam-e2e-mesh:latest"
LAB = os.environ.get("PODCAM_E2E_LAB_IMAGE", "localhost/lab:latest")
RULES = f"""
table inet mesh {{
  chain output {{
    type nat hook output priority -100; policy accept;
    meta skuid {PROXY_UID} return
    oifname "lo" return
    meta l4proto tcp redirect to :{PROXY_PORT}
  }}
}}
"""


@pytest.fixture(scope="session")
def mesh_image(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The lab's image with this machine's nft."""
    nft = shutil.which("nft")
    if nft is None:
        pytest.skip("nft is missing: apt-get install nftables")
    layer = tmp_path_factory.mktemp("mesh") / "root"
    told = subprocess.run(["ldd", nft], capture_output=True, text=True, check=True).stdout
    for file in (nft, *re.findall(r"=> (/\S+)", told)):
        target = layer / "opt/nft" / Path(file).name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    subprocess.run([tools / "make-image", IMAGE, "--base", LAB, "--layer", layer], check=True)
    return IMAGE


def meshed(scenario: Scenario, image: str) -> Object:
    """The scenario's app, alone, with a proxy beside it, and an init container that redirects it there."""
    app = scenario.cluster.get("deployment/app", "-n", scenario.namespace)
    pod = app["spec"]["template"]["spec"]
    client = {**pod["containers"][0], "securityContext": {"runAsUser": 1000}}
    proxy = {
        **client,
        "name": "mesh",
        "command": ["python3", "-m", "e2e.scenario.programs.mesh", str(PROXY_PORT)],
        "securityContext": {"runAsUser": PROXY_UID},
    }
    redirect = {
        "name": "redirect",
        "image": image,
        "command": ["sh", "-ec", f"LD_LIBRARY_PATH=/opt/nft /opt/nft/nft -f - <<'END'\n{RULES}END"],
        "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "meshed", "namespace": scenario.namespace, "labels": {"app": "meshed"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "initContainers": [redirect],
            "containers": [proxy, client],
            "volumes": pod["volumes"],
        },
    }


def good(cluster: Cluster, scenario: Scenario, count: int) -> Object:
    """The meshed pod, once its app has had so many good connections."""
    pod = cluster.get("pod/meshed", "-n", scenario.namespace)

    def look() -> bool:
        return len([line for line in scenario.app_log(pod) if line["error"] is None]) >= count

    wait_for("good connections of the meshed pod", look)
    return pod


def test_both_legs_of_a_meshed_pod_are_recorded_and_joined_as_a_guess(
    scenario: Scenario, mesh_image: str
) -> None:
    cluster, namespace = scenario.cluster, scenario.namespace
    cluster.apply(recording(namespace, selector={"matchLabels": {"app": "meshed"}}))
    cluster.apply(meshed(scenario, mesh_image))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/meshed", "-n", namespace, "--timeout=60s")
    wait_until_recorded(cluster, namespace, 1)
    pod = good(cluster, scenario, 5)
    scenario.fail_next(pod)
    (failed,) = scenario.wait_until_failed()
    name = wait_for_clip(cluster, namespace, is_complete)["metadata"]["name"]
    (line,) = [line for line in scenario.app_log(pod) if line["error"] is not None]

    found = diagnosis(cluster, namespace, name)["connections"]
    by_id = {row["id"]: row for row in found}
    near = next(row for row in found if row["client"]["port"] == line["client_port"])
    far = next(row for row in found if row["client"]["port"] == failed["client_port"])
    assert (near["proxy"]["ip"], near["proxy"]["port"]) == ("127.0.0.1", PROXY_PORT)
    assert near["server"] == far["server"]
    assert near["server"]["port"] == PORT
    assert (near["failed"], far["failed"], far["verdict"]) == (True, True, "reset-during-startup")
    assert near["leg"] == {"connection": far["id"], "towards": "server", "began": "server", "guess": True}
    assert far["leg"] == {"connection": near["id"], "towards": "client", "began": "server", "guess": True}
    assert "As a guess" in near["summary"]
    assert "the failure began there (reset-during-startup)" in near["summary"]

    passed_on = {each["client_port"] for each in scenario.proxy_log()}
    pairs = [
        (row, by_id[row["leg"]["connection"]])
        for row in found
        if row["leg"] is not None and row["leg"]["towards"] == "server"
    ]
    assert len(pairs) > 5
    assert all(outer["client"]["port"] in passed_on for _, outer in pairs)
    assert all(inner["client_bytes"] == outer["client_bytes"] for inner, outer in pairs)
