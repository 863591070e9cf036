"""What was last heard of objects; what is announced, looked up, granted."""

from typing import Any

import pytest

from agents import NOON, SECOND, PaperApi, PaperWrites, paper_log, pod
from podcam.agent.announcements import Announcements, Subject
from podcam.agent.collection import Collection
from podcam.agent.grants import Grants
from podcam.agent.guard import Guard
from podcam.agent.naming import Name
from podcam.agent.peers import Peers
from podcam.errors import ForbiddenError, KubernetesError
from podcam.kube import RECORDINGS, Changed, Deleted, Grant, Listed, Lost, Pod, format_time


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


def test_of_an_object_that_cannot_be_read_any_more_holds_what_was_read_last() -> None:
    heard = Heard()
    heard.pods.take(Changed(_pod("a")))
    heard.pods.take(Listed(({**_pod("a"), "spec": "nonsense"},)))
    assert heard.told == ["+shop/a 1", "?shop/a", "listed"]
    assert heard.pods["shop/a"].node == "node-1"
    assert heard.pods.unread == {"shop/a"}
    heard.pods.take(Listed(()))
    assert heard.told[3:] == ["-shop/a", "listed"]
    assert not heard.pods.unread


def test_one_of_its_name_that_cannot_be_read_is_another_object() -> None:
    heard = Heard()
    heard.pods.take(Changed(_pod("a", "1")))
    heard.pods.take(Changed({**_pod("a", "2"), "spec": "nonsense"}))
    assert heard.told == ["+shop/a 1", "-shop/a", "?shop/a"]
    assert heard.pods.unread == {"shop/a"}


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


@pytest.fixture
def writes() -> PaperWrites:
    return PaperWrites(PaperApi())


class Wall:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.now_ns = NOON

    def __call__(self) -> int:
        return self.now_ns


RECORDING = Subject(RECORDINGS, "shop", "checkout", "uid-1")


def test_an_event_says_what_about_whom(writes: PaperWrites) -> None:
    Announcements(writes, "node-1", "agent-x", Wall()).warn(RECORDING, "HostNetwork", "pod a is not recorded")
    writes.send()
    ((_, path, body),) = writes.api.requests
    assert path == "/api/v1/namespaces/shop/events"
    assert body["involvedObject"]["uid"] == "uid-1"
    assert (body["type"], body["reason"], body["message"]) == (
        "Warning",
        "HostNetwork",
        "pod a is not recorded",
    )


def test_the_same_is_said_again_after_ten_minutes_only(writes: PaperWrites) -> None:
    wall = Wall()
    announcements = Announcements(writes, "node-1", "agent-x", wall)
    for _ in range(5):
        announcements.warn(RECORDING, "NodeBudget", "no room")
        wall.now_ns += SECOND
    writes.send()
    assert len(writes.api.requests) == 1
    wall.now_ns += 600 * SECOND
    announcements.warn(RECORDING, "NodeBudget", "no room")
    writes.send()
    assert len(writes.api.requests) == 2


def test_a_flood_of_things_to_say_is_bounded(writes: PaperWrites) -> None:
    wall = Wall()
    announcements = Announcements(writes, "node-1", "agent-x", wall)
    for number in range(1000):
        announcements.warn(RECORDING, "HostNetwork", f"pod {number} is not recorded")
    writes.send()
    assert len(writes.api.requests) == 20
    assert announcements.suppressed == 980
    wall.now_ns += 60 * SECOND
    for number in range(1000):
        announcements.warn(RECORDING, "HostNetwork", f"pod {number} is not recorded")
    writes.send()
    assert len(writes.api.requests) == 22


class Named:
    """Peers, and the names that they found."""

    def __init__(self, writes: PaperWrites) -> None:
        self.wall = Wall()
        self.writes = writes
        self.found: dict[str, str] = {}
        self.peers = Peers(writes, lambda function: function(), paper_log()[0], self.wall)

    def look_up(self, *addresses: str, pods: tuple[str, ...] = ()) -> dict[str, str]:
        self.peers.look_up("shop/kept", addresses, pods, self.found.update)
        self.writes.send()
        return self.found


SERVICES = "/api/v1/services?spec.clusterIP="
PODS = "/api/v1/pods?status.podIP="


def _running(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "db", "name": name}, "spec": spec, "status": {"phase": "Running"}}


def test_services_and_pods_are_asked_for_by_address(writes: PaperWrites) -> None:
    writes.api.lists[f"{SERVICES}10.96.0.5"] = [{"metadata": {"namespace": "db", "name": "postgres"}}]
    writes.api.lists[f"{PODS}10.244.1.9"] = [_running("proxy-1")]
    named = Named(writes)
    assert named.look_up("10.96.0.5", "10.244.1.9", "203.0.113.7", "127.0.0.1", "fe80::1") == {
        "10.96.0.5": "service db/postgres",
        "10.244.1.9": "pod db/proxy-1",
    }
    before = len(writes.api.requests)
    named.look_up("10.96.0.5", "203.0.113.7")
    assert len(writes.api.requests) == before  # what is known, and what nobody has, is not asked for again
    named.wall.now_ns += 61 * SECOND
    named.look_up("10.96.0.5")
    assert len(writes.api.requests) == before + 1


def test_an_address_of_the_node_is_nobodys(writes: PaperWrites) -> None:
    writes.api.lists[f"{PODS}10.250.0.11"] = [
        _running("a", hostNetwork=True),
        _running("b", hostNetwork=True),
    ]
    assert Named(writes).look_up("10.250.0.11") == {}


def test_the_nodes_own_pods_need_no_request(writes: PaperWrites) -> None:
    named = Named(writes)
    named.peers.seen("shop/web-1", pod("web-1", ips=("10.244.0.7", "fd00::7")))
    named.peers.seen("shop/hostly", pod("hostly", host_network=True, ips=("10.250.0.11",)))
    assert named.look_up("10.244.0.7") == {"10.244.0.7": "pod shop/web-1"}
    assert named.look_up(pods=("shop/web-1",)) == {
        "10.244.0.7": "pod shop/web-1",
        "fd00::7": "pod shop/web-1",
    }
    assert writes.api.requests == []


def test_a_clip_does_not_wait_for_names_that_may_not_be_asked_for(writes: PaperWrites) -> None:
    named = Named(writes)
    told: list[Any] = []
    writes.api.fails = ForbiddenError("not allowed", status=403)
    named.peers.look_up("shop/kept", ["10.96.0.5"], [], told.append)
    writes.send()
    assert told == [{}]


def test_a_clip_asks_for_few_addresses(writes: PaperWrites) -> None:
    Named(writes).look_up(*(f"10.0.0.{number}" for number in range(1, 200)))
    assert len(writes.api.requests) == 40


def _grant(created_ns: int = NOON, name: str = "g") -> Grant:
    return Grant("shop", name, "uid-g", "kept", b"k" * 32, created_ns)


def test_a_grant_is_found_until_it_is_gone(writes: PaperWrites) -> None:
    grants = Grants(writes, lambda _clip: True, lambda _clip: True, 0.5, Wall())
    assert grants.find("shop", "g", 0.0) is None
    grants.changed("shop/g", _grant())
    assert grants.find("shop", "g", 0.0) == _grant()
    assert grants.find("other", "g", 0.0) is None
    grants.gone("shop/g")
    assert grants.find("shop", "g", 0.0) is None


def test_old_grants_are_deleted_by_who_could_have_served_them(writes: PaperWrites) -> None:
    wall = Wall()
    serves = {Name("shop", "kept"): False}
    grants = Grants(writes, lambda clip: serves[clip], lambda _clip: True, 0.5, wall)
    grants.changed("shop/g", _grant())
    grants.changed("shop/young", _grant(NOON + 3600 * SECOND, "young"))
    wall.now_ns += 3601 * SECOND
    grants.expire()
    assert writes.waiting == {}
    serves[Name("shop", "kept")] = True
    grants.expire()
    writes.send()
    ((verb, path, options),) = writes.api.requests
    assert (verb, path) == ("delete", "/apis/podcam.dev/v1alpha1/namespaces/shop/packetgrants/g")
    assert options == {"preconditions": {"uid": "uid-g"}}


def test_grants_of_clips_that_are_gone_are_deleted_by_one_agent_after_the_other(writes: PaperWrites) -> None:
    wall = Wall()
    grants = Grants(writes, lambda _clip: False, lambda _clip: False, 0.5, wall)
    grants.changed("shop/g", _grant())
    wall.now_ns += 5300 * SECOND
    grants.expire()
    assert writes.waiting == {}
    wall.now_ns += 200 * SECOND
    grants.expire()
    assert list(writes.waiting) == ["grant/shop/g/delete"]
