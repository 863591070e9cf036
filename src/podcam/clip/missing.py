"""What a part of a clip does not hold, and why, in sentences for people."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from podcam.model.point import Gap, Window

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DATE: Final = len("2026-01-31 ")
_MOST_TOLD: Final = 10
_FOREVER_NS: Final = 253_402_300_799 * 10**9
"""Where the calendar ends: a clip may come from somebody else."""


def gap_sentence(point: str, gap: Gap) -> str:
    """Where nothing was recorded, for how long, and why; no full stop."""
    lasted = _lasted(gap.until_ns - gap.since_ns)
    since, until = _moment(gap.since_ns), _moment(gap.until_ns)
    if until[:_DATE] == since[:_DATE]:
        until = until[_DATE:]
    return f"nothing was recorded at {point} from {since} to {until} UTC ({lasted}): {gap.reason}"


def first_packets_missing(
    point: str, recorded: Mapping[str, Any] | None, windows: Sequence[Window]
) -> Iterator[str]:
    """A sentence for each address that a followed name got within the windows: the filter came behind.

    Args:
        point: where.
        recorded: what the filter let pass, as `ClipPart.filter` tells it.
        windows: of the part.
    """
    if not isinstance(recorded, Mapping) or not recorded.get("follows_names"):
        return
    moves = [move for move in map(_move, recorded.get("learned") or ()) if move and _within(move, windows)]
    for name, address, learned_ns, swapped_ns in moves[:_MOST_TOLD]:
        yield (
            f"first packets of connections to {address} may be missing at {point}: {name} moved there at "
            f"{_moment(learned_ns)} UTC, the filter {_lasted(swapped_ns - learned_ns)} later"
        )
    if (hidden := len(moves) - _MOST_TOLD) > 0:
        yield f"first packets of connections to {hidden} more addresses may be missing at {point}"


_Move = tuple[str, str, int, int]


def _move(learned: object) -> _Move | None:
    """Name, address, when it was learnt and when the filter held it; None where it is not told."""
    if not isinstance(learned, Mapping):
        return None
    learned_ns, swapped_ns = learned.get("learned_ns"), learned.get("swapped_ns")
    if not isinstance(learned_ns, int) or not isinstance(swapped_ns, int):
        return None
    return str(learned.get("name")), str(learned.get("address")), learned_ns, swapped_ns


def _within(move: _Move, windows: Sequence[Window]) -> bool:
    return not windows or any(window.overlaps(move[2], move[3]) for window in windows)


def _moment(time_ns: int) -> str:
    when = _EPOCH + timedelta(microseconds=min(max(time_ns, 0), _FOREVER_NS) // 1000)
    return f"{when:%Y-%m-%d %H:%M:%S}.{when.microsecond // 1000:03}"


def _lasted(duration_ns: int) -> str:
    if duration_ns < 1_000_000_000:
        return f"{max(duration_ns, 0) / 1e6:.3g} ms"
    return f"{min(duration_ns, _FOREVER_NS) / 1e9:,.1f} s"
