"""What people are told when something is not as they would expect it.

An Event says it once, the status of a recording for an hour. What a status says all the time is in
`agent/aspects.py`.
"""

from collections.abc import Iterable

from podcam.agent.announcements import Announcements, Subject
from podcam.agent.budget import Cause
from podcam.agent.naming import PointId
from podcam.agent.objects import ClusterObjects
from podcam.agent.parts import NodePart
from podcam.agent.points import NodePoint
from podcam.agent.tallies import Tallies
from podcam.errors import InvalidObjectError
from podcam.kube import CLIPS, RECORDINGS, ClipObject


class Reports:
    """Tells of recordings and clips as they are on this node.

    Args:
        objects: those that there are.
        tallies: what stands in the status of recordings.
        announcements: sends events.
        node: the node's name.
    """

    def __init__(
        self, objects: ClusterObjects, tallies: Tallies, announcements: Announcements, node: str
    ) -> None:
        self._recordings = objects.recordings
        self._tallies = tallies
        self._announcements = announcements
        self._node = node
        self._told: tuple[str, ...] = ()
        """What was last said of the node's disk; another number in a sentence is no news."""
        objects.recordings.subscribe(unreadable=self._recording_unreadable)

    def point_refused(self, point: NodePoint) -> None:
        """A pod is not recorded."""
        self._warn(point.recording, point.reason, f"pod {point.pod} is not recorded: {point.message}")

    def ring_removed(self, point_id: str, cause: Cause) -> None:
        """A ring went from the disk: that it would, after its time or with its recording, is no news."""
        if cause not in {Cause.RETENTION, Cause.RECORDING}:
            point = PointId.parse(point_id)
            self._warn(point.recording_id, "RingRemoved", f"the ring of pod {point.pod} went: {cause.value}")

    def disk_short(self, recordings: Iterable[str], notes: tuple[str, ...]) -> None:
        """What the node's budget costs these recordings, as things stand."""
        told, self._told = self._told, notes
        for recording in recordings:
            for note in notes[len(told) :]:
                self._warn(recording, "NodeBudget", note)

    def clips_suppressed(self, recording: str) -> None:
        """There were too many failures for a clip each."""
        note = "failures make no more clips for now, as there were enough: they are counted"
        self._warn(recording, "ClipsSuppressed", note)

    def clip_refused(self, recording: str, text: str) -> None:
        """A clip is kept here, and cannot get its object."""
        self._tallies.warn(recording, text)
        self._warn(recording, "ClipRefused", text)

    def part_lost(self, clip: ClipObject, part: NodePart) -> None:
        """This node's part of a clip is not, or not any more, to be had."""
        subject = Subject(CLIPS, clip.namespace, clip.name, clip.uid)
        note = f"the part of node {self._node}: {part.message}"
        self._announcements.warn(subject, f"Part{part.state.value}", note)

    def _recording_unreadable(self, key: str, error: InvalidObjectError) -> None:
        if self._recordings.get(key) is not None:
            text = f"it cannot be read, and goes on as it was: {error}"
            self._tallies.warn(key, text)
            self._warn(key, "Unreadable", text)

    def _warn(self, recording: str, reason: str, note: str) -> None:
        known = self._recordings.get(recording)
        if known is not None:
            subject = Subject(RECORDINGS, known.namespace, known.name, known.uid)
            self._announcements.warn(subject, reason, f"on node {self._node}: {note}")
