"""Connections through a proxy on the client's host: halves put together, legs joined as a guess."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from conversations import TERMINATE, WELCOME, startup
from podcam.diagnose import Case, diagnose
from podcam.diagnose.legs import Stretch, join_legs
from podcam.model.diagnosis import DiagnosedConnection, LegEnd
from podcam.model.point import Endpoint
from podcam.model.verdict import VerdictId
from proxied import (
    DATA,
    POD,
    POD_V6,
    PROXY,
    SERVER,
    SERVER_V6,
    Exchange,
    alike,
    redirected,
)
from traces import FIN, START_NS, Talk, Timed, write_pcap

MS = 1_000_000


def case_of(folder: Path, *packets: Sequence[Timed]) -> Case:
    everything = sorted((packet for each in packets for packet in each), key=lambda timed: timed[0])
    return diagnose([write_pcap(folder / "a.pcap", everything)])


def by_port(case: Case) -> dict[int, DiagnosedConnection]:
    return {row.client.port: row for row in case.diagnosis.connections}


def legs(case: Case, exchange: Exchange) -> tuple[DiagnosedConnection, DiagnosedConnection]:
    rows = by_port(case)
    return rows[exchange.port], rows[exchange.port + 20_000]


# --- halves ---


@pytest.mark.parametrize(("pod", "server"), [(POD, SERVER), (POD_V6, SERVER_V6)])
def test_the_two_directions_of_a_redirected_connection_are_one(
    tmp_path: Path, pod: str, server: tuple[str, int]
) -> None:
    exchange = Exchange(40_000, pod=pod, server=server).log_in().leave()
    case = case_of(tmp_path, exchange.packets)
    near, far = legs(case, exchange)
    assert len(case.diagnosis.connections) == 2
    assert near.verdict.id is far.verdict.id is VerdictId.OK
    assert (near.server, near.proxy) == (
        Endpoint(*server),
        Endpoint("127.0.0.1" if pod is POD else "::1", 15001),
    )
    assert (near.client_bytes, near.server_bytes) == (far.client_bytes, far.server_bytes)
    assert (near.client_packets, near.server_packets) == (far.client_packets, far.server_packets)
    assert near.tcp is not None
    assert far.tcp is not None
    assert near.tcp.handshake_ns == far.tcp.handshake_ns == 20_000
    assert near.tcp_stream != near.answers_tcp_stream
    assert far.proxy is None
    talk = case.conversation(near.id)
    assert [packet.frame for packet in talk.packets] == sorted(packet.frame for packet in talk.packets)
    assert len(talk.packets) == len(exchange.near.packets)


def test_a_failure_of_a_redirected_connection_is_that_of_both_directions(tmp_path: Path) -> None:
    exchange = Exchange(40_000).ask(startup()).server_resets()
    near, far = legs(case_of(tmp_path, exchange.packets), exchange)
    assert far.verdict.id is VerdictId.RESET_DURING_STARTUP
    assert near.verdict.id is VerdictId.CLOSED_DURING_STARTUP
    assert near.verdict.evidence[-1].frame > near.verdict.evidence[0].frame


def test_headers_alone_are_enough_for_the_apps_direction(tmp_path: Path) -> None:
    exchange = Exchange(40_000).log_in().leave()
    headers = write_pcap(tmp_path / "a.pcap", sorted(exchange.packets), snap_length=40)
    near, far = legs(diagnose([headers]), exchange)
    assert not near.verdict.failed
    assert near.client_bytes == far.client_bytes == len(startup()) + len(TERMINATE)
    assert near.leg is not None


def test_of_what_went_to_a_proxy_without_its_answers_nothing_is_said(tmp_path: Path) -> None:
    other = Talk((POD, 41_000), ("10.0.0.9", 80), (5, 6)).open()
    other.client(DATA, b"GET / HTTP/1.1\r\n\r\n")
    asked = [packet for packet in redirected(other.packets) if packet[1][16] == 127]
    repeated = [(time_ns + second * 10**9, data) for time_ns, data in asked[:1] for second in (1, 3)]
    (row,) = case_of(tmp_path, [*asked, *repeated]).diagnosis.connections
    assert (row.verdict.id, row.verdict.failed) == (VerdictId.PARTIAL, False)
    assert row.server == row.proxy == Endpoint(*PROXY)
    assert "127.0.0.1:15001" in row.verdict.summary


def test_a_packet_that_the_kernel_did_not_redirect_belongs_to_its_connection(tmp_path: Path) -> None:
    exchange = Exchange(40_000).log_in().leave()
    packets = redirected(exchange.near.packets)
    packets[-1] = exchange.near.packets[-1]
    near, far = legs(case_of(tmp_path, packets, exchange.far.packets), exchange)
    assert near.verdict.id is VerdictId.OK
    assert near.leg is not None
    assert near.client_packets == far.client_packets


def test_ports_that_are_used_again_are_told_apart_by_sequence_numbers(tmp_path: Path) -> None:
    first, second = Exchange(40_000).log_in().leave(), Exchange(40_000, 50).ask(startup()).server_resets()
    second.near = Talk((POD, 40_000), SERVER, (77, 99), START_NS + 50 * MS).open()
    second.near.client(DATA, startup())
    second.near.server(DATA, WELCOME)
    packets = redirected([*first.near.packets, *second.near.packets])
    rows = case_of(tmp_path, packets).diagnosis.connections
    assert [(row.client_bytes, row.server_bytes) for row in rows] == [
        (len(startup()) + len(TERMINATE), len(WELCOME)),
        (len(startup()), len(WELCOME)),
    ]


# --- legs ---


def test_legs_are_joined_and_named_as_a_guess(tmp_path: Path) -> None:
    exchange = Exchange(40_000).ask(startup()).server_resets()
    near, far = legs(case_of(tmp_path, exchange.packets), exchange)
    assert near.leg is not None
    assert far.leg is not None
    assert (near.leg.connection, near.leg.towards, near.leg.began) == (far.id, LegEnd.SERVER, LegEnd.SERVER)
    assert (far.leg.connection, far.leg.towards, far.leg.began) == (near.id, LegEnd.CLIENT, LegEnd.SERVER)
    assert (
        "As a guess, by times and sizes, a proxy at 127.0.0.1:15001 passed it on from 10.0.0.1:60000 to "
        f"10.0.0.2:5432 (connection {far.id}), and the failure began there (reset-during-startup)."
    ) in near.verdict.summary
    assert (
        "As a guess, by times and sizes, it is what a proxy at 127.0.0.1:15001 made of that from "
        f"10.0.0.1:40000 (connection {near.id}); the failure began here, and went on there "
        "(closed-during-startup)."
    ) in far.verdict.summary


@pytest.mark.parametrize(
    ("end", "began"),
    [("server_resets", LegEnd.SERVER), ("app_resets", LegEnd.CLIENT), ("proxy_resets", LegEnd.PROXY)],
)
def test_the_leg_on_which_a_failure_began(tmp_path: Path, end: str, began: LegEnd) -> None:
    exchange = Exchange(40_000).log_in().ask(b"Q" + (13).to_bytes(4) + b"select 1\0")
    getattr(exchange, end)()
    near, far = legs(case_of(tmp_path, exchange.packets), exchange)
    assert near.leg is not None
    assert far.leg is not None
    assert near.verdict.failed or far.verdict.failed
    assert near.leg.began is far.leg.began is began


def test_good_connections_have_a_leg_and_no_sentence(tmp_path: Path) -> None:
    exchange = Exchange(40_000).log_in().leave()
    near, far = legs(case_of(tmp_path, exchange.packets), exchange)
    assert near.leg is not None
    assert near.leg.connection == far.id
    assert near.leg.began is None
    assert "guess" not in near.verdict.summary + far.verdict.summary


def test_of_two_that_are_too_alike_none_is_joined_and_it_is_said(tmp_path: Path) -> None:
    """Both pairs at the same times: either may have gone on as the other."""
    one = Exchange(40_000, lag_ms=1).ask(startup()).server_resets()
    other = Exchange(40_001, 0.005, lag_ms=1).ask(startup()).server_resets()
    rows = by_port(case_of(tmp_path, one.packets, other.packets))
    assert [row.leg for row in rows.values()] == [None] * 4
    for row in rows.values():
        assert "its other leg is one of 2 too alike to tell which" in row.verdict.summary


def test_a_proxy_that_the_client_knows_of(tmp_path: Path) -> None:
    """As Cloud SQL's: the app connects to it on the loopback."""
    exchange = Exchange(40_000).log_in().leave()
    talk = Talk(("127.0.0.1", 40_000), ("127.0.0.1", 5432), exchange.near.isn)
    talk.packets = [
        (time_ns, data[:12] + b"\x7f\0\0\1\x7f\0\0\1" + data[20:]) for time_ns, data in exchange.near.packets
    ]
    near, far = legs(case_of(tmp_path, talk.packets, exchange.far.packets), exchange)
    assert near.leg is not None
    assert near.leg.connection == far.id
    assert near.proxy is None


def test_other_connections_of_the_same_time_are_not_taken_for_a_leg(tmp_path: Path) -> None:
    exchange = Exchange(40_000).log_in().leave()
    other = Talk((POD, 50_000), ("10.0.0.7", 443), (1, 2), START_NS + 1 * MS).open()
    other.client(DATA, b"x" * 700)
    other.server(DATA, b"y" * 90)
    other.client(FIN | 16)
    other.server(FIN | 16)
    rows = by_port(case_of(tmp_path, redirected(exchange.near.packets), other.packets))
    assert rows[40_000].leg is None
    assert rows[50_000].leg is None


NEAR = Stretch(1, Endpoint(POD, 1), Endpoint(*SERVER), Endpoint(*PROXY), 0, 1, 10, 20, 100, 900, False, False)
FAR = replace(
    NEAR, id=2, client=Endpoint(POD, 2), proxy=None, start_ns=2, asked_ns=3, answered_ns=9, ended_ns=21
)


@pytest.mark.parametrize(
    "far",
    [
        replace(FAR, start_ns=21),
        replace(FAR, client_bytes=99),
        replace(FAR, server_bytes=901),
        replace(FAR, asked_ns=0),
        replace(FAR, answered_ns=11),
        replace(FAR, answered_ns=None),
        replace(FAR, ended_ns=3 * 10**9),
        replace(FAR, client=Endpoint("10.9.9.9", 2)),
        replace(FAR, proxy=NEAR.proxy),
        replace(FAR, encrypted=True, server_bytes=899),
        replace(FAR, encrypted=True, client_bytes=100_000),
        replace(FAR, encrypted=True, server=Endpoint("10.244.0.9", 443)),
    ],
)
def test_what_speaks_against_a_pair(far: Stretch) -> None:
    assert join_legs([NEAR, far], lambda *_: True).further == {}


@pytest.mark.parametrize(
    "far",
    [
        FAR,
        replace(FAR, encrypted=True, client_bytes=700, server_bytes=6_000, asked_ns=0, answered_ns=1),
        replace(FAR, failed=True, client_bytes=100, server_bytes=950),
        replace(FAR, server=Endpoint("10.244.0.9", 15008)),
        replace(FAR, client=Endpoint("127.0.0.6", 4)),
    ],
)
def test_what_does_not(far: Stretch) -> None:
    assert join_legs([NEAR, far], lambda *_: True).further == {1: 2}


def test_an_encrypted_connection_of_a_server_is_not_taken_for_what_it_asks_of_others() -> None:
    """Sizes leave too much room when one leg is encrypted and the proxy is no app's own."""
    asked = replace(NEAR, server=Endpoint("10.0.0.3", 5432), proxy=None, encrypted=True, server_bytes=5_000)
    own = replace(FAR, client=Endpoint("10.0.0.3", 9), asked_ns=3)
    assert join_legs([asked, own], lambda *_: True).further == {}
    plain = replace(asked, encrypted=False, server_bytes=own.server_bytes)
    assert join_legs([plain, own], lambda *_: True).further == {1: 2}


def test_a_good_connection_by_the_same_way_is_compared_with(tmp_path: Path) -> None:
    good, failed = Exchange(40_000).log_in().leave(), Exchange(40_001, 40).ask(startup()).server_resets()
    case = case_of(tmp_path, good.packets, failed.packets)
    near, far = legs(case, failed)
    assert case.diagnosis.comparisons == {
        near.id: legs(case, good)[0].id,
        far.id: legs(case, good)[1].id,
    }


def test_packets_are_read_only_where_there_is_a_choice() -> None:
    asked: list[tuple[int, int]] = []

    def in_step(near: int, far: int) -> bool:
        asked.append((near, far))
        return far == 2

    assert join_legs([NEAR, FAR], in_step).further == {1: 2}
    assert asked == []
    rival = replace(FAR, id=3, client=Endpoint(POD, 3))
    assert join_legs([NEAR, FAR, rival], in_step).further == {1: 2}
    assert asked == [(1, 2), (1, 3)]
    unclear = join_legs([NEAR, FAR, rival], lambda *_: True)
    assert (unclear.further, unclear.doubtful) == ({}, {1: 2})


@pytest.mark.parametrize("seed", range(8))
def test_among_many_alike_no_pair_is_false(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    exchanges = alike(40, dice, most_apart_ms=dice.choice([0.2, 1, 5, 40]))
    dice.shuffle(exchanges)
    unseen = exchanges[:5]  # whose second leg went elsewhere
    case = case_of(
        tmp_path,
        *(each.packets for each in exchanges[5:]),
        *(redirected(each.near.packets) for each in unseen),
    )
    rows = by_port(case)
    ports = {row.id: port for port, row in rows.items()}
    joined = {port: ports[row.leg.connection] for port, row in rows.items() if row.leg and port < 40_000}
    assert all(far == near + 20_000 for near, far in joined.items())


def test_one_after_the_other_all_are_joined(tmp_path: Path) -> None:
    exchanges = alike(30, random.Random(1), most_apart_ms=0)
    for number, each in enumerate(exchanges):
        for talk in (each.near, each.far):
            talk.packets = [(time_ns + number * 100 * MS, data) for time_ns, data in talk.packets]
    rows = by_port(case_of(tmp_path, *(each.packets for each in exchanges)))
    assert all(row.leg is not None for row in rows.values())
