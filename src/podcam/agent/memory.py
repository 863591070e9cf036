"""What the API server said last, on disk: for an agent that starts while it is away.

Of the objects that concern this node no more is kept than recording takes: no status, no annotations of
others, no containers.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from podcam.errors import PodcamError
from podcam.kube import ALLOW_HOST_NETWORK, CONFIG_HASH, MAX_PAYLOAD, RECORDINGS, Kind, Object

_FILE = "heard.json"
_METADATA = (
    "namespace",
    "name",
    "uid",
    "labels",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
)
_ANNOTATIONS = (ALLOW_HOST_NETWORK, MAX_PAYLOAD, CONFIG_HASH)
_POD_SPEC = ("nodeName", "hostNetwork", "runtimeClassName")
_POD_STATUS = ("phase",)

Heard = Mapping[str, Iterable[Object]]
"""Objects by the plural of their kind."""


class Memory:
    """A file in the agent's folder, replaced when something else is to be recorded.

    Args:
        folder: the agent's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._kept = ""

    def keep(self, heard: Heard) -> None:
        """Replace what is remembered; nothing is written where it is the same.

        Raises:
            PodcamError: it cannot be written.
        """
        text = json.dumps({kind: list(objects) for kind, objects in heard.items()}, sort_keys=True)
        if text == self._kept:
            return
        hidden = self._path.with_name(f".{_FILE}")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            with os.fdopen(os.open(hidden, flags, 0o600), "w") as file:
                file.write(text)
            hidden.rename(self._path)
        except OSError as error:
            raise PodcamError(
                f"cannot write {self._path}: {error.strerror}: an agent that starts while the API server is "
                "away will record nothing"
            ) from error
        self._kept = text

    def recall(self) -> dict[str, tuple[Object, ...]]:
        """What was kept last; nothing where there is nothing that can be read."""
        try:
            body = json.loads(self._path.read_bytes())
            return {kind: tuple(dict(each) for each in objects) for kind, objects in body.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}


def essence(kind: Kind, body: Mapping[str, Any]) -> Object:
    """As much of a Recording, a Pod or a Namespace as recording takes."""
    metadata = _picked(body["metadata"], _METADATA)
    metadata["annotations"] = _picked(body["metadata"].get("annotations") or {}, _ANNOTATIONS)
    spec, status = body.get("spec") or {}, body.get("status") or {}
    if kind == RECORDINGS:
        return {"metadata": metadata, "spec": spec}
    return {
        "metadata": metadata,
        "spec": _picked(spec, _POD_SPEC),
        "status": _picked(status, _POD_STATUS),
    }


def _picked(body: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: body[key] for key in keys if key in body}
