"""What things of a cluster are called in the recorder, and what clips of failures are called in the cluster.

| thing | in the cluster | in the recorder |
|---|---|---|
| a recording | Recording NAME in NAMESPACE | `NAMESPACE/RECORDING` |
| a point | a pod that a recording covers | id `NAMESPACE/RECORDING/POD`, name `NAMESPACE/POD` |
| a clip | Clip NAME in NAMESPACE | folder `NAMESPACE_CLIP`: no name in Kubernetes has an underscore |
"""

import hashlib
import re
from collections.abc import Container
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count

BUCKET_SECONDS = 10
"""Failures of one recording within so long get one clip's name, whichever agent sees them."""

_LONGEST_CLIP_NAME = 63
"""The most that fits into the value of a label; names of objects may be longer."""

_LONGEST_RECORDING = 40
_LONGEST_SUFFIX = 14
_LONGEST_FOLDER = 255 - len("..removed")
"""NAME_MAX of limits.h, less what a folder's name has around it while the folder is being removed."""

_SECOND_NS = 1_000_000_000
_GENERATED = re.compile(r"-([bcdfghjklmnpqrstvwxz2456789]{5})$")
"""How the API server ends a generated name (k8s.io/apimachinery, util/rand: no vowels, no 0, 1 and 3)."""


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """A namespaced object."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> "Name":
        """`NAMESPACE/NAME` taken apart.

        Raises:
            ValueError: it is not of that form.
        """
        namespace, slash, name = text.partition("/")
        if not (namespace and slash and name) or "/" in name:
            raise ValueError(f"{text!r} is not NAMESPACE/NAME")
        return cls(namespace, name)


@dataclass(frozen=True, slots=True, order=True)
class PointId:
    """A pod as one recording covers it; a pod that two recordings cover is two points."""

    namespace: str
    recording: str
    pod: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.recording}/{self.pod}"

    @property
    def recording_id(self) -> str:
        """The recording's id in the recorder."""
        return f"{self.namespace}/{self.recording}"

    @property
    def name(self) -> str:
        """What people call the point."""
        return f"{self.namespace}/{self.pod}"

    @property
    def fits_a_folder(self) -> bool:
        """Whether the folder of its ring, whose name spells each slash with three characters, can be made."""
        return len(str(self)) + 2 * 2 <= _LONGEST_FOLDER

    @classmethod
    def parse(cls, text: str) -> "PointId":
        """`NAMESPACE/RECORDING/POD` taken apart.

        Raises:
            ValueError: it is not of that form.
        """
        parts = text.split("/")
        if len(parts) != 3 or not all(parts):
            raise ValueError(f"{text!r} is not NAMESPACE/RECORDING/POD")
        return cls(*parts)


def clip_folder(clip: Name) -> str:
    """The id of a clip in the recorder, which is the name of its folder.

    Raises:
        ValueError: the name is longer than a folder's can be.
    """
    folder = f"{clip.namespace}_{clip.name}"
    if len(folder) > _LONGEST_FOLDER:
        raise ValueError(f"the name of the clip is too long by {len(folder) - _LONGEST_FOLDER} characters")
    return folder


def clip_of_folder(folder: str) -> Name | None:
    """The clip whose folder has this name; None when it is no clip of a cluster."""
    namespace, underscore, name = folder.partition("_")
    if not (namespace and underscore and name) or "_" in name:
        return None
    return Name(namespace, name)


def wire_clip_name(
    recording: str, failed_ns: int, *, pod: str | None = None, taken: Container[str] = ()
) -> str:
    """The name of the clip that a failure on the wire makes: every agent finds the same one.

    So the second agent that creates it gets 409 and joins. It is made of the recording, with `scope: pod` of
    the pod too, and of the time in steps of ten seconds, all shortened to fit the value of a label.

    Args:
        recording: its name.
        failed_ns: when the connection failed.
        pod: its name, when the clip is to hold this pod alone.
        taken: names of clips that this failure cannot join, as their windows are over.
    """
    moment = datetime.fromtimestamp(failed_ns // _SECOND_NS // BUCKET_SECONDS * BUCKET_SECONDS, UTC)
    end = f"{moment:%Y%m%d-%H%M%S}"
    if pod is not None:
        end = f"{_pod_suffix(pod)}-{end}"
    for number in count(1):
        tail = end if number == 1 else f"{end}-{number}"
        room = min(_LONGEST_RECORDING, _LONGEST_CLIP_NAME - len(tail) - 1)
        name = f"{_shortened(recording, room)}-{tail}"
        if name not in taken:
            return name
    raise AssertionError("counting ended")


def _pod_suffix(pod: str) -> str:
    """What tells the pod from the others of its recording: its generated end, or else most of its name."""
    generated = _GENERATED.search(pod)
    if generated is not None:
        return generated[1]
    return _shortened(pod, _LONGEST_SUFFIX)


def _shortened(name: str, room: int) -> str:
    """The name, or as much of its beginning as leaves place for a digest that tells it from its like.

    What comes of a DNS subdomain is one again: every label begins and ends with a letter or a digit.
    """
    if len(name) <= room:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:5]
    return f"{name[: room - len(digest) - 1].rstrip('-.')}-{digest}"
