"""What TLS says in the clear (RFC 8446 for 1.3, RFC 5246 for 1.2), as values."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from podcam.wire.stream import Malformed, Span

TLS_1_2 = 0x0303
TLS_1_3 = 0x0304

_VERSIONS = {0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", TLS_1_2: "TLS 1.2", TLS_1_3: "TLS 1.3"}

# RFC 8446, appendix B.2, with those of earlier versions that are still sent.
_ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}

CLOSE_NOTIFY = 0

# RFC 8446, section 4.1.3: the Random of a ServerHello that is a HelloRetryRequest.
_HELLO_RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")

_EXTENSION_SERVER_NAME = 0
_EXTENSION_ALPN = 16
_EXTENSION_SUPPORTED_VERSIONS = 43


def version_name(version: int) -> str:
    """How people call a protocol version."""
    return _VERSIONS.get(version, f"TLS version 0x{version:04x}")


def alert_name(description: int) -> str:
    """The name that the RFC gives an alert."""
    return _ALERTS.get(description, f"alert {description}")


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What the client offers."""

    span: Span
    versions: tuple[int, ...]
    server_name: str | None = None
    alpn: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerHello:
    """What the server chose. `alpn` is only visible before TLS 1.3."""

    span: Span
    version: int
    cipher_suite: int
    alpn: str | None = None
    retry: bool = False
    """A HelloRetryRequest: the client must send another ClientHello."""


@dataclass(frozen=True, slots=True)
class HandshakeMessage:
    """Another handshake message in the clear, by its type (RFC 8446, section 4)."""

    span: Span
    type: int


@dataclass(frozen=True, slots=True)
class ChangeCipherSpec:
    """From here on this side encrypts (before TLS 1.3; there it means nothing)."""

    span: Span


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert in the clear."""

    span: Span
    level: int
    description: int

    @property
    def fatal(self) -> bool:
        """Whether it ends the connection with an error."""
        return self.description != CLOSE_NOTIFY and (self.level == 2 or self.description in _ALWAYS_FATAL)


# TLS 1.3 lets senders set any level: these are errors whatever it says.
_ALWAYS_FATAL = frozenset(_ALERTS) - {CLOSE_NOTIFY, 41, 90, 100, 112}


class RecordRole(StrEnum):
    """What an encrypted record carries, as far as its place, type and length tell."""

    HANDSHAKE = "handshake"
    ALERT = "alert"
    """Before TLS 1.3 for certain; in TLS 1.3 a record as short as only an alert is."""
    APPLICATION = "application"
    """After the handshake. In TLS 1.3 the server's session tickets look the same."""


@dataclass(frozen=True, slots=True)
class EncryptedRecord:
    """A record whose content cannot be seen."""

    span: Span
    content_type: int
    length: int
    """Of its ciphertext."""
    role: RecordRole


@dataclass(frozen=True, slots=True)
class HandshakeComplete:
    """The last Finished of the handshake was sent: from here on application data can flow both ways."""

    span: Span


TlsEvent = (
    ClientHello
    | ServerHello
    | HandshakeMessage
    | ChangeCipherSpec
    | Alert
    | EncryptedRecord
    | HandshakeComplete
    | Malformed
)


class _Reader:
    """Walks through a message; reads past its end give nothing instead of raising."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def take(self, size: int) -> bytes:
        value = self._data[self._at : self._at + size]
        self._at += size
        return value

    def vector(self, length_size: int) -> bytes:
        return self.take(self.number(length_size))

    @property
    def exhausted(self) -> bool:
        return self._at >= len(self._data)


def client_hello(body: bytes, span: Span) -> ClientHello:
    """Read a ClientHello's body (RFC 8446, section 4.1.2). What is cut off is left out."""
    reader = _Reader(body)
    legacy_version = reader.number(2)
    reader.take(32)
    reader.vector(1)  # session id
    reader.vector(2)  # cipher suites
    reader.vector(1)  # compression methods
    versions: tuple[int, ...] = (legacy_version,)
    server_name = None
    alpn: tuple[str, ...] = ()
    for kind, content in _extensions(reader):
        if kind == _EXTENSION_SUPPORTED_VERSIONS:
            offered = _Reader(content).vector(1)
            versions = tuple(int.from_bytes(offered[i : i + 2]) for i in range(0, len(offered), 2))
        elif kind == _EXTENSION_SERVER_NAME:
            server_name = _server_name(content)
        elif kind == _EXTENSION_ALPN:
            alpn = tuple(_alpn_protocols(content))
    real_versions = tuple(version for version in versions if version in _VERSIONS)  # not GREASE (RFC 8701)
    return ClientHello(span, real_versions, server_name, alpn)


def server_hello(body: bytes, span: Span) -> ServerHello:
    """Read a ServerHello's body (RFC 8446, section 4.1.3). What is cut off is left out."""
    reader = _Reader(body)
    version = reader.number(2)
    random = reader.take(32)
    reader.vector(1)  # session id
    cipher_suite = reader.number(2)
    reader.take(1)  # compression method
    alpn = None
    for kind, content in _extensions(reader):
        if kind == _EXTENSION_SUPPORTED_VERSIONS:
            version = int.from_bytes(content[:2])
        elif kind == _EXTENSION_ALPN:
            alpn = next(_alpn_protocols(content), None)
    return ServerHello(span, version, cipher_suite, alpn, random == _HELLO_RETRY_RANDOM)


def _extensions(reader: _Reader) -> Iterator[tuple[int, bytes]]:
    block = _Reader(reader.vector(2))
    while not block.exhausted:
        kind = block.number(2)
        yield kind, block.vector(2)


def _server_name(content: bytes) -> str | None:
    """RFC 6066, section 3: a list, in which only host names (type 0) were ever defined."""
    names = _Reader(_Reader(content).vector(2))
    while not names.exhausted:
        kind = names.number(1)
        name = names.vector(2)
        if kind == 0 and name:
            return name.decode("ascii", "replace")
    return None


def _alpn_protocols(content: bytes) -> Iterator[str]:
    """RFC 7301, section 3.1."""
    protocols = _Reader(_Reader(content).vector(2))
    while not protocols.exhausted:
        name = protocols.vector(1)
        if name:
            yield name.decode("ascii", "replace")
