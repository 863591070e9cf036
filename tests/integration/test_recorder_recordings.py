"""What the points of a recording keep: what it was asked for, as it changes, and after it has ended."""

import socket
import struct
from pathlib import Path

import pytest

import network_lab as lab
from connections import refused
from podcam.capture import Namespace
from podcam.clip import read_manifest
from podcam.model.verdict import FailureClass
from podcam.recorder import PointSettings, RecordingSettings, Scope, TrafficSettings, resting_rings
from podcam.recorder.names import Asker
from podcam.wire import dns
from recorded_pods import OTHER_PORT, PORT, SMALL, recorded, send, settings, texts_in, texts_of
from recorders import OwnRecorder

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))


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
