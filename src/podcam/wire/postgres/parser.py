"""Both sides of a PostgreSQL connection to events (PostgreSQL documentation, "Message Flow").

The client's first packets have no type byte; a request for encryption is answered by a single byte, after
which everything may belong to TLS, or (GSS) cannot be seen any more. Everything else is a type, a length and
a body.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from podcam.wire.postgres.messages import (
    CANCEL_REQUEST_CODE,
    GSSENC_REQUEST_CODE,
    SSL_REQUEST_CODE,
    CancelRequest,
    EncryptionRequest,
    EncryptionResponse,
    PasswordMessage,
    PostgresEvent,
    ReadyForQuery,
    Request,
    Terminate,
    authentication,
    backend_key_data,
    error_response,
    negotiate_protocol_version,
    notice_response,
    parameter_status,
    startup_message,
)
from podcam.wire.stream import Malformed, Side, Span, Unparsed
from podcam.wire.tls import TlsParser

_MAX_STARTUP_PACKET = 10_000
"""MAX_STARTUP_PACKET_LENGTH in pqcomm.h."""
_MAX_BODY = 1 << 16
"""What is kept of a body that is looked into; the server itself allows 64 KB for authentication tokens."""
_MAX_MESSAGE = 1 << 30
"""PQ_LARGE_MESSAGE_LIMIT in libpq.h, near enough."""

_REQUESTS = {
    b"Q": ("Query", True),
    b"F": ("FunctionCall", True),
    b"S": ("Sync", True),
    b"P": ("Parse", False),
    b"B": ("Bind", False),
    b"D": ("Describe", False),
    b"E": ("Execute", False),
    b"C": ("Close", False),
    b"H": ("Flush", False),
}
_FRONTEND_COPY = frozenset({b"d", b"c", b"f"})
_PASSWORD = b"p"
_TERMINATE = b"X"

_ANSWERS: dict[bytes, Callable[[Span, bytes], PostgresEvent]] = {
    b"R": authentication,
    b"S": parameter_status,
    b"K": backend_key_data,
    b"Z": lambda span, body: ReadyForQuery(span, body[:1].decode("ascii", "replace")),
    b"E": error_response,
    b"N": notice_response,
    b"v": negotiate_protocol_version,
}
_FEWEST_BYTES = {b"R": 4, b"K": 4, b"v": 8}
"""Of a body, for messages that would be misread with fewer."""
_BACKEND_DATA = frozenset(b"123ACDGHITVWcdnst"[i : i + 1] for i in range(17))
_BACKEND_TYPES = _BACKEND_DATA | _ANSWERS.keys()
_FRONTEND_TYPES = _FRONTEND_COPY | _REQUESTS.keys() | {_PASSWORD, _TERMINATE}
_FIRST_ANSWERS = frozenset({b"R", b"E", b"N", b"v"})
"""What a server may answer a StartupMessage with."""


def looks_like_startup(head: bytes) -> bool:
    """Whether a client's first bytes begin a PostgreSQL connection in the clear. Needs eight of them."""
    if len(head) < 8:
        return False
    length, code = int.from_bytes(head[:4]), int.from_bytes(head[4:8])
    if code in {SSL_REQUEST_CODE, GSSENC_REQUEST_CODE}:
        return length == 8
    if code == CANCEL_REQUEST_CODE:
        return 16 <= length <= 268
    return code >> 16 == 3 and 8 < length <= _MAX_STARTUP_PACKET


def looks_like_message(side: Side, data: bytes) -> bool:
    """Whether bytes from the middle of a connection are whole messages with a type, one after the other."""
    at = 0
    while at + 5 <= len(data):
        kind = data[at : at + 1]
        known = kind in _BACKEND_TYPES if side is Side.SERVER else kind in _FRONTEND_TYPES
        length = int.from_bytes(data[at + 1 : at + 5])
        if not known or not 4 <= length <= _MAX_MESSAGE:
            return False
        at += 1 + length
    return at > 0 and at == len(data)


class _Mode(Enum):
    STARTUP = auto()
    """The client's packets without a type."""
    WAITING = auto()
    """The client asked for encryption: its next bytes mean nothing before the answer."""
    ENCRYPTION_RESPONSE = auto()
    """The server's single byte."""
    MESSAGES = auto()
    LOST = auto()
    """After a gap: a message may begin with the next bytes."""
    OPAQUE = auto()
    """GSS encryption, or not this protocol."""


@dataclass(slots=True)
class _Direction:
    bytes: Unparsed
    mode: _Mode


class PostgresParser:
    """Follows both sides of a connection.

    Args:
        from_start: whether the first bytes fed are the first of the connection; otherwise the parser looks
            for messages as it does behind a gap.
        client_offset, server_offset: where in each side's stream the first bytes fed lie.
    """

    def __init__(self, *, from_start: bool = True, client_offset: int = 0, server_offset: int = 0) -> None:
        client, server = Unparsed(Side.CLIENT, client_offset), Unparsed(Side.SERVER, server_offset)
        self._client = _Direction(client, _Mode.STARTUP if from_start else _Mode.LOST)
        self._server = _Direction(server, _Mode.MESSAGES if from_start else _Mode.LOST)
        self._requested = ""
        self._answered = not from_start
        self._tls: TlsParser | None = None

    def feed(self, side: Side, data: bytes) -> list[PostgresEvent]:
        """Take the next bytes of one side."""
        if self._tls is not None:
            return [*self._tls.feed(side, data)]
        direction = self._direction(side)
        direction.bytes.append(data)
        events = self._parse(direction)
        if events and isinstance(events[-1], EncryptionResponse):
            events += self._after_encryption_response(events[-1])
        return events

    def gap(self, side: Side, length: int) -> list[PostgresEvent]:
        """Bytes are missing: look for a message at the start of what comes behind them."""
        if self._tls is not None:
            return [*self._tls.gap(side, length)]
        if length == 0:
            return []
        direction = self._direction(side)
        start = direction.bytes.end
        if direction.mode is _Mode.STARTUP and looks_like_startup(direction.bytes.peek(8)):
            return self._cut_startup_packet(direction, length)
        events: list[PostgresEvent] = []
        if direction.mode is _Mode.MESSAGES and len(direction.bytes):
            cut_short = self._message(direction, cut=True)
            events += [cut_short] if cut_short else []
        if direction.bytes.lose(length) == 0:
            return events
        if direction.mode is not _Mode.OPAQUE:
            direction.mode = _Mode.LOST
            self._answered |= side is Side.SERVER
        return [*events, Malformed(Span(side, start, start + length), "not captured")]

    def _direction(self, side: Side) -> _Direction:
        return self._client if side is Side.CLIENT else self._server

    def _parse(self, direction: _Direction) -> list[PostgresEvent]:
        events: list[PostgresEvent] = []
        while len(direction.bytes):
            before = direction.bytes.offset
            event = self._next(direction)
            if event is not None:
                events.append(event)
            if direction.bytes.offset == before or isinstance(event, EncryptionResponse):
                break
        return events

    def _next(self, direction: _Direction) -> PostgresEvent | None:
        match direction.mode:
            case _Mode.STARTUP:
                return self._startup_packet(direction)
            case _Mode.ENCRYPTION_RESPONSE:
                return self._encryption_response(direction)
            case _Mode.MESSAGES | _Mode.LOST:
                return self._message(direction)
            case _Mode.WAITING:
                return None
            case _Mode.OPAQUE:
                direction.bytes.take(len(direction.bytes))
                return None

    def _startup_packet(self, direction: _Direction) -> PostgresEvent | None:
        held = direction.bytes
        if len(held) < 8:
            return None
        head = held.peek(8)
        if not looks_like_startup(head):
            return self._not_this_protocol(direction, "not a start-up packet")
        length, code = int.from_bytes(head[:4]), int.from_bytes(head[4:8])
        if len(held) < length:
            return None
        body = held.peek(length - 4, 4)
        span = held.take(length)
        if code in {SSL_REQUEST_CODE, GSSENC_REQUEST_CODE}:
            direction.mode = _Mode.WAITING
            self._server.mode = _Mode.ENCRYPTION_RESPONSE
            self._requested = "tls" if code == SSL_REQUEST_CODE else "gss"
            return EncryptionRequest(span, self._requested)
        if code == CANCEL_REQUEST_CODE:
            direction.mode = _Mode.OPAQUE
            return CancelRequest(span, int.from_bytes(body[4:8]), body[8:])
        direction.mode = _Mode.MESSAGES
        return startup_message(span, body)

    def _cut_startup_packet(self, direction: _Direction, missing: int) -> list[PostgresEvent]:
        """A start-up packet of which a snap length left only the beginning."""
        length = int.from_bytes(direction.bytes.peek(4))
        held = len(direction.bytes)
        if held + missing < length:
            direction.mode = _Mode.LOST
            direction.bytes.lose(missing)
            return []
        direction.bytes.append(bytes(length - held))
        events = self._parse(direction)
        return events + self.gap(direction.bytes.side, missing - (length - held))

    def _encryption_response(self, direction: _Direction) -> PostgresEvent | None:
        held = direction.bytes
        byte = held.peek(1)
        yes = b"S" if self._requested == "tls" else b"G"
        if byte == b"E":  # a server too old to know the request
            direction.mode = _Mode.MESSAGES
            self._client.mode = _Mode.STARTUP
            return self._message(direction)
        if byte not in {yes, b"N"}:
            return self._not_this_protocol(direction, "not an answer to a request for encryption")
        accepted = byte == yes
        direction.mode = _Mode.MESSAGES
        return EncryptionResponse(held.take(1), self._requested, accepted)

    def _after_encryption_response(self, response: EncryptionResponse) -> list[PostgresEvent]:
        """What both sides had sent behind the request and behind its answer now gets its meaning."""
        if not response.accepted:
            self._client.mode = _Mode.STARTUP
            return self._parse(self._client) + self._parse(self._server)
        if response.kind == "gss":
            self._client.mode = self._server.mode = _Mode.OPAQUE
            return self._parse(self._client) + self._parse(self._server)
        self._tls = TlsParser(self._client.bytes.offset, self._server.bytes.offset)
        return [
            *self._tls.feed(Side.CLIENT, self._client.bytes.peek(len(self._client.bytes))),
            *self._tls.feed(Side.SERVER, self._server.bytes.peek(len(self._server.bytes))),
        ]

    def _not_this_protocol(self, direction: _Direction, reason: str) -> Malformed:
        direction.mode = _Mode.OPAQUE
        return Malformed(direction.bytes.take(len(direction.bytes)), reason)

    def _message(self, direction: _Direction, *, cut: bool = False) -> PostgresEvent | None:
        """One message with a type. Those that say nothing of the session's state are counted off unread.

        `cut` tells that no more of it was captured: then what is there is read.
        """
        held = direction.bytes
        from_server = direction is self._server
        kind = held.peek(1)
        if not self._allowed(kind, from_server=from_server):
            return self._malformed(direction, f"no message has type {kind!r}")
        if len(held) < 5:
            return None
        length = int.from_bytes(held.peek(4, 1))
        if not 4 <= length <= _MAX_MESSAGE:
            return self._malformed(direction, f"message of {length} bytes")
        read = _ANSWERS.get(kind) if from_server else None
        if read is not None and len(held) < (
            5 + _FEWEST_BYTES.get(kind, 0) if cut else 1 + min(length, _MAX_BODY)
        ):
            return None
        body = held.peek(min(length, _MAX_BODY) - 4, 5) if read else b""
        direction.mode = _Mode.MESSAGES
        if from_server:
            self._answered = True
        span = held.take(1 + length)
        if read is not None:
            return read(span, body)
        return None if from_server else _frontend_event(kind, span)

    def _allowed(self, kind: bytes, *, from_server: bool) -> bool:
        if not from_server:
            return kind in _FRONTEND_TYPES
        return kind in (_BACKEND_TYPES if self._answered else _FIRST_ANSWERS)

    def _malformed(self, direction: _Direction, reason: str) -> Malformed | None:
        """Drop what is held and look again at the next bytes, which often begin a message."""
        if direction is self._server and not self._answered:
            return self._not_this_protocol(direction, "not an answer to a StartupMessage")
        was_lost, direction.mode = direction.mode is _Mode.LOST, _Mode.LOST
        span = direction.bytes.take(len(direction.bytes))
        return None if was_lost else Malformed(span, reason)


def _frontend_event(kind: bytes, span: Span) -> PostgresEvent | None:
    if kind == _PASSWORD:
        return PasswordMessage(span)
    if kind == _TERMINATE:
        return Terminate(span)
    if kind in _REQUESTS:
        return Request(span, *_REQUESTS[kind])
    return None
