"""What runs beside an app: a recorder of the pod's own network namespace, that ends when it is told to.

It is told on its standard input: by a line when the app has ended, by the end of that input when whoever
started it is gone. It ignores the signals that end a pod: those are for the app, whose end it is to record.
"""

import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from podcam.capture import own_namespace
from podcam.errors import PodcamError, RightsError, UsageError
from podcam.model.point import Window
from podcam.recorder import (
    Event,
    KeepRequest,
    Loop,
    PointSettings,
    Recorder,
    RecorderSettings,
    RecordingSettings,
)
from podcam.wrap.companion import CANNOT_RECORD, RECORDING, tell

STATUS: Final = "status.json"
"""In the recorder's folder: how it is, for whoever looks into the volume."""

_IGNORED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_STATUS_SECONDS: Final = 10.0
_CLIP_SECONDS: Final = 10.0
"""How long the clip of the app's end may take."""


class OnExit(StrEnum):
    """When the app's end is worth a clip."""

    NEVER = "never"
    ALWAYS = "exit"
    FAILURE = "exit-failure"

    def wants(self, code: int) -> bool:
        """Whether an app that ended with this code gets one."""
        return self is OnExit.ALWAYS or (self is OnExit.FAILURE and code != 0)


@dataclass(frozen=True, slots=True)
class BesideSettings:
    """What is recorded beside an app."""

    recorder: RecorderSettings
    recording: RecordingSettings
    on_exit: OnExit
    name: str
    """Of the point: what people call the pod."""


@dataclass(slots=True)
class _Status:
    state: str
    since_ns: int
    text: str | None = None
    totals: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def record_beside(settings: BesideSettings) -> int:
    """Record until told to end; returns the exit code of this process."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    try:
        _Beside(settings).run()
    except PodcamError as error:
        return cannot_record(error)
    return 0


def cannot_record(error: PodcamError) -> int:
    """Say why, in a line each, to people and to whoever waits; returns the exit code to end with."""
    tell(f"not recording: {error}; the app goes on")
    _say(str(error))
    return CANNOT_RECORD if isinstance(error, RightsError | UsageError) else 1


class _Beside:
    def __init__(self, settings: BesideSettings) -> None:
        self._settings = settings
        self._loop = Loop()
        self._recorder = Recorder(settings.recorder, self._loop, self._observe)
        self._status = _Status("starting", time.time_ns())
        self._status_path = settings.recorder.folder / STATUS
        self._last_clip: str | None = None
        self._received = b""
        self._ending = False

    def run(self) -> None:
        namespace = own_namespace()
        name = self._settings.name
        self._recorder.define("", self._settings.recording)
        self._recorder.add(PointSettings(name, name, "", namespace))
        try:
            self._recorder.start()
            self._loop.listen(0, self._hear)
            self._keep_status()
            while not self._ending:
                self._loop.run_once(_STATUS_SECONDS)
        finally:
            self._recorder.stop()
            self._change("ended")

    def _observe(self, events: Sequence[Event]) -> None:
        for event in events:
            match event["event"]:
                case "started":
                    self._change("recording")
                    _say(RECORDING)
                case "status" | "stopped":
                    self._status.totals = event
                    if "exit_code" in event:
                        raise PodcamError(event["why"])
                case "failure":
                    self._status.text = event["text"]
                case "clip":
                    tell(f"a clip is kept in {event['path']}: {event['reason']}")
                case "complete":
                    if event["clip"] == self._last_clip:
                        self._ending = True
                case "warning":
                    self._status.warnings = [*self._status.warnings[-9:], event["text"]]
                    self._write_status()

    def _hear(self) -> None:
        piece = os.read(0, 4096)
        self._received += piece
        if not piece:
            self._loop.unlisten(0)
            self._ending = self._last_clip is None
        elif b"\n" in self._received:
            line, self._received = self._received.split(b"\n", 1)
            self._app_ended(int(json.loads(line)["ended"]))

    def _app_ended(self, code: int) -> None:
        if not self._settings.on_exit.wants(code):
            self._ending = True
            return
        now_ns = time.time_ns()
        window = Window(now_ns - self._settings.recording.trigger.before_ns, now_ns)
        name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now_ns // 10**9))}-app-ended"
        self._last_clip = name
        reason = f"the app ended with exit code {code}"
        self._recorder.keep(KeepRequest(name, "", None, window, reason, now_ns, joins=False))
        self._loop.later(_CLIP_SECONDS, self._give_up)

    def _give_up(self) -> None:
        tell("the clip of the app's end was not complete in time")
        self._ending = True

    def _change(self, state: str) -> None:
        self._status.state, self._status.since_ns = state, time.time_ns()
        self._write_status()

    def _keep_status(self) -> None:
        self._loop.later(_STATUS_SECONDS, self._keep_status)
        self._write_status()

    def _write_status(self) -> None:
        """For people and probes; where it cannot be written, the ring says why at its next block."""
        status = self._status
        body = {
            "schema": "podcam.status/1",
            "point": self._settings.name,
            "state": status.state,
            "since_ns": status.since_ns,
            "last_failure": status.text,
            "totals": status.totals,
            "warnings": status.warnings,
        }
        hidden = self._status_path.with_name(f".{STATUS}")
        try:
            hidden.write_text(json.dumps(body), encoding="utf-8")
            hidden.rename(self._status_path)
        except OSError:
            return


def _say(line: str) -> None:
    try:
        os.write(1, line.encode() + b"\n")
    except OSError:
        return
