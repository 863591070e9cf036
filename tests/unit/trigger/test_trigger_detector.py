"""The wire detector as a whole: whom it tells of, what it counts, its bounds, and a clock that jumps."""

import frames
from podcam.model.point import Endpoint
from podcam.model.verdict import FailureClass
from podcam.trigger import Policy
from wire_scene import SERVER, START_NS, Scene

# --- whom it concerns, and what is counted ---


def test_names_narrow_what_is_told_not_what_is_counted() -> None:
    scene = Scene(concerns=lambda _, server: server.ip == "10.0.0.2")
    scene.connect().client_sends(83).server_resets()
    scene.connect(server="10.0.0.3").client_sends(83).server_resets()
    assert scene.wait() == ["reset-early by server"]
    assert scene.detector.failures == 2


def test_counts_per_server() -> None:
    scene = Scene()
    scene.good(3)
    good_ns = scene.now_ns
    scene.connect().client_sends(83).server_resets()
    (counts,) = scene.detector.counts
    assert (counts.server, counts.since_ns, counts.connections) == (Endpoint(SERVER, 5432), START_NS, 4)
    assert counts.failures == {FailureClass.RESET_EARLY: 1}
    assert counts.last_good_start_ns is not None
    assert counts.last_good_end_ns is not None
    assert START_NS < counts.last_good_start_ns < counts.last_good_end_ns < good_ns


def test_dns_answers_are_handed_on() -> None:
    messages: list[tuple[int, bytes]] = []
    scene = Scene(on_dns=lambda time_ns, message: messages.append((time_ns, message)))
    scene.feed(frames.ipv4(frames.udp(53, 9999, b"answer"), 17))
    scene.feed(frames.ipv6(frames.udp(53, 9999, b"answer"), 17))
    scene.feed(frames.ipv4(frames.udp(9999, 53, b"question"), 17))
    assert messages == [(START_NS, b"answer")] * 2


# --- bounds, and a clock that jumps ---


def test_a_syn_flood_is_forgotten_not_reported() -> None:
    scene = Scene(Policy(max_connections=1_000, max_starting=200, max_servers=16))
    long_lived = scene.connect()
    scene.pass_time(5)
    for number in range(20_000):
        talk = scene.talk(client=f"192.0.{number >> 8}.{number & 255}", client_port=1024 + number).syn()
        if number % 2:
            talk.syn_ack()
    assert scene.detector.forgotten >= 19_000
    long_lived.client_sends(10).server_resets()
    assert scene.wait() == ["reset-early by server"]


def test_a_full_table_of_connections_whose_end_was_not_seen_sees_new_ones() -> None:
    scene = Scene(Policy(max_connections=3_000, max_starting=2_000))
    for _ in range(10):
        for _ in range(500):
            scene.connect()
        scene.pass_time(4)
    scene.connect().client_sends(83).server_resets()
    assert scene.wait() == ["reset-early by server"]


def test_a_scan_does_not_push_out_servers_that_work() -> None:
    scene = Scene(Policy(max_servers=16))
    scene.good()
    for number in range(200):
        scene.talk(server=f"10.9.0.{number + 1}").syn().refused()
    assert len(scene.detector.counts) == 16
    assert any(counts.last_good_start_ns for counts in scene.detector.counts)


def test_a_clock_that_is_set_back_moves_what_is_under_way_along() -> None:
    scene = Scene()
    talk = scene.talk().syn().after(0.2)
    refused = scene.talk(port=6000).syn().refused()
    scene.now_ns -= 3600 * 1_000_000_000
    other = scene.talk().syn()
    assert scene.wait(0.5) == []
    talk.syn_ack().client_sends(83).server_resets()
    other.syn_ack().client_sends(84).server_resets()
    silent = scene.talk().syn()
    assert scene.wait(1) == ["reset-early by server"] * 2 + ["refused by server"]
    assert scene.last[2].client.port == refused.client[1]
    silent.after(0.1).syn()
    assert scene.wait(6) == ["no-answer by nobody"]


def test_a_clock_that_is_set_forward_makes_no_silence() -> None:
    scene = Scene()
    scene.talk().syn().after(0.2)
    scene.now_ns += 3600 * 1_000_000_000
    scene.talk().syn()
    assert scene.wait(0.5) == []
    assert scene.wait(6) == ["no-answer by nobody"]
