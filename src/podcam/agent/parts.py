"""What a node holds of a clip, told from the clip's manifest."""

from dataclasses import dataclass

from podcam.agent.clip_status import PartState, PodPart
from podcam.clip import COMPLETE, ClipPart, Manifest
from podcam.model.point import Window


@dataclass(frozen=True, slots=True)
class NodePart:
    """This node's part of a clip."""

    state: PartState
    window: Window
    message: str = ""
    pods: tuple[PodPart, ...] = ()


def part_of(manifest: Manifest) -> NodePart:
    """What a manifest says of the part."""
    if manifest.state != COMPLETE:
        return NodePart(PartState.FREEZING, manifest.window)
    if any(part.totals.packets for part in manifest.parts):
        pods = tuple(map(_pod, manifest.parts))
        return NodePart(PartState.COMPLETE, manifest.window, "; ".join(manifest.warnings), pods)
    return NodePart(PartState.NOTHING, manifest.window, "no ring of this node has packets of the window")


def addresses_of(manifest: Manifest) -> list[str]:
    """Those that a clip speaks of, the ends of what failed first."""
    ends = [end for trigger in manifest.triggers for end in (trigger.client, trigger.server)]
    servers = [counts.server for part in manifest.parts for counts in part.servers]
    return list(dict.fromkeys(end.ip for end in (*ends, *servers)))


def _pod(part: ClipPart) -> PodPart:
    totals = part.totals
    return PodPart(
        pod=part.point.name.rpartition("/")[2],
        packets=totals.packets,
        bytes=totals.bytes,
        first_ns=totals.first_ns,
        last_ns=totals.last_ns,
        dropped=totals.dropped,
        gaps=part.gaps,
    )
