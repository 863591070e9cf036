"""The supervisor's two processes, and what it can tell them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple
from pathlib import Path

from podcam.recorder.channel import Message
from podcam.recorder.detection import Detection
from podcam.recorder.loop import Loop
from podcam.recorder.points import WatchedPoint
from podcam.recorder.process import Helper
from podcam.recorder.settings import RecordingSettings
from podcam.recorder.writer import Writer

Says = Callable[[Message], None]
Died = Callable[[str, bool], None]


class WriterProcess(Helper):
    """The writer: it has the kernel's rings of all points, and freezes."""

    def __init__(self, loop: Loop, says: Says, died: Died) -> None:
        super().__init__("writer", lambda channel: Writer(channel).run(), loop, says, died)

    def record(self, point: WatchedPoint, folder: Path, gap: Message | None) -> None:
        """Write a point's packets into this folder; `gap` is noted there first.

        A ring that is being replaced is read to its end before its successor.
        """
        ring, shape = point.resizing or (point.ring, point.shape)
        message = {
            "do": "add",
            "point": point.id,
            "folder": str(folder),
            "limit_bytes": point.limit_bytes,
            "segment_bytes": point.segment_bytes,
            "shape": astuple(shape),
            "source": point.source() | {"block_bytes": shape.block_bytes},
            "cut": point.cut,
            "gap": gap,
        }
        self.send(message, [ring.fileno()])
        if point.resizing:
            self.replace(point)

    def remove(self, point_id: str) -> None:
        """Write the last of a point, and close its ring: `removed`."""
        self.send({"do": "remove", "point": point_id})

    def note_source(self, point: WatchedPoint) -> None:
        """From now on a point's packets come from other interfaces, or through another filter."""
        self.send({"do": "source", "point": point.id, "source": point.source(), "cut": point.cut})

    def replace(self, point: WatchedPoint) -> None:
        """Go on with the ring of the kernel's that the point has now: `replaced`."""
        message = {
            "do": "replace",
            "point": point.id,
            "shape": astuple(point.shape),
            "source": point.source(),
        }
        self.send(message, [point.ring.fileno()])

    def limit(self, point_id: str, limit_bytes: int) -> None:
        """A point's ring may take so many bytes."""
        self.send({"do": "limit", "point": point_id, "limit_bytes": limit_bytes})


class DetectorProcess(Helper):
    """The detector: it has the control sockets of all points, and the names that are followed."""

    def __init__(self, loop: Loop, says: Says, died: Died) -> None:
        super().__init__("detector", lambda channel: Detection(channel).run(), loop, says, died)

    def define(
        self, recording: str, settings: RecordingSettings, addresses: Mapping[str, Iterable[str]]
    ) -> None:
        """Look for this at the points of a recording; its names have these addresses."""
        message = {
            "do": "define",
            "recording": recording,
            "on": sorted(settings.trigger.on),
            "exempt_habits": settings.trigger.exempt_habits,
            "networks": list(map(str, settings.traffic.networks)),
            "names": list(settings.traffic.names),
        }
        self.send(message)
        self.learn(recording, addresses)

    def undefine(self, recording: str) -> None:
        """A recording has ended, and all of its points."""
        self.send({"do": "undefine", "recording": recording})

    def learn(self, recording: str, addresses: Mapping[str, Iterable[str]]) -> None:
        """A recording's names have these addresses: `addresses`, if one is new."""
        known = {name: sorted(of_it) for name, of_it in addresses.items()}
        self.send({"do": "learn", "recording": recording, "names": known})

    def forget(self, recording: str, before_ns: int) -> None:
        """Drop the addresses of a recording's names that were not heard of since then."""
        self.send({"do": "forget", "recording": recording, "before_ns": before_ns})

    def watch(self, point: WatchedPoint) -> None:
        """Look at a point's control packets, if it has a socket for them."""
        if point.control is None:
            return
        sockets = [point.control] if point.answers is None else [point.control, point.answers]
        message = {
            "do": "add",
            "point": point.id,
            "recording": point.recording,
            "frames": point.control_frames,
        }
        self.send(message, [sock.fileno() for sock in sockets])

    def unwatch(self, point: WatchedPoint) -> None:
        """Tell the last of a point."""
        if point.control is not None:
            self.send({"do": "remove", "point": point.id})

    def count(self) -> bool:
        """Tell what became of the connections to each server: `counts`, then `counted`.

        False when it is not there, or about to end.
        """
        return not self._stopping and self.send({"do": "count"})
