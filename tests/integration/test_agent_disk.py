"""A whole agent whose disk gets short: what goes first, what is said, and what is never lost."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import network_lab
from agent_node import Node, living_node
from podcam.clip import open_packets, read_manifest
from podcam.kube import CLIPS, EVENTS, format_time
from recorders import at_one_moment
from waiting import wait_until

pytestmark = pytest.mark.skipif(network_lab.why_not() is not None, reason=str(network_lab.why_not()))

MB = 1_000_000


def reasons(node: Node) -> set[str]:
    return {event["reason"] for event in node.cluster.all(EVENTS)}


def said(node: Node) -> str:
    """All warnings in the status of the recording."""
    return " ".join(node.entry().get("warnings", []))


def size_bytes(ring: Path) -> int:
    return sum(status.st_blocks * 512 for status in at_one_moment(ring))


def test_rings_of_ended_pods_go_first_then_all_shrink_alike_then_a_new_pod_is_refused(tmp_path: Path) -> None:
    with living_node(tmp_path, disk_budget=5 * MB) as node:
        node.start()
        node.records("first")
        node.sends(3 * MB)
        node.ends("first")
        assert node.ring("first").exists()

        node.records("web-1")
        node.records("web-2")
        for _ in range(4):
            node.sends(1 * MB)
        wait_until(lambda: not node.ring("first").exists())
        node.cluster.wait("an event", lambda: "RingRemoved" in reasons(node))
        node.cluster.wait("the pod is forgotten", lambda: node.point("first") is None)

        node.cluster.wait("what rings hold", lambda: "no ring gets more than" in said(node))
        assert "the disk budget of the node, 5.0 MB, is used up" in said(node)
        node.cluster.wait("an event", lambda: "NodeBudget" in reasons(node))
        for _ in range(6):
            node.sends(1 * MB)
        rings = [node.ring(name) for name in ("web-1", "web-2")]
        wait_until(lambda: min(map(size_bytes, rings)) > 1 * MB)
        assert sum(map(size_bytes, rings)) <= 5 * MB

        node.give_network("last")
        node.bind("last")
        node.wait_until("Refused", "last")
        refused = node.point("last")
        assert refused["reason"] == "NodeBudget"
        assert "give the agent more room" in refused["message"]
        assert {node.point(name)["state"] for name in ("web-1", "web-2")} == {"Recording"}


def test_what_is_over_the_write_budget_loses_payload_and_status_and_clip_say_so(tmp_path: Path) -> None:
    with living_node(tmp_path, write_bytes_per_second=20_000) as node:
        node.start()
        node.records("web-1")

        def sent_and_said() -> bool:
            node.sends(100_000)
            return "over the write budget: only headers are kept of shop/web-1" in said(node)

        wait_until(sent_and_said)
        node.sends(100_000)
        node.fails()
        clip = node.wait_for_clip()
        packets = open_packets(node.clip_folder(clip))
        assert list(packets.packets())
        problems = " ".join(problem for part in packets.parts for problem in part.problems)
        assert "the write budget was reached: payload is cut" in problems


def test_rings_go_when_their_retention_is_over(tmp_path: Path) -> None:
    with living_node(tmp_path, recording={"retention": "1s"}) as node:
        node.start()
        node.records("web-1")
        node.sends(1000)
        wait_until(lambda: list(node.ring().glob("*.seg")))
        node.goes("web-1")
        wait_until(lambda: not node.ring().exists())
        assert "RingRemoved" not in reasons(node)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A host whose agent's folder is a file system of 16 MB."""
    folder = tmp_path / "podcam"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16000000", "tmpfs", folder], check=True)
    yield tmp_path
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path) -> Path:
    """Somebody else takes all that is free."""
    hog = disk / "podcam/hog"
    with hog.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return hog


def test_a_full_disk_loses_nothing_that_was_written_and_recording_goes_on(
    small_disk: Path,
) -> None:
    with living_node(small_disk, disk_budget=100 * MB) as node:
        node.start()
        node.records("web-1")
        node.sends(500_000)
        node.fails()
        before = node.wait_for_clip()
        kept = sorted(path.stat().st_ino for path in node.clip_folder(before).rglob("*.seg"))
        while size_bytes(node.ring()) < 3 * MB:  # a ring of less than two segments has clips give way
            node.sends(500_000)
        hog = fill(small_disk)

        def sent_and_said() -> bool:
            node.sends(500_000)
            return "the disk is full" in said(node) and "free some space" in said(node)

        wait_until(sent_and_said)
        assert sorted(path.stat().st_ino for path in node.clip_folder(before).rglob("*.seg")) == kept
        assert read_manifest(node.clip_folder(before)).state == "complete"
        assert node.is_alive

        hog.unlink()
        room_ns = time.time_ns()
        newest = max(path.name for path in node.ring().glob("*.seg"))

        def goes_on() -> bool:
            node.sends(500_000)
            return max(path.name for path in node.ring().glob("*.seg")) > newest

        wait_until(goes_on)
        node.cluster.put(
            CLIPS,
            {
                "metadata": {"namespace": "shop", "name": "after"},
                "spec": {
                    "recording": "checkout",
                    "window": {"start": format_time(room_ns), "end": format_time(time.time_ns())},
                },
            },
        )
        after = node.cluster.wait(
            "a clip of afterwards",
            lambda: (
                (body := node.cluster.get(CLIPS, "shop", "after"))
                and body.get("status", {}).get("state") == "Complete"
                and body
            ),
        )
        (part,) = after["status"]["parts"].values()
        assert part["packets"] > 0


def test_what_has_to_stay_free_stays_free(small_disk: Path) -> None:
    with living_node(small_disk, disk_budget=100 * MB, free_floor=9 * MB) as node:
        node.start()
        node.records("first")
        node.sends(3 * MB)
        node.ends("first")
        node.records("web-1")
        hog = small_disk / "podcam/hog"
        hog.write_bytes(b"x" * 4 * MB)
        wait_until(lambda: not node.ring("first").exists())
        node.cluster.wait("an event", lambda: "RingRemoved" in reasons(node))
        hog.write_bytes(b"x" * 8 * MB)
        node.cluster.wait("why", lambda: "9.0 MB of it have to stay free" in said(node))
        node.give_network("last")
        node.bind("last")
        node.wait_until("Refused", "last")
        assert "the node's disk is short" in node.point("last")["message"]

        hog.unlink()
        wait_until(lambda: node.point("last")["state"] == "Recording")
        node.cluster.wait("nothing is said any more", lambda: not node.entry()["warnings"])
