"""Clips of the recorders that pods have themselves, for the verbs that fetch them."""

import time
from collections.abc import Iterator

from podcam.cli.arguments import format_size
from podcam.cli.kubectl.access import Cluster
from podcam.cli.kubectl.output import say
from podcam.cli.progress import Progress
from podcam.cluster.fetching import Pulled, cache_folder, file_name
from podcam.cluster.sidecar import (
    PodClip,
    PodRecorder,
    PodRoad,
    pod_recorder,
    pull_from_pod,
)
from podcam.errors import ClipError, KubernetesError, NotFoundError, PodcamError

_LOOK_SECONDS = 1.0
_BROKEN_SECONDS = 2.0
_LONGEST_POD = 100
"""Of its name, in a file's."""
_ENDED = frozenset({"ended", "failed"})
_WHO_READS = "whoever may forward a port of this pod, or run something in it, can read its packets as well"


def fetch(at: Cluster, pod: str, clip: str | None, timeout_seconds: float) -> tuple[str, Pulled]:
    """A clip of this pod's recorder in a folder of its own, and a name for a file of it.

    Args:
        at: the cluster.
        pod: its name.
        clip: its name, or how that begins; None for the latest that is complete.
        timeout_seconds: how long to wait for one that is still being kept.

    Raises:
        PodcamError: there is no such pod, recorder or clip, or no way to it.
    """
    recorder = pod_recorder(at.api, at.namespace, pod)
    with PodRoad(at.kubectl.options, recorder) as road:
        name, pulled = _fetch(at, road, recorder, _chosen(road, clip, timeout_seconds))
    if pulled.fetched_bytes:
        say(_WHO_READS)
    return name, pulled


def watch(at: Cluster, pod: str) -> Iterator[tuple[str, Pulled]]:
    """All clips of this pod's recorder, and those that come, until it ends.

    Raises:
        PodcamError: there is no such pod, or what answers there is no recorder of ours.
    """
    recorder = pod_recorder(at.api, at.namespace, pod)
    say(_WHO_READS)
    taken: set[str] = set()
    with PodRoad(at.kubectl.options, recorder) as road:
        road.clips()  # a mistake is told at once
        while True:
            try:
                ended = road.status().get("state") in _ENDED
                for clip in road.clips():
                    if clip.complete and clip.name not in taken:
                        yield _fetch(at, road, recorder, clip)
                        taken.add(clip.name)
            except KubernetesError as error:
                if not _lives(at, recorder):
                    say(f"pod {recorder.pod.name} has ended")
                    return
                say(f"{error}; it is tried again")
                road.pause(_BROKEN_SECONDS)
                continue
            if ended:
                say(f"the recorder of pod {recorder.pod.name} has ended, and all of its clips are here")
                return
            road.pause(_LOOK_SECONDS)


def say_fetched(pulled: Pulled) -> None:
    """How much came, and where it lies."""
    parts = len(pulled.manifest.parts)
    fetched = f"{format_size(pulled.fetched_bytes)} fetched" if pulled.fetched_bytes else "all of it was here"
    say(f"{parts} {'pod' if parts == 1 else 'pods'}, {fetched}: {pulled.folder}")


def _lives(at: Cluster, recorder: PodRecorder) -> bool:
    try:
        now = pod_recorder(at.api, recorder.pod.namespace, recorder.pod.name)
    except NotFoundError:
        return False
    except PodcamError:  # the cluster cannot be asked just now
        return True
    return now.pod.uid == recorder.pod.uid and not now.pod.finished


def _chosen(road: PodRoad, name: str | None, timeout_seconds: float) -> PodClip:
    """The clip that is meant, once it is complete or the time is over."""
    until = time.monotonic() + timeout_seconds
    told = False
    while True:
        clip = _named(road.clips(), name)
        if clip.complete or time.monotonic() >= until:
            return clip
        if not told:
            say(f"clip {clip.name} is still being kept")
            told = True
        road.pause(_LOOK_SECONDS)


def _named(clips: list[PodClip], name: str | None) -> PodClip:
    if not clips:
        raise ClipError("this pod's recorder has kept no clip yet")
    if name is None:
        return next((clip for clip in reversed(clips) if clip.complete), clips[-1])
    found = [clip for clip in clips if clip.name == name] or [c for c in clips if c.name.startswith(name)]
    if len(found) != 1:
        what = f"{name} is the start of {len(found)} clips" if found else f"this pod has no clip {name}"
        raise ClipError(f"{what}; there are {', '.join(clip.name for clip in clips)}")
    return found[0]


def _fetch(at: Cluster, road: PodRoad, recorder: PodRecorder, clip: PodClip) -> tuple[str, Pulled]:
    with Progress(f"fetching {clip.name}") as progress:
        pulled = pull_from_pod(
            at.api,
            road,
            recorder,
            clip.name,
            cache_folder(),
            tell=lambda done, total: progress(done / max(total, 1)),
        )
    say_fetched(pulled)
    return file_name(
        clip.name, f"{recorder.pod.namespace}-{recorder.pod.name[:_LONGEST_POD]}", clip.created_ns
    ), pulled
