"""The supervisor: opens the sockets, starts writer and detector, and keeps both doing what was asked.

It answers to the user (events, the control socket, signals), to names that change and disks that are slow,
and to the death of its helpers. No packet passes through it, so that it may be slow.
"""

import functools
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import Any

from podcam.capture import control_frames_for, geometry_for
from podcam.clip import ClipStore
from podcam.errors import PodcamError
from podcam.model.failure import counts_from_json, failure_from_json
from podcam.model.point import Window
from podcam.recorder.channel import Message
from podcam.recorder.clips import Clips
from podcam.recorder.command import Command, check_command, in_foreground
from podcam.recorder.detection import Detection
from podcam.recorder.events import Event, event, failure_event
from podcam.recorder.folder import RecorderFolder
from podcam.recorder.following import Following
from podcam.recorder.names import BackgroundLookup, resolve
from podcam.recorder.points import WatchedPoint, find_namespaces
from podcam.recorder.process import Child
from podcam.recorder.requests import Answer, Requests
from podcam.recorder.resting import complete_left_open
from podcam.recorder.settings import SECOND_NS, RecorderSettings
from podcam.recorder.tally import Tally
from podcam.recorder.write_budget import WriteBudget
from podcam.recorder.writer import Writer
from podcam.trigger import Keeper, Policy

_START_SECONDS = 30.0
_STOP_SECONDS = 60.0
_TIME_SECONDS = 1.0
_LOOKUP_SECONDS = 300.0
"""A name for which no answer came by for so long is looked up."""
_MOST_DEATHS = 5
_DEATHS_SECONDS = 60.0
"""A helper that dies more often within this time is not started again."""


class Recorder:
    """Records until told to stop.

    `observe` is called with the events of a moment; it may be slow, as packets do not wait for it.
    """

    def __init__(self, settings: RecorderSettings, observe: Callable[[Sequence[Event]], None]) -> None:
        self._settings = settings
        self._observe = observe
        self._interrupted = False
        self._unheard: OSError | None = None
        """Why nobody hears of events any more: a broken pipe, a full disk behind a log."""
        self._folder = RecorderFolder(settings.folder)
        self._selector = selectors.DefaultSelector()
        self._points: dict[str, WatchedPoint] = {}
        self._tallies: dict[str, Tally] = {}
        self._deaths: dict[str, list[float]] = {"writer": [], "detector": []}
        self._why_failed = ""
        self._told_to_end = False
        self._stopping = False
        self._time_due = 0.0
        self._running: set[str] = set()
        self._budget = (
            WriteBudget(settings.write_bytes_per_second) if settings.write_bytes_per_second else None
        )
        self._measured_seconds = time.monotonic()
        self._clips = Clips(
            ClipStore(self._folder.clips),
            settings.clips_bytes,
            Keeper(before_ns=settings.trigger.before_ns, after_ns=settings.trigger.after_ns),
            source=lambda point: self._points[point].source(),
            freeze=self._freeze,
            count=self._ask_counts,
            tell=self._tell,
        )

    @property
    def _detecting(self) -> bool:
        return bool(self._settings.trigger.on or self._settings.traffic.names)

    def run(self, *, duration_ns: int | None = None, command: Sequence[str] = ()) -> int:
        """Record until SIGINT, SIGTERM or SIGHUP, for so long, or while the command runs.

        Returns:
            The command's exit code (128 and the signal's number where one ended it), 0 without a command.

        Raises:
            PodcamError: recording cannot begin, or cannot go on.
        """
        if command:
            check_command(command)
        self._start()
        try:
            ends = None if duration_ns is None else time.monotonic() + duration_ns / SECOND_NS
            code = self._loop(ends, Command(command) if command else None)
        finally:
            self._stop()
        if self._unheard is not None:
            raise self._unheard
        return code

    # --- start ---

    def _start(self) -> None:
        settings = self._settings
        namespaces = find_namespaces(settings.namespaces)
        shape = geometry_for(settings.kernel_memory_bytes, len(namespaces))
        settings.check(shape.block_bytes)
        frames = control_frames_for(len(namespaces)) if self._detecting else 0
        look_up = functools.partial(resolve, namespaces=namespaces)
        self._following = Following(
            settings.traffic,
            {name: look_up(name) for name in settings.traffic.names},
            time.time_ns(),
            warn=lambda point, text: self._tell("warning", point, text=text),
        )
        for namespace in namespaces:
            point = WatchedPoint(
                namespace, settings.traffic, self._following.hosts, shape, control_frames=frames
            )
            self._points[point.name] = point
            self._tallies[point.name] = Tally()
        self._folder.create()
        self._lock = self._folder.lock()
        complete_left_open(self._folder, lambda text: self._tell("warning", None, text=text))
        self._listen_for_signals()
        self._start_writer(gap=None)
        if self._detecting:
            self._start_detector()
        self._await_points()
        self._requests = Requests(self._folder.path, self._selector, self._serve)
        for point in self._points.values():
            self._selector.register(
                point.links, selectors.EVENT_READ, functools.partial(self._links_changed, point)
            )
            self._tell("started", point.name, **self._started(point))
            self._tell("filter", point.name, **point.filter())
        self._lookup = BackgroundLookup(look_up)
        self._looked_up_seconds = time.monotonic()
        self._selector.register(self._lookup, selectors.EVENT_READ, self._looked_up)

    def _started(self, point: WatchedPoint) -> Event:
        ring = self._settings.ring
        return {
            "dir": str(self._folder.path),
            "ring_limit_bytes": ring.limit_bytes,
            "kernel_ring_bytes": point.shape.ring_bytes,
            "block_timeout_ms": point.shape.retire_ms,
            "on": sorted(self._settings.trigger.on),
        }

    def _listen_for_signals(self) -> None:
        reading, writing = socket.socketpair()
        writing.setblocking(False)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        self._wakeup = (reading, writing)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN):  # else under nohup(1)
                signal.signal(number, lambda _number, _frame: None)
        self._selector.register(reading, selectors.EVENT_READ, self._signalled)

    def _start_writer(self, gap: str | None) -> None:
        self._writer = self._begin("writer", lambda channel: Writer(channel).run(), self._writer_says)
        for point in self._points.values():
            message = {
                "do": "add",
                "point": point.name,
                "folder": str(self._folder.ring(point.name)),
                "limit_bytes": self._settings.ring.limit_bytes,
                "segment_bytes": self._settings.ring.segment_bytes,
                "shape": astuple(point.shape),
                "source": point.source(),
                "gap": gap,
            }
            self._writer.channel.send(message, [point.ring.fileno()])

    def _start_detector(self) -> None:
        settings = self._settings
        policy = Policy(classes=settings.trigger.on, exempt_habits=settings.trigger.exempt_habits)
        networks, names = settings.traffic.networks, settings.traffic.names
        self._detector = self._begin(
            "detector", lambda channel: Detection(channel, policy, networks, names).run(), self._detector_says
        )
        self._detector.channel.send({"do": "learn", "names": self._following.names})
        for point in self._points.values():
            if point.control is not None:
                sockets = [point.control] if point.answers is None else [point.control, point.answers]
                self._detector.channel.send(
                    {"do": "add", "point": point.name, "frames": point.control_frames},
                    [sock.fileno() for sock in sockets],
                )

    def _begin(self, name: str, main: Callable[[Any], None], says: Callable[[Message], None]) -> Child:
        child = Child(name, main, keep=self._lock)
        self._running.add(name)
        self._selector.register(
            child.channel, selectors.EVENT_READ, functools.partial(self._hear, child, says)
        )
        self._selector.register(child.pidfd, selectors.EVENT_READ, functools.partial(self._died, child))
        return child

    def _await_points(self) -> None:
        """Until the writer has opened every ring."""
        deadline = time.monotonic() + _START_SECONDS
        while not all(tally.recording for tally in self._tallies.values()):
            if time.monotonic() > deadline:
                raise PodcamError("the writer did not start in time: is the machine or its disk overloaded?")
            self._handle_events(0.5)

    # --- the loop ---

    def _loop(self, ends: float | None, command: Command | None) -> int:
        if command is not None:
            self._selector.register(
                command.pidfd, selectors.EVENT_READ, functools.partial(self._command_ended, command)
            )
        while command is None or command.code is None:
            now = time.monotonic()
            if self._told_to_end or (ends is not None and now >= ends):
                if command is None:
                    return 0
                if not self._interrupted:
                    command.end()  # and record how it ends, however long that takes
                self._told_to_end, ends = False, None
            self._handle_events(_TIME_SECONDS if ends is None else min(_TIME_SECONDS, ends - now))
            self._keep_time()
        return command.code

    def _command_ended(self, command: Command) -> None:
        self._selector.unregister(command.pidfd)
        command.ended()

    def _handle_events(self, timeout_seconds: float) -> None:
        for key, _events in self._selector.select(timeout_seconds):
            if key in self._selector.get_map().values():  # not if the one before has closed it
                key.data()

    def _keep_time(self) -> None:
        now = time.monotonic()
        if now < self._time_due:
            return
        self._time_due = now + _TIME_SECONDS
        self._clips.keep_time(time.time_ns())
        names = self._settings.traffic.names
        if names and now - self._looked_up_seconds > _LOOKUP_SECONDS:
            self._looked_up_seconds = now
            self._lookup.start(names)

    def _signalled(self) -> None:
        numbers = self._wakeup[0].recv(64)
        # A terminal's Ctrl-C reaches a recorded command by itself; said twice, it is to end the hard way.
        by_terminal = set(numbers) == {signal.SIGINT} and in_foreground()
        self._interrupted = by_terminal and not self._interrupted
        self._told_to_end = True

    # --- helpers that talk, and helpers that die ---

    def _hear(self, child: Child, says: Callable[[Message], None]) -> None:
        received = child.channel.receive()
        if received is None:
            self._selector.unregister(child.channel)
        else:
            says(received[0])

    def _died(self, child: Child) -> None:
        """A helper ended: while recording, it is started again; its sockets have kept what came meanwhile."""
        self._selector.unregister(child.pidfd)
        while child.channel in self._selector.get_map():
            self._selector.get_key(child.channel).data()
        code = child.ended()
        child.close()
        self._running.discard(child.name)
        if self._stopping:
            return
        why = self._why_failed or (f"killed by signal {-code}" if code < 0 else f"exit code {code}")
        self._why_failed = ""
        now = time.monotonic()
        deaths = [death for death in self._deaths[child.name] if now - death < _DEATHS_SECONDS] + [now]
        self._deaths[child.name] = deaths
        again = len(deaths) <= _MOST_DEATHS
        if child.name == "writer":
            if not again:
                raise PodcamError(f"the writer ended again and again ({why}): recording cannot go on")
            self._replace_writer(why)
        else:
            self._replace_detector(why, again=again)

    def _replace_writer(self, why: str) -> None:
        self._tell("warning", None, text=f"the writer ended ({why}) and was started again")
        for point in self._points.values():
            point.resized()
            self._tallies[point.name].begin_writing_anew()
        self._start_writer(gap=f"the writer ended: {why}")
        self._clips.request_again()

    def _replace_detector(self, why: str, *, again: bool) -> None:
        for tally in self._tallies.values():
            tally.begin_detecting_anew()
        if again:
            self._tell("warning", None, text=f"the detector ended ({why}) and was started again")
            self._start_detector()
        else:
            text = f"the detector ended again and again ({why}): recording goes on, but failures are not seen"
            self._tell("warning", None, text=text)
        self._clips.all_counted()

    def _writer_says(self, message: Message) -> None:
        match message["is"]:
            case "added":
                self._tallies[message["point"]].recording = True
            case "refused":
                error = PodcamError(message["why"])
                error.exit_code = message["code"]
                raise error
            case "status":
                self._take_status(message["points"])
                self._clips.kept_so_far(message["clips"], time.time_ns())
            case "filling" | "quiet" as wish:
                self._resize(self._points[message["point"]], grow=wish == "filling")
            case "replaced":
                self._points[message["point"]].resized()
            case "part":
                self._clips.part(message)
            case "frozen":
                self._clips.frozen(message["clip"], time.time_ns(), ended=message["ended"])
            case "warning":
                self._tell("warning", message["point"], text=message["text"])
            case "failed":
                self._why_failed = message["why"]
            case unknown:
                raise ValueError(f"a message that the supervisor does not know: {unknown}")

    def _detector_says(self, message: Message) -> None:
        match message["is"]:
            case "failures":
                self._failed(message["point"], message["failures"])
            case "status":
                for point, values in message["points"].items():
                    self._tallies[point].detected(values)
            case "counts":
                servers = tuple(map(counts_from_json, message["servers"]))
                self._clips.counted(message["point"], servers)
            case "counted":
                self._clips.all_counted()
            case "addresses":
                self._names_moved(message["names"], message["learned_ns"])
            case unknown:
                raise ValueError(f"a message that the supervisor does not know: {unknown}")

    # --- what is told ---

    def _show(self, events: Sequence[Event]) -> None:
        """Hand events to the user; where that fails, end as if told to, with every clip completed."""
        if self._unheard is not None:
            return
        try:
            self._observe(events)
        except OSError as error:
            self._unheard = error
            self._told_to_end = True

    def _tell(self, kind: str, point: str | None, **fields: Any) -> None:
        self._show([event(kind, point, fields)])

    def _take_status(self, points: dict[str, list[Any]]) -> None:
        written = {name: self._tallies[name].wrote(values) for name, values in points.items()}
        if not self._stopping:
            recorded = [name for name, tally in self._tallies.items() if tally.recording]
            self._show([event("status", name, self._totals(name)) for name in recorded])
            self._keep_write_budget({name: written.get(name, 0) for name in recorded})

    def _totals(self, name: str) -> Event:
        return self._tallies[name].totals(detecting=self._detecting) | {"clips": self._clips.kept}

    def _failed(self, point: str, found: Sequence[Message]) -> None:
        failures = [
            (
                failure_from_json(message["failure"]),
                counts_from_json(message["server"]) if message["server"] else None,
            )
            for message in found
        ]
        self._tallies[point].failed(len(failures))
        self._show([failure_event(point, failure) for failure, _ in failures])
        self._clips.failed(point, failures, time.time_ns())

    # --- clips ---

    def _freeze(self, request: Message) -> None:
        self._writer.channel.send(request)

    def _ask_counts(self) -> bool:
        """Whether the detector is there to tell what became of the connections to each server."""
        if "detector" not in self._running or self._stopping:
            return False
        return self._detector.channel.send({"do": "count"})

    def _serve(self, request: Message, answer: Answer) -> None:
        match request:
            case {"verb": "clip", "last_ns": int(last_ns), "reason": str(reason)}:
                now_ns = time.time_ns()
                point = next(iter(self._points))
                self._clips.asked(point, Window(now_ns - last_ns, now_ns), reason, now_ns, answer)
            case _:
                answer({"error": "the recorder does not know this request: is it of another version?"})

    # --- what changes while recording ---

    def _links_changed(self, point: WatchedPoint) -> None:
        try:
            if not point.links.update():
                return
            point.refilter()
        except PodcamError as error:
            self._filter_stays(point, error)
        self._note_source(point)

    def _filter_stays(self, point: WatchedPoint, why: PodcamError) -> None:
        """One point that cannot be filtered anew, or is gone, is no reason to stop recording the others."""
        self._tell("warning", point.name, text=f"{why}: the filter stays as it was")

    def _note_source(self, point: WatchedPoint) -> None:
        self._writer.channel.send(
            {"do": "source", "point": point.name, "source": point.source(), "cut": point.cut}
        )
        self._tell("filter", point.name, **point.filter())

    def _resize(self, point: WatchedPoint, *, grow: bool) -> None:
        shape = point.shape.doubled() if grow else point.base
        if shape is None or shape == point.shape or point.resizing is not None:
            return
        if grow and self._kernel_bytes() + shape.ring_bytes > self._settings.kernel_memory_bytes:
            return
        if 2 * shape.block_bytes > self._settings.ring.segment_bytes:  # the blocks of larger rings are larger
            return
        try:
            successor = point.open_successor(shape)
        except PodcamError as error:
            self._tell("warning", point.name, text=str(error))
            return
        self._writer.channel.send(
            {"do": "replace", "point": point.name, "shape": astuple(shape)}, [successor.fileno()]
        )

    def _kernel_bytes(self) -> int:
        """What the kernel's rings take, without those that are being replaced and go in a moment."""
        return sum(point.shape.ring_bytes for point in self._points.values())

    def _keep_write_budget(self, written: dict[str, int]) -> None:
        now = time.monotonic()
        seconds, self._measured_seconds = now - self._measured_seconds, now
        if self._budget is None or seconds <= 0:
            return
        cut, restored = self._budget.measured(written, seconds, time.monotonic_ns())
        for name in cut | restored:
            point = self._points[name]
            try:
                point.cut_payload(cut=name in cut)
            except PodcamError as error:
                self._filter_stays(point, error)
            self._note_source(point)
        if cut:
            self._tell(
                "warning",
                None,
                text=f"over the write budget: only headers are kept of {', '.join(sorted(cut))}",
            )
        if restored:
            self._tell(
                "warning",
                None,
                text=f"within the write budget again: whole packets of {', '.join(sorted(restored))}",
            )

    def _looked_up(self) -> None:
        found = self._lookup.take()
        if found and "detector" in self._running:
            names = {name: sorted(addresses) for name, addresses in found.items()}
            self._detector.channel.send({"do": "learn", "names": names})

    def _names_moved(self, names: dict[str, list[str]], learned_ns: int) -> None:
        self._looked_up_seconds = time.monotonic()
        swapped, behind = self._following.moved(names, learned_ns, self._points.values())
        for point in swapped:
            self._note_source(point)
        if behind:
            self._forget_addresses()

    def _forget_addresses(self) -> None:
        """Let the detector drop the addresses whose packets no ring holds any more."""
        oldest = [tally.oldest_ns for tally in self._tallies.values() if tally.oldest_ns is not None]
        if oldest and "detector" in self._running:
            self._detector.channel.send({"do": "forget", "before_ns": min(oldest)})

    # --- stop ---

    def _stop(self) -> None:
        """End the helpers, which takes one block timeout, then complete what is open."""
        self._stopping = True
        deadline = time.monotonic() + _STOP_SECONDS
        for name in ("detector", "writer"):
            if name in self._running:
                child = self._detector if name == "detector" else self._writer
                child.channel.send({"do": "stop"})
            while name in self._running and time.monotonic() < deadline:
                self._handle_events(0.5)
        for point in self._points.values():
            if self._tallies[point.name].recording:
                self._tell("stopped", point.name, **self._totals(point.name))
            point.close()
        if hasattr(self, "_requests"):
            self._requests.close()
