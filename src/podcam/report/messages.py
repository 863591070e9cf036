"""The names of the application's messages, packet by packet, for the arrows of a ladder.

As the protocol's own documentation names them; what is encrypted is called so.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from podcam.diagnose.transcript import Transcript
from podcam.model.connection import Conversation
from podcam.report.ladder import Messages
from podcam.report.spelling import printable
from podcam.wire import postgres, tls
from podcam.wire.stream import Malformed

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


def messages_of(conversation: Conversation) -> Messages:
    """For a frame, the names of the messages whose first byte it carries."""
    transcript = Transcript(conversation)
    names: defaultdict[int, list[str]] = defaultdict(list)
    for told in transcript.told:
        packet = transcript.first_packet_of(told.event.span)
        if packet is not None and not isinstance(told.event, (tls.HandshakeComplete, Malformed)):
            names[packet.frame].append(message_name(told.event))
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
