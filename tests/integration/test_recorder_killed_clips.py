"""Clips over the death of a recorder's processes: they are completed, and show what is missing."""

import os
import signal
import time
from pathlib import Path

import pytest

import network_lab as lab
from connections import PORT, refused
from kept_clips import clips_of, completed, exported, shown
from numbered_datagrams import NumberedSender, numbers_in
from podcam.capture import Namespace
from podcam.clip import open_clip, read_manifest
from podcam.model.verdict import FailureClass
from podcam.recorder import PointSettings
from recorded_pods import for_long, recorded, send, settings, texts_in
from recorders import own_recorder, podcam, recording
from waiting import wait_until

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))


@pytest.mark.parametrize("victims", ["all", "supervisor"])
def test_a_clip_whose_recorder_was_killed_is_completed_by_the_next(
    here: Namespace, tmp_path: Path, victims: str, sender: NumberedSender
) -> None:
    arguments = ("--netns", here.name, "--dir", tmp_path, "--before", "10s", "--after", "60s")
    with recording(*arguments) as recorder:
        refused(here)
        path = Path(recorder.wait_for_kind("clip")["path"])
        assert open_clip(path).manifest.state == "open"
        sender.send(100)
        recorder.wait_for_packets(102)
        if victims == "all":
            recorder.kill_all()
        else:
            os.kill(recorder.process.pid, signal.SIGKILL)
            recorder.process.wait()
    with recording(*arguments, "--on", "none") as recorder:
        warning = recorder.wait_for_kind("warning")
        assert str(path) in warning["text"]
        recorder.stop()
    manifest = open_clip(path).manifest
    assert manifest.state == "complete"
    assert manifest.warnings
    (trigger,) = manifest.triggers
    assert trigger.failure_class is FailureClass.REFUSED
    assert trigger.time_ns in manifest.window
    assert numbers_in(path / here.name) == set(range(100))


def test_a_recorder_killed_before_it_froze_anything_leaves_a_clip_to_complete(
    here: Namespace, tmp_path: Path
) -> None:
    with recording("--netns", here.name, "--dir", tmp_path, "--after", "60s") as recorder:
        writer = recorder.child("writer")
        good_port = lab.exchange(here, here, "127.0.0.1", PORT)
        recorder.wait_for_packets(8)
        os.kill(writer, signal.SIGSTOP)
        refused(here)
        recorder.wait_for_kind("failure")
        wait_until(lambda: clips_of(tmp_path))
        recorder.kill_all()
    with recording("--netns", here.name, "--dir", tmp_path, "--on", "none") as recorder:
        recorder.stop()
    (clip,) = clips_of(tmp_path)
    assert clip.manifest.state == "complete"
    assert len(clip.manifest.triggers) == 1
    capture = exported(clip, tmp_path / "out.pcapng")
    assert len(shown(capture, f"tcp.port == {good_port}", "frame.number")) >= 8


@pytest.mark.parametrize("at_once", [False, True], ids=["later", "at once"])
def test_a_writer_killed_while_a_window_is_open_loses_nothing_of_the_clip(
    at_once: bool, here: Namespace, tmp_path: Path, sender: NumberedSender
) -> None:
    with recording("--netns", here.name, "--dir", tmp_path, "--after", "1h") as recorder:
        refused(here)
        recorder.wait_for_kind("clip")
        sender.send(200)
        os.kill(recorder.child("writer"), signal.SIGKILL)
        sender.send(200)
        again_ns = recorder.wait_for_kind("warning")["time_ns"]
        if not at_once:
            recorder.wait_for(lambda event: event["event"] == "status" and event["time_ns"] > again_ns)
        recorder.stop()
        clip = completed(recorder)
    assert numbers_in(clip.path / here.name) == set(range(400))
    assert clip.manifest.state == "complete"


def test_a_clip_over_sigkill_has_both_sides_and_shows_the_gap(tmp_path: Path, pods: list[Namespace]) -> None:
    pod = pods[0]
    arguments = ("--netns", pod.name, "--dir", tmp_path, "--on", "none", "--ring", "4x2MB")
    ring = tmp_path / "points" / str(pod.name)
    with recording(*arguments) as killed:
        send(pod, b"before")
        before_ns = time.time_ns()
        killed.wait_for(lambda _: b"before" in texts_in(ring))
        killed.kill_all()
    killed_ns = time.time_ns()
    send(pod, b"meanwhile")
    again_ns = time.time_ns()
    with recording(*arguments) as recorder:
        started_ns = recorder.wait_for_kind("started")["time_ns"]
        send(pod, b"after")
        recorder.wait_for(lambda _: b"after" in texts_in(ring))
        clip = Path(podcam("clip", "--dir", tmp_path, "--last", "60s").stdout.splitlines()[-1])
        recorder.stop()
    (part,) = read_manifest(clip).parts
    (gap,) = part.gaps
    assert gap.reason == "the recorder was not running"
    assert before_ns <= gap.since_ns <= killed_ns
    assert again_ns < gap.until_ns <= started_ns
    assert texts_in(clip / part.folder) == {b"before", b"after"}


def test_a_clip_that_was_left_open_is_gone_on_with_when_it_is_asked_for_again(
    tmp_path: Path, pods: list[Namespace]
) -> None:
    point = PointSettings("web/a", "ns/a", "web", pods[0])
    request = for_long("clip")
    with own_recorder(tmp_path) as own:
        own.recorder.define("web", settings())
        own.recorder.add(point)
        own.until_event("started")
        send(pods[0], b"before")
        recorded(own, "web/a", b"before")
        own.recorder.keep(request)
        own.until_event("clip")
        as_left = (tmp_path / "clips/clip/manifest.json").read_bytes()
    (tmp_path / "clips/clip/manifest.json").write_bytes(as_left)  # as if it had been killed then
    with own_recorder(tmp_path) as own:
        assert read_manifest(tmp_path / "clips/clip").interrupted
        own.recorder.define("web", settings())
        own.recorder.add(point)
        own.until_event("started")
        own.recorder.keep(request)
        send(pods[0], b"after")
        ended_ns = time.time_ns()
    assert own.of_kind("complete", clip="clip")
    manifest = read_manifest(tmp_path / "clips/clip")
    (part,) = manifest.parts
    assert (manifest.interrupted, manifest.warnings) == (True, ())  # this one ended within the window, too
    assert manifest.window.start_ns == request.window.start_ns
    assert ended_ns <= manifest.window.end_ns
    assert texts_in(tmp_path / "clips/clip" / part.folder) == {b"before", b"after"}
    assert [gap.reason for gap in part.gaps] == ["the recorder was not running"]
