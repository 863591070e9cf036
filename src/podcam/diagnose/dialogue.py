"""Which protocol two sides speak, told by content and never by port; for unknown ones, who spoke last."""

from typing import Protocol as Interface

from podcam.diagnose.postgres_dialogue import PostgresDialogue
from podcam.diagnose.standing import Standing, Utterance
from podcam.diagnose.tls_dialogue import TlsDialogue
from podcam.model.verdict import Phase
from podcam.wire.postgres import looks_like_message, looks_like_startup
from podcam.wire.stream import Side, Span
from podcam.wire.tls import looks_like_client_hello, looks_like_record

_ENOUGH = 8
"""Bytes that tell a protocol: PostgreSQL's length and code, TLS's record header and message type."""
_TRIES = 8
"""Pieces in which the middle of a known protocol is looked for."""


class _Speech(Interface):
    def hear(self, side: Side, data: bytes) -> None: ...
    def miss(self, side: Side, length: int) -> None: ...
    def standing(self) -> Standing: ...


class PlainDialogue:
    """A protocol that is not known: only who spoke, how much, and who spoke last."""

    def __init__(self) -> None:
        self.ends = {Side.CLIENT: 0, Side.SERVER: 0}
        """Where in its stream each side has come to."""
        self._last: Span | None = None

    def hear(self, side: Side, data: bytes) -> None:
        """Take the next bytes of one side."""
        self.miss(side, len(data))

    def miss(self, side: Side, length: int) -> None:
        """Bytes that were sent count, also when they were not captured."""
        start = self.ends[side]
        self.ends[side] = start + length
        if self._last is not None and self._last.side is side:
            start = self._last.start
        self._last = Span(side, start, self.ends[side])

    def standing(self) -> Standing:
        """Data that the client sent last is taken to expect an answer."""
        if self._last is None:
            return Standing()
        said = Utterance("client's data" if self._last.side is Side.CLIENT else "server's data", self._last)
        return Standing(
            phase=Phase.DATA,
            unanswered=said if said.side is Side.CLIENT else None,
            answered=self.ends[Side.SERVER] > 0,
        )


class Dialogue:
    """Hears both sides, finds out what they speak, and follows it.

    Args:
        from_start: whether the first byte heard of each side is the first that it sent.
    """

    def __init__(self, *, from_start: bool) -> None:
        self._from_start = from_start
        self._speech: _Speech | None = None
        self._held: list[tuple[Side, bytes]] = []
        self._plain = PlainDialogue()
        self._tries = 0
        self._headless: set[Side] = set() if from_start else set(Side)
        self.heads = {Side.CLIENT: b"", Side.SERVER: b""}
        """The first bytes of each side, where they were captured."""

    def hear(self, side: Side, data: bytes) -> None:
        """Take the next bytes of one side."""
        if side not in self._headless and len(self.heads[side]) < _ENOUGH:
            self.heads[side] += data[:_ENOUGH]
        self._plain.hear(side, data)
        if self._speech is not None:
            self._speech.hear(side, data)
            return
        self._held.append((side, data))
        self._speech = self._recognise(side, data)
        if self._speech is not None:
            for held_side, held in self._held:
                self._speech.hear(held_side, held)
            self._held.clear()

    def miss(self, side: Side, length: int) -> None:
        """The next `length` bytes of one side were not captured."""
        self._plain.miss(side, length)
        self._headless.add(side)
        if self._speech is not None:
            self._speech.miss(side, length)
        else:
            self._from_start = False
            self._held.clear()

    def standing(self) -> Standing:
        """How the dialogue stands now."""
        return (self._speech or self._plain).standing()

    def _recognise(self, side: Side, data: bytes) -> _Speech | None:
        if not self._from_start:
            return self._recognise_in_the_middle(side, data)
        head = self.heads[Side.CLIENT]
        if self.heads[Side.SERVER]:
            return self._plain_from_here()
        if len(head) < _ENOUGH:
            return None
        return _recognise_beginning(head) or self._plain_from_here()

    def _recognise_in_the_middle(self, side: Side, data: bytes) -> _Speech | None:
        self._held = self._held[-1:]
        starts = dict(self._plain.ends)
        starts[side] -= len(data)
        client, server = starts[Side.CLIENT], starts[Side.SERVER]
        beginning = _recognise_beginning(data[:_ENOUGH], client, server) if side is Side.CLIENT else None
        if beginning is not None:
            return beginning
        if looks_like_message(side, data):
            return PostgresDialogue(from_start=False, client_offset=client, server_offset=server)
        if looks_like_record(data):
            return TlsDialogue(from_start=False, client_offset=client, server_offset=server)
        self._tries += 1
        return self._plain_from_here() if self._tries >= _TRIES else None

    def _plain_from_here(self) -> PlainDialogue:
        """What is held was counted already."""
        self._held.clear()
        heard, self._plain = self._plain, PlainDialogue()
        return heard


def _recognise_beginning(head: bytes, client_offset: int = 0, server_offset: int = 0) -> _Speech | None:
    if len(head) >= _ENOUGH and looks_like_client_hello(head):
        return TlsDialogue(client_offset=client_offset, server_offset=server_offset)
    if looks_like_startup(head):
        return PostgresDialogue(client_offset=client_offset, server_offset=server_offset)
    return None
