"""From a clip on a node's disk to the `Clip` that is made of it. Pure."""

from collections.abc import Iterable
from typing import Any

from podcam.agent.naming import Name, PointId
from podcam.clip import Manifest
from podcam.kube import CLIPS, RECORDING_LABEL, format_time
from podcam.recorder import Event

_LONGEST_REASON = 1024
_MOST_NODES = 1024
"""What the schema takes: of more, those are expected that the recording's status names."""


def clip_body(
    name: Name, manifest: Manifest, *, node: str, expected: Iterable[str], opened: Event | None = None
) -> dict[str, Any]:
    """A `Clip` as the API server takes it.

    Args:
        name: of the clip.
        manifest: of the part that this node has.
        node: its name.
        expected: the other nodes whose parts there may be.
        opened: what the recorder said when a failure opened the clip; without it the clip is of the whole
            recording, and tells of no failure.
    """
    recording = (manifest.recording or "").rpartition("/")[2]
    spec: dict[str, Any] = {
        "recording": recording,
        "reason": manifest.reason[:_LONGEST_REASON],
        "window": {
            "start": format_time(manifest.window.start_ns),
            "end": format_time(manifest.window.end_ns),
        },
    }
    nodes = sorted({*expected, node})
    if len(nodes) <= _MOST_NODES:
        spec["nodes"] = nodes
    if opened is not None and manifest.triggers:
        failure = manifest.triggers[0]
        spec["trigger"] = {
            "class": failure.failure_class.value,
            "pod": str(opened["point"]).rpartition("/")[2],
            "node": node,
            "time": format_time(failure.time_ns),
            "client": {"ip": failure.client.ip, "port": failure.client.port},
            "server": {"ip": failure.server.ip, "port": failure.server.port},
        }
        if opened["points"] is not None:
            spec["pods"] = sorted(PointId.parse(point).pod for point in opened["points"])
    return {
        "apiVersion": CLIPS.api_version,
        "kind": CLIPS.kind,
        "metadata": {
            "namespace": name.namespace,
            "name": name.name,
            "labels": {RECORDING_LABEL: recording},
        },
        "spec": spec,
    }
