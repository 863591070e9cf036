"""Kustomize as people have it: a folder of their own, with components of ours."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import Cluster, Object

_REPOSITORY = Path(__file__).parents[2]
COMPONENTS = _REPOSITORY / "deploy" / "components"


def kustomization(
    folder: Path,
    objects: Sequence[Mapping[str, Any]],
    components: Sequence[str] = (),
    *,
    image: str,
    namespace: str,
    options: Sequence[str] = (),
    patches: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """A folder for `kubectl apply -k`.

    Args:
        folder: where; made if it is not there.
        objects: the resources.
        components: of ours, by name.
        image: of Podcam.
        namespace: of all objects.
        options: of the sidecar, added to those that the component gives it.
        patches: further ones, as kustomize has them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "app.yaml").write_text(yaml.safe_dump_all(objects))
    name, _, tag = image.rpartition(":")
    add = [
        {"op": "add", "path": "/spec/template/spec/initContainers/0/args/-", "value": option}
        for option in options
    ]
    of_options = [
        {
            "target": {"labelSelector": selector, "kind": "Deployment|StatefulSet|Job"},
            "patch": yaml.safe_dump(add),
        }
        for selector in ("track=canary", "podcam.dev/record=sidecar")
        if options
    ]
    body = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": ["app.yaml"],
        "components": [os.path.relpath(COMPONENTS.resolve() / each, folder.resolve()) for each in components],
        "images": [{"name": "podcam.dev/agent", "newName": name, "newTag": tag}],
        "patches": [*of_options, *patches],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(body))
    return folder


def rendered(cluster: Cluster, folder: Path) -> dict[str, Object]:
    """What `kubectl kustomize` makes of a folder, by KIND/NAME."""
    objects = yaml.safe_load_all(cluster.kubectl("kustomize", folder))
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in objects}
