"""TLS as a dialogue: the handshake in the clear, then who sent encrypted records, and how long they were.

What the records hold is presumed from their place and size, and said as a presumption. PostgreSQL inside is
known by the SSLRequest before it or by ALPN.
"""

from dataclasses import dataclass
from itertools import takewhile

from podcam.diagnose.standing import Rejection, Standing, Utterance
from podcam.model.verdict import Phase, Protocol
from podcam.wire.stream import Malformed, Side, Span
from podcam.wire.tls import (
    Alert,
    ChangeCipherSpec,
    ClientHello,
    EncryptedRecord,
    HandshakeComplete,
    HandshakeMessage,
    RecordRole,
    ServerHello,
    TlsEvent,
    TlsParser,
    alert_name,
    version_name,
)

_TLS_1_3 = "TLS 1.3"
_OVERHEAD_TLS_1_3 = 1 + 16
_OVERHEAD_AES_GCM = 8 + 16
_OVERHEAD_CHACHA20 = 16
"""Bytes that encryption adds: hidden type, explicit nonce, tag (RFC 8446, RFC 5288, RFC 7905)."""
_CHACHA20 = {0xCCA8, 0xCCA9, 0xCCAA}

_SHORTEST_TICKET = 64
"""A NewSessionTicket carries at least a ticket's state (OpenSSL: about 230 bytes, Go: about 120)."""

_STARTUP_ANSWER = 256
"""A PostgreSQL server that lets a client in answers with its settings, its key and ReadyForQuery in one go:
some 320 bytes and more. What it asks or refuses before that is shorter."""

_TERMINATE = 5
"""Bytes of PostgreSQL's goodbye."""
_CANCEL_REQUEST = 16
"""Bytes of a CancelRequest with the key of protocol 3.0, shorter than any StartupMessage of libpq."""


@dataclass(frozen=True, slots=True)
class _Record:
    side: Side
    span: Span
    plaintext: int
    """Bytes inside, as far as the usual ciphers tell."""


class TlsDialogue:
    """Follows TLS.

    Args:
        from_start: whether the first bytes heard are the first of the connection.
        postgres: whether PostgreSQL is known to be inside.
        client_offset, server_offset: where in each side's stream the first bytes heard lie.
    """

    def __init__(
        self,
        *,
        from_start: bool = True,
        postgres: bool = False,
        client_offset: int = 0,
        server_offset: int = 0,
    ) -> None:
        self._parser = TlsParser(client_offset, server_offset)
        self._from_start = from_start
        self._postgres = postgres
        self._detail: dict[str, object] = {}
        self._unanswered: Utterance | None = None
        self._hello: Utterance | None = None
        self._finished: Utterance | None = None
        self._complete = not from_start
        self._records: list[_Record] = []
        self._rejection: Rejection | None = None
        self._goodbye: Utterance | None = None
        self._foreign: Malformed | None = None
        self._server_spoke_tls = not from_start
        self._said: Utterance | None = None
        self._lost = False
        self._cipher_suite = 0

    def hear(self, side: Side, data: bytes) -> None:
        """Take the next bytes of one side."""
        for event in self._parser.feed(side, data):
            self.take(event)

    def miss(self, side: Side, length: int) -> None:
        """Bytes were not captured."""
        for event in self._parser.gap(side, length):
            self.take(event)

    def take(self, event: TlsEvent) -> None:
        """Take what a parser said."""
        side = event.span.side
        self._said = Utterance("TLS data", event.span)
        if side is Side.SERVER and not isinstance(event, Malformed):
            self._server_spoke_tls = True
        match event:
            case ClientHello():
                self._client_hello(event)
            case ServerHello():
                self._server_hello(event)
            case HandshakeMessage():
                self._unanswered = Utterance("TLS handshake", event.span)
            case ChangeCipherSpec():
                pass
            case Alert():
                self._alert(event)
            case EncryptedRecord():
                self._record(event)
            case HandshakeComplete():
                self._complete = True
                self._unanswered = None
                self._finished = Utterance("last message of the TLS handshake", event.span)
            case Malformed(reason="not captured"):
                self._lost = True
            case Malformed():
                if side is Side.SERVER and not self._server_spoke_tls and not self._lost:
                    self._foreign = self._foreign or event

    def _client_hello(self, hello: ClientHello) -> None:
        self._hello = self._unanswered = Utterance("ClientHello", hello.span)
        self._postgres = self._postgres or "postgresql" in hello.alpn
        self._detail["server_name"] = hello.server_name
        self._detail["alpn"] = list(hello.alpn)
        if hello.versions:
            self._detail["offered_version"] = version_name(max(hello.versions))

    def _server_hello(self, hello: ServerHello) -> None:
        self._detail["version"] = version_name(hello.version)
        self._cipher_suite = hello.cipher_suite
        self._detail["cipher_suite"] = f"0x{hello.cipher_suite:04x}"
        if hello.alpn is not None:
            self._detail["selected_alpn"] = hello.alpn
        what = "HelloRetryRequest" if hello.retry else "ServerHello"
        self._unanswered = Utterance(what, hello.span)

    def _alert(self, alert: Alert) -> None:
        name = alert_name(alert.description)
        said = Utterance(f"TLS alert {name}", alert.span)
        if alert.fatal:
            self._rejection = self._rejection or Rejection(said, name)
        elif name == "close_notify":
            self._goodbye = self._goodbye or said

    def _record(self, record: EncryptedRecord) -> None:
        side = record.span.side
        if record.role is RecordRole.ALERT:
            if self._complete or self._is_lost():
                self._goodbye = self._goodbye or Utterance(
                    "encrypted alert (presumably close_notify)", record.span
                )
            else:
                said = Utterance("encrypted record of an alert's size", record.span)
                self._rejection = self._rejection or Rejection(
                    said, "encrypted, so that its reason cannot be seen"
                )
        elif record.role is RecordRole.HANDSHAKE:
            self._unanswered = Utterance("TLS handshake (encrypted)", record.span)
        else:
            self._records.append(_Record(side, record.span, max(0, record.length - self._overhead())))

    def _overhead(self) -> int:
        if self._detail.get("version") == _TLS_1_3:
            return _OVERHEAD_TLS_1_3
        return _OVERHEAD_CHACHA20 if self._cipher_suite in _CHACHA20 else _OVERHEAD_AES_GCM

    # -- standing -----------------------------------------------------------------------------------------

    def standing(self) -> Standing:
        """How the dialogue stands now."""
        if self._is_lost():
            said = self._said if self._said and self._said.side is Side.CLIENT else None
            return self._standing(Phase.DATA, unanswered=said, answered=self._server_spoke_tls)
        if not self._complete:
            return self._standing(Phase.TLS, starting=True, opening=self._hello, unanswered=self._unanswered)
        if not self._postgres:
            records = self._without_tickets()
            answered = any(record.side is Side.SERVER for record in records)
            said = self._said_last(records, "encrypted request")
            return self._standing(Phase.DATA, unanswered=said, answered=answered)
        return self._postgres_standing()

    def _is_lost(self) -> bool:
        """Whether the capture holds too little to know how far the dialogue came."""
        unknown_version = self._from_start and self._server_spoke_tls and "version" not in self._detail
        return self._lost or (unknown_version and self._rejection is None)

    def _postgres_standing(self) -> Standing:
        records = self._without_tickets()
        first = next((record for record in records if record.side is Side.CLIENT), None)
        if first is None:
            return self._standing(Phase.STARTUP, starting=True, opening=self._finished)
        if first.plaintext == _CANCEL_REQUEST and len(records) == 1:
            cancel = Utterance("first encrypted record (presumably a CancelRequest)", first.span)
            return self._standing(Phase.STARTUP, cancel=cancel)
        opening = Utterance("first encrypted record (presumably the StartupMessage)", first.span)
        answers = [record for record in records if record.side is Side.SERVER]
        if not self._from_start or self._longest_answer(records) >= _STARTUP_ANSWER:
            said = self._said_last(records, "encrypted request")
            goodbye = self._terminate(records)
            phase = Phase.CLOSING if goodbye else Phase.REQUEST if said else Phase.IDLE
            return self._standing(phase, started=True, opening=opening, unanswered=said, goodbye=goodbye)
        last = records[-1]
        if not answers or last is first:
            return self._standing(Phase.STARTUP, starting=True, opening=opening, unanswered=opening)
        latest = Utterance(f"encrypted record of the {last.side}", last.span)
        reacted = len(records) - len(answers) > 1
        if reacted or last.plaintext < _SHORTEST_TICKET:
            phase = Phase.AUTHENTICATION
        elif self._detail.get("version") == _TLS_1_3 and len(answers) == 1:
            return self._standing(
                Phase.STARTUP, starting=True, opening=opening, unanswered=opening, perhaps_answer=latest
            )
        else:
            phase = Phase.STARTUP
        return self._standing(phase, starting=True, opening=opening, unanswered=latest, reacted=reacted)

    def _standing(
        self,
        phase: Phase,
        *,
        starting: bool = False,
        started: bool = False,
        opening: Utterance | None = None,
        unanswered: Utterance | None = None,
        goodbye: Utterance | None = None,
        cancel: Utterance | None = None,
        reacted: bool = False,
        perhaps_answer: Utterance | None = None,
        answered: bool = False,
    ) -> Standing:
        foreign = self._foreign
        return Standing(
            protocol=Protocol.POSTGRESQL if self._postgres else Protocol.TLS,
            detail=self._detail,
            phase=phase,
            starting=starting,
            started=started,
            opening=opening,
            unanswered=unanswered,
            goodbye=goodbye or self._goodbye,
            cancel=cancel,
            rejection=self._rejection,
            foreign=Utterance("answer that is not TLS", foreign.span) if foreign else None,
            foreign_reason=foreign.reason if foreign else "",
            encrypted=True,
            client_reacted=reacted,
            perhaps_answer=perhaps_answer,
            answered=answered,
        )

    def _without_tickets(self) -> list[_Record]:
        """The records without the session tickets that a TLS 1.3 server sends behind the handshake.

        Tickets are all of one size. Those that come before the client said anything are no answer; those that
        cross its first words on the way are known by their size, or by coming in a row.
        """
        if self._detail.get("version") != _TLS_1_3 or not self._from_start:
            return self._records
        first_words = self._index_of_client(0)
        early = [r for r in self._records[:first_words] if r.plaintext >= _SHORTEST_TICKET]
        crossing = self._records[first_words + 1 : self._index_of_client(first_words + 1)]
        tickets = list(early)
        size = early[0].plaintext if early else crossing[0].plaintext if crossing else 0
        alike = list(takewhile(lambda record: record.plaintext == size, crossing))
        if early or (len(alike) >= 2 and size >= _SHORTEST_TICKET):
            tickets += alike
        return [record for record in self._records if record not in tickets]

    def _index_of_client(self, start: int) -> int:
        """Index of the client's next record."""
        records = self._records
        return next((i for i in range(start, len(records)) if records[i].side is Side.CLIENT), len(records))

    @staticmethod
    def _said_last(records: list[_Record], what: str) -> Utterance | None:
        if not records or records[-1].side is Side.SERVER:
            return None
        return Utterance(what, records[-1].span)

    @staticmethod
    def _terminate(records: list[_Record]) -> Utterance | None:
        last = records[-1]
        if last.side is Side.CLIENT and last.plaintext == _TERMINATE:
            return Utterance("encrypted record of a Terminate's size", last.span)
        return None

    @staticmethod
    def _longest_answer(records: list[_Record]) -> int:
        """Bytes of the longest stretch in which only the server spoke."""
        longest = run = 0
        for record in records:
            run = run + record.plaintext if record.side is Side.SERVER else 0
            longest = max(longest, run)
        return longest
