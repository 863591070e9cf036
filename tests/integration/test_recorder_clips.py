"""What a recorder puts into a clip: of which points, for whom, and within which budget."""

import threading
import time
from functools import partial
from pathlib import Path

import pytest

import network_lab as lab
from connections import refused
from kept_clips import clips_of, completed
from numbered_datagrams import NumberedSender
from podcam.capture import Namespace
from podcam.clip import open_packets, pin, read_manifest
from podcam.model.point import Window
from podcam.model.verdict import FailureClass
from podcam.recorder import RecordingSettings, RingSettings, Subject, TriggerSettings
from recorded_pods import OTHER_PORT, SECOND, for_long, recorded, send, settings, texts_in
from recorders import SMALL_RING, OwnRecorder, own_recorder, recording

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))


def test_a_clip_holds_live_and_ended_points_of_its_recording(own: OwnRecorder, pods: list[Namespace]) -> None:
    for name in ("web", "db"):
        own.recorder.define(name, settings())
    ended, live, other = own.add(pods[0]), own.add(pods[1]), own.add(pods[2], "db")
    for pod in pods:
        send(pod, b"said")
    for point in (live, other):
        recorded(own, point, b"said")
    own.end(ended)
    manifest = own.keep("ns_clip")
    assert {part.folder for part in manifest.parts} == {own.folder.ring(p).name for p in (ended, live)}
    assert all(texts_in(own.folder.clips / "ns_clip" / part.folder) == {b"said"} for part in manifest.parts)
    assert sum(1 for _ in open_packets(own.folder.clips / "ns_clip").packets()) >= 2
    only = own.keep("ns_only", points={ended})
    assert [part.folder for part in only.parts] == [own.folder.ring(ended).name]
    assert only.points == (ended,)


def test_a_clip_of_nothing_has_no_parts(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings())
    point = own.add(pods[0])
    send(pods[0], b"now")
    recorded(own, point, b"now")
    long_ago = time.time_ns() - 7200 * SECOND
    assert own.keep("old", window=Window(long_ago, long_ago + SECOND)).parts == ()
    assert own.of_kind("complete", clip="old")[0]["packets"] == 0
    assert own.keep("unknown", "nobody").parts == ()


def test_a_point_that_ends_and_one_that_comes_while_a_clip_is_open_are_in_it(
    tmp_path: Path, pods: list[Namespace]
) -> None:
    with own_recorder(tmp_path) as own:
        own.recorder.define("web", settings())
        ending = own.add(pods[0])
        own.recorder.keep(for_long("clip"))
        own.until_event("clip")
        send(pods[0], b"ending")
        own.end(ending)
        coming = own.add(pods[1])
        send(pods[1], b"coming")
    assert own.of_kind("complete", clip="clip")
    manifest = read_manifest(own.folder.clips / "clip")
    said = {part.folder: texts_in(own.folder.clips / "clip" / part.folder) for part in manifest.parts}
    assert said == {own.folder.ring(ending).name: {b"ending"}, own.folder.ring(coming).name: {b"coming"}}


def test_a_failure_of_a_point_that_ends_right_then_has_its_clip(
    own: OwnRecorder, pods: list[Namespace]
) -> None:
    own.recorder.define("web", settings(on=(FailureClass.REFUSED,)))
    point = own.add(pods[0])
    refused(pods[0])
    own.recorder.end(point, "its pod is gone")
    complete = own.until_event("complete")
    assert complete["packets"] >= 2
    assert own.of_kind("failure", id=point)


def test_a_clip_that_was_asked_for_twice_is_one(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings())
    point = own.add(pods[0])
    send(pods[0], b"said")
    recorded(own, point, b"said")
    first = own.keep("clip")
    again = own.keep("clip", window=Window(0, time.time_ns()))
    assert again == first
    assert len(own.of_kind("clip")) == 1


def test_failures_extend_a_clip_that_another_recorder_made(tmp_path: Path, pods: list[Namespace]) -> None:
    with own_recorder(tmp_path) as own:
        own.recorder.define("web", settings(on=(FailureClass.REFUSED,)))
        own.add(pods[0])
        own.recorder.keep(for_long("theirs", joins=True))
        refused(pods[0])
        own.until_event("failure")
    assert own.of_kind("complete", clip="theirs")
    manifest = read_manifest(own.folder.clips / "theirs")
    assert [trigger.failure_class for trigger in manifest.triggers] == [FailureClass.REFUSED]
    assert [event["clip"] for event in own.of_kind("clip")] == ["theirs"]


def test_clips_of_failures_are_named_by_who_runs_the_recorder(tmp_path: Path, pods: list[Namespace]) -> None:
    subjects: list[Subject] = []

    def name(subject: Subject) -> str:
        subjects.append(subject)
        return f"ns_{subject.recording}"

    with own_recorder(tmp_path, name_clip=name) as own:
        own.recorder.define("web", settings(on=(FailureClass.REFUSED,), clips_per_hour=1))
        point = own.add(pods[0])
        refused(pods[0])
        own.until_event("complete", clip="ns_web")
        refused(pods[0], OTHER_PORT)
        own.until_event("failure", 2)
        own.until(lambda: own.recorder.totals()[point]["suppressed"] == 1)
    (subject,) = subjects
    assert (subject.recording, subject.point) == ("web", point)
    assert subject.failure is not None
    assert len(own.of_kind("clip")) == 1


def test_a_clip_is_dropped_while_it_is_open(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings())
    own.add(pods[0])
    own.recorder.keep(for_long("gone"))
    own.until_event("clip", clip="gone")
    own.recorder.drop("gone")
    own.until(lambda: not (own.folder.clips / "gone").exists())
    own.keep("stays")
    own.recorder.drop("stays")
    assert not (own.folder.clips / "stays").exists()


# --- the budget of all clips ---


def test_the_budget_of_the_clips_may_shrink(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings())
    point = own.add(pods[0])
    send(pods[0], b"said")
    recorded(own, point, b"said")
    own.keep("old")
    own.keep("new")
    own.recorder.limit_clips(1)
    removed = own.of_kind("removed")
    assert [(event["clip"], event["recording"]) for event in removed] == [("old", "web"), ("new", "web")]
    assert not any(own.folder.clips.iterdir())


def test_the_oldest_clips_go_when_the_budget_is_reached_but_for_pinned_and_open_ones(
    here: Namespace, tmp_path: Path, sender: NumberedSender
) -> None:
    with own_recorder(tmp_path, kernel_memory_bytes=1 << 20, clips_bytes=1_500_000) as own:

        def keep(name: str) -> None:
            """A clip of 450 KB, of which no other holds anything."""
            begun_ns = time.time_ns()
            sender.send(400)
            own.keep(name, window=Window(begun_ns, time.time_ns()))

        trigger = TriggerSettings(frozenset({FailureClass.REFUSED}), before_ns=0, after_ns=3600 * 10**9)
        own.recorder.define("web", RecordingSettings(ring=RingSettings(4, 500_000), trigger=trigger))
        own.add(here)
        keep("first")
        pin(tmp_path / "clips" / "first")
        keep("second")
        keep("third")
        refused(here)
        growing = own.until_event("clip", origin="wire")["clip"]
        assert own.of_kind("removed") == []
        keep("fourth")
        left = {clip.path.name: clip.manifest.state for clip in clips_of(tmp_path)}
        assert left == {"first": "complete", "third": "complete", growing: "open", "fourth": "complete"}
        assert [event["clip"] for event in own.of_kind("removed")] == ["second"]
        (warning,) = own.of_kind("warning")
        assert str(tmp_path / "clips" / "second") in warning["text"]


def test_a_growing_clip_ends_where_the_budget_does(
    here: Namespace, tmp_path: Path, sender: NumberedSender
) -> None:
    with recording(
        *("--netns", here.name, "--dir", tmp_path, *SMALL_RING),
        *("--clips", "2MB", "--after", "10m"),
    ) as recorder:
        refused(here)
        stop = threading.Event()
        load = threading.Thread(target=partial(_send_until, sender, stop))
        load.start()
        try:
            clip = completed(recorder)
        finally:
            stop.set()
            load.join()
        recorder.stop()
    assert any("budget" in warning for warning in clip.manifest.warnings)
    assert 2_000_000 < clip.bytes < 8_000_000
    assert clip.manifest.window.end_ns - clip.manifest.triggers[0].time_ns < 600_000_000_000


def _send_until(sender: NumberedSender, stop: threading.Event) -> None:
    while not stop.wait(0.05):
        sender.send(50)
