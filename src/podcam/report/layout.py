"""Ladders on a page: beside each other where there is room, else one below the other, line by line."""

from collections.abc import Iterator, Sequence

from rich.text import Text

from podcam.model.diagnosis import DiagnosedConnection
from podcam.report.drawing import Scale, fit, heading, line, scales
from podcam.report.ladder import Arrow, Entry, Ladder
from podcam.report.spelling import named, span

SIDE_BY_SIDE_COLUMNS = 100
"""From here on the good connection stands beside the failed one, and not below it."""
_BETWEEN = "   "
_FAILED, _GOOD = "red", "green"


def lay_out(
    ladder: Ladder, row: DiagnosedConnection, good: DiagnosedConnection | None, width: int
) -> Iterator[Text]:
    """The lines of a ladder: titles, columns, steps, and where the two connections part."""
    if good is None:
        yield from _alone(ladder, row, width)
    elif width >= SIDE_BY_SIDE_COLUMNS:
        yield from _side_by_side(ladder, row, good, width)
    else:
        yield from _stacked(ladder, row, good, width)


def _alone(ladder: Ladder, row: DiagnosedConnection, width: int) -> Iterator[Text]:
    entries = [step.failed for step in ladder.parted]
    [scale] = scales(entries, width=width)
    yield _title(row, width)
    yield heading(scale, row.client, row.server)
    proven = [at for at, entry in enumerate(entries) if isinstance(entry, Arrow) and entry.proof is not None]
    failing = max(proven, default=0) if row.verdict.failed else len(entries)
    for at, entry in enumerate(entries):
        yield line(entry, scale, _FAILED if at >= failing else "")
    if row.verdict.failed:
        yield Text("no good connection to this server in what was read, to compare with", "dim")


def _side_by_side(
    ladder: Ladder, row: DiagnosedConnection, good: DiagnosedConnection, width: int
) -> Iterator[Text]:
    steps = (*ladder.alike, *ladder.parted)
    left, right = scales(
        [step.failed for step in steps], [step.good for step in steps], width=width - len(_BETWEEN)
    )
    title = _title(row, left.width)
    title.pad_right(left.width - title.cell_len)
    yield _beside(title, _title(good, right.width, row))
    yield _beside(heading(left, row.client, row.server), heading(right, good.client, good.server))
    for step in ladder.alike:
        yield _beside(line(step.failed, left), line(step.good, right))
    yield _parting(left.width + len(_BETWEEN) + right.width)
    for step in ladder.parted:
        yield _beside(line(step.failed, left, _FAILED), line(step.good, right, _GOOD))


def _stacked(
    ladder: Ladder, row: DiagnosedConnection, good: DiagnosedConnection, width: int
) -> Iterator[Text]:
    steps = (*ladder.alike, *ladder.parted)
    [scale] = scales([entry for step in steps for entry in (step.failed, step.good)], width=width)
    yield _title(row, width)
    yield heading(scale, row.client, row.server)
    yield from _one_of_two(
        [step.failed for step in ladder.alike], [step.failed for step in ladder.parted], scale, _FAILED
    )
    yield Text()
    yield _title(good, width, row)
    yield heading(scale, good.client, good.server)
    yield from _one_of_two(
        [step.good for step in ladder.alike], [step.good for step in ladder.parted], scale, _GOOD
    )


def _one_of_two(
    before: Sequence[Entry | None], after: Sequence[Entry | None], scale: Scale, style: str
) -> Iterator[Text]:
    yield from (line(entry, scale) for entry in before if entry is not None)
    yield _parting(scale.width)
    yield from (line(entry, scale, style) for entry in after if entry is not None)


def _beside(left: Text, right: Text) -> Text:
    both = Text.assemble(left, _BETWEEN, right)
    both.rstrip()
    return both


def _parting(width: int) -> Text:
    return Text(" here they part ".center(width, "┄"), "bold yellow")


def _title(row: DiagnosedConnection, width: int, failed: DiagnosedConnection | None = None) -> Text:
    """Which connection a ladder shows; for the good one also how far in time it is from the failed one."""
    mark, style = ("✗", "bold red") if row.verdict.failed else ("✓", "bold green")
    where = f", stream {row.tcp_stream}" if row.tcp_stream is not None else ""
    if failed is not None:
        apart_ns = row.start_ns - failed.start_ns
        where += f", {span(abs(apart_ns))} {'later' if apart_ns > 0 else 'earlier'}"
    spellings = (f"{mark} {named(row.client)}{where}", f"{mark} port {row.client.port}{where}")
    return Text(fit(spellings, width), style)
