"""What a person names, and the pods that it stands for."""

from typing import Any

import pytest

from fake_cluster import FakeCluster
from podcam.cluster import Choice, Target, choice_of, find_choice, parse_targets, selected
from podcam.errors import KubernetesError, NotFoundError, UsageError
from podcam.kube import PODS, Api, Kind

DEPLOYMENTS = Kind("apps", "v1", "deployments", "Deployment")
SERVICES = Kind("", "v1", "services", "Service")


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        (["deploy/web"], [("Deployment", "web")]),
        (["deployments/web"], [("Deployment", "web")]),
        (["deployment.apps/web"], [("Deployment", "web")]),
        (["deployments.v1.apps/web"], [("Deployment", "web")]),
        (["Deployment/web"], [("Deployment", "web")]),
        (["sts", "db"], [("StatefulSet", "db")]),
        (["ds/x"], [("DaemonSet", "x")]),
        (["rs/x"], [("ReplicaSet", "x")]),
        (["job/x"], [("Job", "x")]),
        (["jobs.batch/x"], [("Job", "x")]),
        (["svc/x"], [("Service", "x")]),
        (["pod/x"], [("Pod", "x")]),
        (["po", "x", "y"], [("Pod", "x"), ("Pod", "y")]),
        (["pod/x", "pods/y"], [("Pod", "x"), ("Pod", "y")]),
        (["web-6d5f9"], [("Pod", "web-6d5f9")]),
        ([], []),
    ],
)
def test_targets_as_kubectl_takes_them(words: list[str], targets: list[tuple[str, str]]) -> None:
    assert parse_targets(words) == tuple(Target(*target) for target in targets)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["deploy/"], "not TYPE/NAME"),
        (["/web"], "not TYPE/NAME"),
        (["deploy/web/x"], "not TYPE/NAME"),
        (["deploy/web", "x"], "not TYPE/NAME"),
        (["deploy"], "which deploy?"),
        (["cm/web"], "'cm' has no pods"),
        (["deployment.batch/web"], "has no pods"),
        (["deploy", "a", "b"], "one workload makes one recording"),
        (["deploy/a", "sts/b"], "one workload makes one recording"),
        (["deploy/a", "pod/b"], "one workload makes one recording"),
    ],
)
def test_wrong_targets_are_refused(words: list[str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_targets(words)


def deployment(selector: dict[str, Any] | None) -> dict[str, Any]:
    return {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"selector": selector}}


def test_a_workload_stands_for_its_selector() -> None:
    selector = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [{"key": "old", "operator": "DoesNotExist"}],
    }
    with FakeCluster() as cluster, Api.at(cluster.url) as api:
        cluster.add(DEPLOYMENTS, deployment(selector))
        choice = find_choice(api, "shop", [Target("Deployment", "web")])
    assert choice == Choice(selector=selector, target=Target("Deployment", "web"))
    assert choice.spec() == {"selector": selector, "target": {"kind": "Deployment", "name": "web"}}
    assert choice.label_selector == "app=web,!old"
    assert str(choice) == "deployment/web"


def test_a_service_s_selector_is_labels() -> None:
    with FakeCluster() as cluster, Api.at(cluster.url) as api:
        cluster.add(SERVICES, {**deployment({"app": "web"}), "kind": "Service"})
        choice = find_choice(api, "shop", [Target("Service", "web")])
    assert choice.selector == {"matchLabels": {"app": "web"}}


def test_what_selects_no_pods_is_refused() -> None:
    with FakeCluster() as cluster, Api.at(cluster.url) as api:
        cluster.add(SERVICES, deployment(None))
        with pytest.raises(KubernetesError, match="service/web has no selector"):
            find_choice(api, "shop", [Target("Service", "web")])
        with pytest.raises(NotFoundError, match="there is no service other in namespace shop"):
            find_choice(api, "shop", [Target("Service", "other")])


def test_pods_are_taken_by_name_and_have_to_be_there() -> None:
    with FakeCluster() as cluster, Api.at(cluster.url) as api:
        cluster.add(PODS, {"metadata": {"name": "a", "namespace": "shop"}})
        choice = find_choice(api, "shop", [Target("Pod", "a")])
        with pytest.raises(
            NotFoundError, match=r"no pod b in namespace shop \(-n names another\); a workload is named as"
        ):
            find_choice(api, "shop", [Target("Pod", "a"), Target("Pod", "b")])
    assert choice.spec() == {"pods": ["a"], "target": {"kind": "Pod", "name": "a"}}


def test_a_selector_from_the_command_line() -> None:
    choice = selected("app=web,tier!=test,zone in (a, b),!canary")
    assert choice.selector == {
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "NotIn", "values": ["test"]},
            {"key": "zone", "operator": "In", "values": ["a", "b"]},
            {"key": "canary", "operator": "DoesNotExist"},
        ],
    }
    assert str(choice).startswith("pods with app=web")
    assert choice_of({"spec": choice.spec()}) == choice


@pytest.mark.parametrize(("text", "complaint"), [("", "every pod"), ("a in b", "not a label selector")])
def test_selectors_that_are_none(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        selected(text)
