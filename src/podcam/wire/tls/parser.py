"""TLS records to events, without keys (RFC 8446, section 5; RFC 5246, section 6).

Which encrypted record is the client's Finished decides what is the first application record after it. Before
TLS 1.3 the content type tells. In TLS 1.3 every encrypted record claims to be application data, but a
Finished has a length of its own: that of the cipher suite's hash.
"""

from dataclasses import dataclass, field

from podcam.wire.stream import Malformed, Side, Span, Unparsed
from podcam.wire.tls.messages import (
    TLS_1_3,
    Alert,
    ChangeCipherSpec,
    EncryptedRecord,
    HandshakeComplete,
    HandshakeMessage,
    RecordRole,
    TlsEvent,
    client_hello,
    server_hello,
)

_RECORD_HEADER = 5
_MAX_RECORD = (1 << 14) + 2048
"""RFC 5246, section 6.2.3; TLS 1.3 allows less."""
_MAX_HANDSHAKE_BODY = 1 << 16
"""What is kept of a message that spans records: a hello is far shorter, a certificate is not looked into."""

_CHANGE_CIPHER_SPEC = 20
_ALERT = 21
_HANDSHAKE = 22
_APPLICATION_DATA = 23

_CLIENT_HELLO = 1
_SERVER_HELLO = 2

_ALERT_LENGTH = 2
_AES_256_GCM_SHA384 = 0x1302
_AES_128_CCM_8_SHA256 = 0x1305


def looks_like_client_hello(head: bytes) -> bool:
    """Whether a client's first bytes begin a TLS handshake. Six bytes tell for sure; with fewer, so far."""
    expected = ({_HANDSHAKE}, {3}, range(5), range(_MAX_RECORD >> 8), range(256), {_CLIENT_HELLO})
    return bool(head) and all(byte in allowed for byte, allowed in zip(head, expected, strict=False))


def looks_like_record(data: bytes) -> bool:
    """Whether bytes from the middle of a connection begin a TLS record."""
    return len(data) >= _RECORD_HEADER and _plausible(data[:_RECORD_HEADER])


def _plausible(header: bytes) -> bool:
    return (
        _CHANGE_CIPHER_SPEC <= header[0] <= _APPLICATION_DATA
        and header[1] == 3
        and header[2] <= 4
        and 0 < int.from_bytes(header[3:5]) <= _MAX_RECORD
    )


@dataclass(slots=True)
class _Direction:
    records: Unparsed
    handshake: bytearray = field(default_factory=bytearray)
    handshake_start: int = 0
    handshake_skip: int = 0
    encrypted: bool = False
    finished: bool = False
    in_step: bool = True
    """Whether the next byte is known to begin a record."""


class TlsParser:
    """Follows both sides of a TLS connection from its ClientHello on, or from anywhere.

    Args:
        client_offset, server_offset: where in each side's stream TLS begins.
    """

    def __init__(self, client_offset: int = 0, server_offset: int = 0) -> None:
        self._directions = {
            Side.CLIENT: _Direction(Unparsed(Side.CLIENT, client_offset)),
            Side.SERVER: _Direction(Unparsed(Side.SERVER, server_offset)),
        }
        self._version: int | None = None
        self._cipher_suite = 0
        self._complete = False

    def feed(self, side: Side, data: bytes) -> list[TlsEvent]:
        """Take the next bytes of one side."""
        direction = self._directions[side]
        direction.records.append(data)
        events: list[TlsEvent] = []
        while self._record(side, direction, events):
            pass
        return events

    def gap(self, side: Side, length: int) -> list[TlsEvent]:
        """Bytes are missing: look for a record at the start of what comes behind them."""
        direction = self._directions[side]
        start = direction.records.end
        events: list[TlsEvent] = []
        if direction.in_step and len(direction.records):
            self._record(side, direction, events, cut=True)
        if direction.records.lose(length) == 0:
            return events
        direction.in_step = False
        direction.handshake.clear()
        return [*events, Malformed(Span(side, start, start + length), "not captured")]

    def _record(
        self, side: Side, direction: _Direction, events: list[TlsEvent], *, cut: bool = False
    ) -> bool:
        """Use up one record. Returns whether there may be another.

        `cut` tells that no more of it was captured: then what is there is read.
        """
        records = direction.records
        if len(records) < _RECORD_HEADER:
            return False
        header = records.peek(_RECORD_HEADER)
        content_type, length = header[0], int.from_bytes(header[3:5])
        if not _plausible(header):
            was_in_step, direction.in_step = direction.in_step, False
            span = records.take(len(records))
            if was_in_step:
                events.append(Malformed(span, "not a TLS record"))
            return False
        encrypted = self._is_encrypted(direction, content_type, length)
        if not encrypted and not cut and len(records) < _RECORD_HEADER + length:
            return False
        direction.in_step = True
        body = b"" if encrypted else records.peek(length, _RECORD_HEADER)
        span = records.take(_RECORD_HEADER + length)
        if encrypted:
            events += self._encrypted_record(side, direction, content_type, length, span)
        else:
            events += self._clear_record(side, direction, content_type, body, span, cut=cut)
        return True

    def _is_encrypted(self, direction: _Direction, content_type: int, length: int) -> bool:
        if content_type == _APPLICATION_DATA:
            return True
        if content_type == _CHANGE_CIPHER_SPEC:
            return False
        return direction.encrypted or (content_type == _ALERT and length != _ALERT_LENGTH)

    def _clear_record(
        self, side: Side, direction: _Direction, content_type: int, body: bytes, span: Span, *, cut: bool
    ) -> list[TlsEvent]:
        if content_type == _CHANGE_CIPHER_SPEC:
            direction.encrypted = self._version != TLS_1_3
            return [ChangeCipherSpec(span)]
        if content_type == _ALERT:
            return [Alert(span, body[0], body[1])] if len(body) == _ALERT_LENGTH else []
        return self._handshake(side, direction, body, span, cut=cut)

    def _handshake(
        self, side: Side, direction: _Direction, body: bytes, span: Span, *, cut: bool
    ) -> list[TlsEvent]:
        skipped = min(direction.handshake_skip, len(body))
        direction.handshake_skip -= skipped
        buffer = direction.handshake
        if not buffer:
            direction.handshake_start = span.start
        buffer += body[skipped:]
        events: list[TlsEvent] = []
        while len(buffer) >= 4:
            kind, length = buffer[0], int.from_bytes(buffer[1:4])
            wanted = kind in {_CLIENT_HELLO, _SERVER_HELLO} and length <= _MAX_HANDSHAKE_BODY
            missing = wanted and len(buffer) < 4 + length
            if missing and not cut:
                break
            content = bytes(buffer[4 : 4 + length])
            direction.handshake_skip = max(0, 4 + length - len(buffer))
            del buffer[: 4 + length]
            message = Span(side, direction.handshake_start, span.end)
            if missing and kind == _SERVER_HELLO:  # its version may be among what is missing
                events.append(HandshakeMessage(message, kind))
            else:
                events.append(self._message(side, kind, content, message))
            direction.handshake_start = span.start
        return events

    def _message(self, side: Side, kind: int, content: bytes, span: Span) -> TlsEvent:
        if kind == _CLIENT_HELLO and side is Side.CLIENT:
            return client_hello(content, span)
        if kind == _SERVER_HELLO and side is Side.SERVER:
            hello = server_hello(content, span)
            self._version = hello.version
            self._cipher_suite = hello.cipher_suite
            return hello
        return HandshakeMessage(span, kind)

    def _encrypted_record(
        self, side: Side, direction: _Direction, content_type: int, length: int, span: Span
    ) -> list[TlsEvent]:
        direction.encrypted = True
        if self._version == TLS_1_3:
            role = self._role_in_tls_1_3(side, direction, length)
        else:
            role = self._role_before_tls_1_3(direction, content_type)
        events: list[TlsEvent] = [EncryptedRecord(span, content_type, length, role)]
        if not self._complete and self._both_finished():
            self._complete = True
            events.append(HandshakeComplete(span))
        return events

    def _both_finished(self) -> bool:
        if self._version == TLS_1_3:
            return self._directions[Side.CLIENT].finished
        return all(direction.finished for direction in self._directions.values())

    def _role_before_tls_1_3(self, direction: _Direction, content_type: int) -> RecordRole:
        if content_type == _ALERT:
            return RecordRole.ALERT
        if content_type == _HANDSHAKE:
            direction.finished = True
            return RecordRole.HANDSHAKE
        return RecordRole.APPLICATION

    def _role_in_tls_1_3(self, side: Side, direction: _Direction, length: int) -> RecordRole:
        tag = 8 if self._cipher_suite == _AES_128_CCM_8_SHA256 else 16
        hidden_type = 1
        if length == _ALERT_LENGTH + hidden_type + tag:
            return RecordRole.ALERT
        client = self._directions[Side.CLIENT]
        if side is Side.SERVER and client.encrypted:
            client.finished = (
                True  # the server had its flight behind it: what the client sent ended with Finished
            )
        if self._complete or client.finished:
            return RecordRole.APPLICATION
        hash_length = 48 if self._cipher_suite == _AES_256_GCM_SHA384 else 32
        if side is Side.CLIENT and length == 4 + hash_length + hidden_type + tag:
            direction.finished = True
        return RecordRole.HANDSHAKE
