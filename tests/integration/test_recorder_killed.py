"""A recorder whose processes are killed or held: what is on disk stays whole, and recording goes on."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

import network_lab as lab
from connections import CLOSED_PORT, PORT, refused
from kept_clips import completed
from numbered_datagrams import NumberedLoad, NumberedSender, numbers_in
from podcam.capture import Namespace, geometry
from podcam.model.verdict import FailureClass
from podcam.recorder import PointSettings
from podcam.ring import SegmentReader, segments_in
from podcam.ring.segment import Metadata
from recorded_pods import recorded, send, settings, texts_of
from recorders import Event, OwnRecorder, RunningRecorder, podcam, recording, ring_of, told
from waiting import wait_until

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))


@contextmanager
def killed_under_load(here: Namespace, folder: Path, after_packets: int) -> Iterator[NumberedLoad]:
    """A recorder that is killed with all its processes while packets come."""
    with (
        recording("--netns", here.name, "--dir", folder, "--on", "none", "--ring", "6x2MB") as recorder,
        NumberedLoad(here, pause_s=0.002, written=recorder.packets) as load,
    ):
        recorder.wait_for_packets(after_packets)
        recorder.kill_all()
        load.stop()
        yield load


@pytest.mark.parametrize("after_packets", [1, 3_000, 20_000])
def test_sigkill_leaves_whole_segments_and_nothing_missing_before_the_last_block(
    here: Namespace, tmp_path: Path, after_packets: int
) -> None:
    for kills in (1, 2):
        with killed_under_load(here, tmp_path, after_packets) as load:
            ring = ring_of(tmp_path, here)
            last = segments_in(ring)[-1]
            problems = [problem for path in segments_in(ring) for problem in _problems(path)]
            assert len(problems) <= kills  # at most the block that was being written
            assert sum(path.stat().st_size for path in segments_in(ring)) <= 12_000_000
            numbers = sorted(numbers_in(last.parent))
            newest = [number for number in numbers if number < load.sent]
            assert newest
    with recording("--netns", here.name, "--dir", tmp_path, "--on", "none", "--ring", "6x2MB") as recorder:
        recorder.stop()


def _problems(path: Path) -> list[str]:
    reader = SegmentReader(path)
    for _ in reader.packets():
        pass
    return reader.problems


def test_what_was_written_before_sigkill_has_no_gap(here: Namespace, tmp_path: Path) -> None:
    with killed_under_load(here, tmp_path, 10_000):
        numbers = sorted(numbers_in(ring_of(tmp_path, here)))
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert len(numbers) >= 10_000


# --- the writer ---


def test_a_killed_writer_is_replaced_and_no_packet_is_lost_or_doubled(
    here: Namespace, tmp_path: Path
) -> None:
    with (
        recording("--netns", here.name, "--dir", tmp_path, "--on", "none") as recorder,
        NumberedLoad(here, pause_s=0.002, written=recorder.packets) as load,
    ):
        for round_number in range(3):
            recorder.wait_for_packets(recorder.packets() + 1000)
            os.kill(recorder.child("writer"), signal.SIGKILL)
            recorder.wait_for(partial(_was_restarted, recorder, round_number + 1))
        load.stop()
        totals = recorder.stop()
    assert totals["dropped"] == 0
    numbers = numbers_in(ring_of(tmp_path, here))
    # A block that was written, but not yet given back to the kernel, is written once more.
    assert sorted(numbers) == list(range(load.sent))
    records = [r for path in segments_in(ring_of(tmp_path, here)) for r in SegmentReader(path).records()]
    assert sum(isinstance(record, Metadata) and record.kind == "gap" for record in records) == 3


def _was_restarted(recorder: RunningRecorder, times: int, _event: Event) -> bool:
    return sum("was started again" in event["text"] for event in recorder.of_kind("warning")) >= times


def test_the_writer_is_killed_while_points_come_and_go(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings(on=(FailureClass.REFUSED,)))
    first, second = own.add(pods[0]), own.add(pods[1])
    os.kill(own.child("writer"), signal.SIGSTOP)
    writer = own.child("writer")
    send(pods[0], b"one")
    send(pods[1], b"two")
    own.recorder.end(second, "just then")
    own.recorder.add(PointSettings("web/c", "ns/c", "web", pods[2]))
    send(pods[2], b"three")
    os.kill(writer, signal.SIGKILL)
    own.until_event("started", id="web/c")
    own.until_event("stopped", id=second)
    for point, text in ((first, b"one"), (second, b"two"), ("web/c", b"three")):
        recorded(own, point, text)
    assert len(own.keep("clip").parts) == 3
    assert own.recorder.restarts == {"writer": 1, "detector": 0}


def test_the_writer_is_killed_while_a_ring_is_replaced(own: OwnRecorder, pods: list[Namespace]) -> None:
    """What the old ring has is written first; then that of the new one."""
    own.recorder.define("web", settings())
    point = own.add(pods[0])
    writer = own.child("writer")
    os.kill(writer, signal.SIGSTOP)
    send(pods[0], b"in the old ring")
    watched = own.recorder._points.by_id[point].watched
    own.recorder._ring_sizes.replace(watched, geometry(watched.shape.ring_bytes // 4))
    send(pods[0], b"in the new ring")
    os.kill(writer, signal.SIGKILL)
    own.until(lambda: own.recorder.restarts["writer"] == 1 and not watched.resizing)
    recorded(own, point, b"in the new ring")
    assert texts_of(own, point) == {b"in the old ring", b"in the new ring"}
    assert own.recorder.totals()[point]["dropped"] == 0


def test_a_folder_stays_locked_until_the_writer_of_a_killed_recorder_has_ended(tmp_path: Path) -> None:
    arguments = ("--dir", tmp_path, "--interface", "lo", "--on", "none", "--for", "1s")
    with recording("--dir", tmp_path, "--interface", "lo", "--on", "none") as recorder:
        writer = recorder.child("writer")
        os.kill(writer, signal.SIGSTOP)
        try:
            os.kill(recorder.process.pid, signal.SIGKILL)
            recorder.process.wait()
            done = podcam("record", *arguments)
            assert (done.returncode, str(recorder.process.pid) in done.stderr) == (1, True)
        finally:
            os.kill(writer, signal.SIGCONT)
        recorder.wait_until_gone()
        assert podcam("record", *arguments).returncode == 0


def test_the_writer_goes_on_while_nobody_reads_the_events(
    here: Namespace, tmp_path: Path, sender: NumberedSender
) -> None:
    """A supervisor that is held (its output is a full pipe) holds neither writing nor detecting."""
    with recording("--netns", here.name, "--dir", tmp_path, "--after", "0s") as recorder:
        os.kill(recorder.process.pid, signal.SIGSTOP)
        refused(here)
        ring = tmp_path / "points" / here.name
        for _ in range(5):
            sender.send(1000)
            wait_until(lambda: numbers_in(ring) >= set(range(sender.sent - 100)))
        os.kill(recorder.process.pid, signal.SIGCONT)
        completed(recorder)
        totals = recorder.stop()
    assert totals["dropped"] == 0
    assert numbers_in(ring) == set(range(5000))


# --- the detector ---


def test_a_killed_detector_is_replaced_and_sees_the_next_failure(here: Namespace, tmp_path: Path) -> None:
    with recording("--netns", here.name, "--dir", tmp_path, "--after", "0s") as recorder:
        refused(here)
        completed(recorder)
        first = recorder.child("detector")
        os.kill(first, signal.SIGKILL)
        warning = recorder.wait_for_kind("warning")
        assert "detector" in warning["text"]
        assert "signal 9" in warning["text"]
        assert recorder.child("detector") != first
        refused(here, port=CLOSED_PORT + 1)
        clip = completed(recorder, 2)
        totals = recorder.stop()
    assert clip.manifest.triggers[0].server.port == CLOSED_PORT + 1
    assert (totals["connections"], totals["failures"]) == (2, 2)


def test_a_detector_that_dies_again_and_again_does_not_end_the_recording(
    here: Namespace, tmp_path: Path
) -> None:
    with recording("--netns", here.name, "--dir", tmp_path) as recorder:
        for deaths in range(1, 7):
            os.kill(recorder.child("detector"), signal.SIGKILL)
            recorder.wait_for(partial(told, recorder, "warning", deaths))
        assert "failures are not seen" in recorder.of_kind("warning")[-1]["text"]
        lab.exchange(here, here, "127.0.0.1", PORT)
        assert podcam("clip", "--dir", tmp_path).returncode == 0
        totals = recorder.stop()
    assert totals["packets"] >= 8


def test_the_detector_is_killed_while_points_come_and_go(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings(on=(FailureClass.REFUSED,)))
    own.add(pods[0])
    os.kill(own.child("detector"), signal.SIGKILL)
    second = own.add(pods[1])
    own.until_event("warning")
    refused(pods[1])
    own.until_event("failure", id=second)
