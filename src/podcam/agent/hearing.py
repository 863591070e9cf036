"""What the recorder tells: counted, and handed to whom it concerns."""

from collections.abc import Sequence

from podcam.agent.clips import Clips
from podcam.agent.guard import Guard
from podcam.agent.log import Log
from podcam.agent.node_recordings import NodeRecordings
from podcam.agent.reports import Reports
from podcam.agent.tallies import Tallies
from podcam.recorder import Event


class Hearing:
    """Hears the events of the recorder, in the agent's thread.

    Args:
        recordings: told of points that begin and end.
        clips: told of clips that are opened, complete, removed.
        tallies: what is counted.
        reports: what people are told.
        guard: calls what must not end the agent.
        log: for what happens.
    """

    def __init__(
        self,
        recordings: NodeRecordings,
        clips: Clips,
        tallies: Tallies,
        reports: Reports,
        guard: Guard,
        log: Log,
    ) -> None:
        self._recordings = recordings
        self._clips = clips
        self._tallies = tallies
        self._reports = reports
        self._guard = guard
        self._log = log

    def hear(self, events: Sequence[Event]) -> None:
        """Take the events of a moment."""
        for event in events:
            self._guard(str(event["event"]), self._take, event)

    def _take(self, event: Event) -> None:
        match event["event"]:
            case "started":
                self._recordings.started(event["id"])
            case "status":
                self._tallies.take(event["id"], event)
                self._count_suppressed(event)
            case "stopped":
                self._tallies.take(event["id"], event)
                self._tallies.totals.ended(event["id"])
                self._recordings.stopped(event["id"], event["why"])
            case "failure":
                self._tallies.of(event["recording"]).failures[str(event["class"])] += 1
            case "clip":
                self._log.info(
                    "keeping a clip", clip=event["clip"], point=event["id"], origin=event["origin"]
                )
                self._tallies.count_clip(event["recording"], event["origin"])
                self._clips.opened(event)
            case "complete":
                self._clips.completed(event)
            case "removed":
                self._clips.removed(event)
            case "warning":
                self._warn(event)

    def _count_suppressed(self, event: Event) -> None:
        tally, count = self._tallies.of(event["recording"]), event["suppressed"]
        if count > tally.suppressed:
            tally.suppressed = count
            self._reports.clips_suppressed(event["recording"])

    def _warn(self, event: Event) -> None:
        recording = event.get("recording")
        self._log.warning(event["text"], point=event.get("id"), recording=recording)
        for each in self._recordings.points.recordings if recording is None else {recording}:
            self._tallies.warn(each, event["text"])
