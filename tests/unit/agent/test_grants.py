"""Grants: found by who serves packets, deleted when they are of no use any more."""

import pytest

from agents import NOON, SECOND, PaperApi, PaperClock, PaperWrites
from podcam.agent.grants import Grants
from podcam.agent.naming import Name
from podcam.kube import Grant


@pytest.fixture
def writes() -> PaperWrites:
    return PaperWrites(PaperApi())


def _grant(created_ns: int = NOON, name: str = "g") -> Grant:
    return Grant("shop", name, "uid-g", "kept", b"k" * 32, created_ns)


def test_a_grant_is_found_until_it_is_gone(writes: PaperWrites) -> None:
    grants = Grants(writes, lambda _clip: True, lambda _clip: True, 0.5, PaperClock().now_ns)
    assert grants.find("shop", "g", 0.0) is None
    grants.changed("shop/g", _grant())
    assert grants.find("shop", "g", 0.0) == _grant()
    assert grants.find("other", "g", 0.0) is None
    grants.gone("shop/g")
    assert grants.find("shop", "g", 0.0) is None


def test_old_grants_are_deleted_by_who_could_have_served_them(writes: PaperWrites) -> None:
    clock = PaperClock()
    serves = {Name("shop", "kept"): False}
    grants = Grants(writes, lambda clip: serves[clip], lambda _clip: True, 0.5, clock.now_ns)
    grants.changed("shop/g", _grant())
    grants.changed("shop/young", _grant(NOON + 3600 * SECOND, "young"))
    clock.passes(3601)
    grants.expire()
    assert writes.waiting == {}
    serves[Name("shop", "kept")] = True
    grants.expire()
    writes.send()
    ((verb, path, options),) = writes.api.requests
    assert (verb, path) == ("delete", "/apis/podcam.dev/v1alpha1/namespaces/shop/packetgrants/g")
    assert options == {"preconditions": {"uid": "uid-g"}}


def test_grants_of_clips_that_are_gone_are_deleted_by_one_agent_after_the_other(writes: PaperWrites) -> None:
    clock = PaperClock()
    grants = Grants(writes, lambda _clip: False, lambda _clip: False, 0.5, clock.now_ns)
    grants.changed("shop/g", _grant())
    clock.passes(5300)
    grants.expire()
    assert writes.waiting == {}
    clock.passes(200)
    grants.expire()
    assert list(writes.waiting) == ["grant/shop/g/delete"]
