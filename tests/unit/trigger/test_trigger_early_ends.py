"""Connections that one side ends: failures of their start-up, and what only looks like one."""

import pytest

from podcam.model.point import Endpoint
from wire_scene import ALL, CLIENT, EVERY_CLOSE, SERVER, START_NS, Scene, Talk, segment

# --- failures of the start-up ---


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
