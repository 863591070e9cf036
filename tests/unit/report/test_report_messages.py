"""Which application messages begin in which frame."""

from conversations import ACK, RST_ACK, SASL, WELCOME, Talk, good, message, opened, startup
from podcam.model.connection import TcpEvent
from podcam.model.verdict import Protocol
from podcam.report.messages import messages_of

SSL_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)


def named(talk: Talk, protocol: Protocol = Protocol.UNKNOWN) -> dict[int, list[str]]:
    return {frame: list(names) for frame, names in messages_of(talk.conversation(), protocol).items()}


def test_a_whole_session() -> None:
    assert named(good(Talk())) == {
        4: ["StartupMessage"],
        6: ["AuthenticationSASL"],
        7: ["PasswordMessage"],
        8: ["AuthenticationSASLContinue"],
        9: ["PasswordMessage"],
        10: [
            "AuthenticationSASLFinal",
            "AuthenticationOk",
            *["ParameterStatus"] * 13,
            "BackendKeyData",
            "ReadyForQuery",
        ],
        11: ["Query"],
        12: ["ReadyForQuery"],
        13: ["Terminate"],
    }


def test_a_message_is_named_where_it_begins() -> None:
    talk = opened(Talk()).client(startup()).server(WELCOME[:20]).server(WELCOME[20:])
    assert named(talk)[5] == ["AuthenticationSASLFinal"]
    assert named(talk)[6][0] == "AuthenticationOk"


def test_what_is_sent_again_keeps_its_name() -> None:
    talk = opened(Talk()).client(startup()).client(startup(), ms=200, events=TcpEvent.RETRANSMISSION)
    assert named(talk) == {4: ["StartupMessage"], 5: ["StartupMessage"]}


def test_encryption_is_asked_for_and_granted() -> None:
    hello = b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03" + bytes(32) + b"\0\0\2\x13\1\1\0\0\0"
    talk = opened(Talk()).client(SSL_REQUEST).server(b"S").client(hello).server(RST_ACK)
    assert named(talk) == {4: ["SSLRequest"], 5: ["TLS accepted"], 6: ["ClientHello"]}
    assert named(opened(Talk()).client(hello)) == {4: ["ClientHello"]}
    assert named(opened(Talk()).client(SSL_REQUEST).server(b"N"))[5] == ["TLS refused"]


def test_an_error_is_named_with_its_code() -> None:
    error = message(b"E", b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed\0\0")
    assert named(opened(Talk()).client(startup()).server(error))[5] == ["ErrorResponse 28P01"]
    hostile = message(b"E", b"SFATAL\0VFATAL\0C\x1b[2J\0Mx\0\0")
    assert named(opened(Talk()).client(startup()).server(hostile))[5] == ["ErrorResponse \\x1b[2J"]


def test_what_is_not_known_has_no_names() -> None:
    assert named(opened(Talk()).client(b"GET / HTTP/1.1\r\n\r\n").server(b"HTTP/1.1 200 OK\r\n\r\n")) == {}
    assert named(opened(Talk()).client(ACK)) == {}


def test_the_middle_of_a_session_is_read_where_the_diagnosis_knows_the_protocol() -> None:
    talk = Talk().client(message(b"Q", b"select 1\0"))
    assert named(talk, Protocol.POSTGRESQL) == {1: ["Query"]}
    assert named(opened(Talk()).client(startup()).server(SASL))[5] == ["AuthenticationSASL"]
