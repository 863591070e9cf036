"""The supervisor: opens the sockets, starts writer and detector, and keeps both doing what was asked.

It answers to whoever runs it (events, the control socket), to points and recordings that come and go, to
names that change and disks that are slow, and to the death of its helpers. No packet passes through it, so
that it may be slow.
"""

import functools
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from podcam.capture import geometry
from podcam.clip import ClipStore
from podcam.errors import PodcamError
from podcam.model.failure import counts_from_json, failure_from_json
from podcam.model.point import Window
from podcam.recorder.channel import Message
from podcam.recorder.clips import Clips, NameClip
from podcam.recorder.emitter import EventEmitter
from podcam.recorder.events import Event
from podcam.recorder.filters import Filters
from podcam.recorder.folder import RecorderFolder
from podcam.recorder.loop import Loop, Timer
from podcam.recorder.memory import KernelMemory
from podcam.recorder.points import WatchedPoint
from podcam.recorder.processes import DetectorProcess, WriterProcess
from podcam.recorder.recorded import NOT_RECORDED, RecordedPoint, RecordedPoints, Wanted, oldest_ns
from podcam.recorder.recordings import Recordings
from podcam.recorder.requests import Answer, Requests
from podcam.recorder.resting import complete_left_open
from podcam.recorder.ring_sizes import RingSizes
from podcam.recorder.settings import KeepRequest, PointSettings, RecorderSettings, RecordingSettings
from podcam.recorder.write_budget import WriteBudget

_STOP_SECONDS = 60.0
_TIME_SECONDS = 1.0
_SMALLEST_BLOCK = geometry(0).block_bytes


class Recorder:
    """Records points for recordings, both of which come and go while it runs, from the loop's thread.

    What is defined and added before `start` is checked, and its sockets are open, when that is called; so
    what a person did wrong is told before anything is written.

    Args:
        settings: where, and what all points share.
        loop: that somebody runs.
        observe: takes the events of a moment; it may be slow, as packets do not wait for it.
        name_clip: makes the ids of new clips; by default they are made of time and class.
    """

    def __init__(
        self,
        settings: RecorderSettings,
        loop: Loop,
        observe: Callable[[Sequence[Event]], None],
        *,
        name_clip: NameClip = lambda _subject: "",
    ) -> None:
        self._settings = settings
        self._loop = loop
        self._folder = RecorderFolder(settings.folder)
        memory = KernelMemory(settings.kernel_memory_bytes, settings.expected_points)
        self._points = RecordedPoints(self._folder, memory)
        self._events = EventEmitter(observe, self._points)
        self._lock: int | None = None
        self._stopping = False
        self._timer: Timer | None = None
        self._requests: Requests | None = None
        self._writer = WriterProcess(loop, self._writer_says, self._writer_died)
        self._detector = DetectorProcess(loop, self._detector_says, self._detector_died)
        self._recordings = Recordings(
            loop, self._detector.learn, self._events.warn, self._events.name_unknown
        )
        self._ring_sizes = RingSizes(memory, self._points, loop, self._writer.replace, self._events)
        budget_bytes = settings.write_bytes_per_second
        budget = WriteBudget(budget_bytes) if budget_bytes else None
        self._filters = Filters(self._points, budget, self._writer.note_source, self._events)
        self._clips = Clips(
            ClipStore(self._folder.clips),
            settings.clips_bytes,
            self._points,
            freeze=self._writer.send,
            count=self._detector.count,
            tell=self._events.tell,
            name=name_clip,
        )

    # --- start and stop ---

    def start(self) -> None:
        """Make the folder, become its only recorder, complete what the last one left, and record.

        Raises:
            PodcamError: another one records here, or nothing can be written here.
        """
        self._folder.create()
        self._lock = self._folder.lock()
        complete_left_open(self._folder, lambda text: self._events.warn(None, text))
        self._points.take_stock()
        self._requests = Requests(self._folder.path, self._loop, self._serve)
        self._writer.start(self._lock)
        self._keep_time()
        for name in self._recordings:
            self._define_for_detector(name)
        for point in self._points.by_id.values():
            self._begin(point)

    def stop(self) -> None:
        """End the helpers, which takes one block timeout, then complete what is open."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        self._ring_sizes.close()
        deadline = time.monotonic() + _STOP_SECONDS
        for helper in (self._detector, self._writer):
            helper.stop()
            while helper.running and time.monotonic() < deadline:
                self._loop.run_once(0.5)
        for point in (*self._points.by_id.values(), *self._points.leaving):
            if point.told:
                self._stopped(point, point.why or "the recorder was stopped")
            if self._loop.listens(point.watched.links):
                self._loop.unlisten(point.watched.links)
            point.watched.close()
        self._points.by_id.clear()
        self._points.leaving.clear()
        self._recordings.close()
        if self._requests is not None:
            self._requests.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- recordings ---

    def define(
        self,
        recording: str,
        settings: RecordingSettings,
        addresses: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        """Begin a recording, or change one; "" is the one that needs no name, which stands as null in events.

        Where its points have to be recorded in another way, they are opened anew: their rings go on, with a
        gap.

        Args:
            recording: its id.
            settings: what is recorded.
            addresses: of its names, as far as they are known; the others' are looked up meanwhile.

        Raises:
            UsageError: the settings are wrong; nothing has changed.
        """
        settings.check(_SMALLEST_BLOCK)
        known = self._recordings.get(recording)
        if known is not None and known.settings == settings:
            return
        self._clips.define(recording, settings)
        if known is not None and known.settings.records_like(settings):
            known.settings = settings
            return
        points = self._points.of(recording)
        for point in points:
            self._end(point.id, "its recording was changed", "the recording was changed")
        self._recordings.define(recording, settings, addresses or {}, time.time_ns())
        self._define_for_detector(recording)
        again = [
            (point.watched.settings, point.watched.own_limit_bytes(settings.ring.limit_bytes))
            for point in points
        ]
        for point_id, error in self.add_all(again).items():
            self._events.warn(point_id, f"{self._points.name_of(point_id)} is no longer recorded: {error}")

    def forget(self, recording: str) -> None:
        """End a recording and all of its points; clips that are open go on until their windows end."""
        if not self._recordings.forget(recording):
            return
        for point in self._points.of(recording):
            self._end(point.id, "its recording was ended")
        self._clips.forget(recording)
        self._detector.undefine(recording)

    # --- points ---

    def add(self, point: PointSettings, *, limit_bytes: int | None = None) -> None:
        """Record a point. Its sockets are open when this returns; `started` follows once it is written.

        `limit_bytes` is what its ring may take on disk, if that is not what the recording says.

        Raises:
            PodcamError: its recording is not defined, or it is recorded already.
            RightsError, CaptureError, UsageError: its sockets cannot be opened, or the filter is wrong.
        """
        for error in self.add_all([(point, limit_bytes)]).values():
            raise error

    def add_all(self, points: Sequence[tuple[PointSettings, int | None]]) -> dict[str, PodcamError]:
        """Record points, each with the limit of its ring, as `add` does; many take little longer than one.

        Returns:
            By id, what `add` would have raised: these are not recorded.
        """
        failed: dict[str, PodcamError] = {}
        wanted: dict[str, Wanted] = {}
        for point, limit_bytes in points:
            recording = self._recordings.get(point.recording)
            if recording is None:
                text = f"{point.name} is to be recorded for {point.recording}, which is not defined"
                failed[point.id] = PodcamError(text)
            elif point.id in self._points.by_id or point.id in wanted:
                failed[point.id] = PodcamError(f"{point.id} is recorded already")
            else:
                wanted[point.id] = Wanted(point, recording, limit_bytes)
        for point_id, opened in zip(wanted, self._points.open(list(wanted.values())), strict=True):
            if isinstance(opened, WatchedPoint):
                self._add(opened)
            else:
                failed[point_id] = opened
        return failed

    def end(self, point_id: str, why: str) -> None:
        """Record a point no longer; nothing where it is not recorded.

        Its last packets are written, its parts of open clips completed, and its ring stays on disk; then
        `stopped` is told, with `why`.
        """
        if point_id in self._points.by_id:
            self._end(point_id, why)

    def limit(self, point_id: str, limit_bytes: int) -> None:
        """The ring of a point may take so many bytes from now on; what is too much goes at once."""
        point = self._points.by_id.get(point_id)
        if point is not None:
            point.watched.limit_bytes = limit_bytes
            self._writer.limit(point_id, limit_bytes)

    def totals(self) -> Mapping[str, Mapping[str, int | None]]:
        """What was counted at each live point since it was added, as `status` events tell it."""
        return {point.id: self._totals(point) for point in self._points.by_id.values()}

    @property
    def restarts(self) -> Mapping[str, int]:
        """How often the `writer` and the `detector` died and were started again."""
        return {helper.name: max(0, helper.starts - 1) for helper in (self._writer, self._detector)}

    # --- clips ---

    def keep(self, request: KeepRequest) -> None:
        """Keep a clip that somebody else has made, of live points and of the rings of those that ended.

        Ends in a `complete` event, with 0 packets where no ring reaches into the window. A clip that is open
        already is widened; of one that is complete only that is told.

        Raises:
            ClipError: it cannot be made.
        """
        self._clips.keep(request, time.time_ns())

    def drop(self, clip_id: str) -> None:
        """Remove a clip, open or not.

        Raises:
            ClipError: it cannot be removed.
        """
        self._clips.drop(clip_id)

    def limit_clips(self, limit_bytes: int) -> None:
        """All clips may take so many bytes from now on; the oldest beyond that go, told as `removed`."""
        self._clips.limit(limit_bytes)

    # --- beginning and ending a point ---

    def _add(self, watched: WatchedPoint) -> None:
        recorded = self._points.by_id[watched.id] = RecordedPoint(watched)
        self._loop.listen(watched.links, functools.partial(self._filters.links_changed, watched))
        if self._lock is not None:
            self._begin(recorded)
            self._ring_sizes.relieve_soon()
        self._recordings.begin(watched.settings)

    def _begin(self, point: RecordedPoint) -> None:
        self._points.begin(point, self._folder.last_alive_ns)
        gap = None if point.gap is None else asdict(point.gap)
        self._writer.record(point.watched, self._folder.ring(point.id), gap)
        self._detector.watch(point.watched)

    def _define_for_detector(self, name: str) -> None:
        recording = self._recordings.get(name)
        if self._lock is None or recording is None or not recording.settings.detecting:
            return
        if not self._detector.running and not self._detector.given_up:
            self._detector.start(self._lock)
        self._detector.define(name, recording.settings, recording.following.names)

    def _end(self, point_id: str, why: str, reason: str = NOT_RECORDED) -> None:
        point = self._points.end(point_id, why, reason)
        self._heed_no_more(point)
        if self._lock is None:
            self._points.leaving.remove(point)
            point.watched.close()
            return
        self._writer.remove(point_id)

    def _heed_no_more(self, point: RecordedPoint) -> None:
        """Nothing that happens at a point is of interest any more, but for what the writer has of it."""
        self._loop.unlisten(point.watched.links)
        self._filters.forget(point.id)
        self._recordings.end(point.watched.settings)
        self._detector.unwatch(point.watched)

    def _left(self, message: Message) -> None:
        point, ring = self._points.left(message["point"])
        point.tally.wrote(message["counts"])
        if ring is not None:
            self._clips.rested(ring)
        point.watched.close()
        self._stopped(point, point.why)

    def _refused(self, message: Message) -> None:
        """The writer cannot open the ring of a point, which is given up."""
        point, ring = self._points.refused(message["point"])
        if not point.ended:
            self._heed_no_more(point)
        if ring is not None:
            self._clips.rested(ring)
        point.watched.close()
        self._stopped(point, message["why"], exit_code=message["code"])

    # --- helpers that talk, and helpers that die ---

    def _writer_died(self, why: str, again: bool) -> None:
        """The writer ended: it is started again; the sockets have kept what came meanwhile."""
        if not again:
            raise PodcamError(f"the writer ended again and again ({why}): recording cannot go on")
        self._events.warn(None, f"the writer ended ({why}) and was started again")
        if self._lock is not None:
            self._writer.start(self._lock)
        gap = {"reason": f"the writer ended: {why}"}
        for point in (*self._points.leaving, *self._points.by_id.values()):
            point.tally.begin_writing_anew()
            self._writer.record(point.watched, self._folder.ring(point.id), gap)
            if point in self._points.leaving:
                self._writer.remove(point.id)
        self._clips.request_again(time.time_ns())

    def _detector_died(self, why: str, again: bool) -> None:
        for point in self._points.by_id.values():
            point.tally.begin_detecting_anew()
        if again:
            self._events.warn(None, f"the detector ended ({why}) and was started again")
            for name in self._recordings:
                self._define_for_detector(name)
            for point in self._points.by_id.values():
                self._detector.watch(point.watched)
        else:
            text = f"the detector ended again and again ({why}): recording goes on, but failures are not seen"
            self._events.warn(None, text)
        self._clips.all_counted()

    def _writer_says(self, message: Message) -> None:
        match message["is"]:
            case "added":
                self._added(message["point"])
            case "refused":
                self._refused(message)
            case "removed":
                self._left(message)
            case "status":
                self._take_status(message["points"])
                self._clips.kept_so_far(message["clips"], time.time_ns())
            case "filling" | "quiet" as wish:
                self._ring_sizes.resize(message["point"], grow=wish == "filling")
            case "replaced":
                self._ring_sizes.replaced(message["point"])
            case "part":
                self._clips.part(message)
            case "frozen":
                self._clips.frozen(message, time.time_ns())
            case "dropped":
                self._clips.dropped(message["clip"], time.time_ns())
            case "warning":
                self._events.warn(message["point"], message["text"])
            case "failed":
                self._writer.why_failed = message["why"]
            case unknown:
                raise ValueError(f"a message that the supervisor does not know: {unknown}")

    def _detector_says(self, message: Message) -> None:
        match message["is"]:
            case "failures":
                self._failed(message["point"], message["failures"])
            case "status":
                for point_id, values in message["points"].items():
                    point = self._points.find(point_id)
                    if point is not None:
                        point.tally.detected(values)
            case "counts":
                servers = tuple(map(counts_from_json, message["servers"]))
                self._clips.counted(message["point"], servers)
            case "counted":
                self._clips.all_counted()
            case "addresses":
                self._names_moved(message["recording"], message["names"], message["learned_ns"])
            case unknown:
                raise ValueError(f"a message that the supervisor does not know: {unknown}")

    def _added(self, point_id: str) -> None:
        point = self._points.meant_by_writer(point_id)
        if point is None or point.ended:
            return
        point.tally.recording = True
        if not point.told:
            point.told = True
            self._events.tell("started", point_id, **self._started(point.watched))
            self._events.tell("filter", point_id, **point.watched.filter())
        if not self._stopping:  # a writer that is ending hears of no request any more
            self._clips.begun(point.watched.recording, point_id)

    def _started(self, point: WatchedPoint) -> Event:
        recording = self._recordings.get(point.recording)
        return {
            "dir": str(self._folder.path),
            "ring_limit_bytes": point.limit_bytes,
            "kernel_ring_bytes": point.shape.ring_bytes,
            "block_timeout_ms": point.shape.retire_ms,
            "on": sorted(recording.settings.trigger.on) if recording else [],
        }

    def _take_status(self, points: dict[str, list[Any]]) -> None:
        written: dict[str, int] = {}
        for point_id, values in points.items():
            point = self._points.by_id.get(point_id)
            if point is not None and point.tally.recording:
                written[point_id] = point.tally.wrote(values)
        if self._stopping:
            return
        recorded = [point for point in self._points.by_id.values() if point.tally.recording]
        self._events.status((point, self._totals(point)) for point in recorded)
        self._filters.wrote({point.id: written.get(point.id, 0) for point in recorded})

    def _stopped(self, point: RecordedPoint, why: str, **fields: int) -> None:
        self._events.stopped(point, self._totals(point), why, **fields)

    def _totals(self, point: RecordedPoint) -> dict[str, int | None]:
        detecting = point.watched.detecting
        return point.tally.totals(detecting=detecting) | self._clips.counts(point.watched.recording)

    def _failed(self, point_id: str, found: Sequence[Message]) -> None:
        recording = self._points.recording_of(point_id)
        if recording is None:
            return
        failures = [
            (
                failure_from_json(message["failure"]),
                counts_from_json(message["server"]) if message["server"] else None,
            )
            for message in found
        ]
        point = self._points.find(point_id)
        if point is not None:
            point.tally.failed(len(failures))
        self._events.failures(point_id, recording, [failure for failure, _ in failures])
        self._clips.failed(recording, point_id, failures, time.time_ns())

    def _serve(self, request: Message, answer: Answer) -> None:
        match request:
            case {"verb": "clip", "last_ns": int(last_ns), "reason": str(reason)}:
                if len(self._recordings) != 1:
                    answer({"error": f"the recorder has {len(self._recordings)} recordings, not one"})
                    return
                now_ns = time.time_ns()
                window = Window(now_ns - last_ns, now_ns)
                self._clips.asked(next(iter(self._recordings)), window, reason, now_ns, answer)
            case _:
                answer({"error": "the recorder does not know this request: is it of another version?"})

    # --- what changes while recording ---

    def _keep_time(self) -> None:
        self._timer = self._loop.later(_TIME_SECONDS, self._keep_time)
        if self._lock is not None:
            self._folder.note_alive(self._lock)
        self._clips.keep_time(time.time_ns())
        self._recordings.keep_time()

    def _names_moved(self, recording: str, names: dict[str, list[str]], learned_ns: int) -> None:
        points = self._points.of(recording)
        watched = [point.watched for point in points]
        swapped, behind = self._recordings.moved(recording, names, learned_ns, watched)
        for point in swapped:
            self._filters.swapped(point)
        before_ns = oldest_ns(points)
        if behind and before_ns is not None:
            # The detector is to drop the addresses whose packets no ring holds any more.
            self._detector.forget(recording, before_ns)
