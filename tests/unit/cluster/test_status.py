"""What recordings have come to, and what is not as it should be."""

from dataclasses import replace
from typing import Any

import pytest

from podcam.cluster import (
    Agent,
    NodeShare,
    Preview,
    Refusal,
    problems_of,
    target_text,
    totals_of,
    traffic_text,
)
from podcam.cluster.agents import agent


def recording(**nodes: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web", "namespace": "shop", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "triggers": {"clipsPerHour": 12}},
        "status": {"nodes": {name.replace("_", "-"): entry for name, entry in nodes.items()}},
    }


def point(pod: str, state: str = "Recording", message: str = "", reason: str = "") -> dict[str, str]:
    return {"pod": pod, "state": state, "message": message, "reason": reason}


def test_totals_are_sums_over_the_nodes() -> None:
    totals = totals_of(
        recording(
            node_1={
                "points": [point("a"), point("b", "Waiting"), point("c", "Ended")],
                "ringBytes": 5,
                "dropped": 1,
                "failures": 2,
                "suppressed": 1,
            },
            node_2={"points": [point("d")], "ringBytes": 7, "dropped": 0},
        )
    )
    assert (totals.recorded, totals.concerned, totals.ended) == (2, 3, 1)
    assert (totals.ring_bytes, totals.dropped, totals.failures, totals.suppressed) == (12, 1, 2, 1)


def test_drops_that_one_node_cannot_tell_are_unknown() -> None:
    assert totals_of(recording(node_1={"dropped": 3}, node_2={"dropped": None})).dropped is None
    assert totals_of(recording()).dropped == 0


def test_problems_are_told_once_for_pods_that_share_them() -> None:
    body = recording(
        node_1={
            "points": [
                point("a", "Waiting", "its network is not there yet"),
                point("b", "Waiting", "its network is not there yet"),
            ],
            "warnings": ["the write budget is used up"],
            "dropped": 1200,
            "suppressed": 4,
        },
        node_2={"points": [point("c"), point("d", "Ended", "deleted")]},
    )
    assert list(problems_of(body, None, None)) == [
        "a, b on node-1 are not recorded: its network is not there yet",
        "node-1: the write budget is used up",
        "node-1: the kernel dropped 1,200 packets",
        (
            "node-1: 4 failures made no clip, as one of the same server and class was made shortly before, "
            "or 12 within the hour"
        ),
    ]


def test_one_failure_without_a_clip() -> None:
    (told,) = problems_of(recording(node_1={"suppressed": 1}), None, None)
    assert told.startswith("node-1: 1 failure made no clip, as one ")


def seen(*pods: str, refusals: tuple[Refusal, ...] = ()) -> Preview:
    return Preview((NodeShare("node-1", pods, 0, None),) if pods else (), (), refusals)


WELL = Agent(
    "podcam-agent-x",
    "node-1",
    ready=True,
    why_not="",
    node_lost=False,
    has_run=True,
    restarts=0,
    image="i",
)
ILL = replace(WELL, ready=False, why_not="it is pending")
ENDED = point("a", "Waiting", "the agent of its node was told to end", "AgentEnded")


@pytest.mark.parametrize(
    ("agents", "why"),
    [
        (None, "the agent of node-1 has not reported"),
        ([], "node-1 has no agent (`kubectl podcam doctor` says why)"),
        ([ILL], "the agent of node-1 is not ready: it is pending"),
        ([WELL], "the agent of node-1 has not reported it yet"),
    ],
)
def test_pods_that_no_agent_reports_say_what_is_with_the_agent(agents: list[Agent] | None, why: str) -> None:
    assert list(problems_of(recording(), seen("a"), agents)) == [f"a on node-1 is not recorded: {why}"]


@pytest.mark.parametrize("last", [point("a"), ENDED])
@pytest.mark.parametrize(
    ("agents", "why"),
    [
        ([], "node-1 has no agent (`kubectl podcam doctor` says why)"),
        ([ILL], "the agent of node-1 is not ready: it is pending"),
    ],
)
def test_what_an_agent_said_last_is_not_believed_without_it(
    last: dict[str, str], agents: list[Agent], why: str
) -> None:
    body = recording(node_1={"points": [last]})
    for pods in (seen("a"), None):
        assert list(problems_of(body, pods, agents)) == [f"a on node-1 is not recorded: {why}"]


def test_what_an_agent_said_last_is_believed_where_it_is_ready_or_not_to_be_seen() -> None:
    recorded, left = (recording(node_1={"points": [last]}) for last in (point("a"), ENDED))
    for agents in ([ILL, WELL], None):
        assert list(problems_of(recorded, seen("a"), agents)) == []
    assert list(problems_of(left, seen("a"), None)) == [
        "a on node-1 is not recorded: the agent of its node was told to end"
    ]
    assert list(problems_of(left, seen("a"), [WELL])) == [
        "a on node-1 is not recorded: the agent of node-1 has not reported it yet"
    ]


@pytest.mark.parametrize("last", [point("a"), ENDED])
def test_pods_that_left_a_node_without_an_agent_are_not_missed_there(last: dict[str, str]) -> None:
    body = recording(node_2={"points": [last]})
    assert list(problems_of(body, seen("b"), [WELL])) == [
        "b on node-1 is not recorded: the agent of node-1 has not reported it yet"
    ]
    assert list(problems_of(body, seen("a"), [WELL])) == [
        "a on node-1 is not recorded: the agent of node-1 has not reported it yet"
    ]


def test_what_is_reported_is_not_told_twice() -> None:
    body = recording(node_1={"points": [point("a"), point("h", "Refused", "it is the node's own network")]})
    guess = Refusal("h", "node-1", "it shares its node's network")
    assert list(problems_of(body, seen("a", refusals=(guess,)), [WELL])) == [
        "h on node-1 is not recorded: it is the node's own network"
    ]
    assert list(problems_of(recording(), seen(refusals=(guess,)), [WELL])) == [
        "h on node-1 is not recorded: it shares its node's network"
    ]


def test_many_pods_are_counted() -> None:
    pods = [f"p{number}" for number in range(10)]
    (told,) = problems_of(recording(), seen(*pods), None)
    assert told.startswith("p0, p1, p2, p3, p4, p5, p6, p7 and 2 more on node-1 are not recorded")


def test_targets_and_traffic_in_words() -> None:
    body = recording()
    assert target_text(body) == "app=web"
    assert traffic_text(body) == "all traffic"
    body["spec"] |= {
        "target": {"kind": "Deployment", "name": "web"},
        "ports": [5432],
        "hosts": ["db"],
        "payload": 0,
    }
    assert target_text(body) == "deployment/web"
    assert traffic_text(body) == "port 5432, host db, headers only"
    assert target_text({"spec": {"pods": ["a", "b"]}}) == "pod/a, pod/b"


def agent_pod(**status: Any) -> dict[str, Any]:
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "values": ["node-1"]}]}]
            }
        }
    }
    return {
        "metadata": {"name": "podcam-agent-x"},
        "spec": {"affinity": affinity, "containers": [{"image": "i"}]},
        "status": status,
    }


@pytest.mark.parametrize(
    ("status", "why_not"),
    [
        ({"conditions": [{"type": "Ready", "status": "True"}]}, ""),
        (
            {
                "containerStatuses": [
                    {"state": {"waiting": {"reason": "ErrImagePull", "message": "no image"}}}
                ]
            },
            "ErrImagePull: no image",
        ),
        (
            {
                "containerStatuses": [
                    {
                        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
                        "lastState": {"terminated": {"exitCode": 2}},
                    }
                ]
            },
            "it ended with code 2, and is started again",
        ),
        (
            {"containerStatuses": [{"state": {"terminated": {"exitCode": 1, "message": "a\nno room"}}}]},
            "it ended with code 1: no room, and is started again",
        ),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "no node fits"}]},
            "no node fits",
        ),
        (
            {
                "containerStatuses": [{"state": {"running": {}}}],
                "conditions": [
                    {
                        "type": "Ready",
                        "status": "False",
                        "message": "containers with unready status: [agent]",
                    },
                    {
                        "type": "ContainersReady",
                        "status": "False",
                        "message": "containers with unready status: [agent]",
                    },
                ],
            },
            "it runs, but does not report that it is well yet",
        ),
        (
            {
                "containerStatuses": [{"state": {"running": {}}}],
                "conditions": [
                    {"type": "Ready", "status": "False"},
                    {"type": "ContainersReady", "status": "True"},
                ],
            },
            "its node is not ready",
        ),
        ({"phase": "Pending"}, "it is pending"),
    ],
)
def test_why_an_agent_is_not_ready(status: dict[str, Any], why_not: str) -> None:
    found = agent(agent_pod(**status))
    assert (found.node, found.ready, found.why_not) == ("node-1", not why_not, why_not)


@pytest.mark.parametrize(
    ("containers", "has_run"),
    [
        ([], False),
        ([{"state": {"waiting": {"reason": "ErrImagePull"}}, "lastState": {}}], False),
        ([{"state": {"running": {}}}], True),
        ([{"state": {"terminated": {"exitCode": 1}}}], True),
        ([{"state": {"waiting": {}}, "lastState": {"terminated": {"exitCode": 1}}}], True),
    ],
)
def test_whether_an_agent_has_run(containers: list[dict[str, Any]], has_run: bool) -> None:
    assert agent(agent_pod(containerStatuses=containers)).has_run == has_run


def test_an_agent_that_is_being_deleted_is_not_ready() -> None:
    pod = agent_pod(conditions=[{"type": "Ready", "status": "True"}])
    pod["metadata"]["deletionTimestamp"] = "2026-11-23T06:00:00Z"
    assert agent(pod).why_not == "it is being deleted"
