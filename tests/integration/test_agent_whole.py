"""A whole agent on real network namespaces, with an API server that comes and goes."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import network_lab
from agent_node import Node, living_node
from podcam.clip import ClipStore, read_manifest
from podcam.kube import CLIPS, EVENTS, PODS, RECORDINGS, SERVICES, format_time
from waiting import wait_until

pytestmark = pytest.mark.skipif(network_lab.why_not() is not None, reason=str(network_lab.why_not()))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with living_node(tmp_path) as made:
        service = {"metadata": {"namespace": "db", "name": "db"}, "spec": {"clusterIP": "10.9.0.2"}}
        made.cluster.put(SERVICES, service)
        made.start()
        yield made


@pytest.fixture
def recorded(node: Node) -> Node:
    node.records("web-1")
    return node


def test_a_pod_is_recorded_as_soon_as_it_has_a_network(node: Node) -> None:
    node.bind()
    node.wait_until("Waiting")
    node.give_network()
    node.wait_until("Recording")
    status = node.cluster.wait(
        "the merged fields",
        lambda: (
            (node.cluster.get(RECORDINGS, "shop", "checkout") or {})["status"].get("points") == "1/1"
            and node.cluster.get(RECORDINGS, "shop", "checkout")
        ),
    )["status"]
    assert status["conditions"][0]["reason"] == "AllPodsRecorded"


def test_from_a_failure_to_a_complete_clip_with_names(recorded: Node) -> None:
    recorded.fails()
    clip = recorded.wait_for_clip()
    assert clip["spec"]["trigger"]["class"] == "reset-early"
    assert clip["spec"]["nodes"] == ["node-1"]
    (part,) = clip["status"]["parts"].values()
    assert part["state"] == "Complete"
    assert part["pods"][0]["pod"] == "web-1"
    manifest = read_manifest(recorded.clip_folder(clip))
    assert manifest.names == {"10.9.0.1": "pod shop/web-1", "10.9.0.2": "service db/db"}


def test_a_clip_that_somebody_asks_for_is_kept_and_goes_with_its_object(recorded: Node) -> None:
    network_lab.exchange(recorded.network, recorded.peer, "10.9.0.2", 5432)
    recorded.cluster.put(
        CLIPS,
        {"metadata": {"namespace": "shop", "name": "mine"}, "spec": {"recording": "checkout", "last": "60s"}},
    )
    folder = recorded.clip_folder(recorded.wait_for_clip())
    assert folder.exists()
    recorded.cluster.remove(CLIPS, "shop", "mine")
    wait_until(lambda: not folder.exists())


def asked_for(node: Node, seconds_ahead: int) -> Path:
    """The folder of a clip that somebody asks for, of a window that is open still, once it holds packets."""
    second, now_ns = 10**9, time.time_ns()
    window = {
        "start": format_time(now_ns - 60 * second),
        "end": format_time(now_ns + seconds_ahead * second),
    }
    metadata = {"namespace": "shop", "name": "mine"}
    node.cluster.put(CLIPS, {"metadata": metadata, "spec": {"recording": "checkout", "window": window}})
    network_lab.exchange(node.network, node.peer, "10.9.0.2", 5432)
    folder = node.clip_folder(node.wait_for_clip("Freezing"))
    wait_until(lambda: packets_in(folder))
    return folder


def packets_in(clip: Path) -> int:
    """As far as the recorder has written down what it holds."""
    return sum(part.totals.packets for part in read_manifest(clip).parts)


@pytest.mark.parametrize("killed", [True, False])
def test_a_clip_goes_on_to_the_end_of_its_window_when_an_agent_follows_another(
    recorded: Node, killed: bool
) -> None:
    folder = asked_for(recorded, seconds_ahead=600)
    if killed:
        recorded.kill()
    else:
        recorded.stop()
    left = read_manifest(folder)
    recorded.start()
    wait_until(lambda: [line["text"] for line in recorded.log()].count("keeping a clip") == 2)
    manifest = read_manifest(folder)
    assert (manifest.state, manifest.parts[0].totals.packets) == ("open", left.parts[0].totals.packets)
    assert manifest.window.end_ns > time.time_ns() + 300 * 10**9
    recorded.wait_for_clip("Freezing")


def test_a_clip_whose_window_ended_without_an_agent_is_told_by_the_next(recorded: Node) -> None:
    folder = asked_for(recorded, seconds_ahead=2)
    recorded.kill()
    time.sleep(2)
    recorded.start()
    (part,) = recorded.wait_for_clip()["status"]["parts"].values()
    assert part["state"] == "Complete"
    assert part["packets"] == packets_in(folder) > 0


def test_a_failure_while_the_api_server_is_away_has_its_clip_afterwards(recorded: Node) -> None:
    recorded.cluster.away()
    recorded.fails()
    store = ClipStore(recorded.host / "podcam/clips")
    wait_until(lambda: [clip for clip in store.clips() if clip.manifest.state == "complete"])
    recorded.kill()  # and not even the agent outlives it
    recorded.start()
    recorded.cluster.back()
    clip = recorded.wait_for_clip()
    assert clip["spec"]["trigger"]["pod"] == "web-1"


def test_a_pod_that_ends_while_the_api_server_is_away_is_noticed(recorded: Node) -> None:
    recorded.cluster.away()
    (recorded.host / "run/netns/cni-web-1").unlink()
    wait_until(lambda: any("network namespace is gone" in line["text"] for line in recorded.log()))
    recorded.cluster.back()
    recorded.wait_until("Waiting")
    recorded.cluster.remove(PODS, "shop", "web-1")
    recorded.wait_until("Ended")


def test_a_killed_agent_goes_on_in_its_rings_and_shows_the_gap(recorded: Node) -> None:
    network_lab.exchange(recorded.network, recorded.peer, "10.9.0.2", 5432)
    (ring,) = (recorded.host / "podcam/points").iterdir()
    wait_until(lambda: list(ring.glob("*.seg")))
    recorded.kill()
    recorded.start()
    wait_until(lambda: [line["text"] for line in recorded.log()].count("recording") == 2)
    recorded.fails()
    clip = recorded.wait_for_clip()
    (part,) = clip["status"]["parts"].values()
    (gap,) = part["pods"][0]["gaps"]
    assert gap["since"] < gap["until"]


def test_an_agent_that_starts_without_the_api_server_goes_on_with_what_was_recorded(recorded: Node) -> None:
    network_lab.exchange(recorded.network, recorded.peer, "10.9.0.2", 5432)
    wait_until(lambda: list(recorded.ring().glob("*.seg")))
    recorded.kill()
    recorded.cluster.away()
    recorded.start()
    wait_until(lambda: [line["text"] for line in recorded.log()].count("recording") == 2)
    recorded.fails()
    store = ClipStore(recorded.host / "podcam/clips")
    wait_until(lambda: [clip for clip in store.clips() if clip.manifest.state == "complete"])
    recorded.cluster.back()
    clip = recorded.wait_for_clip()
    (part,) = clip["status"]["parts"].values()
    assert len(part["pods"][0]["gaps"]) == 1
    recorded.wait_until("Recording")
    texts = [line["text"] for line in recorded.log()]
    assert texts.count("recording") == 2  # and what the API server says changes nothing
    assert "a defect" not in texts


def test_what_was_deleted_while_nobody_looked_ends_when_the_api_server_is_back(recorded: Node) -> None:
    network_lab.exchange(recorded.network, recorded.peer, "10.9.0.2", 5432)
    wait_until(lambda: list(recorded.ring().glob("*.seg")))
    recorded.kill()
    recorded.cluster.remove(RECORDINGS, "shop", "checkout")
    recorded.cluster.away()
    recorded.start()
    wait_until(lambda: [line["text"] for line in recorded.log()].count("recording") == 2)
    recorded.cluster.back()
    wait_until(lambda: not recorded.ring().exists())


def test_rings_go_with_their_recording(recorded: Node) -> None:
    rings = recorded.host / "podcam/points"
    network_lab.exchange(recorded.network, recorded.peer, "10.9.0.2", 5432)
    wait_until(lambda: list(rings.glob("*/*.seg")))
    recorded.cluster.remove(RECORDINGS, "shop", "checkout")
    wait_until(lambda: not list(rings.iterdir()))


def test_a_recording_made_anew_while_the_agent_was_away_gets_nothing_of_the_old_one(recorded: Node) -> None:
    network_lab.exchange(recorded.network, recorded.peer, "10.9.0.2", 5432)
    (ring,) = (recorded.host / "podcam/points").iterdir()
    wait_until(lambda: list(ring.glob("*.seg")))
    recorded.kill()
    before = {segment.name for segment in ring.glob("*.seg")}
    body = recorded.cluster.get(RECORDINGS, "shop", "checkout")
    assert body is not None
    recorded.cluster.remove(RECORDINGS, "shop", "checkout")
    made = {"namespace": "shop", "name": "checkout", "creationTimestamp": in_a_second()}
    recorded.cluster.put(RECORDINGS, {"metadata": made, "spec": body["spec"]})
    recorded.start()
    wait_until(lambda: [line["text"] for line in recorded.log()].count("recording") == 2)
    assert not before & {segment.name for segment in ring.glob("*.seg")}


def in_a_second() -> str:
    return format_time(time.time_ns() + 1_000_000_000)


def test_told_to_end_it_says_that_the_pods_wait_for_the_next(recorded: Node) -> None:
    assert recorded.stop() == 0
    point = recorded.point()
    assert (point["state"], point["reason"]) == ("Waiting", "AgentEnded")


def test_a_host_network_pod_is_refused_with_an_event(node: Node) -> None:
    node.bind("hostly", hostNetwork=True)
    node.wait_until("Refused", "hostly")
    (event,) = node.cluster.wait("an event", lambda: node.cluster.all(EVENTS))
    assert event["reason"] == "HostNetwork"


def test_without_news_it_asks_for_nothing(recorded: Node) -> None:
    def requests_of(seconds: float) -> int:
        before, end = len(recorded.cluster.requests), time.monotonic() + seconds
        wait_until(lambda: time.monotonic() > end)
        return len(recorded.cluster.requests) - before

    wait_until(lambda: requests_of(4) == 0)
    assert requests_of(12) == 0  # two looks at the budget


def test_a_recording_that_cannot_be_read_any_more_goes_on_as_it_was_and_keeps_its_rings(
    recorded: Node,
) -> None:
    network_lab.exchange(recorded.network, recorded.peer, "10.9.0.2", 5432)
    wait_until(lambda: list(recorded.ring().glob("*.seg")))
    body = recorded.cluster.get(RECORDINGS, "shop", "checkout")
    assert body is not None
    recorded.cluster.put(RECORDINGS, {**body, "spec": {**body["spec"], "scope": "of a later version"}})
    recorded.cluster.wait("why", lambda: "goes on as it was" in " ".join(recorded.entry()["warnings"]))
    recorded.kill()
    recorded.start()
    wait_until(lambda: [line["text"] for line in recorded.log()].count("an object cannot be read") > 1)
    recorded.cluster.put(
        CLIPS,
        {"metadata": {"namespace": "shop", "name": "mine"}, "spec": {"recording": "checkout", "last": "60s"}},
    )
    (part,) = recorded.wait_for_clip()["status"]["parts"].values()
    assert part["packets"] > 0
