"""What was last heard of the objects of one kind, and who is told of it."""

from typing import Any

from agents import NOON, paper_log
from podcam.agent.collection import Collection
from podcam.agent.guard import Guard
from podcam.errors import KubernetesError
from podcam.kube import Changed, Deleted, Listed, Lost, NamespaceLimits, Pod, format_time


class Heard:
    """A collection of pods, and what it told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.pods = Collection(Pod.parse, Guard(paper_log()[0]))
        self.pods.subscribe(
            changed=lambda key, value: self.told.append(f"+{key} {value.uid}"),
            removed=lambda key: self.told.append(f"-{key}"),
            listed=lambda: self.told.append("listed"),
            unreadable=lambda key, _why: self.told.append(f"?{key}"),
        )


def _pod(name: str, uid: str = "1", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "shop",
            "name": name,
            "uid": uid,
            "creationTimestamp": format_time(NOON),
        },
        "spec": {"nodeName": "node-1", **spec},
    }


def test_what_a_list_lacks_is_gone() -> None:
    heard = Heard()
    heard.pods.take(Listed((_pod("a"), _pod("b"))))
    heard.pods.take(Listed((_pod("b"),)))
    assert heard.told == ["+shop/a 1", "+shop/b 1", "listed", "-shop/a", "listed"]
    assert heard.pods.complete


def test_an_object_made_anew_between_two_lists_is_told_as_both() -> None:
    heard = Heard()
    heard.pods.take(Listed((_pod("a", "1"),)))
    heard.pods.take(Listed((_pod("a", "2"),)))
    assert heard.told[2:] == ["-shop/a", "+shop/a 2", "listed"]


def test_one_made_anew_just_as_it_was_is_another() -> None:
    namespaces = Collection(NamespaceLimits.parse, Guard(paper_log()[0]))
    for uid in ("1", "2"):
        namespaces.take(Listed(({"metadata": {"name": "shop", "uid": uid}},)))
    assert namespaces.uid("shop") == "2"


def test_a_watch_that_is_lost_changes_nothing() -> None:
    heard = Heard()
    heard.pods.take(Listed((_pod("a"),)))
    heard.pods.take(Lost(KubernetesError("away")))
    assert heard.told == ["+shop/a 1", "listed"]
    assert len(heard.pods) == 1


def test_what_says_nothing_new_is_not_told() -> None:
    heard = Heard()
    heard.pods.take(Changed(_pod("a")))
    heard.pods.take(Changed({**_pod("a"), "status": {"conditions": [{"type": "Ready"}]}}))
    heard.pods.take(Deleted(_pod("a")))
    heard.pods.take(Deleted(_pod("a")))
    assert heard.told == ["+shop/a 1", "-shop/a"]


def test_who_asks_what_is_wanted_is_not_told_of_a_status() -> None:
    pods = Collection(Pod.parse, Guard(paper_log()[0]), with_status=True)
    changed, redefined = list[str](), list[str]()
    pods.subscribe(
        changed=lambda key, value: changed.append(f"{key} {value.uid}"),
        redefined=lambda key, value: redefined.append(f"{key} {value.uid}"),
    )
    pods.recall([_pod("a")])
    pods.take(Listed((_pod("a"),)))
    for condition in ("Ready", "Ready", "Initialized"):
        pods.take(Changed({**_pod("a"), "status": {"conditions": [{"type": condition}]}}))
    assert (changed, redefined) == (["shop/a 1"] * 4, ["shop/a 1"] * 2)
    assert pods.status("shop/a") == {"conditions": [{"type": "Initialized"}]}
    pods.take(Changed(_pod("a", nodeName="node-2")))
    pods.take(Changed(_pod("a", "2")))
    assert changed[4:] == redefined[2:] == ["shop/a 1", "shop/a 2"]


def test_of_an_object_that_cannot_be_read_any_more_holds_what_was_read_last() -> None:
    heard = Heard()
    heard.pods.take(Changed(_pod("a")))
    heard.pods.take(Listed(({**_pod("a"), "spec": "nonsense"},)))
    assert heard.told == ["+shop/a 1", "?shop/a", "listed"]
    assert heard.pods["shop/a"].node == "node-1"
    assert heard.pods.unread["shop/a"]["spec"] == "nonsense"
    heard.pods.take(Listed(()))
    assert heard.told[3:] == ["-shop/a", "listed"]
    assert not heard.pods.unread


def test_one_of_its_name_that_cannot_be_read_is_another_object() -> None:
    heard = Heard()
    heard.pods.take(Changed(_pod("a", "1")))
    heard.pods.take(Changed({**_pod("a", "2"), "spec": "nonsense"}))
    assert heard.told == ["+shop/a 1", "-shop/a", "?shop/a"]
    assert list(heard.pods.unread) == ["shop/a"]


def test_who_fails_keeps_nobody_else_from_being_told() -> None:
    log, lines = paper_log()
    pods, told = Collection(Pod.parse, Guard(log)), list[str]()

    def fail(key: str, _pod: Pod) -> None:
        raise ValueError(key)

    pods.subscribe(changed=fail)
    pods.subscribe(changed=lambda key, _pod: told.append(key))
    pods.take(Listed((_pod("a"), _pod("b"))))
    assert told == ["shop/a", "shop/b"]
    assert lines.getvalue().count("a defect") == 2
