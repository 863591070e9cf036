"""The story on a cluster: an app on two nodes, PostgreSQL, and a proxy between them that fails on demand."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from e2e.cluster import Cluster, Object, wait_for

_HERE = Path(__file__).parent
_REPOSITORY = _HERE.parents[2]
_PROGRAMS = {
    **{f"e2e/scenario/programs/{path.name}": path for path in (_HERE / "programs").glob("*.py")},
    "podcam/demo/app.py": _REPOSITORY / "src" / "podcam" / "demo" / "app.py",
}
"""What the pods run, by its path below /programs: packages without an __init__.py, standard library only."""

MOVING_NAME = "db.example"


@dataclass(frozen=True, slots=True)
class Scenario:
    """The running app, proxy and database."""

    cluster: Cluster
    namespace: str

    def scale(self, replicas: int) -> None:
        """Give the app so many pods; does not wait."""
        self.cluster.kubectl("scale", "deployment/app", "-n", self.namespace, f"--replicas={replicas}")

    def wait_until_scaled(self) -> None:
        self.cluster.kubectl("rollout", "status", "deployment/app", "-n", self.namespace, "--timeout=110s")

    def pods(self) -> list[Object]:
        """The app's pods that are not about to go."""
        pods = self.cluster.items("pods", "-n", self.namespace, "-l", "app=app")
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def fail_next(self, pod: Object | None = None, *, times: int = 1, misbehaviour: str = "reset") -> None:
        """Have the proxy fail the next connections: of that pod, or of any.

        `misbehaviour`: `reset`, `close` or `silent`, each in place of an answer to the StartupMessage.
        """
        whose = "" if pod is None else f"&client_ip={pod['status']['podIP']}"
        order = f"/fail?misbehaviour={misbehaviour}&times={times}{whose}"
        self.cluster.through_service(self.namespace, "proxy", "control", order)

    def proxy_log(self) -> list[Object]:
        """Every connection that the proxy took: time_ns, client_ip, client_port, misbehaviour or None."""
        told = self.cluster.through_service(self.namespace, "proxy", "control", "/log")
        return cast("list[Object]", json.loads(told))

    def failed(self) -> list[Object]:
        """The connections that the proxy failed."""
        return [connection for connection in self.proxy_log() if connection["misbehaviour"] is not None]

    def wait_until_failed(self, count: int = 1) -> list[Object]:
        """Until so many connections have been failed: these."""

        def look() -> list[Object] | None:
            failed = self.failed()
            return failed if len(failed) >= count else None

        return wait_for(f"{count} failed connections", look, 30)

    def app_log(self, pod: Object) -> list[Object]:
        """Every connection as the app's pod saw it: time_ns, server_ip, client_port, error or None."""
        told = self.cluster.kubectl("logs", "-n", self.namespace, pod["metadata"]["name"], "-c", "app")
        return [json.loads(line) for line in told.splitlines()]

    def make_addresses(self, count: int) -> list[str]:
        """So many new addresses at which the proxy is reached, too."""
        services = [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {
                    "name": f"proxy-{number}",
                    "namespace": self.namespace,
                    "labels": {"for": "addresses"},
                },
                "spec": {"selector": {"app": "proxy"}, "ports": [{"name": "postgres", "port": 5432}]},
            }
            for number in range(count)
        ]
        self.cluster.apply(*services)
        made = self.cluster.items("services", "-n", self.namespace, "-l", "for=addresses")
        return [service["spec"]["clusterIP"] for service in made]

    def move_name(self, address: str) -> None:
        """Let MOVING_NAME have this address from now on (only with `moving_name`)."""
        self.cluster.through_service(self.namespace, "names", "control", f"/move?address={address}")


def deploy_scenario(
    cluster: Cluster, namespace: str, *, moving_name: bool = False, interval_s: float = 0.25
) -> Scenario:
    """Deploy it, and wait until the app's connections go well.

    Args:
        cluster: where, as somebody who may.
        namespace: where in it; it has to exist.
        moving_name: the app reaches the proxy by MOVING_NAME, whose address `move_name` changes at once,
            and not by the Service's name.
        interval_s: the app's pause between two connections.
    """
    scenario = Scenario(cluster, namespace)
    objects = _objects("manifests.yaml", namespace)
    app = next(found for found in objects if found["metadata"]["name"] == "app")
    others = [found for found in objects if found is not app]
    others += _objects("names.yaml", namespace) if moving_name else []
    cluster.apply(_programs(namespace), *others)
    deployments = [found["metadata"]["name"] for found in others if found["kind"] == "Deployment"]
    for name in deployments:
        cluster.kubectl("rollout", "status", f"deployment/{name}", "-n", namespace, "--timeout=110s")

    pod: dict[str, Any] = app["spec"]["template"]["spec"]
    command: list[str] = pod["containers"][0]["command"]
    command[-1] = str(interval_s)
    if moving_name:
        command[-3] = MOVING_NAME
        server = cluster.get("service/names", "-n", namespace)["spec"]["clusterIP"]
        pod |= {"dnsPolicy": "None", "dnsConfig": {"nameservers": [server]}}
        scenario.move_name(cluster.get("service/proxy", "-n", namespace)["spec"]["clusterIP"])
    cluster.apply(app)
    scenario.wait_until_scaled()
    for found in scenario.pods():
        wait_for(
            f"a good connection of {found['metadata']['name']}",
            lambda found=found: [line for line in scenario.app_log(found) if line["error"] is None],  # type: ignore[misc]
            30,
        )
    return scenario


def _objects(file: str, namespace: str) -> list[Object]:
    text = (_HERE / file).read_text()
    image = os.environ.get("PODCAM_E2E_LAB_IMAGE")
    objects = yaml.safe_load_all(text if image is None else text.replace("localhost/lab:latest", image))
    return [_in_namespace(found, namespace) for found in objects]


def _in_namespace(found: Mapping[str, Any], namespace: str) -> Object:
    moved = {**found, "metadata": {**found["metadata"], "namespace": namespace}}
    for volume in _volumes(moved):
        if "configMap" in volume:
            items = [{"key": _key(path), "path": path} for path in _PROGRAMS]
            volume["configMap"] = {**volume["configMap"], "items": items}
    return moved


def _volumes(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    if found["kind"] != "Deployment":
        return []
    volumes: list[dict[str, Any]] = found["spec"]["template"]["spec"]["volumes"]
    return volumes


def _programs(namespace: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "programs", "namespace": namespace},
        "data": {_key(path): file.read_text() for path, file in _PROGRAMS.items()},
    }


def _key(path: str) -> str:
    """A ConfigMap's keys have no slashes."""
    return path.replace("/", ".")
