"""Who asks for a name, and how often."""

import threading
from pathlib import Path

import pytest

from podcam.capture import Namespace
from podcam.recorder import names
from podcam.recorder.loop import Loop
from podcam.recorder.names import Asker, Lookups, asker_of
from podcam.recorder.resolver import ResolverConfig
from podcam.recorder.settings import PointSettings

SEARCH = ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local")
POD = Namespace("web", "/run/netns/cni-1", (1, 2))
Found = list[tuple[str, Asker, frozenset[str]]]


@pytest.fixture
def resolv_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 10.96.0.10\nsearch podcam-system.svc.cluster.local\n")
    monkeypatch.setattr(names, "_OWN_CONFIG", path)
    names._own_config.cache_clear()


def settings(name: str, *, search: tuple[str, ...] = ()) -> PointSettings:
    return PointSettings(name, name, "web", Namespace(name, f"/run/netns/{name}", (1, hash(name))), search)


@pytest.mark.usefixtures("resolv_conf")
def test_pods_with_the_same_search_domains_share_a_question() -> None:
    askers = {asker_of(settings(f"pod-{number}", search=SEARCH)) for number in range(60)}
    assert askers == {Asker(ResolverConfig(("10.96.0.10",), SEARCH, 5))}


def test_a_namespace_without_a_resolver_of_its_own_asks_as_the_system_does() -> None:
    assert asker_of(settings("no-such-namespace")) == Asker()


class Answering:
    """A look-up that answers when it may, and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.may_answer = threading.Event()
        self.loop = Loop()
        self.found: Found = []
        monkeypatch.setattr(Asker, "look_up", lambda _asker, name: self._look_up(name))

    def _look_up(self, name: str) -> frozenset[str]:
        self.asked.append(name)
        self.may_answer.wait(10)
        return frozenset() if name == "unknown" else frozenset({"10.0.0.2"})

    def lookups(self, good_seconds: float = 300.0) -> Lookups:
        return Lookups(self.loop, lambda *answer: self.found.append(answer), good_seconds)

    def until_found(self, count: int) -> None:
        while len(self.found) < count:
            self.loop.run_once(10)


def test_asking_does_not_wait_and_a_question_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answering = Answering(monkeypatch)
    lookups = answering.lookups()
    for _ in range(60):
        lookups.ask("db", Asker())
    lookups.ask("unknown", Asker())
    assert answering.found == []
    answering.may_answer.set()
    answering.until_found(2)
    lookups.ask("db", Asker())  # the answer is still good
    answering.until_found(3)
    assert answering.asked == ["db", "unknown"]
    assert [(name, addresses) for name, _, addresses in answering.found] == [
        ("db", frozenset({"10.0.0.2"})),
        ("unknown", frozenset()),
        ("db", frozenset({"10.0.0.2"})),
    ]
    lookups.close()


def test_an_answer_is_good_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    answering = Answering(monkeypatch)
    answering.may_answer.set()
    lookups = answering.lookups(good_seconds=0.0)
    for count in (1, 2):
        lookups.ask("db", Asker())
        answering.until_found(count)
    assert answering.asked == ["db", "db"]
    lookups.close()


@pytest.mark.usefixtures("resolv_conf")
def test_who_has_search_domains_does_not_ask_the_systems_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would find the name in the recorder's own Kubernetes namespace."""
    monkeypatch.setattr(names, "ask", lambda *_: frozenset())
    monkeypatch.setattr(names, "_by_the_system", lambda _: {"10.9.9.9"})
    assert asker_of(settings("pod", search=SEARCH)).look_up("db") == frozenset()
    assert Asker().look_up("db") == {"10.9.9.9"}
    assert Asker(ResolverConfig(("10.0.0.1",)), POD).look_up("db") == {"10.9.9.9"}
