"""How a dialogue stood at some moment: what every protocol has in common, for rules written once."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from podcam.diagnose.wording import byte_count
from podcam.model.verdict import Phase, Protocol
from podcam.wire.postgres import ErrorResponse
from podcam.wire.stream import Side, Span

CONSENT_TO_TLS = "consent to TLS"


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something that one side said, in words for a report: "StartupMessage", "first encrypted record"."""

    what: str
    span: Span

    @property
    def side(self) -> Side:
        """Who said it."""
        return self.span.side

    def __str__(self) -> str:
        size = len(self.span)
        told = byte_count(size)
        return f"{self.what[:-1]}, {told})" if self.what.endswith(")") else f"{self.what} ({told})"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A TLS alert, or what has the size of one."""

    utterance: Utterance
    alert: str
    """Its name, or what can be said of it when it is encrypted."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the two sides stood.

    `started` tells whether the start-up was complete; `starting` whether the protocol has one and it was not.
    Both are false where the protocol is not known. `unanswered` is what was last said and expects an answer;
    when it is None, nobody waits.
    """

    protocol: Protocol = Protocol.UNKNOWN
    detail: Mapping[str, object] = field(default_factory=dict)
    phase: Phase = Phase.HANDSHAKE
    starting: bool = False
    started: bool = False
    opening: Utterance | None = None
    """What began the present part of the start-up: the StartupMessage, before that the request for TLS."""
    unanswered: Utterance | None = None
    goodbye: Utterance | None = None
    cancel: Utterance | None = None
    error: ErrorResponse | None = None
    """The error that ends the start-up or the session."""
    rejection: Rejection | None = None
    encryption_refused: Utterance | None = None
    """The server's `N`, while nothing was said after it."""
    foreign: Utterance | None = None
    """The first thing that is not of this protocol."""
    foreign_reason: str = ""
    encrypted: bool = False
    """Whether what is said of the start-up is only presumed."""
    client_reacted: bool = False
    """Whether the client said more than the opening in an encrypted start-up."""
    perhaps_answer: Utterance | None = None
    """The server's only encrypted record since the opening: an answer, or a TLS 1.3 session ticket."""
    answered: bool = False
    """Whether the server ever said something to the client's application."""
