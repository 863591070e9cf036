"""What packets are called."""

import pytest

from conversations import ACK, FIN_ACK, RST_ACK, SYN, SYN_ACK, Talk
from podcam.model.connection import NO_EVENTS, IcmpError, Packet, TcpEvent, TcpFlags
from podcam.report.packets import spellings


def packet(sent: TcpFlags | bytes, events: TcpEvent = NO_EVENTS) -> Packet:
    return Talk().client(sent, events=events).packets[0]


@pytest.mark.parametrize(
    ("sent", "spelling"),
    [
        (SYN, "SYN"),
        (SYN_ACK, "SYN, ACK"),
        (ACK, "ACK"),
        (FIN_ACK, "FIN, ACK"),
        (RST_ACK, "RST, ACK"),
        (TcpFlags(0), "no flags"),
        (b"x" * 1448, "data, 1,448 B"),
    ],
)
def test_bare_packets(sent: TcpFlags | bytes, spelling: str) -> None:
    assert spellings(packet(sent), ())[0] == spelling


def test_spellings_become_shorter() -> None:
    names = ["AuthenticationSASLFinal", "AuthenticationOk", *["ParameterStatus"] * 13, "ReadyForQuery"]
    assert spellings(packet(b"x" * 402), names) == (
        "AuthenticationSASLFinal, AuthenticationOk, 13 ParameterStatus, ReadyForQuery, 402 B",
        "AuthenticationSASLFinal … ReadyForQuery, 402 B",
        "AuthenticationSASLFinal … ReadyForQuery",
        "AuthSASLFinal … ReadyForQuery",
        "… ReadyForQuery",
    )


def test_a_flight_of_tls_is_named_by_its_ends() -> None:
    names = ["ServerHello", "ChangeCipherSpec", *["encrypted handshake"] * 4]
    assert "ServerHello … 4 enc. handshake" in spellings(packet(b"x" * 800), names)


@pytest.mark.parametrize(
    ("event", "spelling"),
    [
        (TcpEvent.RETRANSMISSION, "ACK, retransmission"),
        (TcpEvent.RETRANSMISSION | TcpEvent.FAST_RETRANSMISSION, "ACK, retransmission"),
        (TcpEvent.ZERO_WINDOW, "ACK, zero window"),
        (TcpEvent.DUPLICATE_ACK | TcpEvent.LOST_SEGMENT, "ACK, segment before it not captured, duplicate"),
    ],
)
def test_what_wireshark_says_of_a_packet_is_said_too(event: TcpEvent, spelling: str) -> None:
    assert spellings(packet(ACK, event), ())[0] == spelling


@pytest.mark.parametrize(
    ("error", "spelling"),
    [
        (IcmpError(4, 3, 13, "10.0.0.1"), "ICMP administratively prohibited from 10.0.0.1"),
        (IcmpError(4, 3, 77, "10.0.0.1"), "ICMP unreachable, code 77 from 10.0.0.1"),
        (IcmpError(4, 11, 0, "10.0.0.1"), "ICMP time exceeded from 10.0.0.1"),
        (IcmpError(6, 1, 3, "fe80::1"), "ICMP address unreachable from fe80::1"),
        (IcmpError(6, 2, 0, "fe80::1"), "ICMP packet too big from fe80::1"),
        (IcmpError(4, 5, 1, "10.0.0.1"), "ICMP type 5 code 1 from 10.0.0.1"),
    ],
)
def test_icmp_errors(error: IcmpError, spelling: str) -> None:
    quoting = Talk().client(SYN).icmp(error).packets[-1]
    assert spellings(quoting, ())[0] == spelling
