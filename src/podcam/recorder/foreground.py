"""One recording, as `podcam record` has it: until a signal, for a while, or beside a command."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from podcam.capture import geometry_for
from podcam.errors import PodcamError
from podcam.recorder.command import Command, check_command, in_foreground
from podcam.recorder.events import Event
from podcam.recorder.loop import Loop
from podcam.recorder.names import resolve
from podcam.recorder.points import check_interfaces, find_namespaces
from podcam.recorder.settings import SECOND_NS, PointSettings, RecorderSettings, RecordingSettings
from podcam.recorder.supervisor import Recorder

_START_SECONDS = 30.0
_PATIENCE_SECONDS = 1.0


class Foreground:
    """A recorder of one recording, whose points are all added at the start.

    Args:
        settings: where, and what its points share.
        recording: what is recorded.
        namespaces: by NAME, PATH or PID; none means the recorder's own.
        observe: takes the events of a moment.
    """

    def __init__(
        self,
        settings: RecorderSettings,
        recording: RecordingSettings,
        namespaces: Sequence[str],
        observe: Callable[[Sequence[Event]], None],
    ) -> None:
        self._settings = settings
        self._recording = recording
        self._specs = namespaces
        self._observe = observe
        self._loop = Loop()
        self._waited_for: set[str] = set()
        self._unheard: OSError | None = None
        """Why nobody hears of events any more: a broken pipe, a full disk behind a log."""
        self._told_to_end = False
        self._interrupted = False

    def run(self, *, duration_ns: int | None = None, command: Sequence[str] = ()) -> int:
        """Record until SIGINT, SIGTERM or SIGHUP, for so long, or while the command runs.

        Returns:
            The command's exit code (128 and the signal's number where one ended it), 0 without a command.

        Raises:
            PodcamError: recording cannot begin, or cannot go on.
        """
        if command:
            check_command(command)
        recorder = self._prepare()
        try:
            self._listen_for_signals()
            recorder.start()
            self._await_points()
            ends = None if duration_ns is None else time.monotonic() + duration_ns / SECOND_NS
            code = self._wait(ends, Command(command) if command else None)
        finally:
            recorder.stop()
        if self._unheard is not None:
            raise self._unheard
        return code

    def _prepare(self) -> Recorder:
        """Open all sockets, before anything is written."""
        namespaces = find_namespaces(self._specs)
        settings = replace(self._settings, expected_points=len(namespaces))
        shape = geometry_for(settings.kernel_memory_bytes, len(namespaces))
        self._recording.check(shape.block_bytes)
        addresses = {name: resolve(name, namespaces) for name in self._recording.traffic.names}
        check_interfaces(namespaces, self._recording.traffic.interfaces)
        recorder = Recorder(settings, self._loop, self._show)
        recorder.define("", self._recording, addresses)
        points = [PointSettings(each.name, each.name, "", each) for each in namespaces]
        for error in recorder.add_all([(point, None) for point in points]).values():
            raise error
        self._waited_for.update(point.id for point in points)
        return recorder

    def _show(self, events: Sequence[Event]) -> None:
        """Hand events on; where that fails, end as if told to, with every clip completed.

        Raises:
            PodcamError: a point cannot be recorded: here all are wanted.
        """
        for event in events:
            if event["event"] == "started":
                self._waited_for.discard(event["id"])
            elif event["event"] == "stopped" and "exit_code" in event:
                error = PodcamError(event["why"])
                error.exit_code = event["exit_code"]
                raise error
        if self._unheard is not None:
            return
        try:
            self._observe(events)
        except OSError as error:
            self._unheard = error
            self._told_to_end = True

    def _await_points(self) -> None:
        """Until the writer has opened every ring."""
        deadline = time.monotonic() + _START_SECONDS
        while self._waited_for:
            if time.monotonic() > deadline:
                raise PodcamError("the writer did not start in time: is the machine or its disk overloaded?")
            self._loop.run_once(0.5)

    def _listen_for_signals(self) -> None:
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # else under nohup(1)
            numbers.append(signal.SIGHUP)
        self._loop.listen_for_signals(numbers, self._signalled)

    def _signalled(self, numbers: bytes) -> None:
        # A terminal's Ctrl-C reaches a recorded command by itself; said twice, it is to end the hard way.
        by_terminal = set(numbers) == {signal.SIGINT} and in_foreground()
        self._interrupted = by_terminal and not self._interrupted
        self._told_to_end = True

    def _wait(self, ends: float | None, command: Command | None) -> int:
        if command is not None:
            self._loop.listen(command.pidfd, lambda: self._command_ended(command))
        while command is None or command.code is None:
            now = time.monotonic()
            if self._told_to_end or (ends is not None and now >= ends):
                if command is None:
                    return 0
                if not self._interrupted:
                    command.end()  # and record how it ends, however long that takes
                self._told_to_end, ends = False, None
            self._loop.run_once(_PATIENCE_SECONDS if ends is None else min(_PATIENCE_SECONDS, ends - now))
        return command.code

    def _command_ended(self, command: Command) -> None:
        self._loop.unlisten(command.pidfd)
        command.ended()
