"""Which pods of a node are recorded for which recordings, and which of them cannot be. Pure."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from podcam.agent.naming import Name, PointId
from podcam.agent.translation import limit_notes, recording_settings
from podcam.kube import ALLOW_HOST_NETWORK, NamespaceLimits, Pod, Recording, sandbox_of
from podcam.recorder import RecordingSettings


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pod is not recorded."""

    reason: str
    """One word, for programs."""
    message: str
    """A sentence, for people."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pod that a recording covers, and why it cannot be recorded where it cannot."""

    recording: str
    """`NAMESPACE/NAME`"""
    pod: Pod
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Matching:
    """What a node's agent is to do."""

    wanted: Mapping[str, Wanted] = field(default_factory=dict)
    """By the point's id. A pod that two recordings cover is two points."""
    settings: Mapping[str, RecordingSettings] = field(default_factory=dict)
    """By `NAMESPACE/NAME`, of all recordings whose namespace is known, with a pod here or without."""
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Sentences for the status, by recording, where a namespace allows less than was asked for."""


def match(
    recordings: Iterable[Recording],
    pods: Iterable[Pod],
    limits: Mapping[str, NamespaceLimits],
    *,
    node: str,
    handlers: Mapping[str, str] | None = None,
    recorded: Container[str] = (),
) -> Matching:
    """Bring recordings and pods together.

    Pods that have finished have nothing more to record. Those that are being deleted are recorded to their
    end, but not begun with.

    Args:
        recordings: of all namespaces.
        pods: those of this node; others are passed over.
        limits: of namespaces, by name. Nothing is recorded where they are not known yet.
        node: the name of this node.
        handlers: of runtime classes, by name. One that is not there is taken for its own name.
        recorded: the ids of points that are recorded now.
    """
    by_namespace: dict[str, list[Pod]] = {}
    for pod in pods:
        if pod.node == node and not pod.finished:
            by_namespace.setdefault(pod.namespace, []).append(pod)
    wanted: dict[str, Wanted] = {}
    settings: dict[str, RecordingSettings] = {}
    notes: dict[str, tuple[str, ...]] = {}
    for recording in recordings:
        allowed = limits.get(recording.namespace)
        if allowed is None:
            continue
        key = str(Name(recording.namespace, recording.name))
        settings[key] = recording_settings(recording, allowed)
        if found := limit_notes(recording, allowed):
            notes[key] = found
        for pod in filter(recording.wants, by_namespace.get(recording.namespace, ())):
            point = PointId(recording.namespace, recording.name, pod.name)
            if not pod.deleting or str(point) in recorded:
                wanted[str(point)] = Wanted(
                    key, pod, _refusal(point, recording, pod, allowed, handlers or {})
                )
    return Matching(wanted, settings, notes)


def _refusal(
    point: PointId,
    recording: Recording,
    pod: Pod,
    allowed: NamespaceLimits,
    handlers: Mapping[str, str],
) -> Refusal | None:
    if pod.host_network and not recording.host_network:
        return Refusal(
            "HostNetwork",
            "the pod is in its node's own network, and recording it would record the whole node: "
            "set spec.hostNetwork if that is what you want",
        )
    if pod.host_network and not allowed.allow_host_network:
        return Refusal(
            "HostNetworkNotAllowed",
            "the pod is in its node's own network, and its namespace does not let recordings in there: who "
            f"may change namespace {pod.namespace} has to annotate it with {ALLOW_HOST_NETWORK}=true",
        )
    if pod.runtime_class is not None:
        sandbox = sandbox_of(handlers.get(pod.runtime_class, pod.runtime_class))
        if sandbox is not None:
            return Refusal(
                "RuntimeNotRecordable",
                f"the pod's runtime class {pod.runtime_class} gives it {sandbox}, which cannot be recorded "
                "from the node: record the other side of its connections",
            )
    if not point.fits_a_folder:
        return Refusal(
            "NameTooLong",
            "the names of namespace, recording and pod are together too long for the folder of a ring: "
            "give the recording a shorter name",
        )
    return None
