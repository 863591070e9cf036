"""A failed connection beside a good one, packet by packet: how far they went alike, and where they part.

Pure: conversations in, rows out. Two connections are alike as far as the best alignment of their beginnings
goes, in which a packet of one may be missing in the other (a delayed acknowledgement, an answer in two
packets instead of one) at a cost. What ends a connection is never alike.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from podcam.model.connection import Conversation, Packet, TcpFlags
from podcam.report.packets import Likeness, is_bare_ack, likeness, spellings
from podcam.report.spelling import number, span

Messages = Mapping[int, Sequence[str]]
"""For a frame, the names of the application's messages that begin in it."""

_ALIGNED_PACKETS = 120
"""So many packets from the start are aligned; alignment costs their square."""
_ALIKE_SCORE, _BARE_ACK_SCORE, _GAP_COST = 3, 1, 1
_SILENCE_NS = 1_000_000_000
"""From here on a pause is worth a row."""
_ALIKE_HEAD, _ALIKE_TAIL = 8, 6
_FAILED_HEAD, _FAILED_TAIL = 16, 10
_GOOD_HEAD = 10
"""How far the good connection is followed behind the parting, or as far as the failed one."""
_FEWEST_HIDDEN = 3


@dataclass(frozen=True, slots=True)
class Arrow:
    """A packet. `spellings` say what it carries, the most complete first; `proof` numbers the evidence."""

    frame: int
    offset_ns: int
    to_server: bool
    spellings: tuple[str, ...]
    proof: int | None = None
    kills: bool = False
    """RST: the connection is gone where it arrives."""
    from_between: bool = False
    """An ICMP error: sent by a third party, or by a host and not by its TCP."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Silence, or packets that are not shown; the most complete spelling first."""

    spellings: tuple[str, ...]


Entry = Arrow | Pause


@dataclass(frozen=True, slots=True)
class Row:
    """What happened in both connections at the same step."""

    failed: Entry | None
    good: Entry | None


@dataclass(frozen=True, slots=True)
class Ladder:
    """Rows for the eye: with `parted` the two connections begin to go different ways."""

    alike: tuple[Row, ...]
    parted: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Track:
    """One of the two connections; `proofs` gives the frames of the evidence their numbers."""

    conversation: Conversation
    messages: Messages
    proofs: Mapping[int, int]

    @property
    def packets(self) -> Sequence[Packet]:
        """The packets in the order of the file."""
        return self.conversation.packets

    def likenesses(self) -> list[tuple[Likeness | None, int]]:
        """For each packet of the beginning, what it is alike to, and how much finding that counts."""
        return [
            (
                likeness(packet, self.messages.get(packet.frame, ())),
                _BARE_ACK_SCORE if is_bare_ack(packet) else _ALIKE_SCORE,
            )
            for packet in self.packets[:_ALIGNED_PACKETS]
        ]

    def arrow(self, index: int) -> Arrow:
        """The packet as an arrow."""
        packet = self.packets[index]
        return Arrow(
            frame=packet.frame,
            offset_ns=packet.time_ns - self.conversation.start_ns,
            to_server=packet.from_client != (packet.icmp is not None),
            spellings=spellings(packet, self.messages.get(packet.frame, ())),
            proof=self.proofs.get(packet.frame),
            kills=packet.has(TcpFlags.RST) and packet.icmp is None,
            from_between=packet.icmp is not None,
        )

    def silence_before(self, index: int) -> Pause | None:
        """The silence before a packet, if it was long; or that nothing was recorded there."""
        if index == 0:
            return None
        earlier_ns, later_ns = self.packets[index - 1].time_ns, self.packets[index].time_ns
        gap_ns = sum(
            gap.until_ns - gap.since_ns
            for gap in self.conversation.gaps
            if gap.since_ns < later_ns and gap.until_ns > earlier_ns
        )
        if gap_ns:
            return Pause((f"nothing was recorded for {span(gap_ns)}", f"{span(gap_ns)} not recorded"))
        silence_ns = later_ns - earlier_ns
        return Pause((f"{span(silence_ns)} of silence",)) if silence_ns >= _SILENCE_NS else None

    def silence_after(self) -> Pause | None:
        """The silence between the last packet and the end of the capture, where more was to come."""
        last = self.packets[-1]
        silence_ns = self.conversation.capture_last_ns - last.time_ns
        if last.flags & (TcpFlags.FIN | TcpFlags.RST) or silence_ns < _SILENCE_NS:
            return None
        lasted = span(silence_ns)
        return Pause((f"nothing in the {lasted} until the capture ends", f"nothing more in {lasted}"))

    def left_out_of(self, hidden: range) -> int:
        """Packets in the middle of a long connection that were not even read, if the middle is hidden."""
        counted = self.conversation.client_packets + self.conversation.server_packets
        middle = len(self.packets) // 2
        return max(counted - len(self.packets), 0) if middle in hidden else 0


def compare(failed: Track, good: Track | None) -> Ladder:
    """Lay the failed connection beside the good one, or alone where there is none."""
    if good is None:
        return Ladder(alike=(), parted=tuple(Row(entry, None) for entry in _to_the_end(failed, 0)))
    pairs = _alignment(failed.likenesses(), good.likenesses())
    failed_from = 1 + max((left for left, _ in pairs if left is not None), default=-1)
    good_from = 1 + max((right for _, right in pairs if right is not None), default=-1)
    rest = list(_to_the_end(failed, failed_from))
    parted = zip_longest(rest, _going_on(good, good_from, max(len(rest), _GOOD_HEAD)))
    return Ladder(
        alike=tuple(_alike_rows(failed, good, pairs)),
        parted=tuple(Row(left, right) for left, right in parted),
    )


Pair = tuple[int | None, int | None]


def _alignment(
    left: Sequence[tuple[Likeness | None, int]], right: Sequence[tuple[Likeness | None, int]]
) -> list[Pair]:
    """The best alignment of a beginning of `left` with one of `right`; it ends with a pair that is alike.

    Needleman-Wunsch without a cost for what follows the best cell.
    """
    scores = [[-_GAP_COST * (i + j) for j in range(len(right) + 1)] for i in range(len(left) + 1)]
    best, end = 0, (0, 0)
    for i, (mine, worth) in enumerate(left, 1):
        above, row = scores[i - 1], scores[i]
        for j, (theirs, _) in enumerate(right, 1):
            skipped = max(above[j], row[j - 1]) - _GAP_COST
            row[j] = max(skipped, above[j - 1] + worth) if mine == theirs is not None else skipped
            if row[j] > best:
                best, end = row[j], (i, j)
    pairs: list[Pair] = []
    i, j = end
    while i or j:
        alike = i and j and left[i - 1][0] == right[j - 1][0] is not None
        if alike and scores[i][j] == scores[i - 1][j - 1] + left[i - 1][1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif i and scores[i][j] == scores[i - 1][j] - _GAP_COST:
            i -= 1
            pairs.append((i, None))
        else:
            j -= 1
            pairs.append((None, j))
    return pairs[::-1]


def _alike_rows(failed: Track, good: Track, pairs: Sequence[Pair]) -> Iterator[Row]:
    proven = (
        at
        for at, (left, _) in enumerate(pairs)
        if left is not None and failed.packets[left].frame in failed.proofs
    )
    shown = {*range(_ALIKE_HEAD), *range(len(pairs) - _ALIKE_TAIL, len(pairs)), *proven}
    for step in _shown_or_hidden(range(len(pairs)), shown):
        if isinstance(step, range):
            yield Row(
                Pause((number(sum(pairs[at][0] is not None for at in step), "packet"),)),
                Pause((number(sum(pairs[at][1] is not None for at in step), "packet"),)),
            )
            continue
        left, right = pairs[step]
        silences = Row(
            None if left is None else failed.silence_before(left),
            None if right is None else good.silence_before(right),
        )
        if silences.failed or silences.good:
            yield silences
        yield Row(
            None if left is None else failed.arrow(left),
            None if right is None else good.arrow(right),
        )


def _to_the_end(track: Track, start: int) -> Iterator[Entry]:
    """All that is left of the failed connection, without the middle where it is long."""
    end = len(track.packets)
    proven = (at for at in range(start, end) if track.packets[at].frame in track.proofs)
    shown = {*range(start, start + _FAILED_HEAD), *range(end - _FAILED_TAIL, end), *proven}
    for step in _shown_or_hidden(range(start, end), shown):
        if isinstance(step, range):
            took_ns = track.packets[step[-1]].time_ns - track.packets[step[0]].time_ns
            count = len(step) + track.left_out_of(step)
            yield Pause((f"{number(count, 'packet')} in {span(took_ns)}",))
            continue
        if silence := track.silence_before(step):
            yield silence
        yield track.arrow(step)
    if silence := track.silence_after():
        yield silence


def _going_on(track: Track, start: int, most: int) -> Iterator[Entry]:
    """How the good connection went on, in about `most` packets."""
    end = len(track.packets)
    shown_end = end if end - start < most + _FEWEST_HIDDEN else start + most
    for at in range(start, shown_end):
        if silence := track.silence_before(at):
            yield silence
        yield track.arrow(at)
    if hidden := end - shown_end:
        lasted_ns = track.conversation.end_ns - track.conversation.start_ns
        count = hidden + track.left_out_of(range(shown_end, end))
        yield Pause(
            (f"{number(count, 'more packet')}, until {span(lasted_ns)}", number(count, "more packet"))
        )


def _shown_or_hidden(steps: range, shown: set[int]) -> Iterator[int | range]:
    """Each step that is shown, and each run of hidden ones as a range; one or two are shown anyway."""
    at = steps.start
    while at < steps.stop:
        run = at
        while run < steps.stop and run not in shown:
            run += 1
        if run - at >= _FEWEST_HIDDEN:
            yield range(at, run)
            at = run
        else:
            yield at
            at += 1
