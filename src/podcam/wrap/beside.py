"""What runs beside an app: a recorder of the pod's own network namespace, that ends when it is told to.

It is told on its standard input: by a line when the app has ended, by the end of that input when whoever
started it is gone. It ignores the signals that end a pod: those are for the app, whose end it is to record.
"""

import json
import os
import resource
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from podcam.capture import own_namespace
from podcam.errors import PodcamError
from podcam.model.point import Window
from podcam.recorder import (
    Event,
    KeepRequest,
    Loop,
    PointSettings,
    Recorder,
    RecorderFolder,
    RecorderSettings,
    RecordingSettings,
)
from podcam.wrap.capabilities import DAC_OVERRIDE, NET_RAW, confine_to
from podcam.wrap.companion import RECORDING, cannot_record, say, tell
from podcam.wrap.confinement import write_only_below
from podcam.wrap.room import limit_for

if TYPE_CHECKING:
    from podcam.wrap.http import PodServer

STATUS: Final = "status.json"
"""In the recorder's folder: how it is, for whoever looks into the volume."""

HEAP_BYTES: Final = 48 * 2**20
"""What each of the recorder's processes may take beside the kernel's rings: RLIMIT_DATA of setrlimit(2). One
that wants more fails, and is started again; so it can never be what takes the memory from the app."""

_RECORDING: Final = "recording"
"""The state once packets are written."""
_IGNORED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_THREAD_STACK_BYTES: Final = 512 * 1024
_STATUS_SECONDS: Final = 10.0
_CLIP_SECONDS: Final = 10.0
"""How long the clip of the app's end may take."""
_ENDING_SECONDS: Final = 1.0
"""What is left of the app's grace period for ending."""
_MOST_WARNINGS: Final = 10
_LINGER_SECONDS: Final = 10.0
"""At the end, for somebody who fetches clips just now: the volume is gone with the pod."""
_LOOK_SECONDS: Final = 0.1


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
    serve_port: int | None = None
    """Where clips are handed out, at the pod's loopback address; None for nowhere."""
    node: str | None = None
    """On which the pod runs; None for what this machine calls itself."""


@dataclass(slots=True)
class _Status:
    """What status.json tells."""

    state: str
    since_ns: int
    restarts: int = 0
    """How often whoever started this recorder had to start one again."""
    why_restarted: str | None = None
    last_failure: str | None = None
    last_clip: str | None = None
    totals: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        self.warnings = [*self.warnings[1 - _MOST_WARNINGS :], text]


def record_beside(settings: BesideSettings) -> int:
    """Record until told to end; returns the exit code of this process."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    confine_to({NET_RAW, DAC_OVERRIDE})
    threading.stack_size(_THREAD_STACK_BYTES)
    with suppress(ValueError, OSError):  # a lower limit is the container's own
        resource.setrlimit(resource.RLIMIT_DATA, (HEAP_BYTES, HEAP_BYTES))
    try:
        write_only_below(settings.recorder.folder)
        _Beside(settings).run()
    except PodcamError as error:
        return cannot_record(error)
    return 0


class _Beside:
    def __init__(self, settings: BesideSettings) -> None:
        self._settings = settings
        self._loop = Loop()
        self._recorder = Recorder(settings.recorder, self._loop, self._observe)
        self._status = _Status("starting", time.time_ns())
        self._status_path = settings.recorder.folder / STATUS
        self._limit_bytes = settings.recording.ring.limit_bytes
        self._last_clip: str | None = None
        self._received = b""
        self._ending = False
        self._server: PodServer | None = None
        self._end_seconds = 0.0
        """On the monotonic clock: until when this process may live once it is told to end."""

    def run(self) -> None:
        name, why = self._settings.name, "ended"
        try:
            self._recorder.define("", self._settings.recording)
            self._recorder.add(PointSettings(name, name, "", own_namespace(), node=self._settings.node))
            self._recorder.start()
            self._serve()
            self._look_at_the_volume()
            self._loop.listen(0, self._hear)
            self._keep_status()
            while not self._ending:
                self._loop.run_once(_STATUS_SECONDS)
        except PodcamError as error:
            why = "failed"
            self._status.warn(str(error))
            raise
        finally:
            self._recorder.stop()
            self._change(why)
            self._linger()

    def _observe(self, events: Sequence[Event]) -> None:
        for event in events:
            match event["event"]:
                case "started":
                    self._change(_RECORDING)
                    say(RECORDING)
                case "status" | "stopped":
                    self._status.totals = event
                    if "exit_code" in event:
                        raise PodcamError(event["why"])
                case "failure":
                    self._status.last_failure = event["text"]
                case "clip":
                    self._status.last_clip = event["clip"]
                    tell(f"a clip is kept in {event['path']}: {event['reason']}")
                case "complete":
                    if event["clip"] == self._last_clip:
                        self._ending = True
                case "warning":
                    self._status.warn(event["text"])
                    self._write_status()

    # --- what it is told ---

    def _hear(self) -> None:
        piece = os.read(0, 4096)
        self._received += piece
        while b"\n" in self._received:
            line, self._received = self._received.split(b"\n", 1)
            self._obey(json.loads(line))
        if not piece:
            self._loop.unlisten(0)
            self._ending = self._ending or self._last_clip is None

    def _obey(self, line: dict[str, Any]) -> None:
        match line:
            case {"restarts": int(restarts), "why": why}:
                self._status.restarts, self._status.why_restarted = restarts, why
                self._write_status()
            case {"ended": int(code), "within_seconds": float() | int() as seconds}:
                self._app_ended(code, float(seconds))
            case _:
                self._status.warn("whoever started this recorder is of another version")

    def _app_ended(self, code: int, within_seconds: float) -> None:
        self._end_seconds = time.monotonic() + within_seconds
        if not self._settings.on_exit.wants(code):
            self._ending = True
            return
        if self._status.state != _RECORDING:
            tell("no clip is kept of the app's end, which came before recording began")
            self._ending = True
            return
        now_ns = time.time_ns()
        window = Window(now_ns - self._settings.recording.trigger.before_ns, now_ns)
        name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now_ns // 10**9))}-app-ended"
        self._last_clip = name
        reason = f"the app ended with exit code {code}"
        self._recorder.keep(KeepRequest(name, "", None, window, reason, now_ns, joins=False))
        self._loop.later(min(_CLIP_SECONDS, max(0.0, within_seconds - _ENDING_SECONDS)), self._give_up)

    def _give_up(self) -> None:
        tell("the clip of the app's end is ended before it is complete: the grace period is over")
        self._ending = True

    # --- what it hands out ---

    def _serve(self) -> None:
        """Where the port cannot be had, record all the same, and try again with the next status."""
        port = self._settings.serve_port
        if port is None or self._server is not None:
            return
        from podcam.wrap.http import PodServer  # noqa: PLC0415 - takes memory, and is not always wanted

        folder = RecorderFolder(self._settings.recorder.folder)
        try:
            self._server = PodServer(folder.clips, self._body, port)
        except OSError as error:
            text = f"clips are not handed out: port {port} of the pod cannot be had: {error.strerror}"
            if text not in self._status.warnings:
                tell(text)
                self._status.warn(text)
            return
        self._server.start()
        tell(
            f"clips are handed out at port {port} of the pod's loopback address: whoever may forward a port "
            "of this pod, or run something in it, can read its packets"
        )

    def _linger(self) -> None:
        """Stay while somebody fetches clips, but no longer than the pod may."""
        if self._server is None:
            return
        until = min(self._end_seconds - _ENDING_SECONDS, time.monotonic() + _LINGER_SECONDS)
        while self._server.is_in_use and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
        self._server.close()

    # --- the volume ---

    def _look_at_the_volume(self) -> None:
        wanted = self._settings.recording.ring.limit_bytes + self._settings.recorder.clips_bytes
        total = shutil.disk_usage(self._settings.recorder.folder).total
        if total < wanted:
            text = (
                f"the volume of {self._settings.recorder.folder} has {total // 10**6} MB, and ring and clips "
                f"may take {wanted // 10**6} MB: choose a smaller --ring and --clips"
            )
            tell(text)
            self._status.warn(text)

    def _leave_room(self) -> None:
        """Let the ring give way before the volume is full, in case the app writes there too."""
        with suppress(OSError):
            usage = shutil.disk_usage(self._settings.recorder.folder)
            ring = self._settings.recording.ring
            taken = self._status.totals.get("ring_bytes") or 0
            limit = limit_for(ring.limit_bytes, taken, usage.free, usage.total, 2 * ring.segment_bytes)
            if limit != self._limit_bytes:
                if limit < self._limit_bytes:
                    self._status.warn(f"the volume is nearly full: the ring goes on with {limit:,} bytes")
                self._recorder.limit(self._settings.name, limit)
                self._limit_bytes = limit

    # --- status.json ---

    def _change(self, state: str) -> None:
        self._status.state, self._status.since_ns = state, time.time_ns()
        self._write_status()

    def _keep_status(self) -> None:
        self._loop.later(_STATUS_SECONDS, self._keep_status)
        self._leave_room()
        self._serve()
        self._write_status()

    def _write_status(self) -> None:
        """For people and probes; where it cannot be written, the ring says why at its next block."""
        hidden = self._status_path.with_name(f".{STATUS}")
        with suppress(OSError):
            hidden.write_text(json.dumps(self._body()), encoding="utf-8")
            hidden.rename(self._status_path)

    def _body(self) -> dict[str, Any]:
        """The server's threads ask for it, too: whatever is in it gets replaced and not changed."""
        status = self._status
        return {
            "schema": "podcam.status/1",
            "point": self._settings.name,
            "state": status.state,
            "since_ns": status.since_ns,
            "restarts": status.restarts,
            "why_restarted": status.why_restarted,
            "ring_limit_bytes": self._limit_bytes,
            "last_failure": status.last_failure,
            "last_clip": status.last_clip,
            "totals": status.totals,
            "warnings": status.warnings,
        }
