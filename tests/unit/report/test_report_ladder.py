"""How two connections are laid beside each other, and where they are said to part."""

from dataclasses import replace

import pytest

from conversations import (
    ACK,
    FIN_ACK,
    QUERY,
    ROWS,
    RST,
    SASL,
    START_NS,
    SYN,
    SYN_ACK,
    TERMINATE,
    WELCOME,
    Talk,
    good,
    opened,
    reset_in_startup,
    startup,
)
from podcam.model.connection import IcmpError, TcpEvent
from podcam.model.verdict import Protocol
from podcam.report.ladder import Arrow, Entry, Ladder, Pause, Track, compare
from podcam.report.messages import messages_of

AGAIN = TcpEvent.RETRANSMISSION


def track(talk: Talk, *proofs: int, capture_ends_after_s: float = 0.0) -> Track:
    conversation = talk.conversation(capture_ends_after_s)
    numbered = {talk.packets[at].frame: number for number, at in enumerate(proofs, 1)}
    return Track(conversation, messages_of(conversation, Protocol.UNKNOWN), numbered)


def spelled(entry: Entry | None) -> str:
    match entry:
        case None:
            return ""
        case Pause(spellings):
            return f"({spellings[0]})"
        case Arrow():
            return ("> " if entry.to_server else "< ") + entry.spellings[0]


def rows(ladder: Ladder) -> list[tuple[str, str]]:
    alike = [(spelled(row.failed), spelled(row.good)) for row in ladder.alike]
    parted = [(spelled(row.failed), spelled(row.good)) for row in ladder.parted]
    return [*alike, ("parted", "parted"), *parted]


def test_two_connections_are_alike_up_to_the_reset() -> None:
    assert rows(compare(track(reset_in_startup(Talk())), track(good(Talk()))))[:8] == [
        ("> SYN", "> SYN"),
        ("< SYN, ACK", "< SYN, ACK"),
        ("> ACK", "> ACK"),
        ("> StartupMessage, 53 B", "> StartupMessage, 53 B"),
        ("< ACK", "< ACK"),
        ("parted", "parted"),
        ("< RST, ACK", "< AuthenticationSASL, 24 B"),
        ("", "> PasswordMessage, 65 B"),
    ]


def test_an_acknowledgement_that_only_one_of_them_has_does_not_part_them() -> None:
    failed = opened(Talk()).client(startup()).server(SASL).client(ACK).server(RST)
    quiet = opened(Talk()).client(startup()).server(ACK).server(SASL).client(TERMINATE)
    assert rows(compare(track(failed), track(quiet)))[3:] == [
        ("> StartupMessage, 53 B", "> StartupMessage, 53 B"),
        ("", "< ACK"),
        ("< AuthenticationSASL, 24 B", "< AuthenticationSASL, 24 B"),
        ("parted", "parted"),
        ("> ACK", "> Terminate, 5 B"),
        ("< RST", ""),
    ]


def test_an_end_is_like_no_other() -> None:
    failed = opened(Talk()).client(startup()).server(FIN_ACK)
    closed = opened(Talk()).client(startup()).server(FIN_ACK)
    assert rows(compare(track(failed), track(closed)))[-2:] == [
        ("parted", "parted"),
        ("< FIN, ACK", "< FIN, ACK"),
    ]


def test_silence_is_shown_where_it_was() -> None:
    failed = Talk().client(SYN).client(SYN, ms=1000, events=AGAIN).client(SYN, ms=2000, events=AGAIN)
    shown = rows(compare(track(failed, capture_ends_after_s=30), track(good(Talk()))))
    assert [left for left, _ in shown if left] == [
        "> SYN",
        "parted",
        "(1.00 s of silence)",
        "> SYN, retransmission",
        "(2.00 s of silence)",
        "> SYN, retransmission",
        "(nothing in the 30.0 s until the capture ends)",
    ]


def test_what_ended_is_not_said_to_be_silent() -> None:
    reset = track(reset_in_startup(Talk()), capture_ends_after_s=30)
    assert spelled(compare(reset, None).parted[-1].failed) == "< RST, ACK"


def test_alone_there_is_nothing_to_part_from() -> None:
    ladder = compare(track(reset_in_startup(Talk())), None)
    assert ladder.alike == ()
    assert len(ladder.parted) == 6
    assert all(row.good is None for row in ladder.parted)


def test_an_icmp_error_goes_back_to_the_sender_of_what_it_quotes() -> None:
    talk = Talk().client(SYN).icmp(IcmpError(4, 3, 1, "10.0.0.254"))
    arrow = compare(track(talk), None).parted[1].failed
    assert isinstance(arrow, Arrow)
    assert not arrow.to_server
    assert arrow.from_between
    assert arrow.spellings[0] == "ICMP host unreachable from 10.0.0.254"


def busy(requests: int) -> Talk:
    talk = opened(Talk()).client(startup()).server(WELCOME)
    for _ in range(requests):
        talk.client(QUERY, ms=3).server(ROWS)
    return talk


def test_the_middle_of_a_long_connection_is_hidden_but_its_proofs_are_not() -> None:
    talk = busy(5000).client(QUERY, ms=60_000).server(RST)
    ladder = compare(track(talk, 7000, len(talk.packets) - 1), track(busy(2)))
    entries = [row.failed for row in (*ladder.alike, *ladder.parted)]
    arrows = [entry for entry in entries if isinstance(entry, Arrow)]
    assert len(entries) < 40
    assert {arrow.proof: arrow.frame for arrow in arrows if arrow.proof} == {
        1: talk.packets[7000].frame,
        2: talk.packets[-1].frame,
    }
    hidden = sum(
        int(spelled(e)[1:].split()[0].replace(",", "")) for e in entries if "packets in" in spelled(e)
    )
    assert hidden + len(arrows) == len(talk.packets)


def test_packets_that_were_not_read_are_counted_with_the_hidden_ones() -> None:
    talk = busy(50)
    conversation = replace(talk.conversation(), client_packets=30_000, server_packets=30_000)
    ladder = compare(Track(conversation, {}, {}), None)
    [pause] = [row.failed for row in ladder.parted if isinstance(row.failed, Pause)]
    arrows = sum(isinstance(row.failed, Arrow) for row in ladder.parted)
    assert pause.spellings[0].startswith(f"{60_000 - arrows:,} packets in ")


@pytest.mark.parametrize("length", [1, 2, 3, 20, 40])
def test_every_packet_of_a_short_connection_is_shown_once_and_in_order(length: int) -> None:
    talk = busy(20)
    del talk.packets[length:]
    ladder = compare(track(talk), track(good(Talk())))
    frames = [row.failed.frame for row in (*ladder.alike, *ladder.parted) if isinstance(row.failed, Arrow)]
    if length <= 20:
        assert frames == [packet.frame for packet in talk.packets]
    else:
        assert frames == sorted(set(frames))


def test_times_count_from_the_first_packet_of_each() -> None:
    late = reset_in_startup(Talk(start_ns=START_NS + 10**12))
    ladder = compare(track(late), track(good(Talk())))
    assert [row.failed.offset_ns for row in ladder.alike if isinstance(row.failed, Arrow)][:3] == [
        0,
        20_000,
        40_000,
    ]


def test_a_server_that_never_answers_parts_at_once() -> None:
    failed = Talk().client(SYN)
    other = Talk().server(SYN_ACK).client(ACK)
    assert compare(track(failed), track(other)).alike == ()
