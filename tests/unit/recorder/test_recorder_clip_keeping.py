"""From failures to requests and manifests, with a writer, a detector and a clock made of paper."""

import json
from pathlib import Path
from typing import Any

import pytest

from podcam.clip import ClipStore, Manifest
from podcam.model.failure import Failure, ServerCounts
from podcam.model.point import Endpoint, Gap, Window
from podcam.model.verdict import FailureClass
from podcam.recorder.channel import Message
from podcam.recorder.clips import Clips
from podcam.recorder.rings import RestingRing
from podcam.recorder.settings import RecordingSettings, TriggerSettings

SECOND = 1_000_000_000
NOON = 1_795_000_000 * SECOND
SERVER = Endpoint("10.0.0.2", 5432)


def failure(time_ns: int, failure_class: FailureClass = FailureClass.REFUSED) -> Failure:
    return Failure(time_ns, failure_class, Endpoint("10.0.0.1", 40_000), SERVER, "server", time_ns)


def settings(**others: Any) -> RecordingSettings:
    trigger = TriggerSettings(frozenset({FailureClass.REFUSED}), before_ns=60 * SECOND, after_ns=10 * SECOND)
    return RecordingSettings(trigger=trigger, **others)


class Paper:
    """What surrounds the clips of a recorder."""

    def __init__(self, folder: Path) -> None:
        self.requests: list[Message] = []
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.detector_answers = True
        self.store = ClipStore(folder)
        self.points = ["pod"]
        self.rested: list[RestingRing] = []
        self.known_gaps: tuple[Gap, ...] = ()
        self.clips = Clips(
            self.store,
            1_000_000,
            self,
            self,
            tell=lambda event, _point, **fields: self.told.append((event, fields)),
            name=lambda _subject: "",
        )
        self.clips.define("", settings())

    def source(self, point_id: str) -> Message:
        return {"point": point_id, "node": "node", "namespace": None, "interfaces": [], "filter": {}}

    def folder(self, point_id: str) -> str:
        return point_id

    def gaps(self, point_id: str) -> tuple[Gap, ...]:
        return self.known_gaps

    def live(self, recording: str) -> list[str]:
        return self.points

    def resting(self, recording: str) -> list[RestingRing]:
        return self.rested

    def freeze(self, request: Message) -> None:
        self.requests.append(request)

    def count(self) -> bool:
        return self.detector_answers

    def fail(self, now_ns: int, *failures: Failure, server: ServerCounts | None = None) -> None:
        self.clips.failed("", "pod", [(each, server) for each in failures], now_ns)

    def frozen(self, now_ns: int, *, ended: bool) -> None:
        """The writer did what was asked last."""
        clip = self.requests[-1]["clip"]
        totals = {"packets": 3, "bytes": 300, "dropped": 0, "first_ns": NOON, "last_ns": NOON}
        self.clips.part({"clip": clip, "point": "pod", "folder": "pod", "how": "link", "totals": totals})
        self.clips.frozen(clip, now_ns, ended=ended)

    def manifest(self) -> Manifest:
        (clip,) = self.store.clips()
        return clip.manifest

    def events(self) -> list[str]:
        return [event for event, _ in self.told]


@pytest.fixture
def paper(tmp_path: Path) -> Paper:
    return Paper(tmp_path)


def test_the_first_manifest_says_already_what_was_asked(paper: Paper) -> None:
    """Should the recorder die before the writer has answered, the next one completes the clip by it."""
    paper.fail(NOON, failure(NOON))
    manifest = paper.manifest()
    assert manifest.state == "open"
    assert manifest.window == Window(NOON - 60 * SECOND, NOON + 10 * SECOND)
    assert [trigger.time_ns for trigger in manifest.triggers] == [NOON]
    assert paper.requests[0]["window"] == (NOON - 60 * SECOND, NOON + 10 * SECOND)


def test_a_batch_of_failures_is_one_request(paper: Paper) -> None:
    paper.fail(NOON, *(failure(NOON + number) for number in range(500)))
    paper.fail(NOON + SECOND, *(failure(NOON + SECOND + number) for number in range(500)))
    assert len(paper.requests) == 2
    assert paper.requests[1]["window"] == (NOON - 60 * SECOND, NOON + 11 * SECOND + 499)


def test_the_manifest_of_a_growing_clip_is_brought_up_to_date(paper: Paper) -> None:
    paper.fail(NOON, failure(NOON))
    paper.frozen(NOON + SECOND, ended=False)
    paper.fail(NOON + 5 * SECOND, failure(NOON + 5 * SECOND))
    paper.clips.keep_time(NOON + 6 * SECOND)
    assert paper.manifest().window.end_ns == NOON + 15 * SECOND
    assert len(paper.manifest().triggers) == 2
    assert paper.manifest().state == "open"


def test_a_clip_is_complete_when_the_counts_have_come(paper: Paper) -> None:
    paper.fail(NOON, failure(NOON))
    paper.frozen(NOON + 10 * SECOND, ended=True)
    assert paper.manifest().state == "open"
    counts = ServerCounts(SERVER, NOON - SECOND, 7, {FailureClass.REFUSED: 1})
    paper.clips.counted("pod", (counts,))
    paper.clips.all_counted()
    manifest = paper.manifest()
    assert manifest.state == "complete"
    assert manifest.parts[0].servers == (counts,)
    assert paper.events() == ["clip", "complete"]


def test_a_clip_is_complete_without_a_detector(paper: Paper) -> None:
    paper.detector_answers = False
    paper.fail(NOON, failure(NOON))
    paper.frozen(NOON + 10 * SECOND, ended=True)
    assert paper.manifest().state == "complete"


def test_a_clock_set_back_ends_the_window_and_the_next_failure_gets_a_clip_of_its_own(paper: Paper) -> None:
    paper.detector_answers = False
    paper.fail(NOON, failure(NOON))
    first = paper.requests[0]["clip"]
    paper.frozen(NOON + SECOND, ended=False)
    earlier = NOON - 3600 * SECOND
    paper.clips.keep_time(earlier)
    paper.fail(earlier + SECOND, failure(earlier + SECOND, FailureClass.RESET_EARLY))
    assert paper.requests[-1]["clip"] != first
    assert paper.requests[-1]["window"] == (earlier - 59 * SECOND, earlier + 11 * SECOND)
    paper.clips.frozen(first, earlier + 9 * SECOND, ended=True)
    window = next(clip.manifest.window for clip in paper.store.clips() if clip.manifest.id == first)
    assert window == Window(NOON - 60 * SECOND, NOON + 10 * SECOND)  # its packets have these times


def test_a_clock_set_forward_ends_the_window_where_it_was_to_end(paper: Paper) -> None:
    paper.detector_answers = False
    paper.fail(NOON, failure(NOON))
    paper.clips.keep_time(NOON + 3600 * SECOND)
    paper.frozen(NOON + 3600 * SECOND, ended=True)
    assert paper.manifest().window == Window(NOON - 60 * SECOND, NOON + 10 * SECOND)
    paper.fail(NOON + 3601 * SECOND, failure(NOON + 3601 * SECOND))
    assert len(paper.store.clips()) == 2


def test_the_last_good_connection_is_asked_for_once(paper: Paper) -> None:
    good = ServerCounts(SERVER, 0, 9, {}, NOON - 900 * SECOND, NOON - 899 * SECOND)
    paper.fail(NOON, failure(NOON), failure(NOON + 1), server=good)
    (asked,) = paper.requests[0]["comparisons"]["pod"]
    assert asked == (NOON - 900 * SECOND - SECOND // 100, NOON - 899 * SECOND + SECOND // 100)
    inside = ServerCounts(SERVER, 0, 9, {}, NOON - SECOND, NOON)
    paper.fail(NOON + SECOND, failure(NOON + SECOND), server=inside)
    assert paper.requests[-1]["comparisons"]["pod"] == [asked]


def test_a_clip_that_reaches_the_budget_ends(paper: Paper) -> None:
    paper.detector_answers = False
    paper.fail(NOON, failure(NOON))
    clip = paper.requests[0]["clip"]
    paper.clips.kept_so_far({clip: 1_000_000}, NOON + SECOND)
    assert len(paper.requests) == 1
    paper.clips.kept_so_far({clip: 1_000_001}, NOON + 2 * SECOND)
    assert paper.requests[-1]["window"] == (NOON - 60 * SECOND, NOON + 2 * SECOND)
    paper.frozen(NOON + 2 * SECOND, ended=True)
    assert "budget" in paper.manifest().warnings[0]


def test_a_clip_that_cannot_be_made_is_told_and_answered(paper: Paper, tmp_path: Path) -> None:
    paper.store.folder = tmp_path / "file" / "clips"
    (tmp_path / "file").touch()
    answers: list[Message] = []
    paper.clips.asked("", Window(NOON, NOON), "why", NOON, answers.append)
    paper.fail(NOON, failure(NOON))
    assert "error" in answers[0]
    assert paper.events() == ["warning", "warning"]
    assert paper.requests == []


def test_requests_are_plain_json(paper: Paper) -> None:
    paper.fail(NOON, failure(NOON))
    assert json.loads(json.dumps(paper.requests[0]))["do"] == "freeze"
