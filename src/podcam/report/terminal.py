"""The diagnosis for a person: how many failed, what each failure is, and the packets that prove it.

What comes from packets and files goes through `printable`, so that nothing can steer the terminal.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from podcam.errors import UsageError
from podcam.model.connection import Conversation
from podcam.model.diagnosis import CaptureSummary, DiagnosedConnection, Diagnosis
from podcam.model.failure import ServerCounts
from podcam.model.text import printable
from podcam.model.verdict import Fault, VerdictId
from podcam.report.drawing import proof_mark
from podcam.report.ladder import Track, compare
from podcam.report.layout import lay_out
from podcam.report.messages import messages_of
from podcam.report.spelling import moment, named, number, same_day, share, span
from podcam.report.view import FailureGroup, Overview, overview

_NO_HEAD = Text()
_LISTED_CAPTURES = 6
_LISTED_FAILURES = 10
_LISTED_PROBERS = 4
_DRAWN_GROUPS = 8
_COUNTED_POINTS = 4


class TerminalReport:
    """Prints a diagnosis.

    Args:
        diagnosis: what is printed.
        conversation: the packets of the connection with this id, for its ladder.
        counts: what the recorder counted for each server at a point, which reaches further back than the
            captures; with the name of the point.
        names: what captures are called, by their paths; others go by these.
        exported_by: the command that makes a file of a capture that is none.
    """

    def __init__(
        self,
        diagnosis: Diagnosis,
        conversation: Callable[[int], Conversation],
        counts: Sequence[tuple[str, ServerCounts]] = (),
        *,
        names: Mapping[str, str] | None = None,
        exported_by: str = "podcam export",
    ) -> None:
        self._diagnosis = diagnosis
        self._conversation = conversation
        self._counts = counts
        self._names = names or {}
        self._exported_by = exported_by
        self._overview = overview(diagnosis)
        self._rows = {row.id: row for row in diagnosis.connections}
        self._several_points = len({point for capture in diagnosis.captures for point in capture.points}) > 1
        self._points: defaultdict[int, list[DiagnosedConnection]] = defaultdict(list)
        for row in diagnosis.connections:
            self._points[row.end_to_end].append(row)

    def print(self, console: Console, streams: Collection[int] = ()) -> None:
        """What was read, how many failed, and each kind of failure with a ladder.

        With `streams` only these connections, failed or not, by their `tcp.stream`.

        Raises:
            UsageError: no connection has such a number.
        """
        if streams:
            self._print_streams(streams, console)
            return
        for text in _captures(self._diagnosis.captures, self._called):
            _print_wrapped(text, console)
        console.print()
        for text in _summary(self._overview):
            _print_wrapped(text, console)
        for at, group in enumerate(self._overview.groups):
            console.print()
            self._print_group(group, console, drawn=at < _DRAWN_GROUPS)

    def _called(self, capture: CaptureSummary) -> str:
        return printable(self._names.get(capture.path, capture.path))

    def _print_streams(self, streams: Collection[int], console: Console) -> None:
        rows = [row for row in self._diagnosis.connections if row.tcp_stream in streams]
        missing = sorted(set(streams) - {row.tcp_stream for row in rows})
        if missing:
            raise UsageError(f"no connection has the tcp.stream {', '.join(map(str, missing))}")
        for row in rows:
            self._print_row(row, console)
            self._print_ladder(row, console)

    def _print_group(self, group: FailureGroup, console: Console, *, drawn: bool) -> None:
        rate = (
            f"{len(group.failures):,} of {number(group.connections, 'connection')} to {named(group.server)}"
        )
        title = Text.assemble(
            ("━━ ", "red"), (group.verdict, "bold red"), (" ━━ ", "red"), (rate, "bold"), " "
        )
        title.append("━" * max(console.width - title.cell_len, 0), "red")
        console.print(title, overflow="ellipsis", no_wrap=True)
        for text in self._counted(group):
            _print_wrapped(text, console)
        newest_first = group.failures[::-1]
        for row in newest_first[:_LISTED_FAILURES]:
            self._print_row(row, console)
        if (hidden := len(newest_first) - _LISTED_FAILURES) > 0:
            console.print(Text(f"and {number(hidden, 'earlier one')}; --json lists them all", "dim"))
        if drawn:
            compared = (row for row in newest_first if row.id in self._diagnosis.comparisons)
            self._print_ladder(next(compared, newest_first[0]), console)

    def _counted(self, group: FailureGroup) -> Iterator[Text]:
        """What was counted where the group's connections failed."""
        points = {row.point for row in group.failures}
        told = [
            (point, count)
            for point, count in self._counts
            if point in points
            and (count.server.ip, count.server.port) == (group.server.ip, group.server.port)
        ]
        for point, count in told[:_COUNTED_POINTS]:
            where = f" at {printable(point)}" if self._several_points else ""
            yield Text(
                f"The recorder saw {number(count.connections, 'connection')} to it{where} since"
                f" {moment(count.since_ns, date=True)} UTC, and {_failures(count)}",
                "dim",
            )
        if (hidden := len(told) - _COUNTED_POINTS) > 0:
            yield Text(f"and at {number(hidden, 'more point')}", "dim")

    def _print_row(self, row: DiagnosedConnection, console: Console) -> None:
        """When, who, and what happened."""
        about = [f"phase {row.verdict.phase}"]
        if row.verdict.fault is not Fault.NONE:
            about.insert(0, f"fault {row.verdict.fault}")
        if self._several_points:
            about.append(f"at {printable(row.point)}")
        about += [
            f"{other.verdict.id} at {printable(other.point)}"
            for other in self._points[row.end_to_end]
            if other.id != row.id
        ]
        when_and_who = f"{self._moment(row.end_ns)}  {named(row.client)}"
        _print_wrapped(Text.assemble((when_and_who, "bold"), (f"  {', '.join(about)}", "dim")), console)
        _print_wrapped(Text(printable(row.verdict.summary)), console, Text("  "))

    def _moment(self, time_ns: int) -> str:
        """A time, with its date where the captures span several days."""
        first_ns, last_ns = self._overview.first_ns, self._overview.last_ns
        one_day = first_ns is not None and last_ns is not None and same_day(first_ns, last_ns)
        return moment(time_ns, date=not one_day)

    def _print_ladder(self, row: DiagnosedConnection, console: Console) -> None:
        proofs = {
            proof.frame: at
            for at, proof in enumerate(row.verdict.evidence, 1)
            if proof.capture == row.capture
        }
        good = self._rows.get(self._diagnosis.comparisons.get(row.id, -1))
        ladder = compare(self._track(row, proofs), None if good is None else self._track(good, {}))
        console.print()
        for text in lay_out(ladder, row, good, console.width):
            console.print(text)
        console.print()
        self._print_proofs(row, good, console)

    def _track(self, row: DiagnosedConnection, proofs: dict[int, int]) -> Track:
        conversation = self._conversation(row.id)
        return Track(conversation, messages_of(conversation, row.verdict.protocol), proofs)

    def _print_proofs(
        self, row: DiagnosedConnection, good: DiagnosedConnection | None, console: Console
    ) -> None:
        several = len(self._diagnosis.captures) > 1
        for at, proof in enumerate(row.verdict.evidence, 1):
            where = f" of {self._called(self._diagnosis.captures[proof.capture])}" if several else ""
            text = Text.assemble((f"frame {proof.frame}{where}", "bold"), f"  {printable(proof.note)}")
            _print_wrapped(text, console, Text(proof_mark(at), "bold yellow"))
        if row.verdict.candidates:
            console.print(Text("The packets cannot tell apart:"))
            for candidate in row.verdict.candidates:
                _print_wrapped(Text(printable(candidate)), console, Text("  · "))
        if row.tcp_stream is not None:
            streams = {row.tcp_stream, row.answers_tcp_stream}
            if good is not None and good.capture == row.capture:
                streams |= {good.tcp_stream, good.answers_tcp_stream}
            numbers = sorted(number for number in streams if number is not None)
            wanted = f"in {{{', '.join(map(str, numbers))}}}" if len(numbers) > 1 else f"== {numbers[0]}"
            is_file = not Path(self._diagnosis.captures[row.capture].path).is_dir()
            exported = "" if is_file else f", after `{printable(self._exported_by)}`"
            console.print(Text(f"Wireshark{exported}: tcp.stream {wanted}", "dim"))


def _captures(captures: Sequence[CaptureSummary], called: Callable[[CaptureSummary], str]) -> Iterator[Text]:
    for capture in captures[:_LISTED_CAPTURES]:
        about = [number(capture.packets, "packet")]
        if capture.first_ns is not None and capture.last_ns is not None:
            one_day = same_day(capture.first_ns, capture.last_ns)
            about.append(
                f"{moment(capture.first_ns, date=True)} to {moment(capture.last_ns, date=not one_day)} UTC"
                f" ({span(capture.last_ns - capture.first_ns)})"
            )
        points = [point for point in capture.points if point != Path(capture.path).name]
        if points:  # otherwise the file did not say, and goes by its own name
            about.append(f"recorded at {', '.join(map(printable, points))}")
        yield Text.assemble((called(capture), "bold"), ("  " + ", ".join(about), "dim"))
        if capture.dropped:
            yield Text(f"  the recorder lost {number(capture.dropped, 'packet')}", "yellow")
        for warning in capture.warnings:
            yield Text(f"  {printable(warning)}", "yellow")
    if (hidden := len(captures) - _LISTED_CAPTURES) > 0:
        yield Text(f"and {number(hidden, 'more file')}", "dim")


def _failures(count: ServerCounts) -> str:
    """`no failure`, `1 failure (refused)`, `3 failures (2 refused, 1 reset)`."""
    if not count.failures:
        return "no failure"
    kinds = [f"{times:,} {kind}" for kind, times in count.failures.items()]
    told = ", ".join(kinds if len(kinds) > 1 else count.failures)
    return f"{number(sum(count.failures.values()), 'failure')} ({told})"


def _summary(total: Overview) -> Iterator[Text]:
    if total.failed and total.first_failure_ns is not None and total.last_failure_ns is not None:
        one_day = same_day(total.first_failure_ns, total.last_failure_ns)
        text = Text.assemble(
            (f"{total.failed:,} of {number(total.connections, 'connection')} failed", "bold red"),
            f" ({share(total.failed, total.connections)}), ",
            f"{'at' if total.failed == 1 else 'since'} {moment(total.first_failure_ns, date=True)}",
        )
        if total.failed > 1:
            text.append(f", the last at {moment(total.last_failure_ns, date=not one_day)}")
        yield text.append(" UTC")
    elif total.connections:
        yield Text(f"None of {number(total.connections, 'connection')} failed", "bold green")
    else:
        yield Text(f"No connections in {number(total.packets, 'packet')}", "bold")
    others = [
        f"{count:,} {verdict}" + (f" ({_probers(total)})" if verdict is VerdictId.PROBE else "")
        for verdict, count in total.verdicts.items()
        if verdict not in {group.verdict for group in total.groups}
    ]
    if others:
        yield Text(("The others: " if total.failed else "") + ", ".join(others), "dim")


def _probers(total: Overview) -> str:
    clients = list(total.probes.items())[:_LISTED_PROBERS]
    listed = [
        f"{count:,} from {f'{printable(name)} ({ip})' if name else ip}" for (ip, name), count in clients
    ]
    hidden = len(total.probes) - _LISTED_PROBERS
    return ", ".join([*listed, f"others from {number(hidden, 'more client')}"] if hidden > 0 else listed)


def _print_wrapped(text: Text, console: Console, head: Text = _NO_HEAD) -> None:
    """Print `text` behind `head`; where it is wrapped, its later lines are indented as far, or by two."""
    indent = max(head.cell_len, 2)
    for wrapped in text.wrap(console, console.width - indent):
        wrapped.rstrip()
        console.print(Text.assemble(head, wrapped))
        head = Text(" " * indent)
