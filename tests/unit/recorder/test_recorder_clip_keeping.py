"""From failures to requests and manifests, with a writer, a detector and a clock made of paper."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from podcam.clip import Clip, ClipStore, Manifest
from podcam.errors import ClipError
from podcam.model.failure import Failure, ServerCounts
from podcam.model.point import Endpoint, Gap, Window
from podcam.model.verdict import FailureClass
from podcam.recorder.channel import Message
from podcam.recorder.clips import Clips
from podcam.recorder.rings import Owner, RestingRing
from podcam.recorder.settings import KeepRequest, RecordingSettings, Scope, TriggerSettings

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
            freeze=self.requests.append,
            count=lambda: self.detector_answers,
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

    def fail(self, now_ns: int, *failures: Failure, server: ServerCounts | None = None) -> None:
        self.clips.failed("", "pod", [(each, server) for each in failures], now_ns)

    def frozen(self, now_ns: int, *, ended: bool) -> None:
        """The writer did what was asked last."""
        self.did(self.requests[-1], now_ns, ended=ended)

    def did(self, request: Message, now_ns: int, *, ended: bool) -> None:
        clip = request["clip"]
        totals = {"packets": 3, "bytes": 300, "dropped": 0, "first_ns": NOON, "last_ns": NOON}
        self.clips.part({"clip": clip, "point": "pod", "folder": "pod", "how": "link", "totals": totals})
        self.clips.frozen({"clip": clip, "request": request["request"], "ended": ended}, now_ns)

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


def test_a_window_that_grew_just_as_the_writer_ended_it_is_kept_to_its_new_end(paper: Paper) -> None:
    paper.detector_answers = False
    paper.fail(NOON, failure(NOON))
    paper.fail(NOON + 9 * SECOND, failure(NOON + 9 * SECOND))
    first, second = paper.requests
    paper.did(first, NOON + 10 * SECOND, ended=True)
    assert paper.manifest().state == "open"
    paper.did(second, NOON + 19 * SECOND, ended=True)
    assert paper.manifest().state == "complete"
    assert paper.manifest().window.end_ns == NOON + 19 * SECOND


def test_what_became_of_connections_is_not_kept_without_a_clip(paper: Paper) -> None:
    """Every point that ends tells of it; in a while there are thousands."""
    paper.detector_answers = False
    paper.clips.counted("pod", (ServerCounts(SERVER, NOON - SECOND, 7, {}),))
    paper.fail(NOON, failure(NOON))
    paper.frozen(NOON + 10 * SECOND, ended=True)
    assert paper.manifest().parts[0].servers == ()


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
    paper.did(paper.requests[0], earlier + 9 * SECOND, ended=True)
    window = next(clip.manifest.window for clip in paper.store.clips() if clip.manifest.id == first)
    assert window == Window(NOON - 60 * SECOND, NOON + 10 * SECOND)  # its packets have these times


def test_a_window_that_a_clock_set_back_ended_is_not_kept_open_by_what_comes_then(paper: Paper) -> None:
    """The writer is asked again, by another point or as a new process: it must not wait until noon."""
    paper.fail(NOON, failure(NOON))
    assert paper.requests[-1]["goes_on"]
    earlier = NOON - 3600 * SECOND
    paper.clips.keep_time(earlier)
    paper.clips.begun("", "other")
    assert not paper.requests[-1]["goes_on"]
    paper.clips.kept_so_far({paper.requests[-1]["clip"]: 1_000_001}, earlier + SECOND)
    assert len(paper.requests) == 2
    assert paper.events() == []


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


def test_only_who_takes_most_has_clips_cut_short_at_the_budget(paper: Paper) -> None:
    hour = Window(NOON, NOON + 3600 * SECOND)
    for name in ("greedy_a", "greedy_b", "modest_a"):
        recording = name.replace("_", "/")
        paper.clips.define(recording, settings())
        paper.clips.keep(KeepRequest(name, recording, None, hour, "why", NOON), NOON)
    paper.clips.kept_so_far({"greedy_a": 400_000, "greedy_b": 200_001, "modest_a": 400_000}, NOON + SECOND)
    paper.clips.kept_so_far({}, NOON + 2 * SECOND)  # the writer has not completed them yet
    assert [request["clip"] for request in paper.requests[3:]] == ["greedy_a", "greedy_b"]
    assert paper.requests[-1]["window"] == (NOON, NOON + SECOND)


def test_an_open_clip_that_takes_more_than_there_is_ends_before_others_give(paper: Paper) -> None:
    paper.detector_answers = False
    hour = Window(NOON, NOON + 3600 * SECOND)
    for name in ("greedy_a", "modest_a", "modest_b"):
        recording = name.replace("_", "/")
        paper.clips.define(recording, settings())
        paper.clips.keep(KeepRequest(name, recording, None, hour, "why", NOON), NOON)
        (paper.store.folder / name / "data").write_bytes(bytes(900_000 if name == "greedy_a" else 60_000))
    for request in paper.requests[1:]:
        paper.did(request, NOON + SECOND, ended=True)
    assert len(paper.store.clips()) == 3
    paper.clips.kept_so_far({}, NOON + 2 * SECOND)
    assert paper.requests[-1]["clip"] == "greedy_a"
    paper.frozen(NOON + 2 * SECOND, ended=True)
    assert "budget" in paper.store.find("greedy_a").manifest.warnings[0]
    assert len(paper.store.clips()) == 3  # the newest stays, however large, until there is another
    paper.clips.limit(1_000_000)
    assert [clip.path.name for clip in paper.store.clips()] == ["modest_a", "modest_b"]


def test_a_clip_that_cannot_be_made_is_told_and_answered(paper: Paper, tmp_path: Path) -> None:
    paper.store.folder = tmp_path / "file" / "clips"
    (tmp_path / "file").touch()
    answers: list[Message] = []
    paper.clips.asked("", Window(NOON, NOON), "why", NOON, answers.append)
    paper.fail(NOON, failure(NOON))
    assert "error" in answers[0]
    assert paper.events() == ["warning", "warning"]
    assert paper.requests == []


def test_a_storm_of_failures_that_gets_no_clip_is_told_once_for_all_that_came_together(
    paper: Paper, tmp_path: Path
) -> None:
    """The disk is full: each try costs time, and the next failures try again."""
    paper.store.folder = tmp_path / "file" / "clips"
    (tmp_path / "file").touch()
    paper.fail(NOON, *(failure(NOON + number) for number in range(500)))
    assert paper.events() == ["warning"]
    paper.store.folder = tmp_path / "clips"
    paper.fail(NOON + SECOND, failure(NOON + SECOND))
    assert len(paper.manifest().triggers) == 100


def test_requests_are_plain_json(paper: Paper) -> None:
    paper.fail(NOON, failure(NOON))
    assert json.loads(json.dumps(paper.requests[0]))["do"] == "freeze"


# --- more points, more recordings, other recorders ---


def request(clip: str, window: Window, **others: Any) -> KeepRequest:
    return KeepRequest(clip, "", others.pop("points", None), window, "their reason", NOON, **others)


def keep(paper: Paper, *, start: int = -10, end: int = 10, **others: Any) -> None:
    window = Window(NOON + start * SECOND, NOON + end * SECOND)
    paper.clips.keep(request("ns_clip", window, **others), NOON)


def test_a_clip_that_is_asked_for_again_is_widened_if_that_reaches_further(paper: Paper) -> None:
    keep(paper)
    keep(paper, start=-5, end=5)
    assert len(paper.requests) == 1
    keep(paper, start=-20, end=15)
    assert paper.requests[-1]["window"] == (NOON - 20 * SECOND, NOON + 15 * SECOND)
    assert len(paper.store.clips()) == 1
    assert paper.manifest().id == "ns_clip"


def test_a_clip_whose_window_has_ended_is_widened_still_while_it_is_being_kept(paper: Paper) -> None:
    keep(paper, end=1)
    paper.clips.keep_time(NOON + 2 * SECOND)
    keep(paper, end=20)
    assert paper.requests[-1]["window"] == (NOON - 10 * SECOND, NOON + 20 * SECOND)


def test_only_so_many_clips_of_a_recording_lie_open_by_request(paper: Paper) -> None:
    paper.clips.define("ns/other", settings())
    window = Window(NOON, NOON + 10 * SECOND)
    for number in range(20):
        paper.clips.keep(request(f"ns_{number}", window), NOON)
    with pytest.raises(ClipError, match="20 clips of this recording are open already: make another when"):
        paper.clips.keep(request("ns_20", window), NOON)
    assert len(paper.store.clips()) == 20
    paper.clips.keep(request("ns_19", replace(window, end_ns=NOON + 20 * SECOND)), NOON)
    paper.clips.keep(request("ns_past", Window(NOON - SECOND, NOON)), NOON)
    paper.clips.keep(replace(request("ns_of_another", window), recording="ns/other"), NOON)
    paper.fail(NOON, failure(NOON))
    assert len(paper.store.clips()) == 23
    paper.clips.keep_time(NOON + 10 * SECOND)
    paper.clips.keep(request("ns_20", replace(window, end_ns=NOON + 20 * SECOND)), NOON + 10 * SECOND)


def test_a_complete_clip_is_only_told_of_again(paper: Paper) -> None:
    paper.detector_answers = False
    keep(paper)
    paper.frozen(NOON + 10 * SECOND, ended=True)
    before = paper.manifest()
    keep(paper, end=100)
    assert paper.manifest() == before
    assert paper.events() == ["clip", "complete", "complete"]


def test_only_the_points_asked_for_are_kept(paper: Paper) -> None:
    paper.points = ["a", "b"]
    keep(paper, points=frozenset({"b", "c"}))
    assert paper.requests[-1]["points"] == ["b"]
    paper.points = ["a", "b", "c"]
    paper.clips.begun("", "c")
    assert paper.requests[-1]["points"] == ["b", "c"]
    paper.clips.begun("", "a")
    assert len(paper.requests) == 2
    assert paper.manifest().points == ("b", "c")


def test_what_holds_no_packet_has_no_parts(paper: Paper) -> None:
    paper.detector_answers = False
    keep(paper)
    totals = {"packets": 0, "bytes": 0, "dropped": 0, "first_ns": None, "last_ns": None}
    paper.clips.part({"clip": "ns_clip", "point": "pod", "folder": "pod", "how": "link", "totals": totals})
    paper.clips.frozen({"clip": "ns_clip", "request": 1, "ended": True}, NOON + 10 * SECOND)
    assert paper.manifest().parts == ()
    assert paper.told[-1][1]["packets"] == 0


def test_a_part_has_the_gaps_within_its_windows(paper: Paper) -> None:
    paper.detector_answers = False
    inside = Gap(NOON - 5 * SECOND, NOON - 4 * SECOND, "the recorder was not running")
    paper.known_gaps = (Gap(NOON - 100 * SECOND, NOON - 90 * SECOND, "long ago"), inside)
    keep(paper)
    paper.frozen(NOON + 10 * SECOND, ended=True)
    assert paper.manifest().parts[0].gaps == (inside,)


def test_what_fails_at_one_point_is_its_own_matter_where_the_scope_is_the_pod(paper: Paper) -> None:
    paper.points = ["pod", "other"]
    paper.clips.define("", settings(scope=Scope.POD))
    paper.fail(NOON, failure(NOON))
    paper.clips.failed("", "other", [(failure(NOON), None)], NOON)
    assert [request["points"] for request in paper.requests] == [["pod"], ["other"]]
    assert len(paper.store.clips()) == 2


def test_failures_beyond_the_clips_of_an_hour_are_counted(paper: Paper) -> None:
    paper.points = ["pod", "other"]
    paper.clips.define("", settings(scope=Scope.POD, clips_per_hour=1))
    paper.fail(NOON, failure(NOON))
    paper.clips.failed("", "other", [(failure(NOON), None)] * 3, NOON)
    assert len(paper.store.clips()) == 1
    assert paper.clips.counts("") == {"clips": 0, "suppressed": 3}


def test_failures_extend_the_clip_that_was_joined(paper: Paper) -> None:
    keep(paper, joins=True)
    paper.fail(NOON + SECOND, failure(NOON + SECOND))
    assert [request["clip"] for request in paper.requests] == ["ns_clip", "ns_clip"]
    paper.frozen(NOON + 2 * SECOND, ended=False)
    (event,) = [fields for kind, fields in paper.told if kind == "clip"]
    assert (event["origin"], event["failure"]["failed_ns"]) == ("kept", NOON + SECOND)


def test_a_recording_that_is_gone_has_no_more_clips_of_failures(paper: Paper) -> None:
    paper.clips.forget("")
    paper.fail(NOON, failure(NOON))
    assert paper.requests == []
    keep(paper)
    assert len(paper.requests) == 1


def test_a_dropped_clip_goes_when_the_writer_has_let_go_of_it(paper: Paper) -> None:
    keep(paper)
    paper.clips.drop("ns_clip")
    assert paper.requests[-1] == {"do": "drop", "clip": "ns_clip"}
    assert len(paper.store.clips()) == 1
    paper.clips.dropped("ns_clip", NOON)
    paper.clips.frozen({"clip": "ns_clip", "request": 1, "ended": True}, NOON)
    assert paper.store.clips() == []
    paper.clips.drop("never there")


def test_a_dropped_clip_goes_when_the_writer_dies(paper: Paper) -> None:
    keep(paper)
    paper.clips.drop("ns_clip")
    paper.clips.request_again(NOON)
    assert paper.store.clips() == []


def test_a_ring_that_rests_is_looked_at_once_for_what_it_holds(
    paper: Paper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty points that come while a clip is open must not have sixty rings read sixty times."""
    looked: list[tuple[str, int]] = []

    def part_of(ring: RestingRing, _clip: Clip, windows: tuple[Window, ...]) -> None:
        looked.append((ring.owner.id, windows[0].start_ns))

    monkeypatch.setattr("podcam.recorder.growing.part_of", part_of)
    owners = [Owner(name, name, "", "node") for name in ("ended", "long ago", "live")]
    last = [NOON - SECOND, NOON - 100 * SECOND, NOON]
    paper.rested = [
        RestingRing(owner, tmp_path, last_ns, closed=True, bytes=1)
        for owner, last_ns in zip(owners, last, strict=True)
    ]
    paper.points = ["live"]
    keep(paper)
    paper.clips.begun("", "pod")
    keep(paper, end=20)
    assert looked == [("ended", NOON - 10 * SECOND)]
    keep(paper, start=-20)
    assert looked == [("ended", NOON - 10 * SECOND), ("ended", NOON - 20 * SECOND)]
    paper.clips.rested(replace(paper.rested[0], last_ns=NOON))
    assert len(looked) == 3


def test_one_that_waited_for_a_drop_and_cannot_be_kept_is_told_as_removed(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(paper)
    paper.clips.drop("ns_clip")
    keep(paper)

    def refuse(*_: object) -> None:
        raise ClipError("20 clips are open already")

    monkeypatch.setattr(paper.clips, "keep", refuse)
    paper.clips.dropped("ns_clip", NOON)
    assert [(kind, fields["clip"], fields["reason"]) for kind, fields in paper.told if kind == "removed"] == [
        ("removed", "ns_clip", "20 clips are open already")
    ]


def test_a_clip_that_is_asked_for_again_while_it_is_dropped_is_another(paper: Paper) -> None:
    """Its object was deleted, and made anew at once."""
    paper.detector_answers = False
    keep(paper)
    paper.frozen(NOON + SECOND, ended=False)
    paper.clips.drop("ns_clip")
    keep(paper)
    paper.clips.drop("ns_clip")
    keep(paper)
    assert [request["do"] for request in paper.requests] == ["freeze", "drop"]
    paper.clips.dropped("ns_clip", NOON + SECOND)
    assert [request["do"] for request in paper.requests] == ["freeze", "drop", "freeze"]
    assert paper.manifest().parts == ()
    paper.frozen(NOON + 10 * SECOND, ended=True)
    assert paper.manifest().state == "complete"
