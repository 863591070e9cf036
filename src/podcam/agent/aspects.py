"""What recordings and clips are told in their status, put together from what the agent knows."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from podcam.agent import clip_status, recording_status
from podcam.agent.clip_status import Merge, Part
from podcam.agent.collection import Collection
from podcam.agent.parts import NodePart
from podcam.agent.points import NodePoint
from podcam.agent.recording_status import NodeStatus, PointStatus
from podcam.agent.statuses import Entry
from podcam.agent.tallies import Tallies
from podcam.kube import CLIPS, RECORDINGS, ClipObject, Recording


class RecordingAspect:
    """What this node does for a recording.

    Args:
        recordings: all there are.
        points: those of a recording on this node.
        ring_bytes: what its rings take here.
        notes: what is less than was asked for, for a recording.
        tallies: what was counted.
    """

    kind = RECORDINGS
    field = "nodes"

    def __init__(
        self,
        recordings: Collection[Recording],
        points: Callable[[str], Iterable[NodePoint]],
        ring_bytes: Callable[[str], int],
        notes: Callable[[str], Iterable[str]],
        tallies: Tallies,
    ) -> None:
        self._recordings = recordings
        self._points = points
        self._ring_bytes = ring_bytes
        self._notes = notes
        self._tallies = tallies

    def entry(self, key: str, now_ns: int) -> Entry | None:
        """This node's entry; None when it has no pod of the recording, and no ring."""
        points = tuple(
            PointStatus(point.pod, point.state, point.since_ns, point.reason, point.message)
            for point in self._points(key)
        )
        if not points:
            return None
        tally = self._tallies.of(key)
        status = NodeStatus(
            points=points,
            warnings=(*self._notes(key), *tally.standing(now_ns)),
            ring_bytes=self._ring_bytes(key),
            dropped=self._tallies.counts(key).get("dropped", 0),
            failures=tally.failures.total(),
            clips=tally.clips["wire"],
            suppressed=tally.suppressed,
        )
        return recording_status.node_entry(status, now_ns)

    def entry_due(self, fresh: Entry | None, standing: Entry | None, now_ns: int) -> int | None:
        """When it should be written."""
        return recording_status.entry_due(fresh, standing, now_ns)

    def merge(self, key: str, status: Mapping[str, Any], now_ns: int) -> Merge:
        """The fields that follow from all entries."""
        recording = self._recordings[key]
        return Merge(recording_status.merged(status, recording.generation, now_ns))


class ClipAspect:
    """This node's part of a clip.

    Args:
        clips: all there are.
        recordings: likewise.
        reader: the agent's pod, its port and its public key, for who reads the part.
    """

    kind = CLIPS
    field = "parts"

    def __init__(
        self,
        clips: Collection[ClipObject],
        recordings: Collection[Recording],
        reader: tuple[str, int, str],
    ) -> None:
        self.parts: dict[str, NodePart] = {}
        """What this node has to say, by clip."""
        self._clips = clips
        self._recordings = recordings
        self._reader = reader

    def entry(self, key: str, now_ns: int) -> Entry | None:
        """This node's entry; None while it has nothing to say."""
        part = self.parts.get(key)
        if part is None:
            return None
        pod, port, public_key = self._reader
        full = Part(part.state, part.window, pod, port, public_key, part.pods, part.message)
        return clip_status.part_entry(full, now_ns)

    def entry_due(self, fresh: Entry | None, standing: Entry | None, now_ns: int) -> int | None:
        """When it should be written; what an earlier agent said stays while this one has nothing to say."""
        return None if fresh is None else clip_status.part_due(fresh, standing, now_ns)

    def merge(self, key: str, status: Mapping[str, Any], now_ns: int) -> Merge:
        """The fields that follow from all parts."""
        clip = self._clips[key]
        recording = self._recordings.status(f"{clip.namespace}/{clip.recording}")
        expected = clip_status.expected_nodes(
            clip.expected_nodes or (),
            status,
            recording,
            pods=clip.pods,
            window_end_ns=clip.window.end_ns,
        )
        return clip_status.merged(status, expected, clip.window.end_ns, now_ns)
