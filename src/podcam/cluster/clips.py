"""Clips: making one by hand, and how far it has come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from podcam.cluster.recordings import MANAGER, find_recordings
from podcam.cluster.targets import find_object
from podcam.errors import ConflictError, UsageError
from podcam.kube import CLIPS, RECORDING_LABEL, RECORDINGS, Api, format_duration, list_objects, path_of

_MOST_PREFIX = 40
_MOST_TRIES = 50
DONE = frozenset({"Complete", "Incomplete"})
"""States of a clip in which nothing more comes."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one node keeps of a clip."""

    node: str
    state: str
    message: str
    packets: int | None
    bytes: int
    pods: tuple[str, ...]


def parts_of(clip: Mapping[str, Any]) -> list[Part]:
    """The parts that agents report, by node."""
    return [
        Part(
            node=node,
            state=part["state"],
            message=part.get("message", ""),
            packets=part.get("packets"),
            bytes=part.get("bytes") or 0,
            pods=tuple(pod["pod"] for pod in part.get("pods", [])),
        )
        for node, part in sorted(clip.get("status", {}).get("parts", {}).items())
    ]


def window_of(clip: Mapping[str, Any]) -> tuple[str, str]:
    """From when to when, as text: what its parts keep together, else what was asked for."""
    windows = [
        part["window"] for part in clip.get("status", {}).get("parts", {}).values() if "window" in part
    ]
    windows = windows or [clip["spec"].get("window", {})]
    starts = [window["start"] for window in windows if window.get("start")]
    ends = [window["end"] for window in windows if window.get("end")]
    return min(starts, default=""), max(ends, default="")


def find_clip(api: Api, namespace: str, name: str) -> dict[str, Any]:
    """The Clip of this name. Raises NotFoundError."""
    return find_object(api, CLIPS, namespace, name)


def choose_recording(api: Api, namespace: str, word: str | None, pods: Sequence[str]) -> Mapping[str, Any]:
    """The recording that a clip is to be made of: the one named, the one of these pods, or the only one.

    Raises UsageError where that does not say which one, or it has no such pod, NotFoundError where there is
    none of that name, or of the `TYPE/NAME` that `word` may be.
    """
    if word is None:
        found: list[Mapping[str, Any]] = list(list_objects(api, RECORDINGS, namespace=namespace).objects)
    else:
        found = find_recordings(api, namespace, word)
        if len(found) == 1:
            _refuse_strangers(namespace, found[0], pods)
    if pods:
        found = [recording for recording in found if set(pods) <= _pods_of(recording)]
    names = sorted(recording["metadata"]["name"] for recording in found)
    if len(found) == 1:
        return found[0]
    of_pods = f" of {', '.join(pods)}" if pods else f" of {word}" if word else ""
    if not found:
        raise UsageError(
            f"there is no recording{of_pods} in namespace {namespace}: "
            "start one with `kubectl podcam record`, or say -n NAMESPACE"
        )
    raise UsageError(
        f"there are {len(found)} recordings{of_pods} in namespace {namespace}: name one of {', '.join(names)}"
    )


def _refuse_strangers(namespace: str, recording: Mapping[str, Any], pods: Sequence[str]) -> None:
    name = recording["metadata"]["name"]
    if strangers := sorted(set(pods) - _pods_of(recording)):
        raise UsageError(
            f"recording {name} in namespace {namespace} has no ring of {', '.join(strangers)}: "
            f"`kubectl podcam status {name} -n {namespace}` lists its pods"
        )


def _pods_of(recording: Mapping[str, Any]) -> set[str]:
    nodes = recording.get("status", {}).get("nodes", {}).values()
    return {point["pod"] for node in nodes for point in node.get("points", [])}


def nodes_expected(recording: Mapping[str, Any], pods: Sequence[str]) -> list[str]:
    """The nodes that have rings of the recording, or of these pods of it."""
    return sorted(
        node
        for node, entry in recording.get("status", {}).get("nodes", {}).items()
        for held in [{point["pod"] for point in entry.get("points", []) if point["state"] != "Refused"}]
        if held and (not pods or held & set(pods))
    )


def create_clip(
    api: Api,
    namespace: str,
    recording: Mapping[str, Any],
    *,
    last_ns: int,
    reason: str,
    pods: Sequence[str],
    now: datetime,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Make a clip of the last `last_ns` of a recording, and so have every agent concerned keep its part."""
    prefix = (
        f"{recording['metadata']['name'][:_MOST_PREFIX].rstrip('-.')}-{now.astimezone(UTC):%Y%m%d-%H%M%S}"
    )
    for attempt in range(_MOST_TRIES):
        body = clip_object(
            namespace,
            prefix + (f"-{attempt + 1}" if attempt else ""),
            recording,
            last_ns=last_ns,
            reason=reason,
            pods=pods,
        )
        try:
            return api.create(path_of(CLIPS, namespace), body, manager=MANAGER, dry_run=dry_run)
        except ConflictError:
            continue
    raise ConflictError(f"there are {_MOST_TRIES} clips named {prefix} already: wait a second")


def clip_object(
    namespace: str, name: str, recording: Mapping[str, Any], *, last_ns: int, reason: str, pods: Sequence[str]
) -> dict[str, Any]:
    """The Clip to create."""
    spec: dict[str, Any] = {
        "recording": recording["metadata"]["name"],
        "last": format_duration(last_ns),
        "reason": reason,
        "nodes": nodes_expected(recording, pods),
    }
    if pods:
        spec["pods"] = list(pods)
    return {
        "apiVersion": CLIPS.api_version,
        "kind": CLIPS.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {RECORDING_LABEL: recording["metadata"]["name"]},
        },
        "spec": spec,
    }
