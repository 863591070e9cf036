"""One connection, one verdict: each rule with the conversation that it is for, and its near misses."""

from dataclasses import replace

import pytest

from conversations import (
    ACK,
    FIN_ACK,
    QUERY,
    ROWS,
    RST,
    RST_ACK,
    SASL,
    SASL_RESPONSE,
    SERVER,
    SYN,
    SYN_ACK,
    TERMINATE,
    WELCOME,
    Talk,
    good,
    message,
    opened,
    startup,
)
from podcam.diagnose import Context, judge
from podcam.model.connection import IcmpError, TcpEvent, TcpFlags
from podcam.model.diagnosis import Verdict
from podcam.model.point import Endpoint
from podcam.model.verdict import Fault, Phase, Protocol, VerdictId

AGAIN = TcpEvent.RETRANSMISSION
SECOND = 1000.0  # milliseconds
SSL_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)
CANCEL = (16).to_bytes(4) + (80877102).to_bytes(4) + bytes(8)
FATAL = message(b"E", b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0")


def verdict_of(talk: Talk, context: Context | None = None, *, capture_goes_on_s: float = 0.0) -> Verdict:
    return judge(talk.conversation(capture_goes_on_s), context or Context())


def told(talk: Talk, context: Context | None = None) -> tuple[VerdictId, Fault, Phase]:
    verdict = verdict_of(talk, context)
    return verdict.id, verdict.fault, verdict.phase


def frames(verdict: Verdict) -> list[int]:
    return [evidence.frame for evidence in verdict.evidence]


def started() -> Talk:
    talk = opened(Talk()).client(startup()).server(ACK).server(SASL).client(SASL_RESPONSE)
    return talk.server(WELCOME).client(ACK)


# -- connect ------------------------------------------------------------------------------------------------


def test_refused() -> None:
    verdict = verdict_of(Talk().client(SYN).server(RST_ACK))
    assert (verdict.id, verdict.fault, frames(verdict)) == (VerdictId.CONNECT_REFUSED, Fault.SERVER, [1, 2])


@pytest.mark.parametrize(
    ("sender", "fault"), [("10.9.9.9", Fault.NETWORK), (SERVER.ip, Fault.SERVER)], ids=["router", "server"]
)
def test_unreachable(sender: str, fault: Fault) -> None:
    verdict = verdict_of(Talk().client(SYN).icmp(IcmpError(4, 3, 1, sender)))
    assert (verdict.id, verdict.fault, frames(verdict)) == (VerdictId.CONNECT_UNREACHABLE, fault, [1, 2])
    assert "host unreachable" in verdict.summary


def test_an_icmp_error_for_a_syn_that_is_then_answered_is_no_failure() -> None:
    talk = Talk().client(SYN).icmp(IcmpError(4, 3, 1, "10.9.9.9"))
    assert not verdict_of(talk.server(SYN_ACK).client(ACK)).failed


def test_no_answer_to_repeated_syns() -> None:
    talk = Talk().client(SYN).client(SYN, ms=SECOND, events=AGAIN).client(SYN, ms=2 * SECOND, events=AGAIN)
    verdict = verdict_of(talk)
    assert (verdict.id, verdict.fault, frames(verdict)) == (
        VerdictId.CONNECT_TIMEOUT,
        Fault.UNKNOWN,
        [1, 2, 3],
    )


def test_one_syn_is_overdue_only_if_the_capture_goes_on() -> None:
    talk = Talk().client(SYN)
    assert verdict_of(talk, capture_goes_on_s=0.2).id is VerdictId.PARTIAL
    assert verdict_of(talk, capture_goes_on_s=1.5).id is VerdictId.CONNECT_TIMEOUT


@pytest.mark.parametrize(
    "failure", [Talk().client(SYN).server(RST_ACK), Talk().client(SYN)], ids=["RST", "silence"]
)
def test_the_loser_of_two_connects_is_no_failure(failure: Talk) -> None:
    winner = Endpoint("127.0.0.1", 5432)
    verdict = verdict_of(failure, Context(winner=winner), capture_goes_on_s=5)
    assert (verdict.id, verdict.failed, verdict.fault) == (VerdictId.PROBE, False, Fault.NONE)
    assert str(winner) in verdict.summary


def test_a_syn_answered_by_a_bare_ack_of_an_old_connection() -> None:
    talk = Talk().client(SYN).server(ACK)
    stale = replace(talk.packets[1], ack=77)
    talk.packets[1] = stale
    verdict = verdict_of(talk.client(RST))
    assert (verdict.id, frames(verdict)) == (VerdictId.PORT_REUSE_CONFLICT, [1, 2])


def test_only_the_clients_packets_were_captured() -> None:
    talk = Talk().client(SYN).client(ACK).client(b"GET / HTTP/1.1\r\n").client(FIN_ACK)
    assert verdict_of(talk, capture_goes_on_s=9).id is VerdictId.PARTIAL


# -- handshake ----------------------------------------------------------------------------------------------


def test_the_client_had_given_up_when_the_syn_ack_came() -> None:
    talk = Talk().client(SYN).client(SYN, ms=SECOND, events=AGAIN).server(SYN_ACK, ms=300).client(RST)
    verdict = verdict_of(talk)
    assert (verdict.id, verdict.failed, frames(verdict)) == (VerdictId.HANDSHAKE_ABORTED, True, [1, 3, 4])


def test_a_scan_of_an_open_port_is_a_probe() -> None:
    assert verdict_of(Talk().client(SYN).server(SYN_ACK).client(RST)).id is VerdictId.PROBE


@pytest.mark.parametrize("end", [FIN_ACK, RST_ACK], ids=["FIN", "RST"])
def test_a_health_check_is_a_probe(end: TcpFlags) -> None:
    verdict = verdict_of(opened(Talk()).client(end, ms=0.1).server(FIN_ACK).client(ACK))
    assert (verdict.id, verdict.failed) == (VerdictId.PROBE, False)


def test_a_client_that_waits_for_a_greeting_that_never_comes() -> None:
    talk = opened(Talk()).client(FIN_ACK, ms=5 * SECOND)
    assert not verdict_of(talk).failed
    verdict = verdict_of(talk, Context(greets=True))
    assert (verdict.id, verdict.fault) == (VerdictId.STARTUP_TIMEOUT, Fault.SERVER)


def test_the_syn_ack_is_repeated_and_the_handshake_never_completes() -> None:
    talk = Talk().client(SYN).server(SYN_ACK).client(ACK).client(startup())
    talk.server(SYN_ACK, ms=SECOND).client(ACK).server(SYN_ACK, ms=2 * SECOND).client(ACK)
    verdict = verdict_of(talk)
    assert (verdict.id, verdict.failed) == (VerdictId.HANDSHAKE_INCOMPLETE, True)


def test_a_repeated_syn_ack_of_a_connection_that_goes_on_is_no_failure() -> None:
    talk = Talk().client(SYN).server(SYN_ACK).server(SYN_ACK, ms=SECOND, events=AGAIN).client(ACK)
    talk.client(startup()).server(ACK).server(SASL).client(SASL_RESPONSE).server(WELCOME)
    assert verdict_of(talk).id is VerdictId.OK


@pytest.mark.parametrize(
    ("end", "verdict"),
    [(RST_ACK, VerdictId.RESET_BEFORE_DATA), (FIN_ACK, VerdictId.CLOSED_BEFORE_DATA)],
    ids=["RST", "FIN"],
)
def test_the_server_ends_before_any_byte(end: TcpFlags, verdict: VerdictId) -> None:
    assert told(opened(Talk()).server(end, ms=3)) == (verdict, Fault.SERVER, Phase.HANDSHAKE)


# -- start-up -----------------------------------------------------------------------------------------------


def test_the_failure_that_it_all_began_with() -> None:
    verdict = verdict_of(opened(Talk()).client(startup(), ms=0.08).server(ACK).server(RST_ACK, ms=1.8))
    assert (verdict.id, verdict.failed) == (VerdictId.RESET_DURING_STARTUP, True)
    assert (verdict.fault, verdict.phase, verdict.protocol) == (
        Fault.SERVER,
        Phase.STARTUP,
        Protocol.POSTGRESQL,
    )
    assert [(e.frame, e.note) for e in verdict.evidence] == [
        (4, "StartupMessage"),
        (5, "ACK of the StartupMessage"),
        (6, "RST of the server"),
    ]
    assert verdict.protocol_detail["user"] == "app"
    assert "acknowledged the StartupMessage (53 bytes)" in verdict.summary
    assert verdict.candidates


def test_the_rst_itself_acknowledges_the_startup_message() -> None:
    verdict = verdict_of(opened(Talk()).client(startup()).server(RST_ACK))
    assert (verdict.id, frames(verdict)) == (VerdictId.RESET_DURING_STARTUP, [4, 5])
    assert "acknowledged the StartupMessage" in verdict.summary


def test_an_rst_that_does_not_acknowledge_the_startup_message() -> None:
    verdict = verdict_of(opened(Talk()).client(startup()).server(RST))
    assert (verdict.id, frames(verdict)) == (VerdictId.RESET_DURING_STARTUP, [4, 5])
    assert "without acknowledging it" in verdict.summary


def test_a_retransmitted_startup_message_counts_where_it_was_first_seen() -> None:
    talk = (
        opened(Talk()).client(startup()).client(startup(), ms=200, events=AGAIN).server(ACK).server(RST_ACK)
    )
    assert frames(verdict_of(talk)) == [4, 6, 7]


def test_reset_before_the_request_for_tls_is_answered() -> None:
    talk = opened(Talk()).client(SSL_REQUEST).server(ACK).server(RST_ACK)
    assert told(talk) == (VerdictId.RESET_DURING_STARTUP, Fault.SERVER, Phase.TLS)


def test_reset_after_tls_was_refused() -> None:
    talk = opened(Talk()).client(SSL_REQUEST).server(b"N").client(startup()).server(ACK).server(RST_ACK)
    verdict = verdict_of(talk)
    assert (verdict.id, verdict.phase, frames(verdict)) == (
        VerdictId.RESET_DURING_STARTUP,
        Phase.STARTUP,
        [6, 7, 8],
    )


def test_reset_during_authentication() -> None:
    talk = opened(Talk()).client(startup()).server(SASL).client(SASL_RESPONSE).server(ACK).server(RST_ACK)
    verdict = verdict_of(talk)
    assert (verdict.id, verdict.phase) == (VerdictId.RESET_DURING_STARTUP, Phase.AUTHENTICATION)
    assert frames(verdict) == [4, 6, 7, 8]


def test_authentication_ok_is_not_yet_success() -> None:
    rejection = message(b"R", bytes(4)) + message(b"E", b"SFATAL\0VFATAL\0C28000\0Mno such role\0\0")
    verdict = verdict_of(opened(Talk()).client(startup()).server(rejection).server(FIN_ACK).client(FIN_ACK))
    assert (verdict.id, verdict.protocol_detail["sqlstate"]) == (VerdictId.STARTUP_REJECTED, "28000")


@pytest.mark.parametrize("end", [FIN_ACK, RST_ACK], ids=["FIN", "RST"])
def test_the_client_gave_up_waiting_for_an_answer(end: TcpFlags) -> None:
    verdict = verdict_of(opened(Talk()).client(startup()).server(ACK).client(end, ms=3 * SECOND))
    assert (verdict.id, verdict.fault, frames(verdict)) == (
        VerdictId.STARTUP_TIMEOUT,
        Fault.SERVER,
        [4, 5, 6],
    )


def test_the_client_broke_off_at_once() -> None:
    talk = opened(Talk()).client(startup()).server(ACK).client(FIN_ACK, ms=5)
    assert told(talk) == (VerdictId.CLOSED_DURING_STARTUP, Fault.CLIENT, Phase.STARTUP)


def test_the_server_gave_up_waiting_for_the_password() -> None:
    talk = opened(Talk()).client(startup()).server(SASL).client(ACK).server(FIN_ACK, ms=60 * SECOND)
    assert told(talk) == (VerdictId.STARTUP_TIMEOUT, Fault.CLIENT, Phase.AUTHENTICATION)


def test_pg_isready_leaves_when_it_is_asked_to_authenticate() -> None:
    verdict = verdict_of(opened(Talk()).client(startup()).server(SASL).client(FIN_ACK))
    assert (verdict.id, verdict.failed) == (VerdictId.OK, False)


def test_the_client_leaves_in_the_middle_of_the_authentication() -> None:
    talk = opened(Talk()).client(startup()).server(SASL).client(SASL_RESPONSE).server(SASL).client(FIN_ACK)
    assert told(talk) == (VerdictId.CLOSED_DURING_STARTUP, Fault.CLIENT, Phase.AUTHENTICATION)


@pytest.mark.parametrize("end", [FIN_ACK, RST_ACK], ids=["FIN", "RST"])
def test_a_cancel_request_gets_no_answer(end: TcpFlags) -> None:
    verdict = verdict_of(opened(Talk()).client(CANCEL).server(ACK).server(end))
    assert (verdict.id, verdict.failed) == (VerdictId.OK, False)


def test_the_client_insists_on_tls() -> None:
    talk = opened(Talk()).client(SSL_REQUEST).server(b"N").client(FIN_ACK)
    assert verdict_of(talk).id is VerdictId.TLS_REJECTED


def test_http_in_answer_to_postgresql() -> None:
    talk = opened(Talk()).client(startup()).server(b"HTTP/1.1 400 Bad Request\r\n\r\n").server(FIN_ACK)
    verdict = verdict_of(talk)
    assert (verdict.id, frames(verdict)) == (VerdictId.WRONG_PROTOCOL, [4, 5])
    assert "HTTP" in verdict.summary


def test_http_to_a_server_that_speaks_postgresql() -> None:
    talk = opened(Talk()).client(b"GET / HTTP/1.1\r\n\r\n").server(FIN_ACK)
    assert verdict_of(talk, Context(protocol=Protocol.POSTGRESQL)).id is VerdictId.WRONG_PROTOCOL
    assert verdict_of(talk).id is VerdictId.CLOSED_MID_REQUEST


def test_an_answer_that_was_not_captured_is_not_called_missing() -> None:
    talk = opened(Talk()).client(startup()).server(WELCOME).server(RST_ACK)
    del talk.packets[4]
    assert verdict_of(talk).id is not VerdictId.RESET_DURING_STARTUP


def test_a_capture_that_ends_in_the_startup_is_no_failure() -> None:
    assert verdict_of(opened(Talk()).client(startup()).server(ACK)).id is VerdictId.PARTIAL


# -- sessions -----------------------------------------------------------------------------------------------


def test_a_good_session() -> None:
    verdict = verdict_of(good(Talk()))
    assert (verdict.id, verdict.phase, verdict.protocol) == (VerdictId.OK, Phase.CLOSING, Protocol.POSTGRESQL)


def test_a_reset_after_the_goodbye_is_no_failure() -> None:
    assert verdict_of(started().client(TERMINATE).server(RST_ACK)).id is VerdictId.OK


def test_reset_while_a_query_runs() -> None:
    verdict = verdict_of(started().client(QUERY).server(ACK).server(RST_ACK, ms=40))
    assert (verdict.id, verdict.fault, verdict.phase) == (
        VerdictId.RESET_MID_REQUEST,
        Fault.SERVER,
        Phase.REQUEST,
    )
    assert frames(verdict) == [10, 11, 12]


def test_the_client_resets_while_its_query_runs() -> None:
    talk = started().client(QUERY).server(ACK).client(RST_ACK, ms=30 * SECOND)
    assert told(talk) == (VerdictId.RESET_MID_REQUEST, Fault.CLIENT, Phase.REQUEST)


def test_closed_while_a_query_runs() -> None:
    talk = started().client(QUERY).server(ACK).server(FIN_ACK)
    assert told(talk) == (VerdictId.CLOSED_MID_REQUEST, Fault.SERVER, Phase.REQUEST)


def test_an_answered_query_is_not_pending() -> None:
    assert verdict_of(started().client(QUERY).server(ROWS).client(RST_ACK)).id is VerdictId.OK


def test_the_first_query_after_a_long_silence_is_reset() -> None:
    verdict = verdict_of(started().client(QUERY, ms=351 * SECOND).server(RST))
    assert (verdict.id, verdict.fault, verdict.phase) == (VerdictId.RESET_IDLE, Fault.SERVER, Phase.IDLE)
    assert "AWS NLB" in verdict.summary
    assert frames(verdict) == [8, 10, 11]


def test_the_server_closes_an_idle_session() -> None:
    talk = started().server(FIN_ACK, ms=1800 * SECOND)
    verdict = verdict_of(talk)
    assert (verdict.id, verdict.failed, verdict.fault) == (VerdictId.CLOSED_IDLE, False, Fault.NONE)
    assert "RDS Proxy" in verdict.summary


def test_a_pool_uses_the_session_that_the_server_had_closed() -> None:
    verdict = verdict_of(started().server(FIN_ACK, ms=60 * SECOND).client(QUERY, ms=500).server(RST))
    assert (verdict.id, verdict.failed, verdict.fault) == (VerdictId.CLOSED_IDLE, True, Fault.SERVER)


def test_a_goodbye_to_a_session_that_the_server_had_closed_is_no_failure() -> None:
    assert not verdict_of(started().server(FIN_ACK, ms=60 * SECOND).client(TERMINATE).server(RST)).failed


def test_an_administrator_ends_the_session() -> None:
    verdict = verdict_of(started().server(FATAL).server(FIN_ACK))
    assert (verdict.id, verdict.fault) == (VerdictId.SESSION_TERMINATED, Fault.SERVER)
    assert "57P01" in verdict.summary


def test_a_session_from_the_middle_on() -> None:
    talk = Talk().client(QUERY).server(ROWS).client(QUERY).server(ACK).server(RST_ACK)
    verdict = verdict_of(talk)
    assert (verdict.id, verdict.protocol) == (VerdictId.RESET_MID_REQUEST, Protocol.POSTGRESQL)
    assert verdict_of(Talk().client(QUERY).server(ROWS)).id is VerdictId.PARTIAL


# -- protocols that are not known ---------------------------------------------------------------------------


def test_an_unknown_protocol_that_gets_no_answer() -> None:
    talk = opened(Talk()).client(b"\1\2\3 hello there").server(ACK).server(RST_ACK)
    assert told(talk) == (VerdictId.RESET_MID_REQUEST, Fault.SERVER, Phase.DATA)


def test_one_way_data_is_no_failure() -> None:
    talk = (
        opened(Talk()).client(b"<13>a line for syslog\n").server(ACK).client(FIN_ACK, ms=20).server(FIN_ACK)
    )
    assert verdict_of(talk).id is VerdictId.OK


def test_a_server_that_answers_and_closes_is_no_failure() -> None:
    talk = opened(Talk()).client(b"GET / HTTP/1.0\r\n\r\n").server(b"HTTP/1.0 200 OK\r\n\r\n").server(FIN_ACK)
    assert verdict_of(talk.client(FIN_ACK)).id is VerdictId.OK


def test_a_server_that_resets_by_habit() -> None:
    talk = opened(Talk()).client(b"GET / HTTP/1.0\r\n\r\n").server(b"HTTP/1.0 200 OK\r\n\r\n").server(RST_ACK)
    assert verdict_of(talk).id is VerdictId.RESET_MID_REQUEST
    assert verdict_of(talk, Context(resets_by_habit=True)).id is VerdictId.OK


def test_a_lone_rst_says_nothing() -> None:
    assert verdict_of(Talk().server(RST_ACK)).id is VerdictId.PARTIAL


def test_an_rst_after_which_its_sender_goes_on_was_not_the_senders() -> None:
    talk = opened(Talk()).client(b"x" * 40).server(RST_ACK)
    talk.packets[-1] = replace(talk.packets[-1], seq=talk.packets[-1].seq - 1)
    talk.server(b"an answer all the same").client(FIN_ACK).server(FIN_ACK)
    assert verdict_of(talk).id is VerdictId.OK


def test_two_signs_that_the_rst_came_from_elsewhere_are_told() -> None:
    talk = opened(Talk()).client(startup()).server(ACK).server(RST_ACK)
    talk.packets[3] = replace(talk.packets[3], ip_id=4711)
    one_sign = verdict_of(talk)
    talk.packets[-1] = replace(talk.packets[-1], ttl=49, ip_id=4711)
    assert len(verdict_of(talk).candidates) == len(one_sign.candidates) + 1
    assert "TTL 49 against 64" in verdict_of(talk).candidates[-1]


def test_the_peer_vanished() -> None:
    talk = started().client(QUERY)
    for wait in (200, 400, 800, 1600):
        talk.client(QUERY, ms=wait, events=AGAIN)
    verdict = verdict_of(talk)
    assert (verdict.id, verdict.failed, frames(verdict)) == (
        VerdictId.PEER_VANISHED,
        True,
        [10, 11, 12, 13, 14],
    )


def test_only_large_segments_vanish() -> None:
    large = message(b"Q", bytes(1400))
    talk = started().client(QUERY).server(ROWS).client(large)
    for wait in (200, 400, 800, 1600):
        talk.client(large, ms=wait, events=AGAIN)
    verdict = verdict_of(talk)
    assert (verdict.id, verdict.fault, len(verdict.evidence)) == (VerdictId.MTU_BLACK_HOLE, Fault.NETWORK, 5)


def test_a_single_lost_packet_is_no_failure() -> None:
    talk = started().client(QUERY).client(QUERY, ms=200, events=AGAIN).server(ROWS)
    assert verdict_of(talk).id is VerdictId.OK


def test_a_syn_that_the_capture_shows_twice_was_not_repeated() -> None:
    scan = Talk().client(SYN).client(SYN, events=AGAIN).server(SYN_ACK).client(RST)
    assert verdict_of(scan).id is VerdictId.PROBE
    assert verdict_of(Talk().client(SYN).client(SYN, events=AGAIN)).id is VerdictId.PARTIAL


def test_evidence_lies_right_when_a_session_is_recognised_late() -> None:
    talk = Talk().server(b"in the middle of a row").client(ACK).client(QUERY).server(ROWS)
    verdict = verdict_of(talk.client(QUERY, ms=5).server(ACK).server(RST_ACK))
    assert verdict.id is VerdictId.RESET_MID_REQUEST
    assert frames(verdict) == [5, 6, 7]


def test_a_start_up_whose_syn_was_not_captured() -> None:
    talk = opened(Talk()).client(startup()).server(ACK).server(RST_ACK)
    del talk.packets[:2]
    verdict = verdict_of(talk)
    assert (verdict.id, frames(verdict)) == (VerdictId.RESET_DURING_STARTUP, [4, 5, 6])
