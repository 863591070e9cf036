"""PostgreSQL messages as values (PostgreSQL documentation, "Message Formats"; pqcomm.h for the codes)."""

from collections.abc import Mapping
from dataclasses import dataclass

from podcam.wire.stream import Malformed, Span
from podcam.wire.tls import TlsEvent

CANCEL_REQUEST_CODE = 80877102
SSL_REQUEST_CODE = 80877103
GSSENC_REQUEST_CODE = 80877104

_AUTHENTICATIONS = {
    0: "Ok",
    2: "Kerberos V5",
    3: "cleartext password",
    5: "MD5 password",
    7: "GSS",
    8: "GSS continue",
    9: "SSPI",
    10: "SASL",
    11: "SASL continue",
    12: "SASL final",
}


def authentication_name(code: int) -> str:
    """What an Authentication message asks for."""
    return _AUTHENTICATIONS.get(code, f"authentication {code}")


@dataclass(frozen=True, slots=True)
class EncryptionRequest:
    """SSLRequest or GSSENCRequest: may the rest be encrypted?"""

    span: Span
    kind: str
    """`tls` or `gss`"""


@dataclass(frozen=True, slots=True)
class EncryptionResponse:
    """The server's single byte: `S` or `G` for yes, `N` for no."""

    span: Span
    kind: str
    accepted: bool


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Asks to cancel what another connection runs. Never answered."""

    span: Span
    process_id: int
    key: bytes


@dataclass(frozen=True, slots=True)
class StartupMessage:
    """The first message of a session in the clear."""

    span: Span
    major: int
    minor: int
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PasswordMessage:
    """The client's part of an authentication: password, SASL or GSS response. Its content is not kept."""

    span: Span


@dataclass(frozen=True, slots=True)
class Authentication:
    """What the server wants to know, or (code 0) that it wants no more, which is not yet success."""

    span: Span
    code: int
    mechanisms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NegotiateProtocolVersion:
    """The server speaks only an older protocol version, or lacks some options."""

    span: Span
    version: int
    unsupported: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ParameterStatus:
    """A setting that the server reports."""

    span: Span
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class BackendKeyData:
    """What a CancelRequest for this session must carry."""

    span: Span
    process_id: int
    key: bytes


@dataclass(frozen=True, slots=True)
class ReadyForQuery:
    """The server waits for the next request. The first one ends the start-up."""

    span: Span
    status: str
    """`I` idle, `T` in a transaction, `E` in a failed transaction"""


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An error. With severity FATAL or PANIC the server then ends the session."""

    span: Span
    severity: str
    sqlstate: str
    message: str

    @property
    def fatal(self) -> bool:
        """Whether the session ends with it."""
        return self.severity in {"FATAL", "PANIC"}


@dataclass(frozen=True, slots=True)
class NoticeResponse:
    """A warning or notice."""

    span: Span
    severity: str
    sqlstate: str
    message: str


@dataclass(frozen=True, slots=True)
class Request:
    """A message of the client that asks for something."""

    span: Span
    name: str
    ends_with_ready: bool
    """Whether the server answers this very message with a ReadyForQuery (Query, Sync, FunctionCall)."""


@dataclass(frozen=True, slots=True)
class Terminate:
    """The client says goodbye."""

    span: Span


PostgresEvent = (
    EncryptionRequest
    | EncryptionResponse
    | CancelRequest
    | StartupMessage
    | PasswordMessage
    | Authentication
    | NegotiateProtocolVersion
    | ParameterStatus
    | BackendKeyData
    | ReadyForQuery
    | ErrorResponse
    | NoticeResponse
    | Request
    | Terminate
    | TlsEvent
    | Malformed
)


def startup_message(span: Span, body: bytes) -> StartupMessage:
    """Read a StartupMessage's body: version, then names and values, each ended by a zero byte."""
    texts = [text.decode("utf-8", "replace") for text in body[4:].split(b"\0")]
    pairs = zip(texts[::2], texts[1::2], strict=False)
    parameters = {name: value for name, value in pairs if name}
    return StartupMessage(span, int.from_bytes(body[:2]), int.from_bytes(body[2:4]), parameters)


def authentication(span: Span, body: bytes) -> Authentication:
    """Read an Authentication message's body; the mechanisms of SASL follow the code."""
    code = int.from_bytes(body[:4])
    names = body[4:].split(b"\0") if code == 10 else []
    return Authentication(span, code, tuple(name.decode("ascii", "replace") for name in names if name))


def negotiate_protocol_version(span: Span, body: bytes) -> NegotiateProtocolVersion:
    """Read the newest version that the server speaks, and the options that it does not know."""
    names = [name.decode("utf-8", "replace") for name in body[8:].split(b"\0") if name]
    return NegotiateProtocolVersion(span, int.from_bytes(body[:4]), tuple(names))


def parameter_status(span: Span, body: bytes) -> ParameterStatus:
    """Read a name and a value."""
    name, _, value = body.decode("utf-8", "replace").partition("\0")
    return ParameterStatus(span, name, value.rstrip("\0"))


def backend_key_data(span: Span, body: bytes) -> BackendKeyData:
    """Read the process id and the key: 4 bytes in protocol 3.0, up to 256 in 3.2."""
    return BackendKeyData(span, int.from_bytes(body[:4]), body[4:])


def error_response(span: Span, body: bytes) -> ErrorResponse:
    """Read the fields of an ErrorResponse."""
    fields = _fields(body)
    return ErrorResponse(span, fields.get("V", fields.get("S", "")), fields.get("C", ""), fields.get("M", ""))


def notice_response(span: Span, body: bytes) -> NoticeResponse:
    """Read the fields of a NoticeResponse."""
    fields = _fields(body)
    return NoticeResponse(
        span, fields.get("V", fields.get("S", "")), fields.get("C", ""), fields.get("M", "")
    )


def _fields(body: bytes) -> dict[str, str]:
    """Fields are a byte that says which, and a text; `V` is the severity that no translation touches."""
    return {chr(field[0]): field[1:].decode("utf-8", "replace") for field in body.split(b"\0") if field}
