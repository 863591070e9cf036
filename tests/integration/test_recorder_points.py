"""A recorder whose points come and go, in real network namespaces."""

import contextlib
import itertools
import os
import resource
import threading
import time
from pathlib import Path

import pytest

import network_lab as lab
from connections import refused
from podcam.capture import Namespace
from podcam.errors import PodcamError, UsageError
from podcam.model.verdict import FailureClass
from podcam.recorder import PointSettings, RecordingSettings, RingSettings
from podcam.ring import SegmentReader, segments_in
from podcam.ring.segment import Metadata
from recorded_pods import PORT, recorded, send, settings, texts_in, texts_of
from recorders import OwnRecorder, at_one_moment, own_recorder

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))


def test_points_come_and_go_while_others_record(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings())
    first = own.add(pods[0])
    send(pods[0], b"alone")
    second = own.add(pods[1])
    send(pods[0], b"beside another")
    send(pods[1], b"last words")
    stopped = own.end(second)
    send(pods[0], b"alone again")
    recorded(own, first, b"alone again")
    assert stopped["why"] == "the test ended it"
    assert stopped["packets"] >= 1
    assert texts_of(own, first) == {b"alone", b"beside another", b"alone again"}
    assert texts_of(own, second) == {b"last words"}  # though its block was not full
    assert set(own.recorder.totals()) == {first}
    assert own.recorder.totals()[first]["dropped"] == 0


def test_a_point_is_open_when_add_returns(own: OwnRecorder, pods: list[Namespace]) -> None:
    """A pod's first packets come soon after its namespace: they are not waited for."""
    own.recorder.define("web", settings())
    own.recorder.add(PointSettings("a", "ns/a", "web", pods[0]))
    send(pods[0], b"first")
    own.until_event("started", id="a")
    recorded(own, "a", b"first")


def test_what_cannot_be_added_is_told(own: OwnRecorder, pods: list[Namespace]) -> None:
    with pytest.raises(PodcamError, match="not defined"):
        own.recorder.add(PointSettings("a", "ns/a", "web", pods[0]))
    own.recorder.define("web", settings())
    own.add(pods[0])
    with pytest.raises(PodcamError, match="already"):
        own.recorder.add(PointSettings(f"web/{pods[0].name}", "ns/a", "web", pods[0]))
    gone = Namespace("gone", "/run/netns/gone", (0, 0))
    wanted = [("web/c", pods[2]), ("web/c", pods[2]), ("web/d", gone), (f"web/{pods[0].name}", pods[0])]
    failed = own.recorder.add_all([(PointSettings(i, i, "web", where), None) for i, where in wanted])
    assert [*failed] == ["web/c", f"web/{pods[0].name}", "web/d"]
    own.until_event("started", id="web/c")
    with pytest.raises(UsageError, match="segment"):
        own.recorder.define("db", RecordingSettings(ring=RingSettings(4, 1000)))
    own.recorder.end("nobody", "why not")


def test_a_point_that_is_given_up_leaves_nothing_behind(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings(on=(FailureClass.REFUSED,)))
    own.recorder.add(PointSettings("web/b", "ns/b", "web", pods[1]), limit_bytes=1)
    assert "small" in own.until_event("stopped", id="web/b")["why"]
    assert not own.folder.ring("web/b").exists()
    own.recorder.add(PointSettings("web/b", "ns/b", "web", pods[1]), limit_bytes=1)
    own.recorder.end("web/b", "before the writer has refused it")
    own.until_event("stopped", 2, id="web/b")
    own.end(own.add(pods[0]))
    refused(pods[2])
    third = own.add(pods[2])
    refused(pods[2])
    own.until_event("failure", id=third)  # the detector was told of all that
    assert own.recorder.restarts == {"writer": 0, "detector": 0}


def test_a_ring_that_cannot_go_on_is_in_clips_and_its_gap_goes_on(
    own: OwnRecorder, pods: list[Namespace]
) -> None:
    own.recorder.define("web", settings())
    point = own.add(pods[0])
    send(pods[0], b"before")
    recorded(own, point, b"before")
    before_ns = time.time_ns()
    own.end(point)
    ended_ns = time.time_ns()
    for times in (2, 3):
        own.recorder.add(PointSettings(point, "ns/a", "web", pods[0]), limit_bytes=1)
        own.until_event("stopped", times, id=point)
    (part,) = own.keep("meanwhile").parts
    assert (texts_in(own.folder.clips / "meanwhile" / part.folder), part.gaps) == ({b"before"}, ())
    own.add(pods[0])
    (part,) = own.keep("clip").parts
    (gap,) = part.gaps
    assert before_ns <= gap.since_ns <= ended_ns


def test_descriptors_that_are_used_up_cost_the_new_point_alone(
    own: OwnRecorder, pods: list[Namespace]
) -> None:
    own.recorder.define("web", settings())
    first = own.add(pods[0])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    enough: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for free in range(8):  # it fails at one descriptor after the other
            with contextlib.suppress(PodcamError):
                own.recorder.add(PointSettings("web/b", "ns/b", "web", pods[1]))
                enough.append(free)
            own.recorder.end("web/b", "there were enough")
            os.close(taken.pop())
            own.until(lambda: not any(thread.name == "close" for thread in threading.enumerate()))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)
    assert len(enough) in range(1, 6)
    send(pods[0], b"goes on")
    recorded(own, first, b"goes on")
    assert own.recorder.restarts == {"writer": 0, "detector": 0}


def test_a_ring_that_cannot_be_written_costs_its_point_alone(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings())
    first = own.add(pods[0])
    own.folder.ring("web/b").write_text("a file in its place")
    own.recorder.add(PointSettings("web/b", "ns/b", "web", pods[1]))
    stopped = own.until_event("stopped", id="web/b")
    assert stopped["exit_code"] in {1, 2}
    assert not own.of_kind("started", id="web/b")
    send(pods[0], b"goes on")
    recorded(own, first, b"goes on")


def test_a_point_comes_back_at_once_and_its_ring_goes_on_with_a_gap(
    own: OwnRecorder, pods: list[Namespace]
) -> None:
    own.recorder.define("web", settings())
    point = own.add(pods[0])
    send(pods[0], b"before")
    recorded(own, point, b"before")
    before_ns = time.time_ns()
    own.recorder.end(point, "for a moment")
    own.recorder.add(PointSettings(point, "ns/a", "web", pods[0]))
    opened_ns = time.time_ns()
    own.until_event("started", 2, id=point)
    own.until_event("stopped", id=point)
    send(pods[0], b"after")
    recorded(own, point, b"after")
    manifest = own.keep("clip")
    (part,) = manifest.parts
    (gap,) = part.gaps
    assert before_ns <= gap.since_ns < gap.until_ns <= opened_ns
    assert texts_in(own.folder.clips / "clip" / part.folder) == {b"before", b"after"}
    notes = [
        record.body
        for path in segments_in(own.folder.ring(point))
        for record in SegmentReader(path).records()
        if isinstance(record, Metadata) and record.kind == "gap"
    ]
    assert notes == [{"reason": gap.reason, "since_ns": gap.since_ns, "until_ns": gap.until_ns}]


def test_sixty_points_at_once(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(own_recorder(tmp_path, kernel_memory_bytes=128 << 20, expected_points=30))
        many = [stack.enter_context(lab.namespace()) for _ in range(60)]
        own.recorder.define("web", settings(on=(FailureClass.REFUSED,)))
        wanted = [PointSettings(f"web/{n}", f"ns/{n}", "web", pod) for n, pod in enumerate(many)]
        assert own.recorder.add_all([(point, None) for point in wanted]) == {}
        for number, pod in enumerate(many):
            send(pod, b"%d" % number)
        own.until_event("started", 60)
        for number in range(60):
            recorded(own, f"web/{number}", b"%d" % number)
        points = own.recorder._points
        own.until(
            lambda: (
                own.recorder._ring_sizes.relief() is None
                and not any(p.watched.resizing for p in points.by_id.values())
            )
        )
        assert points.kernel_bytes <= 128 << 20
        for number in range(0, 60, 2):
            own.recorder.end(f"web/{number}", "half of them")
        own.until_event("stopped", 30)
        assert points.kernel_bytes < 96 << 20
        assert len(own.recorder.totals()) == 30


def test_points_that_came_and_went_leave_nothing_behind(own: OwnRecorder, pods: list[Namespace]) -> None:
    """But for their rings, which whoever runs the recorder removes."""
    own.recorder.define("web", settings(on=(FailureClass.REFUSED,)))
    own.add(pods[0])
    processes = {"supervisor": os.getpid(), **{name: own.child(name) for name in ("writer", "detector")}}

    def come_and_go() -> None:
        own.events.clear()
        points = [PointSettings(f"web/{n}", f"ns/{n}", "web", pods[n % 3]) for n in range(20)]
        own.recorder.add_all([(point, None) for point in points])
        own.until_event("started", 20)
        refused(pods[1])
        own.until_event("failure", 7)
        for point in points:
            own.recorder.end(point.id, "it went")
        own.until_event("stopped", 20)
        for point in points:
            own.folder.remove_ring(point.id)

    def what_is_there() -> dict[str, int]:
        there = {"files": sum(1 for _ in own.folder.points.rglob("*"))}
        for name, pid in processes.items():
            there[f"{name}'s files"] = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
            there[f"{name}'s threads"] = len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208
            there[f"{name}'s rings"] = Path(f"/proc/{pid}/maps").read_text().count("socket:[")
        for pod in pods:
            sockets = lab.inside(pod, lambda: Path("/proc/thread-self/net/packet").read_text())
            there[f"{pod.name}'s sockets"] = sockets.count("\n")
        return there

    def memory_kb() -> int:
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in processes.values()]
        return sum(int(status.split("VmRSS:")[1].split()[0]) for status in statuses)

    def leaves_nothing(rounds: int) -> None:
        for _ in range(rounds):
            come_and_go()
        left: dict[str, tuple[int, int]] = {}

        def nothing_left() -> bool:
            now = what_is_there()
            left.clear()
            # Fewer is fine: what earlier tests of this process had open may go meanwhile.
            left.update({name: (before[name], now[name]) for name in now if now[name] > before[name]})
            return not left

        own.until(nothing_left, tell=lambda: f"(before, now): {left}")

    refused(pods[0])
    own.until_event("complete")  # so that the detector, too, has opened all that it needs for the one point
    before = what_is_there()
    leaves_nothing(rounds=2)
    before_kb = memory_kb()
    leaves_nothing(rounds=4)
    assert memory_kb() - before_kb < 4000  # each point's rings take more than 1000
    assert own.recorder.restarts == {"writer": 0, "detector": 0}


def test_a_ring_shrinks_at_once_and_grows_again(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings())
    point = own.add(pods[0])
    ring = own.folder.ring(point)

    def size() -> int:
        return sum(status.st_size for status in at_one_moment(ring))

    def fill() -> None:
        with lab.udp_socket(pods[0], port=PORT), lab.udp_socket(pods[0]) as sender:
            for _ in range(40):
                sender.sendto(bytes(20_000), ("127.0.0.1", PORT))
        own.loop.run_once(0.05)

    while size() < 3_000_000:
        fill()
    own.recorder.limit(point, 1_500_000)
    own.until(lambda: size() <= 1_500_000)
    for _ in range(5):
        fill()
        assert size() <= 1_500_000
    own.recorder.limit(point, 4_000_000)
    while size() < 3_000_000:
        fill()


def test_many_points_are_watched_at_once_beside_a_busy_one(own: OwnRecorder, pods: list[Namespace]) -> None:
    """In each of its rounds the detector tells what the busy one has; it does not take a round for each."""
    own.recorder.define("web", settings(on=(FailureClass.REFUSED,)))
    busy_one = own.add(pods[0])
    ended = threading.Event()

    def keep_busy() -> None:
        while not ended.wait(0.01):
            refused(pods[0])

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        own.until_event("failure")
        points = [PointSettings(f"web/{n}", f"ns/{n}", "web", pods[1]) for n in range(50)]
        own.recorder.add_all([(point, None) for point in points])
        refused(pods[1])
        for point in points:
            own.until_event("failure", id=point.id)
        told = [event["id"] == busy_one for event in own.of_kind("failure")]
        until_the_first, until_the_last = told.index(False), len(told) - told[::-1].index(False)
        rounds = [is_busy for is_busy, _ in itertools.groupby(told[until_the_first:until_the_last])]
        assert rounds.count(True) < 10  # a round for each: 49
    finally:
        ended.set()
        busy.join()
