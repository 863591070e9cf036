"""What agents say of a recording, and what follows from it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from podcam.agent.recording_status import (
    NodeStatus,
    PointState,
    PointStatus,
    entry_due,
    merged,
    node_entry,
)

SECOND_NS = 10**9
NOW_NS = 1_790_000_000 * SECOND_NS  # 2026-09-21T14:13:20Z
NOW = "2026-09-21T14:13:20Z"
LONG_AGO_NS = NOW_NS - 3600 * SECOND_NS
RECORDED = PointStatus("web-1", PointState.RECORDING, LONG_AGO_NS)
STATUS = NodeStatus((RECORDED,), ring_bytes=1000, failures=1)


def entry(status: NodeStatus, written_ns: int = LONG_AGO_NS) -> dict[str, Any]:
    body = node_entry(status, written_ns)
    assert body is not None
    return body


def points(**states: str) -> dict[str, Any]:
    return {"points": [{"pod": pod.replace("_", "-"), "state": state} for pod, state in states.items()]}


def condition(status: Mapping[str, Any]) -> tuple[str, str, str]:
    fields = merged(status, 1, NOW_NS)
    assert fields is not None
    (only,) = fields["conditions"]
    return only["status"], only["reason"], only["message"]


# --- this node's entry ---


def test_an_entry_says_what_becomes_of_each_pod() -> None:
    status = NodeStatus(
        (
            PointStatus(
                "web-2", PointState.REFUSED, NOW_NS + 1_234_567, "HostNetwork", "it would record all"
            ),
            RECORDED,
        ),
        warnings=("the disk is full",),
        ring_bytes=5,
        dropped=None,
        failures=2,
        clips=1,
        suppressed=3,
    )
    assert node_entry(status, NOW_NS) == {
        "points": [
            {"pod": "web-1", "state": "Recording", "since": "2026-09-21T13:13:20Z"},
            {
                "pod": "web-2",
                "state": "Refused",
                "since": "2026-09-21T14:13:20.001Z",
                "reason": "HostNetwork",
                "message": "it would record all",
            },
        ],
        "warnings": ["the disk is full"],
        "ringBytes": 5,
        "dropped": None,
        "failures": 2,
        "clips": 1,
        "suppressed": 3,
        "updated": NOW,
    }


def test_an_agent_without_a_pod_says_nothing() -> None:
    assert node_entry(NodeStatus(()), NOW_NS) is None


def test_only_the_last_twenty_ended_pods_are_listed() -> None:
    ended = [PointStatus(f"job-{n:02}", PointState.ENDED, NOW_NS - n * SECOND_NS) for n in range(30)]
    body = entry(NodeStatus((*ended, RECORDED)))
    assert [point["pod"] for point in body["points"]] == [*(f"job-{n:02}" for n in range(20)), "web-1"]
    assert body["warnings"] == ["10 more pods that ended have a ring"]


def test_sentences_are_cut_to_what_the_schema_allows() -> None:
    refused = PointStatus("web-1", PointState.REFUSED, NOW_NS, "Reason", "x" * 2000)
    body = entry(NodeStatus((refused,), warnings=tuple("y" * 2000 for _ in range(40))))
    assert len(body["points"][0]["message"]) == 1024
    assert [len(warning) for warning in body["warnings"]] == [1024] * 32


# --- when it is written ---


def test_what_stands_there_already_is_not_written_again() -> None:
    assert entry_due(entry(STATUS, NOW_NS), entry(STATUS), NOW_NS) is None
    assert entry_due(None, None, NOW_NS) is None


def test_the_first_entry_a_last_one_and_other_states_are_written_at_once() -> None:
    ended = replace(STATUS, points=(replace(RECORDED, state=PointState.ENDED),))
    warned = replace(STATUS, warnings=("attention",))
    assert entry_due(entry(STATUS), None, NOW_NS) == NOW_NS
    assert entry_due(None, entry(STATUS), NOW_NS) == NOW_NS
    assert entry_due(entry(ended), entry(STATUS), NOW_NS) == NOW_NS
    assert entry_due(entry(warned), entry(STATUS), NOW_NS) == NOW_NS


@pytest.mark.parametrize(
    "status",
    [
        replace(STATUS, dropped=9),
        replace(STATUS, failures=9),
        replace(STATUS, clips=9),
        replace(STATUS, suppressed=9),
    ],
)
def test_counters_are_written_thirty_seconds_after_the_last_write(status: NodeStatus) -> None:
    ticked = entry(status)
    written_ns = NOW_NS - 10 * SECOND_NS
    assert entry_due(ticked, entry(STATUS, written_ns), NOW_NS) == written_ns + 30 * SECOND_NS
    assert entry_due(ticked, entry(STATUS, LONG_AGO_NS), NOW_NS) == NOW_NS


def test_a_clock_that_was_set_back_does_not_hold_counters_up() -> None:
    ticked, standing = entry(replace(STATUS, failures=2)), entry(STATUS, NOW_NS + 3600 * SECOND_NS)
    assert entry_due(ticked, standing, NOW_NS) == NOW_NS + 30 * SECOND_NS


def test_a_ring_that_rolls_within_its_limit_is_not_worth_a_write() -> None:
    standing = entry(replace(STATUS, ring_bytes=1000), NOW_NS)
    assert entry_due(entry(replace(STATUS, ring_bytes=800)), standing, NOW_NS) is None
    assert entry_due(entry(replace(STATUS, ring_bytes=1300)), standing, NOW_NS) is None
    assert entry_due(entry(replace(STATUS, ring_bytes=1400)), standing, NOW_NS) == NOW_NS + 600 * SECOND_NS


def test_a_pod_that_has_just_begun_to_wait_is_given_two_seconds() -> None:
    waiting = PointStatus("web-2", PointState.WAITING, NOW_NS - SECOND_NS)
    fresh = entry(replace(STATUS, points=(RECORDED, waiting)))
    assert entry_due(fresh, entry(STATUS), NOW_NS) == NOW_NS + SECOND_NS
    assert entry_due(fresh, entry(STATUS), NOW_NS + SECOND_NS) == NOW_NS + SECOND_NS
    assert entry_due(fresh, None, NOW_NS - SECOND_NS) == NOW_NS - SECOND_NS


def test_a_clock_that_was_set_back_does_not_hide_a_pod_that_waits() -> None:
    waiting = PointStatus("web-2", PointState.WAITING, NOW_NS + 3600 * SECOND_NS)
    fresh = entry(replace(STATUS, points=(RECORDED, waiting)))
    assert entry_due(fresh, entry(STATUS), NOW_NS) == NOW_NS


def test_pods_that_keep_coming_do_not_hold_up_what_is_known_of_others() -> None:
    young = PointStatus("web-9", PointState.WAITING, NOW_NS)
    older = PointStatus("web-2", PointState.WAITING, NOW_NS - 2 * SECOND_NS)
    fresh = entry(replace(STATUS, points=(RECORDED, older, young)))
    assert entry_due(fresh, entry(STATUS), NOW_NS) == NOW_NS


# --- what follows from all entries ---


def test_all_pods_of_all_nodes_recorded_is_true() -> None:
    status = {"nodes": {"a": points(web_1="Recording", web_2="Recording"), "b": points(web_3="Recording")}}
    assert merged(status, 7, NOW_NS) == {
        "observedGeneration": 7,
        "points": "3/3",
        "conditions": [
            {
                "type": "Recording",
                "status": "True",
                "reason": "AllPodsRecorded",
                "message": "3 pods are recorded",
                "observedGeneration": 7,
                "lastTransitionTime": NOW,
            }
        ],
    }


def test_merged_fields_that_stand_need_no_write() -> None:
    status: dict[str, Any] = {"nodes": {"a": points(web_1="Recording")}}
    status |= merged(status, 1, NOW_NS) or {}
    assert merged(status, 1, NOW_NS + SECOND_NS) is None
    again = merged(status, 2, NOW_NS + SECOND_NS)
    assert again is not None
    assert again["conditions"][0]["lastTransitionTime"] == NOW


def test_pods_that_are_not_recorded_are_named_with_the_reason() -> None:
    refused = {"pod": "web-2", "state": "Refused", "message": "it would record the node"}
    status = {"nodes": {"a": {"points": [refused]}, "b": points(web_1="Recording", web_3="Waiting")}}
    assert condition(status) == (
        "False",
        "SomePodsNotRecorded",
        "1 of 3 pods are recorded: web-2 is refused: it would record the node; web-3 waits",
    )


def test_of_many_pods_that_are_not_recorded_five_are_named() -> None:
    status = {"nodes": {"a": points(**{f"web_{n}": "Waiting" for n in range(8)})}}
    assert condition(status)[2].endswith("web-4 waits; and 3 more")


def test_ended_pods_do_not_count() -> None:
    status = {"nodes": {"a": points(web_1="Recording", job_1="Ended")}}
    fields = merged(status, 1, NOW_NS)
    assert fields is not None
    assert fields["points"] == "1/1"
    assert condition({"nodes": {"a": points(job_1="Ended")}}) == (
        "False",
        "NoPods",
        "the pods that it covered have ended",
    )


def test_a_recording_without_a_pod_says_so() -> None:
    assert condition({}) == ("False", "NoPods", "it covers no pod that runs")


def test_a_pod_that_moved_counts_where_it_came_last() -> None:
    """As a StatefulSet's does when its node, and the agent there, is gone."""
    at = {"gone": "2026-01-01T00:00:00Z", "new": "2026-01-01T00:05:00Z"}
    states = {"gone": "Recording", "new": "Refused"}
    status = {
        "nodes": {
            node: {"points": [{"pod": "db-0", "state": states[node], "since": at[node]}]} for node in at
        }
    }
    assert condition(status)[2] == "0 of 1 pod is recorded: db-0 is refused"
