"""The wire detector, one conversation after the other: failures, and what only looks like one."""

from typing import Any

import pytest

import frames
from podcam.model.point import Endpoint
from podcam.model.verdict import FailureClass
from podcam.trigger import Policy
from wire_scene import CLIENT, SERVER, START_NS, Scene, Talk, segment

ALL = Policy(classes=frozenset(FailureClass))
EVERY_CLOSE = Policy(classes=frozenset(FailureClass), exempt_habits=False)


# --- start-up ---


@pytest.mark.parametrize(("client", "server"), [(CLIENT, SERVER), ("fd00::1", "fd00::2")])
def test_the_server_acknowledges_the_first_bytes_and_resets(client: str, server: str) -> None:
    scene = Scene()
    talk = scene.connect(client=client, server=server).client_sends(83).server_resets()
    assert scene.wait() == ["reset-early by server"]
    (failure,) = scene.last
    assert failure.client == Endpoint(client, talk.client[1])
    assert failure.server == Endpoint(server, 5432)
    assert failure.start_ns == START_NS
    assert (failure.client_acked, failure.server_bytes) == (83, 0)
    assert (failure.client_bytes, failure.server_acked) == (None, None)


def test_counts_go_on_behind_the_end_of_the_sequence_numbers() -> None:
    scene = Scene()
    scene.connect(isn=(2**32 - 2, 2**32 - 1)).client_sends(700).server_sends(5).server_resets()
    assert scene.wait() == ["reset-early by server"]
    assert (scene.last[0].client_acked, scene.last[0].server_bytes) == (700, 5)


def test_a_reset_without_ack_tells_nothing_of_the_other_side() -> None:
    scene = Scene()
    scene.connect().client_sends(83).server_resets(bare=True)
    assert scene.wait() == ["reset-early by server"]
    assert (scene.last[0].client_acked, scene.last[0].server_bytes) == (None, 0)


def test_a_reset_through_tls_is_early_until_16_kb_or_30_s() -> None:
    scene = Scene(ALL)
    scene.connect().client_sends(900).server_sends(16_383).server_resets()
    scene.connect().client_sends(900).server_sends(16_384).server_resets()
    slow = scene.connect().client_sends(900).server_sends(3_000)
    assert scene.wait(31) == ["reset-early by server", "reset by server"]
    slow.server_resets()
    assert scene.wait() == ["reset by server"]


def test_what_a_fin_carries_counts() -> None:
    scene = Scene()
    talk = scene.connect().client_sends(83)
    scene.feed(segment(talk.server, talk.client, 0x11, talk.server_isn + 1, talk.client_isn + 84, payload=1))
    assert scene.wait() == ["closed-early by server"]
    assert (scene.last[0].client_acked, scene.last[0].server_bytes) == (83, 1)


def test_the_server_closes_without_a_byte_of_answer() -> None:
    scene = Scene()
    scene.connect().client_sends(83).after(0.5).server_closes()
    assert scene.wait() == ["closed-early by server"]


def test_the_server_resets_before_anybody_spoke() -> None:
    scene = Scene()
    scene.connect().server_resets()
    assert scene.wait() == ["reset-early by server"]


def test_the_client_gives_up_waiting_for_an_answer() -> None:
    scene = Scene()
    scene.connect().client_sends(83).after(10).client_closes().after(0.001).server_closes()
    assert scene.wait() == ["closed-early by client"]
    assert (scene.last[0].client_bytes, scene.last[0].server_bytes, scene.last[0].server_acked) == (83, 0, 0)


def test_the_client_gives_up_on_a_server_that_is_gone() -> None:
    scene = Scene()
    scene.connect().client_sends(83).after(5).client_closes()
    assert scene.wait(2) == []
    assert scene.wait(2) == ["closed-early by client"]


def test_the_client_gave_up_and_the_answer_comes_after_all() -> None:
    scene = Scene()
    talk = scene.connect().client_sends(83).after(5).client_closes().after(0.5)
    talk.server_sends(300)
    talk.client_resets(bare=True)
    assert scene.wait() == ["closed-early by client"]


def test_a_half_closed_connection_that_is_answered_is_good() -> None:
    scene = Scene()
    scene.connect().client_sends(83).after(1).client_closes().after(1).server_sends(900).server_closes()
    assert scene.wait(5) == []
    (counts,) = scene.detector.counts
    assert counts.last_good_start_ns == START_NS


def test_the_client_leaves_because_encryption_is_refused() -> None:
    scene = Scene()
    scene.connect().client_sends(8).server_sends(1).after(0.001).client_closes().server_closes()
    assert scene.wait() == ["closed-early by client"]


# --- connecting ---


@pytest.mark.parametrize(("client", "server"), [(CLIENT, SERVER), ("fd00::1", "fd00::2")])
def test_refused(client: str, server: str) -> None:
    scene = Scene()
    scene.talk(client=client, server=server).syn().after(0.0001).refused()
    assert scene.wait(0.5) == []  # a parallel connect may still succeed
    assert scene.wait(1) == ["refused by server"]


def test_a_reset_that_does_not_acknowledge_the_syn_refuses_nothing() -> None:
    scene = Scene(ALL)
    talk = scene.talk().syn()
    scene.feed(segment(talk.server, talk.client, 0x14, 0, talk.client_isn))
    scene.feed(segment(talk.server, talk.client, 0x04, 77, 0))
    talk.after(0.001).syn_ack().client_sends(9).server_sends(9).client_closes()
    assert scene.wait(5) == []


def test_a_reset_that_acknowledges_data_proves_an_answer_that_was_not_seen() -> None:
    scene = Scene(ALL)
    scene.talk().syn().client_sends(83).server_resets()
    assert scene.wait(5) == ["reset by server"]
    assert (scene.last[0].client_acked, scene.last[0].server_bytes) == (83, None)


def test_a_connect_without_an_answer() -> None:
    scene = Scene()
    scene.talk().syn().after(1).syn().after(2).syn()
    assert scene.wait(0.4) == []
    assert scene.wait(2) == ["no-answer by nobody"]
    assert scene.wait(70) == []


def test_repeated_syns_of_a_failed_connect_are_not_another_one() -> None:
    scene = Scene()
    talk = scene.talk()
    for pause in (1, 2, 4, 8, 16, 32):
        talk.syn().after(pause)
    assert scene.wait(5) == ["no-answer by nobody"]
    assert scene.detector.connections == 1


def test_a_lone_syn_of_an_impatient_client() -> None:
    scene = Scene()
    scene.talk().syn()
    assert scene.wait(5) == ["no-answer by nobody"]


def test_a_repeated_syn_that_is_answered_is_good() -> None:
    scene = Scene()
    talk = scene.talk().syn().after(1).syn().after(2).syn().after(0.3).syn_ack()
    talk.client_sends(1).server_sends(20).client_closes()
    assert scene.wait(5) == []


def test_silence_after_lost_control_packets_says_nothing() -> None:
    scene = Scene()
    scene.talk().syn().after(1).syn()
    scene.detector.lost(scene.now_ns)
    assert scene.wait(6) == []


def test_an_answer_that_passes_elsewhere_is_no_silence() -> None:
    scene = Scene()
    talk = scene.talk().syn()
    talk.server_sends(100).client_sends(100).after(0.5).client_closes()  # it must have been answered
    scene.talk().syn()
    assert scene.wait(6) == []


def test_a_handshake_that_nothing_completes() -> None:
    scene = Scene()
    scene.connect().after(1).syn_ack().after(2).syn_ack()
    assert scene.wait(0.9) == []
    assert scene.wait(1) == ["no-answer by nobody"]


def test_a_repeated_syn_ack_that_ends_well() -> None:
    scene = Scene()
    talk = scene.connect().after(1).syn_ack().after(2).syn_ack()
    talk.client_sends(10).server_sends(10).client_closes()
    assert scene.wait(5) == []


def test_copies_at_two_interfaces_are_no_repetitions() -> None:
    scene = Scene()
    scene.talk().syn().syn().after(0.001).syn_ack().syn_ack().syn_ack().syn_ack()
    assert scene.wait(10) == []


def test_the_client_had_given_up_when_the_answer_came() -> None:
    scene = Scene()
    scene.talk().syn().after(1).syn().after(0.5).syn_ack().client_resets(bare=True)
    assert scene.wait(2) == ["handshake-reset by client"]


def test_the_server_resets_a_handshake_that_it_repeated() -> None:
    scene = Scene()
    scene.connect().after(1).syn_ack().after(0.001).server_resets(bare=True)
    assert scene.wait() == ["handshake-reset by server"]


@pytest.mark.parametrize(
    ("client", "server", "kind", "code"),
    [
        (CLIENT, SERVER, 3, 1),
        (CLIENT, SERVER, 3, 13),
        (CLIENT, SERVER, 11, 0),
        ("fd00::1", "fd00::2", 1, 0),
        ("fd00::1", "fd00::2", 1, 4),
    ],
)
def test_unreachable(client: str, server: str, kind: int, code: int) -> None:
    scene = Scene()
    scene.talk(client=client, server=server).syn().after(0.1).icmp(kind, code).icmp(kind, code)
    assert scene.wait(10) == ["unreachable by network"]


def test_unreachable_comes_after_address_resolution_has_failed() -> None:
    scene = Scene()
    scene.talk().syn().after(1).syn().after(2).syn().after(0.1).icmp(3, 1)
    assert scene.wait(5) == ["unreachable by network"]


def test_unreachable_for_a_syn_that_was_never_sent() -> None:
    scene = Scene()
    talk = scene.talk().icmp(3, 1, quoted_bytes=20).icmp(3, 1, quoted_bytes=20)
    talk.after(0.1).icmp(3, 1, quoted_bytes=20)
    assert scene.wait(10) == ["unreachable by network"]
    assert scene.last[0].start_ns is None


@pytest.mark.parametrize(("kind", "code", "seq"), [(3, 4, None), (5, 0, None), (3, 1, 999)])
def test_icmp_that_does_not_end_a_connect(kind: int, code: int, seq: int | None) -> None:
    scene = Scene()
    scene.connect()
    scene.talk().syn().after(0.1).icmp(kind, code, seq=seq).after(0.1).syn_ack()
    assert scene.wait(10) == []


def test_an_icmp_error_that_the_client_outlives() -> None:
    scene = Scene()
    talk = scene.talk().syn().after(0.1).icmp(3, 1).after(0.5).syn_ack()
    talk.client_sends(5).server_sends(5).client_closes()
    assert scene.wait(5) == []


# --- near misses ---


def test_a_health_check_opens_and_leaves() -> None:
    scene = Scene(EVERY_CLOSE)
    for _ in range(20):
        scene.connect(client="10.0.0.9").client_closes().server_closes().after(1)
        scene.connect(client="10.0.0.9").client_resets().after(1)
    assert scene.wait(10) == []


def test_a_scan_of_open_ports() -> None:
    scene = Scene(EVERY_CLOSE)
    for port in range(100):
        scene.talk(port=port + 1).syn().after(0.0001).syn_ack().client_resets(bare=True)
    assert scene.wait(10) == []


def test_a_pool_that_opens_and_closes_by_the_hundred() -> None:
    scene = Scene()
    talks = [scene.connect() for _ in range(300)]
    for talk in talks:
        talk.client_sends(500).server_sends(4_000)
    scene.pass_time(20)
    for talk in talks:
        talk.client_sends(5).client_closes().server_closes()
    assert scene.wait(10) == []


def test_a_reset_after_a_fin_is_normal() -> None:
    scene = Scene(EVERY_CLOSE)
    talk = scene.connect().client_sends(90).server_sends(300).client_closes()
    talk.server_resets().server_resets(bare=True).client_resets(bare=True)
    talk = scene.connect().client_sends(90).server_sends(30_000).server_closes()
    talk.client_resets(bare=True)
    assert scene.wait(5) == []


def test_a_cancel_request_is_never_answered() -> None:
    scene = Scene(EVERY_CLOSE)
    scene.connect().client_sends(16).server_closes().client_closes()
    scene.connect().client_sends(24).server_sends(1).server_closes().client_closes()
    assert scene.wait(5) == []


def test_a_health_check_that_the_server_closes_each_time() -> None:
    """HTTP with `Connection: close`, from a node, beside connections of pods that go otherwise."""
    scene = Scene()
    for _ in range(30):
        scene.good(10, client="10.0.0.77")
        check = scene.connect(client="10.0.0.9").client_sends(110).server_sends(180).after(0.002)
        check.server_closes().client_closes().after(1)
    assert scene.wait(5) == []


def test_an_unusual_close_between_a_pair_that_knows_better() -> None:
    scene = Scene()
    scene.good(20)
    scene.connect().client_sends(83).server_sends(120).server_closes()  # an error message, as for 53300
    assert scene.wait() == ["closed-early by server"]


def session(scene: Scene, asked: int = 900, answered: int = 3_000) -> Talk:
    return scene.connect().client_sends(asked).server_sends(answered).after(0.001)


def test_the_server_wins_the_race_to_the_fin_after_the_goodbye() -> None:
    scene = Scene()
    for _ in range(10):
        session(scene).client_closes().server_closes()
    session(scene).server_closes().client_closes()
    session(scene, 905, 9_000).server_closes().client_closes()
    assert scene.wait() == []


@pytest.mark.parametrize(("asked", "answered"), [(895, 3_000), (900, 2_930), (83, 120)])
def test_the_server_closes_before_all_was_said_that_good_exchanges_say(asked: int, answered: int) -> None:
    """Without the goodbye, without the last answer, and in the start-up."""
    scene = Scene()
    for _ in range(10):
        session(scene).client_closes().server_closes()
    session(scene, asked, answered).server_closes().client_closes()
    assert scene.wait() == ["closed-early by server"]


def test_one_rejection_that_the_client_ended_does_not_hide_the_next() -> None:
    """A client that reads an error and leaves before the server does looks like one that is content."""
    scene = Scene()
    for _ in range(10):
        session(scene).client_closes().server_closes()
    session(scene, 83, 120).client_closes().server_closes()
    session(scene, 83, 120).server_closes().client_closes()
    assert scene.wait() == ["closed-early by server"]


def test_who_names_the_class_gets_the_races_too() -> None:
    scene = Scene(EVERY_CLOSE)
    for _ in range(10):
        session(scene).client_closes().server_closes()
    session(scene).server_closes()
    assert scene.wait() == ["closed-early by server"]


def test_named_classes_exempt_no_habits() -> None:
    scene = Scene(EVERY_CLOSE)
    scene.connect().client_sends(83).server_sends(120).server_closes()
    assert scene.wait() == ["closed-early by server"]


def test_idle_timeouts_of_keep_alive_connections() -> None:
    scene = Scene()
    for _ in range(10):
        scene.good(9)
        scene.connect().client_sends(200).server_sends(2_000).after(5).server_closes().client_closes()
    assert scene.wait(5) == []


def test_fire_and_forget() -> None:
    scene = Scene()
    for _ in range(50):
        scene.connect().client_sends(40).after(0.05).client_closes().server_closes()
    assert scene.wait(5) == []


def test_the_client_resets_as_a_habit_or_for_once() -> None:
    scene = Scene()
    for _ in range(20):
        scene.connect(client="10.0.0.9").client_sends(40).server_sends(90).client_resets()
    assert scene.wait() == []
    scene.good(20)
    scene.connect().client_sends(40).server_sends(90).client_resets()
    assert scene.wait() == ["reset-early by client"]


def test_waiting_for_a_greeting_that_always_came() -> None:
    scene = Scene()
    scene.connect().after(10).client_closes()
    assert scene.wait() == []
    scene.good(20)
    scene.connect().after(10).client_closes()
    assert scene.wait() == ["closed-early by client"]


# --- parallel connects ---


def test_happy_eyeballs_over_a_dead_ipv6() -> None:
    scene = Scene()
    scene.talk(client="fd00::1", server="fd00::2").syn().after(0.25)
    scene.good()
    assert scene.wait(6) == []


def test_falling_back_from_a_refused_address() -> None:
    scene = Scene()
    for _ in range(50):
        scene.talk(client="::1", server="::1").syn().refused()
        scene.good(client="127.0.0.1", server="127.0.0.1")
    assert scene.wait(6) == []


def test_the_second_attempt_loses() -> None:
    scene = Scene()
    slow = scene.talk(server="10.0.0.5").syn().after(0.3)
    scene.talk(server="10.0.0.6").syn().after(0.05).refused()
    slow.syn_ack().client_sends(9).server_sends(9).client_closes()
    assert scene.wait(6) == []


def test_a_late_answer_for_the_loser() -> None:
    scene = Scene()
    loser = scene.talk(server="10.0.0.5").syn().after(0.3)
    scene.good(server="10.0.0.6")
    loser.after(1).syn_ack().client_resets(bare=True)
    assert scene.wait(6) == []


def test_another_connect_excuses_only_one_failure_per_address() -> None:
    scene = Scene()
    scene.talk(server="10.0.0.5").syn().refused()
    scene.talk(server="10.0.0.5").syn().refused()
    scene.good(server="10.0.0.6")
    assert scene.wait(6) == ["refused by server"]


@pytest.mark.parametrize(
    "other",
    [
        {"server": "10.0.0.6", "port": 443},
        {"server": "10.0.0.6", "client": "10.0.0.99"},
        {"server": "10.0.0.5"},
    ],
)
def test_what_succeeds_elsewhere_excuses_nothing(other: dict[str, Any]) -> None:
    scene = Scene()
    scene.talk(server="10.0.0.5").syn().refused()
    scene.good(**other)
    assert scene.wait(6) == ["refused by server"]


def test_who_had_succeeded_before_excuses_nothing() -> None:
    scene = Scene()
    scene.good(server="10.0.0.6")
    scene.talk(server="10.0.0.5").syn().refused()
    assert scene.wait(6) == ["refused by server"]


def test_who_goes_on_trying_has_not_lost() -> None:
    scene = Scene()
    talk = scene.talk(server="10.0.0.5").syn().after(0.1)
    scene.good(server="10.0.0.6")
    talk.after(1).syn()
    assert scene.wait(6) == ["no-answer by nobody"]


# --- odd beginnings and ends ---


def test_a_client_that_is_redirected_to_a_proxy_on_its_host() -> None:
    scene = Scene(ALL, concerns=lambda _, server: server.ip == SERVER)
    proxy = ("127.0.0.1", 15001)
    for _ in range(3):
        talk = scene.talk().redirected(proxy).syn().syn_ack().client_sends(83).server_sends(200)
        talk.client_closes().server_closes()
    scene.talk().redirected(proxy).syn().refused()
    scene.talk().redirected(proxy).syn().syn_ack().client_sends(83).server_resets()
    assert scene.wait(6) == ["reset-early by server", "refused by server"]
    assert scene.last[0].server == Endpoint(SERVER, 5432)
    assert scene.last[0].client_acked == 83
    (counts,) = scene.detector.counts
    assert (counts.server.ip, counts.connections) == (SERVER, 5)
    assert counts.last_good_start_ns is not None


@pytest.mark.parametrize(
    ("client", "proxy", "found"),
    [
        (CLIENT, ("127.0.0.1", 15001), []),
        ("fd00::9", ("::1", 15001), []),
        ("127.0.0.1", ("127.0.0.1", 15001), ["no-answer by nobody"]),
    ],
)
def test_what_is_redirected_to_a_proxy_may_be_answered_unseen(
    client: str, proxy: tuple[str, int], found: list[str]
) -> None:
    """A recording of port 5432 hears all of an app's SYNs to its proxy, and no answer of other ports."""
    server = "fd00::5" if ":" in client else SERVER
    scene = Scene(ALL)
    scene.talk(client=client, server=server).redirected(proxy).syn().after(1).syn().after(2).syn()
    assert scene.wait(60) == found


def test_simultaneous_open() -> None:
    scene = Scene(EVERY_CLOSE)
    one = scene.talk(client_port=4000, port=5000).syn()
    other = scene.talk(
        client=SERVER, server=CLIENT, client_port=5000, port=4000, isn=(one.server_isn, one.client_isn)
    )
    other.syn()
    one.syn_ack()
    other.syn_ack()
    one.client_sends(10).server_sends(10).client_closes().server_closes()
    assert scene.wait(6) == []
    assert scene.detector.connections == 1


def test_a_socket_connected_to_itself_is_not_followed() -> None:
    scene = Scene(EVERY_CLOSE)
    scene.talk(client=CLIENT, server=CLIENT, client_port=5000, port=5000).syn().syn_ack()
    assert scene.wait(6) == []


def test_the_same_ports_for_another_connection() -> None:
    scene = Scene()
    scene.connect(client_port=4000).client_sends(1).server_sends(9)
    scene.connect(client_port=4000, isn=(70_000, 90_000)).client_sends(83).server_resets()
    assert scene.wait() == ["reset-early by server"]
    assert scene.last[0].client_acked == 83
    assert scene.detector.connections == 2


def test_an_old_connection_that_the_server_still_has() -> None:
    """A challenge ACK makes the client reset what it does not know, and repeat its SYN."""
    scene = Scene()
    talk = scene.talk().syn()
    scene.feed(segment(talk.client, talk.server, 0x04, 123_456, 0))
    talk.after(1).syn().syn_ack().client_sends(9).server_sends(9).client_closes()
    assert scene.wait(6) == []


def test_a_stale_reset_does_not_end_a_young_connection() -> None:
    scene = Scene(EVERY_CLOSE)
    talk = scene.connect(isn=(3_000_000_000, 2_000_000_000))
    scene.feed(segment(talk.server, talk.client, 0x04, 1_999_000_000, 0))
    scene.feed(segment(talk.client, talk.server, 0x04, 2_999_000_000, 0))
    talk.client_sends(10).server_sends(10).client_closes()
    assert scene.wait(6) == []


def test_fast_open_data_in_the_syn_counts() -> None:
    scene = Scene()
    talk = scene.talk().syn(payload=50)
    scene.feed(segment(talk.server, talk.client, 0x12, talk.server_isn, talk.client_isn + 51))
    talk.client_sends(50).server_resets()
    assert scene.wait() == ["reset-early by server"]
    assert scene.last[0].client_acked == 50


def test_half_seen_connections_are_told_only_to_who_asks_for_resets() -> None:
    scene = Scene(ALL)
    scene.talk().client_sends(9).server_resets().server_resets()
    scene.talk().client_closes().server_resets()
    assert scene.wait() == ["reset by server"]
    failure = scene.last[0]
    assert failure.server.port == 5432
    assert (failure.start_ns, failure.client_acked, failure.server_bytes) == (None, None, None)
    quiet = Scene()
    quiet.talk().server_resets()
    assert quiet.wait() == []
    assert quiet.detector.failures == 1


def test_ip_options_and_extension_headers_hide_nothing() -> None:
    scene = Scene()
    talk = scene.talk(client="fd00::1", server="fd00::2")
    plain = segment(talk.client, talk.server, 0x02, 1_000, 0)
    scene.feed(frames.ipv6(frames.extension(plain[40:], 6), 0))
    talk.syn_ack().client_sends(83).server_resets()
    talk = scene.talk()
    plain = segment(talk.client, talk.server, 0x02, 1_000, 0)
    scene.feed(frames.ipv4(plain[20:], 6, options=2))
    talk.syn_ack().client_sends(84).server_resets()
    assert scene.wait() == ["reset-early by server"] * 2
    assert [failure.client_acked for failure in scene.last] == [83, 84]


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
