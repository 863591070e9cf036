"""Connections with odd beginnings and ends: the wire detector follows what it can, and imagines nothing."""

import pytest

import frames
from podcam.model.point import Endpoint
from wire_scene import ALL, CLIENT, EVERY_CLOSE, SERVER, Scene, segment


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
