"""`podcam record` as a test runs it: a process of its own, and its events as they come."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from podcam.capture import Namespace
from podcam.clip import Manifest, read_manifest
from podcam.model.point import Window
from podcam.recorder import KeepRequest, Loop, PointSettings, Recorder, RecorderFolder, RecorderSettings
from podcam.ring import segments_in

Event = dict[str, Any]

PODCAM = (sys.executable, "-m", "podcam")
SMALL_RING = ("--memory", "1MiB", "--ring", "4x500KB")
"""A small kernel ring has small blocks, and a segment has to hold two."""
_PATIENCE_S = 60


class RunningRecorder:
    """A running `podcam record --json`."""

    def __init__(self, arguments: Sequence[object], *, before: Sequence[str] = ()) -> None:
        command = [*before, *PODCAM, "record", "--json", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.events: list[Event] = []
        self._news = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def wait_for(self, is_it: Callable[[Event], bool], timeout_s: float = 30.0) -> Event:
        """The first event, past or to come, that is it."""
        with self._news:
            self._news.wait_for(lambda: self._ended or any(map(is_it, self.events)), timeout_s)
            for event in self.events:
                if is_it(event):
                    return event
        if self.process.poll() is not None and self.process.stderr is not None:
            raise AssertionError(f"it ended: {self.process.stderr.read()}")
        raise AssertionError(f"no such event, but {self.events[-3:]}")

    def wait_for_kind(self, kind: str, timeout_s: float = 30.0) -> Event:
        return self.wait_for(lambda event: event["event"] == kind, timeout_s)

    def of_kind(self, kind: str) -> list[Event]:
        with self._news:
            return [event for event in self.events if event["event"] == kind]

    def wait_for_packets(self, count: int, timeout_s: float = 30.0) -> None:
        """Until so many packets were written and told of."""
        self.wait_for(lambda event: event["event"] == "status" and event["packets"] >= count, timeout_s)

    def packets(self) -> int:
        """How many were written so far, as far as was told."""
        statuses = self.of_kind("status")
        return int(statuses[-1]["packets"]) if statuses else 0

    def child(self, name: str, timeout_s: float = 30.0) -> int:
        """The process id of the `writer` or the `detector`, once there is one."""
        deadline, pause = time.monotonic() + timeout_s, threading.Event()
        while (pid := _child_of(self.process.pid, name)) is None:
            assert time.monotonic() < deadline, f"the recorder has no {name}"
            pause.wait(0.01)
        return pid

    def stop(self) -> Event:
        """As Ctrl-C does; returns the totals of the (last) point."""
        self.process.send_signal(signal.SIGINT)
        code = self.wait()
        assert code == 0, self.errors
        return self.of_kind("stopped")[-1]

    def wait(self) -> int:
        code = self.process.wait(_PATIENCE_S)
        self.wait_until_gone()
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read()
        return code

    def kill_all(self) -> None:
        """SIGKILL to every process of it at once, as the kernel does to a container."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(_PATIENCE_S)
        self.wait_until_gone()

    def wait_until_gone(self) -> None:
        """Until the last of its processes has ended: then nobody has its standard output open."""
        self._thread.join(_PATIENCE_S)
        assert not self._thread.is_alive(), "a process of the recorder goes on"

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill_all()
        self.wait_until_gone()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            with self._news:
                self.events.append(event)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


@contextmanager
def recording(*arguments: object, before: Sequence[str] = ()) -> Iterator[RunningRecorder]:
    """A recorder that records all of its points; killed at the end if it was not stopped."""
    recorder = RunningRecorder(arguments, before=before)
    points = max(1, arguments.count("--netns"))
    try:
        recorder.wait_for(lambda _event: len(recorder.of_kind("started")) == points)
        yield recorder
    finally:
        recorder.close()


def podcam(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end."""
    return subprocess.run(
        [*PODCAM, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


def told(recorder: RunningRecorder, kind: str, times: int, _event: Event) -> bool:
    """Whether so many events of a kind were told; for `wait_for`."""
    return len(recorder.of_kind(kind)) >= times


def told_of(recorder: RunningRecorder, failures: int) -> None:
    recorder.wait_for(partial(told, recorder, "failure", failures))


def ring_of(folder: Path, namespace: Namespace) -> Path:
    """Where `podcam record` keeps the packets of a namespace."""
    return folder / "points" / namespace.name


def at_one_moment(ring: Path) -> list[os.stat_result]:
    """The sizes of a ring's segments while it is written, none of them from before another one left."""
    while True:
        segments = segments_in(ring)
        with contextlib.suppress(FileNotFoundError):
            found = [segment.stat() for segment in segments]
            if segments_in(ring)[: len(segments)] == segments:
                return found


class OwnRecorder:
    """A recorder in the test's own process: the test runs its loop, and adds and ends points itself."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = RecorderFolder(folder)
        self.events: list[Event] = []
        self.loop = Loop()
        name_clip = settings.pop("name_clip", None)
        named = {} if name_clip is None else {"name_clip": name_clip}
        self.recorder = Recorder(
            RecorderSettings(folder, **settings),
            self.loop,
            self.events.extend,
            **named,
        )

    def of_kind(self, kind: str, **fields: Any) -> list[Event]:
        """The events of a kind, with these fields."""
        return [e for e in self.events if e["event"] == kind and fields.items() <= e.items()]

    def until(self, is_so: Callable[[], object], *, tell: Callable[[], object] | None = None) -> None:
        """Run the loop until it is so; where it never is, what `tell` says is told, or the last events."""
        deadline = time.monotonic() + 30
        while not is_so():
            assert time.monotonic() < deadline, f"it is not so, but {tell() if tell else self.events[-3:]}"
            self.loop.run_once(0.05)

    def until_event(self, kind: str, count: int = 1, **fields: Any) -> Event:
        """Run the loop until there are so many events of a kind with these fields; the last of them."""
        self.until(lambda: len(self.of_kind(kind, **fields)) >= count)
        return self.of_kind(kind, **fields)[count - 1]

    def add(self, namespace: Namespace, recording: str = "web", **others: Any) -> str:
        """Record a namespace for a recording; its id, once it is recorded."""
        point_id = f"{recording}/{namespace.name}"
        told = len(self.of_kind("started", id=point_id))
        self.recorder.add(PointSettings(point_id, f"ns/{namespace.name}", recording, namespace), **others)
        self.until_event("started", told + 1, id=point_id)
        return point_id

    def end(self, point_id: str) -> Event:
        """Record it no longer; its last event."""
        told = len(self.of_kind("stopped", id=point_id))
        self.recorder.end(point_id, "the test ended it")
        return self.until_event("stopped", told + 1, id=point_id)

    def keep(
        self, clip: str, recording: str = "web", *, window: Window | None = None, **others: Any
    ) -> Manifest:
        """Ask for a clip of the last minute; its manifest, once it is complete."""
        now_ns = time.time_ns()
        window = window or Window(now_ns - 60_000_000_000, now_ns)
        points = others.pop("points", None)
        told = len(self.of_kind("complete", clip=clip))
        self.recorder.keep(
            KeepRequest(clip, recording, points and frozenset(points), window, "kept", now_ns, **others)
        )
        self.until_event("complete", told + 1, clip=clip)
        return read_manifest(self.folder.clips / clip)

    def child(self, name: str) -> int:
        """The process id of its `writer` or `detector`, once that goes by its name."""
        self.until(lambda: _child_of(os.getpid(), name))
        pid = _child_of(os.getpid(), name)
        assert pid is not None
        return pid


def _child_of(parent: int, name: str) -> int | None:
    """The process id of a recorder's `writer` or `detector`, if one goes by its name just now."""
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == f"podcam-{name}":
                return int(pid)
    return None


@contextmanager
def own_recorder(folder: Path, **settings: Any) -> Iterator[OwnRecorder]:
    """A recorder that has started and records nothing yet."""
    own = OwnRecorder(folder, **settings)
    own.recorder.start()
    try:
        yield own
    finally:
        own.recorder.stop()
        own.loop.close()
