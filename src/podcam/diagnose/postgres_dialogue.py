"""PostgreSQL as a dialogue (PostgreSQL documentation, "Message Flow"): start-up, authentication, requests."""

from podcam.diagnose.standing import CONSENT_TO_TLS, Standing, Utterance
from podcam.diagnose.tls_dialogue import TlsDialogue
from podcam.model.verdict import Phase, Protocol
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
    authentication_name,
)
from podcam.wire.stream import Malformed, Side, Span

_AUTHENTICATION_OK = 0
_SASL_FINAL = 12
_REPORTED_PARAMETERS = {"user", "database", "application_name", "replication"}


class PostgresDialogue:
    """Follows PostgreSQL, in the clear or (as far as it can be seen) inside TLS.

    Args:
        from_start: whether the first bytes heard are the first of the connection.
        client_offset, server_offset: where in each side's stream they lie.
    """

    def __init__(self, *, from_start: bool = True, client_offset: int = 0, server_offset: int = 0) -> None:
        self._parser = PostgresParser(
            from_start=from_start, client_offset=client_offset, server_offset=server_offset
        )
        self._tls: TlsDialogue | None = None
        self._detail: dict[str, object] = {}
        self._phase = Phase.STARTUP if from_start else Phase.DATA
        self._starting = from_start
        self._started = not from_start
        self._answered = False
        self._outstanding = 0
        self._opening: Utterance | None = None
        self._unanswered: Utterance | None = None
        self._goodbye: Utterance | None = None
        self._cancel: Utterance | None = None
        self._error: ErrorResponse | None = None
        self._refused: Utterance | None = None
        self._foreign: Malformed | None = None

    def hear(self, side: Side, data: bytes) -> None:
        """Take the next bytes of one side."""
        self._answered |= side is Side.SERVER
        self._take_all(self._parser.feed(side, data))

    def miss(self, side: Side, length: int) -> None:
        """Bytes were not captured."""
        self._answered |= side is Side.SERVER
        self._take_all(self._parser.gap(side, length))

    def standing(self) -> Standing:
        """How the dialogue stands now."""
        if self._tls is not None:
            inner = self._tls.standing()
            return Standing(
                protocol=Protocol.POSTGRESQL,
                detail=self._detail | {"tls": dict(inner.detail)},
                phase=inner.phase,
                starting=inner.starting,
                started=inner.started,
                opening=inner.opening or self._opening,
                unanswered=inner.unanswered or (None if inner.opening else self._unanswered),
                goodbye=inner.goodbye,
                cancel=inner.cancel,
                rejection=inner.rejection,
                foreign=inner.foreign,
                foreign_reason=inner.foreign_reason,
                encrypted=inner.phase is not Phase.TLS,
                client_reacted=inner.client_reacted,
                perhaps_answer=inner.perhaps_answer,
                answered=inner.answered,
            )
        foreign = self._foreign
        return Standing(
            protocol=Protocol.POSTGRESQL,
            detail=self._detail,
            phase=self._phase,
            starting=self._starting,
            started=self._started,
            opening=self._opening,
            unanswered=self._unanswered,
            goodbye=self._goodbye,
            cancel=self._cancel,
            error=self._error,
            encryption_refused=self._refused,
            foreign=Utterance("answer that is not PostgreSQL's", foreign.span) if foreign else None,
            foreign_reason=foreign.reason if foreign else "",
            answered=self._answered,
        )

    def _take_all(self, events: list[PostgresEvent]) -> None:
        for event in events:
            self._take(event)

    def _take(self, event: PostgresEvent) -> None:  # noqa: C901, PLR0912 - one branch per message
        match event:
            case EncryptionRequest(span, kind):
                self._ask("SSLRequest" if kind == "tls" else "GSSENCRequest", span)
                self._phase = Phase.TLS if kind == "tls" else Phase.STARTUP
            case EncryptionResponse():
                self._encryption_response(event)
            case CancelRequest(span):
                self._cancel = Utterance("CancelRequest", span)
                self._starting = False
            case StartupMessage():
                self._startup_message(event)
            case PasswordMessage(span):
                if not self._started:
                    self._phase = Phase.AUTHENTICATION
                    self._unanswered = Utterance("authentication response", span)
            case Authentication():
                self._authentication(event)
            case NegotiateProtocolVersion(version=version):
                self._detail["negotiated_version"] = f"{version >> 16}.{version & 0xFFFF}"
            case BackendKeyData(process_id=process_id):
                self._detail["backend_pid"] = process_id
            case ParameterStatus(name=name, value=value):
                if name == "server_version":
                    self._detail["server_version"] = value
            case ReadyForQuery():
                self._ready()
            case ErrorResponse():
                self._error_response(event)
            case Request():
                self._request(event)
            case Terminate(span):
                self._goodbye = Utterance("Terminate", span)
                self._unanswered = None
                self._phase = Phase.CLOSING
            case NoticeResponse():
                pass
            case Malformed(span, reason):
                self._malformed(event, span, reason)
            case _:
                self._inside_tls().take(event)

    def _ask(self, what: str, span: Span) -> None:
        self._opening = self._unanswered = Utterance(what, span)
        self._refused = None

    def _encryption_response(self, response: EncryptionResponse) -> None:
        asked = "TLS" if response.kind == "tls" else "GSS encryption"
        if response.accepted:
            self._detail["encryption"] = response.kind
            what = CONSENT_TO_TLS if response.kind == "tls" else f"consent to {asked}"
            self._unanswered = Utterance(what, response.span)
            if response.kind == "tls":
                self._inside_tls()
            else:
                self._starting = False
                self._phase = Phase.DATA
        else:
            self._phase = Phase.STARTUP
            self._refused = self._unanswered = Utterance(f"refusal of {asked}", response.span)

    def _inside_tls(self) -> TlsDialogue:
        self._tls = self._tls or TlsDialogue(postgres=True)
        return self._tls

    def _startup_message(self, message: StartupMessage) -> None:
        self._ask("StartupMessage", message.span)
        self._phase = Phase.STARTUP
        self._detail["version"] = f"{message.major}.{message.minor}"
        self._detail.setdefault("encryption", "none")
        self._detail |= {
            name: value for name, value in message.parameters.items() if name in _REPORTED_PARAMETERS
        }

    def _authentication(self, message: Authentication) -> None:
        if self._started:
            return
        self._phase = Phase.AUTHENTICATION
        if message.code in {_AUTHENTICATION_OK, _SASL_FINAL}:
            return  # the server goes on by itself until ReadyForQuery
        if "authentication" not in self._detail:
            self._detail["authentication"] = ", ".join(message.mechanisms) or authentication_name(
                message.code
            )
        what = f"request for authentication ({authentication_name(message.code)})"
        self._unanswered = Utterance(what, message.span)

    def _ready(self) -> None:
        if not self._started:
            self._starting, self._started = False, True
            self._phase = Phase.READY
            self._unanswered = None
            return
        self._outstanding = max(0, self._outstanding - 1)
        if self._outstanding == 0 and self._phase is not Phase.CLOSING:
            self._phase = Phase.IDLE
            self._unanswered = None

    def _error_response(self, error: ErrorResponse) -> None:
        if error.fatal or self._starting:
            self._error = error
            self._unanswered = None
            self._detail |= {"sqlstate": error.sqlstate, "severity": error.severity, "message": error.message}

    def _request(self, request: Request) -> None:
        if not self._started:  # its end was not captured: clients ask for nothing before it
            self._starting, self._started = False, True
            self._error = None
        self._phase = Phase.REQUEST
        self._outstanding += request.ends_with_ready
        self._unanswered = Utterance(request.name, request.span)

    def _malformed(self, event: Malformed, span: Span, reason: str) -> None:
        if self._tls is not None:
            self._tls.take(event)
        elif span.side is Side.SERVER and reason.startswith("not an answer") and self._foreign is None:
            self._foreign = event
        elif reason == "not captured" and span.side is Side.SERVER:
            self._miss_answer()

    def _miss_answer(self) -> None:
        """What the server said is not known: claim nothing that it may have changed."""
        self._unanswered = None
        self._refused = None
        if self._starting:
            self._starting = False
            self._phase = Phase.DATA
        self._outstanding = min(1, self._outstanding)
