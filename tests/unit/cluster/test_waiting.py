"""Waiting for objects by a watch."""

from typing import Any

import pytest

from fake_cluster import FakeCluster
from podcam.cluster import collections, states
from podcam.errors import ForbiddenError
from podcam.kube import CLIPS, Api, path_of


def clip(name: str, state: str = "") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop"}, "status": {"state": state}}


def test_an_object_is_told_each_time_that_it_changes_and_when_it_goes() -> None:
    with FakeCluster() as cluster, Api.at(cluster.url) as api:
        cluster.add(CLIPS, clip("a", "Freezing"), clip("b"))
        cluster.tells(CLIPS, clip("a", "Complete"), None)
        told = states(api, CLIPS, "shop", "a", timeout_seconds=60)
        assert [
            None if each is None else each["status"]["state"] for each in (next(told) for _ in range(3))
        ] == [
            "Freezing",
            "Complete",
            None,
        ]


def test_it_ends_when_the_time_is_over() -> None:
    with FakeCluster() as cluster, Api.at(cluster.url) as api:
        cluster.add(CLIPS, clip("a"))
        seconds = iter([0, 0, 59.9])  # at the start, before the list, before what may come after it
        told = states(api, CLIPS, "shop", "a", timeout_seconds=60, clock=lambda: next(seconds))
        assert len(list(told)) == 1


def test_several_objects_are_told_together() -> None:
    with FakeCluster() as cluster, Api.at(cluster.url) as api:
        cluster.add(CLIPS, clip("a"), clip("b"))
        cluster.tells(CLIPS, clip("c"))
        told = collections(api, CLIPS, "shop", timeout_seconds=60)
        assert [set(next(told)) for _ in range(2)] == [{"a", "b"}, {"a", "b", "c"}]


def test_who_may_not_look_is_told_at_once() -> None:
    with FakeCluster() as cluster, Api.at(cluster.url) as api:
        cluster.forbidden.add(path_of(CLIPS, "shop"))
        with pytest.raises(ForbiddenError):
            next(states(api, CLIPS, "shop", "a", timeout_seconds=60))
