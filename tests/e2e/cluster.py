"""The cluster that these tests run on: kubectl as a person uses it, and waiting for what comes of it."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Object = dict[str, Any]

SYSTEM = "podcam-system"
AGENTS = "app.kubernetes.io/name=podcam-agent"

_PATIENCE_S = 120
_LOOK_AGAIN_S = 0.1


class KubectlError(Exception):
    """kubectl failed: what it said on standard error."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster, as the user whom the kubeconfig is of."""

    kubeconfig: Path

    def kubectl(self, *arguments: object, given: str | None = None, timeout_s: float = _PATIENCE_S) -> str:
        """What `kubectl ARGUMENTS` prints. Raises KubectlError."""
        done = self.run(*arguments, given=given, timeout_s=timeout_s)
        if done.returncode:
            raise KubectlError(done.stderr.strip())
        return done.stdout

    def refusal(self, *arguments: object, given: str | None = None) -> str:
        """What kubectl says when it fails, as it should."""
        done = self.run(*arguments, given=given)
        assert done.returncode, (
            f"kubectl {' '.join(map(str, arguments))} should fail, and printed {done.stdout}"
        )
        return done.stderr.strip()

    def run(
        self, *arguments: object, given: str | None = None, timeout_s: float = _PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["kubectl", *map(str, arguments)],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def environment(self) -> dict[str, str]:
        """Its kubeconfig, and `kubectl podcam` from the same place as this Python."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def get(self, what: str, *arguments: object) -> Object:
        """An object (`kind/name`), or a list (`kind`)."""
        found: Object = json.loads(self.kubectl("get", what, "-o", "json", *arguments))
        return found

    def items(self, kind: str, *arguments: object) -> list[Object]:
        items: list[Object] = self.get(kind, *arguments)["items"]
        return items

    def apply(self, *objects: Mapping[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", given=as_list(objects))

    def create(self, *objects: Mapping[str, Any]) -> None:
        self.kubectl("create", "-f", "-", given=as_list(objects))

    def through_service(self, namespace: str, service: str, port: str, path: str) -> str:
        """GET it from a pod behind the service, by way of the API server."""
        raw = f"/api/v1/namespaces/{namespace}/services/{service}:{port}/proxy{path}"
        return self.kubectl("get", "--raw", raw)

    def with_kubeconfig(self, kubeconfig: Path) -> "Cluster":
        """The same cluster, as somebody else."""
        return replace(self, kubeconfig=kubeconfig)


def wait_for(what: str, look: Callable[[], T | None], timeout_s: float = 60) -> T:
    """What `look` finds as soon as it finds something; AssertionError when it does not in time."""
    until = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < until, f"{what}: not within {timeout_s:g} s"
        pause.wait(_LOOK_AGAIN_S)


def as_list(objects: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
