"""What is installed: the Kustomize base and overlays that this package carries, rendered by kubectl."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import podcam
from podcam.cluster.kubectl import Kubectl
from podcam.errors import KubernetesError, UsageError

IMAGE = "podcam.dev/agent"
"""The agent's image as the base names it, to be replaced by what is pulled."""
_CRD = "CustomResourceDefinition"


def deploy_folder() -> Path:
    """Where the base and the overlays lie."""
    return Path(podcam.__file__).parent / "deploy"


def overlays() -> list[str]:
    """The overlays that there are."""
    return sorted(path.parent.name for path in deploy_folder().glob("overlays/*/kustomization.yaml"))


def render(kubectl: Kubectl, *, overlay: str | None = None, image: str | None = None) -> list[dict[str, Any]]:
    """All objects to apply, in order. The cluster is not asked.

    Raises UsageError for an image that is none, KubernetesError where kubectl cannot render.
    """
    source = deploy_folder() / ("base" if overlay is None else f"overlays/{overlay}")
    if image is None:
        text = kubectl.run("kustomize", str(source))
    else:
        with tempfile.TemporaryDirectory(prefix="podcam-") as folder:
            # Kustomize wants relative paths, and follows links first.
            place = Path(folder).resolve()
            kustomization = {
                "resources": [os.path.relpath(source.resolve(), place)],
                "images": [{"name": IMAGE, **image_fields(image)}],
            }
            (place / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
            text = kubectl.run("kustomize", str(place))
    objects = [each for each in yaml.safe_load_all(text) if each]
    if not objects:
        raise KubernetesError(
            f"kubectl rendered nothing from {source}: is this installation of podcam whole?"
        )
    return objects


def image_fields(image: str) -> dict[str, str]:
    """`REGISTRY/NAME:TAG` or `…@sha256:…` as Kustomize's `images` has it. Raises UsageError."""
    name, at, digest = image.partition("@")
    folder, slash, last = name.rpartition("/")
    base, colon, tag = last.partition(":")
    whole = base and (not at or digest.startswith("sha256:")) and (not colon or tag)
    if not whole or any(map(str.isspace, image)):
        raise UsageError(f"{image!r} is not an image: write REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:…")
    fields = {"newName": f"{folder}{slash}{base}"}
    if digest:
        fields["digest"] = digest
    elif tag:
        fields["newTag"] = tag
    return fields


def to_text(objects: list[dict[str, Any]]) -> str:
    """The objects as one YAML stream."""
    return yaml.safe_dump_all(objects, sort_keys=False, allow_unicode=True)


def is_resource_definition(each: Mapping[str, Any]) -> bool:
    """Whether it defines a custom resource: with it go all objects of that kind."""
    return bool(each["kind"] == _CRD)
