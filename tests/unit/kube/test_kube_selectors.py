from typing import Any

import pytest

from podcam.kube import LabelSelector

WEB = {"app": "web", "tier": "front", "empty": ""}


@pytest.mark.parametrize(
    ("body", "matches"),
    [
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "back"}}, False),
        ({"matchLabels": {"gone": ""}}, False),
        ({"matchLabels": {"empty": ""}}, True),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db", "web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db"]}]}, False),
        ({"matchExpressions": [{"key": "gone", "operator": "In", "values": ["db"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["db"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "gone", "operator": "NotIn", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "gone", "operator": "Exists", "values": []}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "gone", "operator": "DoesNotExist"}]}, True),
        ({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "gone", "operator": "Exists"}]}, False),
    ],
)
def test_all_requirements_have_to_be_fulfilled(body: dict[str, Any], matches: bool) -> None:
    assert LabelSelector.parse(body).matches(WEB) is matches


@pytest.mark.parametrize(
    "body",
    [
        {"matchLabels": ["app"]},
        {"matchExpressions": {"app": "web"}},
        {"matchExpressions": ["app"]},
        {"matchExpressions": [{"key": "app", "operator": "Equals", "values": ["web"]}]},
        {"matchExpressions": [{"key": "app", "operator": "In"}]},
        {"matchExpressions": [{"key": "app", "operator": "Exists", "values": ["web"]}]},
        {"matchExpressions": [{"operator": "Exists"}]},
    ],
)
def test_what_is_no_selector_is_told(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"match(Labels|Expressions)|condition"):
        LabelSelector.parse(body)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("app=web", "app=web"),
        ("app==web, tier != back", "app=web,tier!=back"),
        ("app in (web, db),!gone", "app in (web,db),!gone"),
        ("app notin (db,cache)", "app notin (db,cache)"),
        ("app", "app"),
        ("app in (web)", "app=web"),
        ("app.kubernetes.io/name=web", "app.kubernetes.io/name=web"),
        ("empty=", "empty="),
        ("", ""),
    ],
)
def test_kubectls_spelling_is_read_and_written(text: str, same: str) -> None:
    assert str(LabelSelector.from_text(text)) == same
    assert LabelSelector.from_text(same) == LabelSelector.from_text(text)


@pytest.mark.parametrize("text", ["app in web", "=web", "app=web=db", "app in (web", "(app)", "app web", "!"])
def test_what_kubectl_would_not_take_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is not a label selector"):
        LabelSelector.from_text(text)


@pytest.mark.parametrize(
    "text", ["app=web,tier=front", "app in (web,db),!gone", "app!=db", "app=web,app=db", "app"]
)
def test_a_selector_goes_into_an_object_and_comes_back(text: str) -> None:
    selector = LabelSelector.from_text(text)
    back = LabelSelector.parse(selector.to_json())
    assert set(back.requirements) == set(selector.requirements)
