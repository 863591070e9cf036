"""A ladder diagram as lines of styled text: two vertical lines, client and server, and an arrow per packet.

       frame       ms  client                     server
          14    0.000  ├────────── SYN ─────────────▶│
          15    0.021  │◀─────── SYN, ACK ───────────┤
    1 ▸   17    0.112  ├─── StartupMessage, 83 B ───▶│
    2 ▸   18    0.130  │◀────────── ACK ─────────────┤
    3 ▸   19    1.930  ✗◀────── RST, ACK ────────────┤

Every line of a ladder is exactly as wide as asked for, so that two of them stand side by side.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.text import Text

from podcam.model.point import Endpoint
from podcam.model.text import printable
from podcam.report.ladder import Arrow, Entry, Pause

_LONG_NS = 100 * 10**9
"""From here on a ladder counts in seconds and not in milliseconds."""
_NARROWEST_LANE, _WIDEST_LANE = 24, 64
_PROOF_WIDTH = 4
_SHORTEST_LINE = 2


@dataclass(frozen=True, slots=True)
class Scale:
    """The columns that all lines of a ladder share.

    `lane_width` is that of the two vertical lines and all between them.
    """

    proof_width: int
    frame_width: int
    time_width: int
    seconds: bool
    lane_width: int = 0

    @property
    def width(self) -> int:
        """All columns and the space between them."""
        return self.proof_width + self.frame_width + 2 + self.time_width + 2 + self.lane_width


def scales(*ladders: Iterable[Entry | None], width: int) -> list[Scale]:
    """Columns for ladders that stand beside each other and fill `width`, with lanes of one width."""
    narrow = [_scale(entries) for entries in ladders]
    room = (width - sum(scale.width for scale in narrow)) // len(narrow)
    lane_width = max(min(room, _WIDEST_LANE), _NARROWEST_LANE)
    return [replace(scale, lane_width=lane_width) for scale in narrow]


def _scale(entries: Iterable[Entry | None]) -> Scale:
    arrows = [entry for entry in entries if isinstance(entry, Arrow)]
    seconds = any(arrow.offset_ns >= _LONG_NS for arrow in arrows)
    return Scale(
        proof_width=_PROOF_WIDTH if any(arrow.proof is not None for arrow in arrows) else 0,
        frame_width=max([len("frame"), *(len(str(arrow.frame)) for arrow in arrows)]),
        time_width=max([len("ms"), *(len(_time(arrow.offset_ns, seconds=seconds)) for arrow in arrows)]),
        seconds=seconds,
    )


def heading(scale: Scale, client: Endpoint, server: Endpoint) -> Text:
    """The names of the columns; those of the two sides where they have any and both fit."""
    left, right = printable(client.name or "client"), printable(server.name or "server")
    if cell_len(left) + cell_len(right) + 2 > scale.lane_width:
        left, right = "client", "server"
    lane = left + " " * (scale.lane_width - cell_len(left) - cell_len(right)) + right
    unit = "s" if scale.seconds else "ms"
    return Text(
        f"{'':{scale.proof_width}}{'frame':>{scale.frame_width}}  {unit:>{scale.time_width}}  {lane}",
        style="dim",
    )


def line(entry: Entry | None, scale: Scale, style: str = "") -> Text:
    """One step of one connection, as wide as its scale; `style` colours the arrow."""
    match entry:
        case None:
            return Text(" " * scale.width)
        case Pause(spellings):
            margin = " " * (scale.width - scale.lane_width)
            return Text(
                margin + "┊" + fit(spellings, scale.lane_width - 4).center(scale.lane_width - 2) + "┊", "dim"
            )
        case Arrow():
            return _arrow_line(entry, scale, style)


def _arrow_line(arrow: Arrow, scale: Scale, style: str) -> Text:
    text = Text()
    text.append(f"{proof_mark(arrow.proof):<{scale.proof_width}}", "bold yellow")
    text.append(f"{arrow.frame:>{scale.frame_width}}", "bold" if arrow.proof is not None else "")
    text.append(f"  {_time(arrow.offset_ns, seconds=scale.seconds):>{scale.time_width}}  ", "dim")
    text.append(_lane(arrow, scale.lane_width), style)
    return text


def proof_mark(proof: int | None) -> str:
    """How a packet points to the evidence, and the evidence to the packet."""
    return "" if proof is None else f"{proof} ▸ "


def _lane(arrow: Arrow, width: int) -> str:
    stroke = "╌" if arrow.from_between else "─"
    inner = width - 3  # two vertical lines and the head
    label = fit(arrow.spellings, inner - 2 - 2 * _SHORTEST_LINE)
    before = (inner - len(label) - 2) // 2
    after = inner - len(label) - 2 - before
    origin, target = "│" if arrow.from_between else "", "✗" if arrow.kills else "│"
    if arrow.to_server:
        return f"{origin or '├'}{stroke * before} {label} {stroke * after}▶{target}"
    return f"{target}◀{stroke * before} {label} {stroke * after}{origin or '┤'}"


def fit(spellings: Sequence[str], width: int) -> str:
    """The first spelling that fits, or what fits of the last."""
    for spelling in spellings:
        if len(spelling) <= width:
            return spelling
    return spellings[-1][: max(width - 1, 0)] + "…"


def _time(offset_ns: int, *, seconds: bool) -> str:
    return f"{offset_ns / 1e9:,.6f}" if seconds else f"{offset_ns / 1e6:,.3f}"
