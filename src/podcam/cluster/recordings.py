"""Recordings: the object of what a person asks for, how two of them differ, how far one has come."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from podcam.cluster.spelling import quantity
from podcam.cluster.targets import Choice, find_object, parse_targets
from podcam.errors import NotFoundError
from podcam.kube import RECORDINGS, Api, format_duration, list_objects

_MOST_NAME = 63
MANAGER = "kubectl-podcam"
"""Who wrote the objects that `kubectl podcam` writes."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to record of the chosen pods; None leaves it to the cluster's defaults."""

    ring_segments: int
    ring_segment_bytes: int
    ports: tuple[int, ...] = ()
    hosts: tuple[str, ...] = ()
    narrow: bool = False
    interfaces: tuple[str, ...] = ()
    payload_bytes: int | None = None
    snaplen: int | None = None
    on: tuple[str, ...] | None = None
    """Classes of failures that make a clip; () for none."""
    before_ns: int | None = None
    after_ns: int | None = None
    clips_per_hour: int | None = None
    scope: str | None = None
    retention_ns: int | None = None
    host_network: bool = False

    @property
    def ring_bytes(self) -> int:
        """What one ring takes at most."""
        return self.ring_segments * self.ring_segment_bytes

    def spec(self) -> dict[str, Any]:
        """Its part of a recording's spec."""
        triggers = {
            "classes": None if self.on is None else list(self.on),
            "before": None if self.before_ns is None else format_duration(self.before_ns),
            "after": None if self.after_ns is None else format_duration(self.after_ns),
            "clipsPerHour": self.clips_per_hour,
        }
        spec = {
            "ports": list(self.ports) or None,
            "hosts": list(self.hosts) or None,
            "narrow": self.narrow or None,
            "interfaces": list(self.interfaces) or None,
            "payload": self.payload_bytes,
            "snaplen": self.snaplen,
            "ring": {"segments": self.ring_segments, "segmentSize": quantity(self.ring_segment_bytes)},
            "triggers": _given(triggers) or None,
            "scope": self.scope,
            "retention": None if self.retention_ns is None else format_duration(self.retention_ns),
            "hostNetwork": self.host_network or None,
        }
        return _given(spec)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def recording_object(namespace: str, name: str, choice: Choice, wish: Wish) -> dict[str, Any]:
    """The Recording to create."""
    return {
        "apiVersion": RECORDINGS.api_version,
        "kind": RECORDINGS.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": choice.spec() | wish.spec(),
    }


def name_for(choice: Choice) -> str:
    """What a recording of these pods is called unless told otherwise: after the workload, pod or label."""
    if choice.target is not None:
        name = choice.target.name
    elif choice.pods:
        name = choice.pods[0]
    else:
        selector = choice.selector or {}
        labels = [label for pair in selector.get("matchLabels", {}).items() for label in reversed(pair)]
        keys = [term["key"] for term in selector.get("matchExpressions", [])]
        name = next(filter(None, (*labels, *keys)), "pods")
    name = re.sub(r"[^a-z0-9.-]+", "-", name.lower()).strip("-.")
    return name[:_MOST_NAME].rstrip("-.") or "pods"


def differences(old: Mapping[str, Any], new: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """What changes from one spec to another, a line each: `ports: [5432] → [5432, 6432]`."""
    for key in [*old, *(key for key in new if key not in old)]:
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            yield from differences(before, after, f"{place}{key}.")
        else:
            yield f"{place}{key}: {_spell(before)} → {_spell(after)}"


def _spell(value: Any) -> str:
    return "(not set)" if value is None else value if isinstance(value, str) else json.dumps(value)


def replacement(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch (RFC 7386) that makes `new` of `old`."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if before == value:
            continue
        if isinstance(before, dict) and isinstance(value, dict):
            patch[key] = replacement(before, value)
        else:
            patch[key] = value
    return patch


def find_recording(api: Api, namespace: str, name: str) -> dict[str, Any]:
    """The Recording of this name. Raises NotFoundError."""
    return find_object(api, RECORDINGS, namespace, name)


def find_recordings(api: Api, namespace: str, word: str) -> list[Mapping[str, Any]]:
    """The recording of this name, or all of what `TYPE/NAME` names.

    Raises NotFoundError where there is none, UsageError for a type that has no pods.
    """
    if "/" not in word:
        return [find_recording(api, namespace, word)]
    (target,) = parse_targets([word])
    wanted = {"kind": target.kind, "name": target.name}
    recordings = list_objects(api, RECORDINGS, namespace=namespace).objects
    found: list[Mapping[str, Any]] = [each for each in recordings if each["spec"].get("target") == wanted]
    if not found:
        raise NotFoundError(f"nothing is recorded of {target} in namespace {namespace} (-n names another)")
    return found


@dataclass(frozen=True, slots=True)
class Point:
    """A pod of a recording, as its node's agent reports it."""

    pod: str
    node: str
    state: str
    reason: str
    message: str
    since: str


def points_of(recording: Mapping[str, Any]) -> list[Point]:
    """The points that agents report, by node and pod; none of an older spec than the recording has now."""
    status = recording.get("status", {})
    observed = status.get("observedGeneration")
    if observed is not None and observed < recording["metadata"].get("generation", 0):
        return []
    return sorted(
        (
            Point(
                pod=point["pod"],
                node=node,
                state=point["state"],
                reason=point.get("reason", ""),
                message=point.get("message", ""),
                since=point.get("since", ""),
            )
            for node, entry in status.get("nodes", {}).items()
            for point in entry.get("points", [])
        ),
        key=lambda point: (point.node, point.pod),
    )
