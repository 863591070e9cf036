"""Podcam as its user runs it: the real commands, as processes, in the app's namespace."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from podcam.demo.lab import Place
from podcam.errors import PodcamError

Event = dict[str, Any]
"""One line of `podcam record --json`."""

_PODCAM = [sys.executable, "-m", "podcam"]


class Recording:
    """A running `podcam record --json`, and the events that it has told so far."""

    def __init__(self, process: subprocess.Popen[str], log: Path, heard: Callable[[Event], None]) -> None:
        self._process = process
        self._log = log
        self._heard = heard
        self._events: list[Event] = []
        self._news = threading.Condition()
        self._ended = False
        self._listener = threading.Thread(target=self._listen, name="recorder's events", daemon=True)
        self._listener.start()

    def wait_for(self, what: str, kind: str, *, timeout_s: float) -> Event:
        """The first event of a kind, past or to come; raises PodcamError when it does not come in time."""

        def is_there() -> bool:
            return self._ended or any(event["event"] == kind for event in self._events)

        with self._news:
            self._news.wait_for(is_there, timeout_s)
            for event in self._events:
                if event["event"] == kind:
                    return event
        why = "it ended" if self._ended else f"it did not within {timeout_s:g} s"
        raise PodcamError(f"podcam record was to {what}, and {why}: {self._last_words()}")

    def stop(self) -> None:
        """End it as Ctrl-C does, and wait; raises PodcamError when it fails."""
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait()
        self._listener.join()
        if code:
            raise PodcamError(f"podcam record failed with exit code {code}: {self._last_words()}")

    def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        with self._process.stdout as lines:
            for line in lines:
                event = json.loads(line)
                with self._news:
                    self._events.append(event)
                    self._news.notify_all()
                self._heard(event)
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace").strip()[-500:] or "it said nothing"


@contextlib.contextmanager
def record(
    place: Place, arguments: Sequence[str | Path], *, log: Path, heard: Callable[[Event], None]
) -> Iterator[Recording]:
    """Run `podcam record` there; `heard` gets every event, in another thread, `log` the standard error."""
    command = [*_PODCAM, "record", "--json", *arguments]
    with log.open("w") as errors:
        process = place.call(
            # A session of its own: Ctrl-C is ours to handle, and comes to it by `stop`.
            lambda: subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
            )
        )
    recording = Recording(process, log, heard)
    try:
        yield recording
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def show(*arguments: str | Path) -> None:
    """Run a verb of Podcam with its output on ours; raises PodcamError when it fails."""
    sys.stdout.flush()
    _check(subprocess.run([*_PODCAM, *arguments], check=False, text=True))


def output_of(*arguments: str | Path) -> str:
    """What a verb of Podcam prints; raises PodcamError when it fails."""
    return _check(
        subprocess.run([*_PODCAM, *arguments], check=False, stdout=subprocess.PIPE, text=True)
    ).stdout


def _check(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    if done.returncode:
        raise PodcamError(f"podcam {done.args[len(_PODCAM)]} failed with exit code {done.returncode}")
    return done
