"""Whose addresses a clip speaks of: asked for once, and only where nobody knows."""

from typing import Any

import pytest

from agents import PaperApi, PaperClock, PaperWrites, paper_log, pod
from podcam.agent.peers import Peers
from podcam.errors import ForbiddenError


@pytest.fixture
def writes() -> PaperWrites:
    return PaperWrites(PaperApi())


class Named:
    """Peers, and the names that they found."""

    def __init__(self, writes: PaperWrites) -> None:
        self.clock = PaperClock()
        self.writes = writes
        self.found: dict[str, str] = {}
        self.peers = Peers(writes, lambda function: function(), paper_log()[0], self.clock.now_ns)

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
    named.clock.passes(61)
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
