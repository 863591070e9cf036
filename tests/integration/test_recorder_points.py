"""A recorder whose points and recordings come and go, in real network namespaces."""

import contextlib
import itertools
import os
import resource
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import network_lab as lab
from podcam.capture import Namespace, geometry
from podcam.clip import open_packets, read_manifest
from podcam.errors import PodcamError, UsageError
from podcam.model.point import Window
from podcam.model.verdict import FailureClass
from podcam.recorder import (
    KeepRequest,
    PointSettings,
    RecordingSettings,
    RingSettings,
    Scope,
    Subject,
    TrafficSettings,
    TriggerSettings,
    resting_rings,
)
from podcam.recorder.names import Asker
from podcam.ring import SegmentReader, segments_in
from podcam.ring.segment import Metadata
from podcam.wire import dns
from recorders import OwnRecorder, at_one_moment, own_recorder, podcam, recording

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))

SECOND = 1_000_000_000
PORT, OTHER_PORT = 7000, 7001
SMALL = RingSettings(4, 1_000_000)


def settings(
    *,
    ports: tuple[int, ...] = (),
    payload: int | None = None,
    on: tuple[FailureClass, ...] = (),
    scope: Scope = Scope.RECORDING,
    clips_per_hour: int | None = None,
) -> RecordingSettings:
    return RecordingSettings(
        traffic=TrafficSettings(ports=ports, payload_bytes=payload),
        ring=SMALL,
        trigger=TriggerSettings(frozenset(on), before_ns=20 * SECOND, after_ns=SECOND // 5),
        scope=scope,
        clips_per_hour=clips_per_hour,
    )


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnRecorder]:
    with own_recorder(tmp_path / "podcam", kernel_memory_bytes=16 << 20) as started:
        yield started


@pytest.fixture
def pods() -> Iterator[list[Namespace]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(lab.namespace()) for _ in range(3)]


def send(where: Namespace, text: bytes, port: int = PORT) -> None:
    """A datagram over loopback, to a socket that is there."""
    with lab.udp_socket(where, port=port), lab.udp_socket(where) as sender:
        sender.sendto(text, ("127.0.0.1", port))


def refused(where: Namespace, port: int = PORT) -> None:
    with (
        lab.inside(where, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as client,
        pytest.raises(ConnectionRefusedError),
    ):
        client.connect(("127.0.0.1", port))


def texts_in(folder: Path) -> set[bytes]:
    """What the datagrams in the segments of a folder say."""
    found = set()
    for path in segments_in(folder):
        found |= {
            bytes(p.data[42:]) for p in SegmentReader(path).packets() if bytes(p.data[23:24]) == b"\x11"
        }
    return found


def texts_of(own: OwnRecorder, point_id: str) -> set[bytes]:
    return texts_in(own.folder.ring(point_id))


def recorded(own: OwnRecorder, point_id: str, text: bytes) -> None:
    """Wait until a datagram lies on disk."""
    own.until(lambda: text in texts_of(own, point_id))


# --- coming and going ---


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


# --- recordings ---


def test_two_recordings_keep_what_each_was_asked_for(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings(ports=(PORT,), payload=4, on=(FailureClass.REFUSED,)))
    own.recorder.define("db", settings(ports=(OTHER_PORT,)))
    web, db = own.add(pods[0]), own.add(pods[0], "db")
    for port in (PORT, OTHER_PORT):
        send(pods[0], b"long text to %d" % port, port)
    recorded(own, web, b"long")
    recorded(own, db, b"long text to 7001")
    assert texts_of(own, web) == {b"long"}
    assert texts_of(own, db) == {b"long text to 7001"}
    refused(pods[0], OTHER_PORT)
    refused(pods[0], PORT)
    complete = own.until_event("complete")
    assert [failure["id"] for failure in own.of_kind("failure")] == [web]
    (clip,) = own.of_kind("clip")
    assert (clip["recording"], clip["id"], clip["origin"], clip["points"]) == ("web", web, "wire", None)
    assert clip["failure"]["server"]["port"] == PORT
    assert complete["packets"] > 0
    manifest = read_manifest(Path(complete["path"]))
    assert manifest.recording == "web"
    assert [part.point.name for part in manifest.parts] == [f"ns/{pods[0].name}"]


@pytest.mark.parametrize("scope", Scope)
def test_the_scope_says_whose_packets_a_failure_keeps(
    own: OwnRecorder, pods: list[Namespace], scope: Scope
) -> None:
    own.recorder.define("web", settings(on=(FailureClass.REFUSED,), scope=scope))
    failing, other = own.add(pods[0]), own.add(pods[1])
    send(pods[1], b"beside")
    recorded(own, other, b"beside")
    refused(pods[0])
    complete = own.until_event("complete")
    folders = {part.folder for part in read_manifest(Path(complete["path"])).parts}
    wanted = {failing} if scope is Scope.POD else {failing, other}
    assert folders == {own.folder.ring(point).name for point in wanted}
    (clip,) = own.of_kind("clip")
    assert clip["points"] == ([failing] if scope is Scope.POD else None)


def test_a_recording_that_changes_records_its_points_anew(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings(ports=(PORT,)))
    point = own.add(pods[0])
    send(pods[0], b"one")
    recorded(own, point, b"one")
    own.recorder.define("web", settings(ports=(PORT,), clips_per_hour=1))
    assert not own.of_kind("stopped")  # nothing is recorded in another way
    own.recorder.define("web", settings(ports=(OTHER_PORT,)))
    own.until_event("started", 2, id=point)
    send(pods[0], b"two")
    send(pods[0], b"three", OTHER_PORT)
    recorded(own, point, b"three")
    assert texts_of(own, point) == {b"one", b"three"}
    (part,) = own.keep("clip").parts
    assert [gap.reason for gap in part.gaps] == ["the recording was changed"]


def test_a_recording_that_changes_again_and_again_keeps_its_gaps(
    own: OwnRecorder, pods: list[Namespace]
) -> None:
    """Also before the writer has opened the ring for the first time."""
    own.recorder.define("web", settings(payload=1))
    point = f"web/{pods[0].name}"
    own.recorder.add(PointSettings(point, "ns/a", "web", pods[0]))
    for payload in (2, 3):
        own.recorder.define("web", settings(payload=payload))
    own.until_event("stopped", 2, id=point)
    own.until_event("status", id=point)
    told = [e["event"] for e in own.events if e["id"] == point and e["event"] in {"started", "stopped"}]
    assert told == ["stopped", "stopped", "started"]
    send(pods[0], b"text")
    recorded(own, point, b"tex")
    (part,) = own.keep("clip").parts
    assert [gap.reason for gap in part.gaps] == 2 * ["the recording was changed"]


def test_a_recording_that_ends_leaves_its_rings(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings())
    point = own.add(pods[0])
    send(pods[0], b"kept")
    own.recorder.forget("web")
    own.until_event("stopped", id=point)
    rings = resting_rings(own.folder)
    assert (rings[point].owner.recording, rings[point].owner.name) == ("web", f"ns/{pods[0].name}")
    assert rings[point].closed
    (part,) = own.keep("clip").parts
    assert texts_in(own.folder.clips / "clip" / part.folder) == {b"kept"}


def dns_answer(name: str, address: str) -> bytes:
    """A name server's answer with one address."""
    question = dns.question(7, name, dns.A)
    flags = struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
    record = struct.pack(">HHHIH", 0xC00C, dns.A, 1, 60, 4) + socket.inet_aton(address)
    return question[:2] + flags + question[12:-11] + record  # without EDNS0


def test_a_name_that_nobody_knows_is_no_reason_not_to_record(
    own: OwnRecorder, pods: list[Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first address comes with the first DNS answer that the pod receives."""
    monkeypatch.setattr(Asker, "look_up", lambda _asker, _name: frozenset())
    traffic = TrafficSettings(names=("db.example",))
    own.recorder.define("web", RecordingSettings(traffic=traffic, ring=SMALL))
    points = [own.add(pod) for pod in pods[:2]]
    warning = own.until_event("warning")
    assert (warning["recording"], warning["id"]) == ("web", None)
    assert "db.example" in warning["text"]
    lab.ip("-n", str(pods[0].name), "address", "add", "10.7.0.7/32", "dev", "lo")
    send(pods[0], b"too early")
    with lab.udp_socket(pods[0], port=53) as server, lab.udp_socket(pods[0], port=5353) as client:
        server.sendto(dns_answer("db.example", "10.7.0.7"), client.getsockname())
        for point in points:  # the other pods of the recording are told, too
            own.until(lambda point=point: own.of_kind("filter", id=point)[-1]["hosts"])  # type: ignore[misc]
    with lab.udp_socket(pods[0], "10.7.0.7", PORT), lab.udp_socket(pods[0], "10.7.0.7") as sender:
        sender.sendto(b"to the database", ("10.7.0.7", PORT))
    recorded(own, points[0], b"to the database")
    assert b"too early" not in texts_of(own, points[0])
    (learned,) = own.of_kind("filter", id=points[0])[-1]["learned"]
    assert learned["address"] == "10.7.0.7"
    assert len(own.of_kind("warning")) == 1


def test_what_a_bridge_floods_is_left_out_where_only_own_packets_are_wanted(
    own: OwnRecorder, pods: list[Namespace]
) -> None:
    lab.join(pods[0], pods[1])
    own.recorder.define("web", RecordingSettings(traffic=TrafficSettings(own_only=True), ring=SMALL))
    own.recorder.define("all", RecordingSettings(ring=SMALL))
    point, everything = own.add(pods[0]), own.add(pods[0], "all")
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 17, 0, bytes(4), bytes(4))
    stranger = bytes.fromhex("02aabbccddee") * 2 + b"\x08\x00" + header + bytes(8) + b"strange text"
    lab.inject(pods[1], stranger)
    send(pods[0], b"own")
    recorded(own, point, b"own")
    recorded(own, everything, b"strange text")
    assert b"strange text" not in texts_of(own, point)


# --- clips ---


def test_a_clip_holds_live_and_ended_points_of_its_recording(own: OwnRecorder, pods: list[Namespace]) -> None:
    for name in ("web", "db"):
        own.recorder.define(name, settings())
    ended, live, other = own.add(pods[0]), own.add(pods[1]), own.add(pods[2], "db")
    for pod in pods:
        send(pod, b"said")
    for point in (live, other):
        recorded(own, point, b"said")
    own.end(ended)
    manifest = own.keep("ns_clip")
    assert {part.folder for part in manifest.parts} == {own.folder.ring(p).name for p in (ended, live)}
    assert all(texts_in(own.folder.clips / "ns_clip" / part.folder) == {b"said"} for part in manifest.parts)
    assert sum(1 for _ in open_packets(own.folder.clips / "ns_clip").packets()) >= 2
    only = own.keep("ns_only", points={ended})
    assert [part.folder for part in only.parts] == [own.folder.ring(ended).name]
    assert only.points == (ended,)


def test_a_clip_of_nothing_has_no_parts(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings())
    point = own.add(pods[0])
    send(pods[0], b"now")
    recorded(own, point, b"now")
    long_ago = time.time_ns() - 7200 * SECOND
    assert own.keep("old", window=Window(long_ago, long_ago + SECOND)).parts == ()
    assert own.of_kind("complete", clip="old")[0]["packets"] == 0
    assert own.keep("unknown", "nobody").parts == ()


def test_a_point_that_ends_and_one_that_comes_while_a_clip_is_open_are_in_it(
    tmp_path: Path, pods: list[Namespace]
) -> None:
    with own_recorder(tmp_path) as own:
        own.recorder.define("web", settings())
        ending = own.add(pods[0])
        own.recorder.keep(for_long("clip"))
        own.until_event("clip")
        send(pods[0], b"ending")
        own.end(ending)
        coming = own.add(pods[1])
        send(pods[1], b"coming")
    assert own.of_kind("complete", clip="clip")
    manifest = read_manifest(own.folder.clips / "clip")
    said = {part.folder: texts_in(own.folder.clips / "clip" / part.folder) for part in manifest.parts}
    assert said == {own.folder.ring(ending).name: {b"ending"}, own.folder.ring(coming).name: {b"coming"}}


def for_long(clip: str, **others: bool) -> KeepRequest:
    """A clip that stays open until its recorder is stopped."""
    now_ns = time.time_ns()
    window = Window(now_ns - SECOND, now_ns + 3600 * SECOND)
    return KeepRequest(clip, "web", None, window, "why", now_ns, **others)


def test_a_clip_that_was_asked_for_twice_is_one(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings())
    point = own.add(pods[0])
    send(pods[0], b"said")
    recorded(own, point, b"said")
    first = own.keep("clip")
    again = own.keep("clip", window=Window(0, time.time_ns()))
    assert again == first
    assert len(own.of_kind("clip")) == 1


def test_failures_extend_a_clip_that_another_recorder_made(tmp_path: Path, pods: list[Namespace]) -> None:
    with own_recorder(tmp_path) as own:
        own.recorder.define("web", settings(on=(FailureClass.REFUSED,)))
        own.add(pods[0])
        own.recorder.keep(for_long("theirs", joins=True))
        refused(pods[0])
        own.until_event("failure")
    assert own.of_kind("complete", clip="theirs")
    manifest = read_manifest(own.folder.clips / "theirs")
    assert [trigger.failure_class for trigger in manifest.triggers] == [FailureClass.REFUSED]
    assert [event["clip"] for event in own.of_kind("clip")] == ["theirs"]


def test_clips_of_failures_are_named_by_who_runs_the_recorder(tmp_path: Path, pods: list[Namespace]) -> None:
    subjects: list[Subject] = []

    def name(subject: Subject) -> str:
        subjects.append(subject)
        return f"ns_{subject.recording}"

    with own_recorder(tmp_path, name_clip=name) as own:
        own.recorder.define("web", settings(on=(FailureClass.REFUSED,), clips_per_hour=1))
        point = own.add(pods[0])
        refused(pods[0])
        own.until_event("complete", clip="ns_web")
        refused(pods[0], OTHER_PORT)
        own.until_event("failure", 2)
        own.until(lambda: own.recorder.totals()[point]["suppressed"] == 1)
    (subject,) = subjects
    assert (subject.recording, subject.point) == ("web", point)
    assert subject.failure is not None
    assert len(own.of_kind("clip")) == 1


def test_a_clip_is_dropped_while_it_is_open(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings())
    own.add(pods[0])
    own.recorder.keep(for_long("gone"))
    own.until_event("clip", clip="gone")
    own.recorder.drop("gone")
    own.until(lambda: not (own.folder.clips / "gone").exists())
    own.keep("stays")
    own.recorder.drop("stays")
    assert not (own.folder.clips / "stays").exists()


def test_the_budget_of_the_clips_may_shrink(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings())
    point = own.add(pods[0])
    send(pods[0], b"said")
    recorded(own, point, b"said")
    own.keep("old")
    own.keep("new")
    own.recorder.limit_clips(1)
    removed = own.of_kind("removed")
    assert [(event["clip"], event["recording"]) for event in removed] == [("old", "web"), ("new", "web")]
    assert not any(own.folder.clips.iterdir())


# --- limits ---


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


# --- deaths ---


def test_the_writer_is_killed_while_points_come_and_go(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings(on=(FailureClass.REFUSED,)))
    first, second = own.add(pods[0]), own.add(pods[1])
    os.kill(own.child("writer"), signal.SIGSTOP)
    writer = own.child("writer")
    send(pods[0], b"one")
    send(pods[1], b"two")
    own.recorder.end(second, "just then")
    own.recorder.add(PointSettings("web/c", "ns/c", "web", pods[2]))
    send(pods[2], b"three")
    os.kill(writer, signal.SIGKILL)
    own.until_event("started", id="web/c")
    own.until_event("stopped", id=second)
    for point, text in ((first, b"one"), (second, b"two"), ("web/c", b"three")):
        recorded(own, point, text)
    assert len(own.keep("clip").parts) == 3
    assert own.recorder.restarts == {"writer": 1, "detector": 0}


def test_the_writer_is_killed_while_a_ring_is_replaced(own: OwnRecorder, pods: list[Namespace]) -> None:
    """What the old ring has is written first; then that of the new one."""
    own.recorder.define("web", settings())
    point = own.add(pods[0])
    writer = own.child("writer")
    os.kill(writer, signal.SIGSTOP)
    send(pods[0], b"in the old ring")
    watched = own.recorder._points.by_id[point].watched
    own.recorder._ring_sizes.replace(watched, geometry(watched.shape.ring_bytes // 4))
    send(pods[0], b"in the new ring")
    os.kill(writer, signal.SIGKILL)
    own.until(lambda: own.recorder.restarts["writer"] == 1 and not watched.resizing)
    recorded(own, point, b"in the new ring")
    assert texts_of(own, point) == {b"in the old ring", b"in the new ring"}
    assert own.recorder.totals()[point]["dropped"] == 0


def test_the_detector_is_killed_while_points_come_and_go(own: OwnRecorder, pods: list[Namespace]) -> None:
    own.recorder.define("web", settings(on=(FailureClass.REFUSED,)))
    own.add(pods[0])
    os.kill(own.child("detector"), signal.SIGKILL)
    second = own.add(pods[1])
    own.until_event("warning")
    refused(pods[1])
    own.until_event("failure", id=second)


def test_a_failure_of_a_point_that_ends_right_then_has_its_clip(
    own: OwnRecorder, pods: list[Namespace]
) -> None:
    own.recorder.define("web", settings(on=(FailureClass.REFUSED,)))
    point = own.add(pods[0])
    refused(pods[0])
    own.recorder.end(point, "its pod is gone")
    complete = own.until_event("complete")
    assert complete["packets"] >= 2
    assert own.of_kind("failure", id=point)


def test_a_clip_over_sigkill_has_both_sides_and_shows_the_gap(tmp_path: Path, pods: list[Namespace]) -> None:
    pod = pods[0]
    arguments = ("--netns", pod.name, "--dir", tmp_path, "--on", "none", "--ring", "4x2MB")
    ring = tmp_path / "points" / str(pod.name)
    with recording(*arguments) as killed:
        send(pod, b"before")
        before_ns = time.time_ns()
        killed.wait_for(lambda _: b"before" in texts_in(ring))
        killed.kill_all()
    killed_ns = time.time_ns()
    send(pod, b"meanwhile")
    again_ns = time.time_ns()
    with recording(*arguments) as recorder:
        started_ns = recorder.wait_for_kind("started")["time_ns"]
        send(pod, b"after")
        recorder.wait_for(lambda _: b"after" in texts_in(ring))
        clip = Path(podcam("clip", "--dir", tmp_path, "--last", "60s").stdout.splitlines()[-1])
        recorder.stop()
    (part,) = read_manifest(clip).parts
    (gap,) = part.gaps
    assert gap.reason == "the recorder was not running"
    assert before_ns <= gap.since_ns <= killed_ns
    assert again_ns < gap.until_ns <= started_ns
    assert texts_in(clip / part.folder) == {b"before", b"after"}


def test_a_clip_that_was_left_open_is_gone_on_with_when_it_is_asked_for_again(
    tmp_path: Path, pods: list[Namespace]
) -> None:
    point = PointSettings("web/a", "ns/a", "web", pods[0])
    request = for_long("clip")
    with own_recorder(tmp_path) as own:
        own.recorder.define("web", settings())
        own.recorder.add(point)
        own.until_event("started")
        send(pods[0], b"before")
        recorded(own, "web/a", b"before")
        own.recorder.keep(request)
        own.until_event("clip")
        as_left = (tmp_path / "clips/clip/manifest.json").read_bytes()
    (tmp_path / "clips/clip/manifest.json").write_bytes(as_left)  # as if it had been killed then
    with own_recorder(tmp_path) as own:
        assert read_manifest(tmp_path / "clips/clip").interrupted
        own.recorder.define("web", settings())
        own.recorder.add(point)
        own.until_event("started")
        own.recorder.keep(request)
        send(pods[0], b"after")
        ended_ns = time.time_ns()
    assert own.of_kind("complete", clip="clip")
    manifest = read_manifest(tmp_path / "clips/clip")
    (part,) = manifest.parts
    assert (manifest.interrupted, manifest.warnings) == (False, ())
    assert manifest.window.start_ns == request.window.start_ns
    assert ended_ns <= manifest.window.end_ns
    assert texts_in(tmp_path / "clips/clip" / part.folder) == {b"before", b"after"}
    assert [gap.reason for gap in part.gaps] == ["the recorder was not running"]
