"""Connects before the wire detector: refused, unanswered, unreachable, and excused by a parallel one."""

from typing import Any

import pytest

from wire_scene import ALL, CLIENT, SERVER, Scene, segment


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
