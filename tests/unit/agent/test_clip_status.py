"""What agents say of their parts of a clip, and whether all are there."""

from dataclasses import replace
from typing import Any

import pytest

from podcam.agent.clip_status import (
    Part,
    PartState,
    PodPart,
    expected_nodes,
    merged,
    part_due,
    part_entry,
)
from podcam.model.point import Gap, Window

SECOND_NS = 10**9
NOW_NS = 1_790_000_000 * SECOND_NS  # 2026-09-21T14:13:20Z
NOW = "2026-09-21T14:13:20Z"
END_NS = NOW_NS - 10 * SECOND_NS
KEY = "A" * 43 + "="
PART = Part(
    PartState.COMPLETE,
    Window(END_NS - 70 * SECOND_NS, END_NS),
    agent_pod="podcam-agent-x2k9z",
    agent_port=9472,
    public_key=KEY,
    pods=(PodPart("web-2", 10, 1000), PodPart("web-1", 5, 500, NOW_NS, NOW_NS, 0, (Gap(1, 2, "it ended"),))),
)


def parts(**states: str) -> dict[str, Any]:
    return {"parts": {node: {"state": state} for node, state in states.items()}}


def outcome(
    status: dict[str, Any], expected: str, now_ns: int = NOW_NS
) -> tuple[str, str, list[str], str, str, str]:
    fields = merged(status, expected.split(), END_NS, now_ns).fields
    assert fields is not None
    (condition,) = fields["conditions"]
    assert condition["type"] == "Complete"
    return (
        fields["state"],
        fields["partsComplete"],
        fields["missing"],
        condition["status"],
        condition["reason"],
        condition["message"],
    )


# --- this node's part ---


def test_a_part_says_what_it_holds_of_each_pod_and_where_it_can_be_had() -> None:
    assert part_entry(PART, NOW_NS) == {
        "state": "Complete",
        "window": {"start": "2026-09-21T14:12:00Z", "end": "2026-09-21T14:13:10Z"},
        "packets": 15,
        "bytes": 1500,
        "pods": [
            {
                "pod": "web-1",
                "packets": 5,
                "bytes": 500,
                "first": NOW,
                "last": NOW,
                "dropped": 0,
                "gaps": [
                    {
                        "since": "1970-01-01T00:00:00.000000001Z",
                        "until": "1970-01-01T00:00:00.000000002Z",
                        "reason": "it ended",
                    }
                ],
            },
            {
                "pod": "web-2",
                "packets": 10,
                "bytes": 1000,
                "first": None,
                "last": None,
                "dropped": None,
                "gaps": [],
            },
        ],
        "agent": {"pod": "podcam-agent-x2k9z", "port": 9472},
        "publicKey": KEY,
        "updated": NOW,
    }


def test_a_part_of_which_something_is_not_known_does_not_know_its_packets() -> None:
    part = replace(PART, pods=(PodPart("a", 1, 1), PodPart("b", None, 1)))
    assert part_entry(part, NOW_NS)["packets"] is None


def test_a_part_that_failed_says_why() -> None:
    part = replace(PART, state=PartState.FAILED, message="the disk is full", pods=())
    assert part_entry(part, NOW_NS)["message"] == "the disk is full"


def test_a_part_is_written_at_once_when_its_state_changes_and_not_when_nothing_does() -> None:
    fresh = part_entry(PART, NOW_NS)
    freezing = part_entry(replace(PART, state=PartState.FREEZING), END_NS)
    assert part_due(fresh, None, NOW_NS) == NOW_NS
    assert part_due(fresh, freezing, NOW_NS) == NOW_NS
    assert part_due(fresh, part_entry(PART, END_NS), NOW_NS) is None


def test_a_part_that_grows_is_written_every_thirty_seconds() -> None:
    freezing = replace(PART, state=PartState.FREEZING)
    grown = replace(freezing, window=Window(0, NOW_NS + 60 * SECOND_NS), pods=())
    due_ns = part_due(part_entry(grown, NOW_NS), part_entry(freezing, END_NS), NOW_NS)
    assert due_ns == END_NS + 30 * SECOND_NS


def test_an_agent_that_came_back_under_another_name_says_so_at_once() -> None:
    moved = replace(PART, state=PartState.FREEZING, agent_pod="podcam-agent-other")
    standing = part_entry(replace(PART, state=PartState.FREEZING), END_NS)
    assert part_due(part_entry(moved, NOW_NS), standing, NOW_NS) == NOW_NS


# --- whose parts are expected ---


def recording(**pods: tuple[str, str]) -> dict[str, Any]:
    return {
        "nodes": {
            node: {"points": [{"pod": pod, "state": state, "since": "2026-09-21T14:00:00Z"}]}
            for node, (pod, state) in pods.items()
        }
    }


def test_the_nodes_that_the_spec_names_are_expected() -> None:
    found = expected_nodes(
        ["a", "b"], parts(c="Complete"), recording(d=("p", "Recording")), pods=None, window_end_ns=0
    )
    assert found == {"a", "b"}


def test_else_those_of_the_recording_that_may_hold_the_window() -> None:
    status = recording(
        a=("web-1", "Recording"), b=("web-2", "Ended"), c=("web-3", "Refused"), d=("web-4", "Waiting")
    )
    early_ns = END_NS - 3600 * SECOND_NS
    assert expected_nodes([], {}, status, pods=None, window_end_ns=END_NS) == {"a", "b", "d"}
    assert expected_nodes([], {}, status, pods=["web-1", "web-3"], window_end_ns=END_NS) == {"a"}
    assert expected_nodes([], {}, status, pods=None, window_end_ns=early_ns) == {"b"}
    assert expected_nodes([], {}, {}, pods=None, window_end_ns=END_NS) == frozenset()


@pytest.mark.parametrize("state", ["Complete", "Incomplete"])
def test_a_settled_clip_expects_what_it_did_whatever_the_recording_does_since(state: str) -> None:
    status = {"state": state, "missing": ["b"], **parts(a="Complete")}
    found = expected_nodes([], status, recording(new=("web-9", "Recording")), pods=None, window_end_ns=END_NS)
    assert found == {"a", "b"}


# --- what follows from all parts ---


def test_a_clip_is_freezing_until_all_parts_are_there() -> None:
    made = merged(parts(a="Complete"), ["a", "b"], END_NS, NOW_NS)
    assert outcome(parts(a="Complete"), "a b") == (
        "Freezing",
        "1/2",
        [],
        "Unknown",
        "Freezing",
        "the window is open, or nodes have yet to report",
    )
    assert made.again_ns == END_NS + 60 * SECOND_NS


def test_a_clip_is_complete_when_all_have_reported() -> None:
    assert outcome(parts(a="Complete", b="Nothing"), "a b") == (
        "Complete",
        "2/2",
        [],
        "True",
        "AllParts",
        "every part expected is there",
    )
    assert merged(parts(a="Complete"), ["a"], END_NS, NOW_NS).again_ns is None


def test_a_clip_of_which_nobody_has_a_packet_says_so() -> None:
    assert outcome(parts(a="Nothing"), "a")[3:5] == ("True", "NothingRecorded")


def test_a_part_that_was_not_expected_counts_too() -> None:
    assert outcome(parts(a="Complete", c="Freezing"), "a")[:2] == ("Freezing", "1/2")


def test_a_minute_after_the_window_what_has_not_been_reported_is_missing() -> None:
    status, late_ns = parts(a="Complete", b="Freezing"), END_NS + 60 * SECOND_NS
    assert outcome(status, "a b c", late_ns - 1)[0] == "Freezing"
    assert outcome(status, "a b c", late_ns) == (
        "Incomplete",
        "1/3",
        ["b", "c"],
        "False",
        "PartsMissing",
        "not reported: b, c",
    )


def test_a_window_that_a_failure_extended_is_waited_for() -> None:
    status = parts(a="Freezing")
    status["parts"]["a"]["window"] = {"start": NOW, "end": NOW}
    assert outcome(status, "a", NOW_NS + 59 * SECOND_NS)[0] == "Freezing"
    assert outcome(status, "a", NOW_NS + 60 * SECOND_NS)[0] == "Incomplete"


def test_an_agent_with_a_slow_clock_does_not_take_back_that_a_part_is_missing() -> None:
    status = {"parts": {}, "state": "Incomplete"}
    assert outcome(status, "a")[0] == "Incomplete"


def test_a_part_that_comes_late_is_taken_in() -> None:
    status = {"state": "Incomplete", "missing": ["b"], **parts(a="Complete", b="Complete")}
    assert outcome(status, "a b")[:3] == ("Complete", "2/2", [])


def test_a_part_that_failed_makes_the_clip_incomplete_and_says_why() -> None:
    status = parts(a="Complete", b="Failed", c="Failed")
    status["parts"]["b"]["message"] = "the disk is full"
    assert outcome(status, "a b c") == (
        "Incomplete",
        "1/3",
        [],
        "False",
        "PartsFailed",
        "b: the disk is full; and 1 more",
    )


def test_a_part_that_was_removed_makes_the_clip_incomplete() -> None:
    assert outcome(parts(a="Complete", b="Removed"), "a b")[3:] == (
        "False",
        "PartsRemoved",
        "removed for want of room: b",
    )


def test_a_clip_that_concerns_no_node_is_complete_after_a_minute_and_says_so() -> None:
    assert outcome({}, "")[0] == "Freezing"
    assert outcome({}, "", END_NS + 60 * SECOND_NS)[:2] == ("Complete", "0/0")
    assert outcome({}, "", END_NS + 60 * SECOND_NS)[3:] == (
        "True",
        "NoRings",
        "no node has rings of this recording",
    )


def test_what_stands_needs_no_write() -> None:
    status = parts(a="Complete")
    fields = merged(status, ["a"], END_NS, NOW_NS).fields
    assert fields is not None
    assert merged({**status, **fields}, ["a"], END_NS, NOW_NS + SECOND_NS).fields is None
