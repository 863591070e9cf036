"""PostgreSQL from the first byte: what each side sends, and what is heard."""

from collections.abc import Iterable

import pytest

from conversations import QUERY, ROWS, SASL, SASL_RESPONSE, TERMINATE, WELCOME, message, startup
from podcam.wire.postgres import (
    Authentication,
    BackendKeyData,
    CancelRequest,
    EncryptionRequest,
    EncryptionResponse,
    ErrorResponse,
    NegotiateProtocolVersion,
    NoticeResponse,
    ParameterStatus,
    PasswordMessage,
    PostgresEvent,
    PostgresParser,
    ReadyForQuery,
    Request,
    StartupMessage,
    Terminate,
    looks_like_message,
    looks_like_startup,
)
from podcam.wire.stream import Malformed, Side, Span
from podcam.wire.tls import ClientHello

CLIENT, SERVER = Side.CLIENT, Side.SERVER


def int32(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4) for number in numbers)


SSL_REQUEST = int32(8, 80877103)
GSSENC_REQUEST = int32(8, 80877104)
CLIENT_HELLO = bytes.fromhex("160301002d010000290303") + bytes(33) + bytes.fromhex("0002130101000000")[:6]


def hear(*said: tuple[Side, bytes], from_start: bool = True) -> list[PostgresEvent]:
    parser = PostgresParser(from_start=from_start)
    return [event for side, data in said for event in parser.feed(side, data)]


def kinds(events: Iterable[PostgresEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_a_session_from_startup_to_goodbye() -> None:
    events = hear(
        (CLIENT, startup()),
        (SERVER, SASL),
        (CLIENT, SASL_RESPONSE),
        (SERVER, WELCOME),
        (CLIENT, QUERY),
        (SERVER, ROWS),
        (CLIENT, TERMINATE),
    )
    assert isinstance(events[0], StartupMessage)
    assert (events[0].major, events[0].minor, events[0].parameters["user"]) == (3, 0, "app")
    assert events[0].span == Span(CLIENT, 0, len(startup()))
    assert isinstance(events[1], Authentication)
    assert (events[1].code, events[1].mechanisms) == (10, ("SCRAM-SHA-256",))
    assert kinds(events[2:6]) == ["PasswordMessage", "Authentication", "Authentication", "ParameterStatus"]
    assert kinds(events[-6:]) == [
        "ParameterStatus",
        "BackendKeyData",
        "ReadyForQuery",
        "Request",
        "ReadyForQuery",
        "Terminate",
    ]


def test_protocol_3_2_has_longer_keys() -> None:
    body = int32(196610) + b"user\0app\0\0"
    key = bytes(range(32))
    events = hear(
        (CLIENT, int32(len(body) + 4) + body),
        (SERVER, message(b"v", int32(196610, 1) + b"_pq_.odd\0") + message(b"R", int32(0))),
        (SERVER, message(b"K", int32(4242) + key)),
    )
    assert isinstance(events[0], StartupMessage)
    assert events[0].minor == 2
    assert isinstance(events[1], NegotiateProtocolVersion)
    assert (events[1].version, events[1].unsupported) == (196610, ("_pq_.odd",))
    assert isinstance(events[3], BackendKeyData)
    assert (events[3].process_id, events[3].key) == (4242, key)


def test_tls_refused_then_in_the_clear() -> None:
    events = hear((CLIENT, SSL_REQUEST), (SERVER, b"N"), (CLIENT, startup()))
    assert events[:2] == [
        EncryptionRequest(Span(CLIENT, 0, 8), "tls"),
        EncryptionResponse(Span(SERVER, 0, 1), "tls", accepted=False),
    ]
    assert isinstance(events[2], StartupMessage)
    assert events[2].span.start == 8


def test_gss_refused_then_tls_accepted() -> None:
    events = hear(
        (CLIENT, GSSENC_REQUEST),
        (SERVER, b"N"),
        (CLIENT, SSL_REQUEST),
        (SERVER, b"S"),
        (CLIENT, CLIENT_HELLO),
    )
    assert kinds(events) == [
        "EncryptionRequest",
        "EncryptionResponse",
        "EncryptionRequest",
        "EncryptionResponse",
        "ClientHello",
    ]
    assert isinstance(events[4], ClientHello)
    assert events[4].span == Span(CLIENT, 16, 16 + len(CLIENT_HELLO))


def test_gss_accepted_hides_the_rest() -> None:
    said = hear((CLIENT, GSSENC_REQUEST), (SERVER, b"G"), (CLIENT, int32(99) + bytes(95)), (SERVER, bytes(7)))
    assert kinds(said) == ["EncryptionRequest", "EncryptionResponse"]


def test_an_old_server_answers_a_request_for_tls_with_an_error() -> None:
    error = message(b"E", b"SFATAL\0C0A000\0Munsupported frontend protocol\0\0")
    events = hear((CLIENT, SSL_REQUEST), (SERVER, error))
    assert isinstance(events[1], ErrorResponse)
    assert (events[1].severity, events[1].sqlstate, events[1].fatal) == ("FATAL", "0A000", True)


@pytest.mark.parametrize("key_bytes", [4, 32, 256])
def test_cancel_requests(key_bytes: int) -> None:
    events = hear((CLIENT, int32(12 + key_bytes, 80877102, 4242) + bytes(key_bytes)))
    assert events == [CancelRequest(Span(CLIENT, 0, 12 + key_bytes), 4242, bytes(key_bytes))]


def test_the_untranslated_severity_is_preferred() -> None:
    error = message(b"E", b"SFATALE\0VFATAL\0C28P01\0Mniet\0\0")
    events = hear((CLIENT, startup()), (SERVER, error))
    assert isinstance(events[1], ErrorResponse)
    assert (events[1].severity, events[1].message) == ("FATAL", "niet")


def test_a_notice_can_come_before_ready_for_query() -> None:
    notice = message(b"N", b"SNOTICE\0C00000\0Mqueued\0\0")
    events = hear((CLIENT, startup()), (SERVER, notice + message(b"Z", b"I")))
    assert isinstance(events[1], NoticeResponse)
    assert isinstance(events[2], ReadyForQuery)
    assert events[2].status == "I"


def test_messages_without_meaning_for_the_session_are_skipped_unread() -> None:
    parser = PostgresParser()
    parser.feed(CLIENT, startup())
    parser.feed(SERVER, WELCOME)
    big = message(b"D", bytes(1 << 20))
    assert parser.feed(SERVER, big[:100]) == []
    assert parser.feed(SERVER, big[100:]) == []
    assert kinds(parser.feed(SERVER, message(b"Z", b"I"))) == ["ReadyForQuery"]


def test_extended_queries_end_with_sync() -> None:
    parse, sync = message(b"P", b"\0select 1\0\0\0"), message(b"S")
    events = hear((CLIENT, startup()), (SERVER, WELCOME), (CLIENT, parse + sync))[-2:]
    assert [(event.name, event.ends_with_ready) for event in events if isinstance(event, Request)] == [
        ("Parse", False),
        ("Sync", True),
    ]


def test_an_answer_of_another_protocol() -> None:
    events = hear((CLIENT, startup()), (SERVER, b"HTTP/1.1 400 Bad Request\r\n"), (SERVER, b"more"))
    assert kinds(events) == ["StartupMessage", "Malformed"]
    assert kinds(hear((CLIENT, SSL_REQUEST), (SERVER, b"220 hi\r\n"))) == [
        "EncryptionRequest",
        "Malformed",
    ]


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n", int32(7, 196608), int32(20_000, 196608), int32(9, 80877103) + b"x"]
)
def test_other_first_bytes_are_malformed(first: bytes) -> None:
    events = hear((CLIENT, first))
    assert isinstance(events[0], Malformed)
    assert not looks_like_startup(first)


def test_behind_a_gap_the_next_segment_is_tried() -> None:
    parser = PostgresParser()
    parser.feed(CLIENT, startup())
    parser.feed(SERVER, WELCOME[:20])
    assert kinds(parser.gap(SERVER, 500)) == ["Authentication", "Malformed"]
    assert parser.feed(SERVER, b"\xff\xff in the middle of a message") == []
    assert kinds(parser.feed(SERVER, message(b"S", b"TimeZone\0UTC\0") + message(b"Z", b"T"))) == [
        "ParameterStatus",
        "ReadyForQuery",
    ]


def test_a_gap_within_skipped_bytes_is_no_loss() -> None:
    parser = PostgresParser()
    parser.feed(CLIENT, startup())
    parser.feed(SERVER, WELCOME)
    parser.feed(SERVER, message(b"D", bytes(5000))[:100])
    assert parser.gap(SERVER, 4905) == []
    assert kinds(parser.feed(SERVER, message(b"Z", b"I"))) == ["ReadyForQuery"]


def test_a_startup_message_cut_by_a_snap_length() -> None:
    parser = PostgresParser()
    assert parser.feed(CLIENT, startup()[:20]) == []
    events = parser.gap(CLIENT, len(startup()) - 20)
    assert isinstance(events[0], StartupMessage)
    assert events[0].parameters["user"] == "app"
    assert kinds(parser.feed(CLIENT, SASL_RESPONSE)) == ["PasswordMessage"]


def test_from_the_middle_on() -> None:
    events = hear((SERVER, ROWS), (CLIENT, QUERY), (SERVER, ROWS), (CLIENT, TERMINATE), from_start=False)
    assert kinds(events) == ["ReadyForQuery", "Request", "ReadyForQuery", "Terminate"]


def test_whole_messages_are_recognised_in_the_middle() -> None:
    assert looks_like_message(SERVER, ROWS)
    assert looks_like_message(CLIENT, QUERY + TERMINATE)
    assert not looks_like_message(CLIENT, ROWS)
    assert not looks_like_message(SERVER, ROWS[:-1])
    assert not looks_like_message(SERVER, b"HTTP/1.1 200 OK\r\n")
    assert not looks_like_message(SERVER, b"")


def test_passwords_are_not_kept() -> None:
    events = hear((CLIENT, startup()), (SERVER, SASL), (CLIENT, message(b"p", b"secret\0")))
    assert isinstance(events[2], PasswordMessage)
    assert "secret" not in repr(events)


def test_settings_that_the_server_reports() -> None:
    welcome = message(b"R", int32(0)) + message(b"S", b"TimeZone\0Europe/Berlin\0")
    events = hear((CLIENT, startup()), (SERVER, welcome))
    assert isinstance(events[2], ParameterStatus)
    assert (events[2].name, events[2].value) == ("TimeZone", "Europe/Berlin")


def test_goodbye() -> None:
    assert isinstance(hear((CLIENT, startup()), (SERVER, WELCOME), (CLIENT, TERMINATE))[-1], Terminate)
