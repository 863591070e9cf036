"""The names of the application's messages, packet by packet, for the arrows of a ladder.

As the protocol's own documentation names them; what is encrypted is called so.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

from podcam.model.connection import Conversation, TcpFlags
from podcam.model.text import printable
from podcam.model.verdict import Protocol
from podcam.report.ladder import Messages
from podcam.wire import postgres, tls
from podcam.wire.stream import Data, Malformed, Piece, Reassembler, Side

_TLS_HANDSHAKE = {
    4: "NewSessionTicket",
    8: "EncryptedExtensions",
    11: "Certificate",
    12: "ServerKeyExchange",
    13: "CertificateRequest",
    14: "ServerHelloDone",
    15: "CertificateVerify",
    16: "ClientKeyExchange",
    20: "Finished",
    22: "CertificateStatus",
}
"""RFC 8446, appendix B.3, with those of earlier versions (RFC 5246, section 7.4)."""


def messages_of(conversation: Conversation, protocol: Protocol) -> Messages:
    """For a frame, the names of the messages whose first byte it carries, for the first time or again."""
    parser = _parser_for(conversation, protocol)
    if parser is None:
        return {}
    streams: dict[Side, Reassembler] = {}
    segments: list[tuple[Side, int, int, int]] = []
    messages: dict[Side, list[tuple[int, str]]] = {Side.CLIENT: [], Side.SERVER: []}

    def hear(side: Side, pieces: list[Piece]) -> None:
        for piece in pieces:
            heard = (
                parser.feed(side, piece.data) if isinstance(piece, Data) else parser.gap(side, piece.length)
            )
            for event in heard:
                if not isinstance(event, tls.HandshakeComplete | Malformed):
                    messages[event.span.side].append((event.span.start, message_name(event)))

    for packet in conversation.packets:
        if packet.icmp is not None or packet.has(TcpFlags.RST):
            continue
        side = Side.CLIENT if packet.from_client else Side.SERVER
        seq = packet.seq + packet.has(TcpFlags.SYN) & 0xFFFFFFFF
        stream = streams.setdefault(side, Reassembler(seq))
        if packet.has(TcpFlags.ACK) and side.other in streams:
            hear(side.other, streams[side.other].acknowledged(packet.ack))
        if packet.payload_bytes:
            start = stream.offset(seq)
            segments.append((side, start, start + packet.payload_bytes, packet.frame))
            hear(side, stream.segment(seq, packet.payload, packet.payload_bytes))
    return _by_frame(messages, segments)


def _parser_for(
    conversation: Conversation, protocol: Protocol
) -> postgres.PostgresParser | tls.TlsParser | None:
    """By the client's first bytes, as a diagnosis tells it; `protocol` helps where they are not there."""
    said = (packet.payload for packet in conversation.packets if packet.from_client and packet.payload)
    head = next(said, b"")
    if tls.looks_like_client_hello(head) or protocol is Protocol.TLS:
        return tls.TlsParser()
    if postgres.looks_like_startup(head) or protocol is Protocol.POSTGRESQL:
        return postgres.PostgresParser(from_start=conversation.syn_seen)
    return None


def _by_frame(
    messages: Mapping[Side, list[tuple[int, str]]], segments: Iterable[tuple[Side, int, int, int]]
) -> Messages:
    """Which messages begin in which frame: both lie in the same stream of bytes."""
    for of_side in messages.values():
        of_side.sort(key=itemgetter(0))
    names: dict[int, list[str]] = {}
    for side, start, end, frame in segments:
        first = bisect_left(messages[side], start, key=itemgetter(0))
        behind = bisect_left(messages[side], end, key=itemgetter(0))
        if first < behind:
            names[frame] = [name for _, name in messages[side][first:behind]]
    return names


def message_name(event: object) -> str:
    """What a message is called; by the name of its event where that is the protocol's own."""
    name = _NAMES.get(type(event))
    return type(event).__name__ if name is None else name(event)


def _authentication(event: postgres.Authentication) -> str:
    words = postgres.authentication_name(event.code).split()
    return "Authentication" + "".join(word[:1].upper() + word[1:] for word in words)


def _encryption_response(event: postgres.EncryptionResponse) -> str:
    what = "TLS" if event.kind == "tls" else "GSS encryption"
    return f"{what} {'accepted' if event.accepted else 'refused'}"


def _encrypted_record(event: tls.EncryptedRecord) -> str:
    return "encrypted data" if event.role is tls.RecordRole.APPLICATION else f"encrypted {event.role}"


_NAMES: Mapping[type, Callable[[Any], str]] = {
    postgres.EncryptionRequest: lambda event: "SSLRequest" if event.kind == "tls" else "GSSENCRequest",
    postgres.EncryptionResponse: _encryption_response,
    postgres.Authentication: _authentication,
    postgres.ErrorResponse: lambda event: f"ErrorResponse {printable(event.sqlstate)}",
    postgres.Request: lambda event: event.name,
    tls.ServerHello: lambda event: "HelloRetryRequest" if event.retry else "ServerHello",
    tls.HandshakeMessage: lambda event: _TLS_HANDSHAKE.get(event.type, f"handshake message {event.type}"),
    tls.Alert: lambda event: f"Alert {tls.alert_name(event.description)}",
    tls.EncryptedRecord: _encrypted_record,
}
