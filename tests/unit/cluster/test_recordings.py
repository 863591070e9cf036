"""Recordings as objects: of what was asked for, beside another, and how far they have come."""

from typing import Any

import pytest

from podcam.cluster import (
    Choice,
    Target,
    Wish,
    differences,
    name_for,
    points_of,
    recording_object,
    replacement,
    selected,
)
from podcam.cluster.spelling import quantity
from podcam.kube import parse_quantity

WEB = Choice(selector={"matchLabels": {"app": "web"}}, target=Target("Deployment", "web"))


def test_only_what_was_said_stands_in_the_object() -> None:
    assert recording_object("shop", "web", WEB, Wish(10, 25_000_000)) == {
        "apiVersion": "podcam.dev/v1alpha1",
        "kind": "Recording",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "target": {"kind": "Deployment", "name": "web"},
            "ring": {"segments": 10, "segmentSize": "25M"},
        },
    }


def test_all_that_can_be_said() -> None:
    wish = Wish(
        ring_segments=4,
        ring_segment_bytes=2**20,
        ports=(5432, 6432),
        hosts=("db.example",),
        narrow=True,
        interfaces=("eth0",),
        payload_bytes=0,
        snaplen=128,
        on=("reset",),
        before_ns=90_000_000_000,
        after_ns=500_000_000,
        clips_per_hour=3,
        scope="pod",
        retention_ns=2 * 3600 * 10**9,
        host_network=True,
    )
    assert wish.ring_bytes == 4 * 2**20
    assert wish.spec() == {
        "ports": [5432, 6432],
        "hosts": ["db.example"],
        "narrow": True,
        "interfaces": ["eth0"],
        "payload": 0,
        "snaplen": 128,
        "ring": {"segments": 4, "segmentSize": "1Mi"},
        "triggers": {"classes": ["reset"], "before": "1m30s", "after": "500ms", "clipsPerHour": 3},
        "scope": "pod",
        "retention": "2h",
        "hostNetwork": True,
    }


def test_no_trigger_is_not_the_same_as_the_default() -> None:
    assert Wish(10, 10**6, on=()).spec()["triggers"] == {"classes": []}
    assert "triggers" not in Wish(10, 10**6).spec()


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        (WEB, "web"),
        (Choice(pods=("db-0", "db-1")), "db-0"),
        (selected("app=Web_Front"), "web-front"),
        (selected("app in (a,b)"), "app"),
        (selected("app.kubernetes.io/name"), "app.kubernetes.io-name"),
        (selected("app=" + "x" * 62 + ".y"), "x" * 62),
        (selected("app="), "app"),
    ],
)
def test_a_recording_is_called_after_what_it_is_of(choice: Choice, name: str) -> None:
    assert name_for(choice) == name


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (25_000_000, "25M"),
        (2**25, "32Mi"),
        (10**9, "1G"),
        (2**30, "1Gi"),
        (1_500_000_000, "1500M"),
        (64_000, "64k"),
        (2**16, "64Ki"),
        (1_234_567, "1235k"),
    ],
)
def test_sizes_as_the_schema_takes_them(size_bytes: int, text: str) -> None:
    assert quantity(size_bytes) == text
    assert parse_quantity(text) >= size_bytes


OLD: dict[str, Any] = {
    "ports": [5432],
    "scope": "pod",
    "ring": {"segments": 10, "segmentSize": "25M"},
    "payload": 0,
}
NEW: dict[str, Any] = {
    "ports": [5432, 6432],
    "scope": "pod",
    "ring": {"segments": 4, "segmentSize": "25M"},
    "hosts": ["db"],
}


def test_what_differs_is_told_line_by_line() -> None:
    assert list(differences(OLD, NEW)) == [
        "ports: [5432] → [5432, 6432]",
        "ring.segments: 10 → 4",
        "payload: 0 → (not set)",
        'hosts: (not set) → ["db"]',
    ]
    assert list(differences(OLD, OLD)) == []


def test_a_replacement_changes_what_differs_and_removes_what_is_not_said() -> None:
    assert replacement(OLD, NEW) == {
        "payload": None,
        "ports": [5432, 6432],
        "ring": {"segments": 4},
        "hosts": ["db"],
    }
    assert replacement(OLD, OLD) == {}


def recording(generation: int, observed: int | None) -> dict[str, Any]:
    status: dict[str, Any] = {
        "nodes": {
            "node-2": {"points": [{"pod": "b", "state": "Recording"}]},
            "node-1": {
                "points": [{"pod": "a", "state": "Refused", "reason": "HostNetwork", "message": "no"}]
            },
        }
    }
    if observed is not None:
        status["observedGeneration"] = observed
    return {"metadata": {"name": "web", "generation": generation}, "status": status}


def test_points_are_listed_by_node_and_not_those_of_an_older_spec() -> None:
    assert [(point.node, point.pod, point.state, point.reason) for point in points_of(recording(2, 2))] == [
        ("node-1", "a", "Refused", "HostNetwork"),
        ("node-2", "b", "Recording", ""),
    ]
    assert len(points_of(recording(1, None))) == 2
    assert points_of(recording(2, 1)) == []
