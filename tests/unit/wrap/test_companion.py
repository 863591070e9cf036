import errno
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from podcam.errors import PodcamError, RightsError
from podcam.wrap.companion import RECORDING, BesideRecorder, cannot_record, say


@pytest.fixture(autouse=True)
def children_are_told_of() -> Iterator[None]:
    """As in the first process, where all signals are blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def no_more_processes() -> int:
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def reap(companion: BesideRecorder) -> None:
    assert companion._pid is not None
    companion.ended(*os.waitpid(companion._pid, 0))


def until_told() -> int:
    """Until the app has ended, or nobody is there to say so."""
    os.read(0, 100)
    return 0


def pause() -> int:
    """Whatever it is told."""
    signal.pause()
    return 0


class Clock:
    """The companion's, which stands still unless a test says otherwise."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("podcam.wrap.companion.time", clock)
    return clock


@pytest.mark.usefixtures("clock")
def test_a_limit_of_processes_ends_nobody(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    companion = BesideRecorder(until_told)
    monkeypatch.setattr(os, "fork", no_more_processes)
    companion.before_app()
    companion.after_app()
    assert "no process can be started for it" in capfd.readouterr().err
    assert companion.due_seconds() == pytest.approx(1)
    companion.app_ended(0, None)


def test_where_recording_is_required_that_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", no_more_processes)
    with pytest.raises(PodcamError, match="required and cannot begin: no process"):
        BesideRecorder(until_told, required=True).before_app()


def refuse(error: PodcamError) -> Callable[[], int]:
    return lambda: cannot_record(error)


def test_what_cannot_be_helped_is_told_once_and_not_tried_again(capfd: pytest.CaptureFixture[str]) -> None:
    companion = BesideRecorder(refuse(RightsError("no right")))
    companion.after_app()
    reap(companion)
    assert capfd.readouterr().err == "podcam: not recording: no right; the app goes on\n"
    assert companion.due_seconds() is None


def test_an_app_that_ends_before_its_recorder_could_say_why_is_told(
    capfd: pytest.CaptureFixture[str],
) -> None:
    companion = BesideRecorder(refuse(RightsError("no right")))
    companion.after_app()
    companion.app_ended(0, None)
    assert capfd.readouterr().err == "podcam: not recorded: no right\n"


def test_the_same_reason_is_told_once_while_the_pauses_grow(
    clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    companion = BesideRecorder(refuse(PodcamError("a bad day")))
    companion.after_app()
    pauses = []
    for _ in range(3):
        reap(companion)
        pauses.append(companion.due_seconds() or 0)
        clock.now += pauses[-1]
        companion.act()
    reap(companion)
    assert pauses == pytest.approx([1, 2, 4])
    told = capfd.readouterr().err
    assert told == "podcam: not recording: a bad day; it is tried again in 1 s, the app goes on\n"


def test_one_that_is_required_is_waited_for(capfd: pytest.CaptureFixture[str]) -> None:
    def record() -> int:
        say(RECORDING)
        return until_told()

    companion = BesideRecorder(record, required=True)
    companion.before_app()
    companion.after_app()
    pid = companion._pid
    assert pid is not None
    companion.app_ended(0, None)
    assert capfd.readouterr().err == ""  # it ended by itself, within the grace period
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


@pytest.mark.parametrize(
    ("signalled_ago", "patience"),
    [(None, 9), (0, 9), (4, 5), (60, 1)],
    ids=["by itself", "just told", "told a while ago", "long over"],
)
def test_one_that_does_not_end_is_killed_a_second_before_the_pod_is(
    signalled_ago: float | None,
    patience: float,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    waited: list[float] = []

    def wait(signals: list[int], seconds: float) -> signal.struct_siginfo | None:
        waited.append(seconds)
        return None if len(waited) == 1 else signal.sigwaitinfo(signals)

    monkeypatch.setattr("podcam.wrap.companion.signal.sigtimedwait", wait)
    companion = BesideRecorder(pause, grace_seconds=10)
    companion.after_app()
    companion.app_ended(0, None if signalled_ago is None else clock.now - signalled_ago)
    assert waited[0] == pytest.approx(patience)
    assert "did not end within the grace period" in capfd.readouterr().err
