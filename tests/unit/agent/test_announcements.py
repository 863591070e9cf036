"""Events: what they say, and how seldom."""

import pytest

from agents import PaperApi, PaperClock, PaperWrites
from podcam.agent.announcements import Announcements, Subject
from podcam.kube import RECORDINGS

RECORDING = Subject(RECORDINGS, "shop", "checkout", "uid-1")


@pytest.fixture
def writes() -> PaperWrites:
    return PaperWrites(PaperApi())


def test_an_event_says_what_about_whom(writes: PaperWrites) -> None:
    Announcements(writes, "node-1", "agent-x", PaperClock().now_ns).warn(
        RECORDING, "HostNetwork", "pod a is not recorded"
    )
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
    clock = PaperClock()
    announcements = Announcements(writes, "node-1", "agent-x", clock.now_ns)
    for _ in range(5):
        announcements.warn(RECORDING, "NodeBudget", "no room")
        clock.passes(1)
    writes.send()
    assert len(writes.api.requests) == 1
    clock.passes(600)
    announcements.warn(RECORDING, "NodeBudget", "no room")
    writes.send()
    assert len(writes.api.requests) == 2


def test_a_flood_of_things_to_say_is_bounded(writes: PaperWrites) -> None:
    clock = PaperClock()
    announcements = Announcements(writes, "node-1", "agent-x", clock.now_ns)
    for number in range(1000):
        announcements.warn(RECORDING, "HostNetwork", f"pod {number} is not recorded")
    writes.send()
    assert len(writes.api.requests) == 20
    assert announcements.suppressed == 980
    clock.passes(60)
    for number in range(1000):
        announcements.warn(RECORDING, "HostNetwork", f"pod {number} is not recorded")
    writes.send()
    assert len(writes.api.requests) == 22
