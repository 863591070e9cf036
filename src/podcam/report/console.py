"""Where a report is printed: how wide, with which colours, in which characters."""

import codecs
import os
import sys
from io import TextIOWrapper
from typing import TextIO

from rich.console import Console

_PIPED_COLUMNS = 120
_MOST_COLUMNS = 160
"""Wider lines are hard to read, however wide the terminal."""

_PLAIN_SPELLINGS = str.maketrans("─━╌┄│┊├┤▶◀▸✗✓→…·", "----|:||><>x+>~*")
"""One column each, so that a diagram keeps its shape where its characters cannot be shown."""

_ENCODING_ERRORS = "podcam.plainly"


class _Console(Console):
    """Leaves it to the command what becomes of an output that nobody reads any more."""

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 # rich calls this where it has caught the BrokenPipeError


def _plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    unknown = error.object[error.start : error.end]
    plain = unknown.translate(_PLAIN_SPELLINGS)
    return plain.encode("ascii", "replace").decode("ascii"), error.end


def console(out: TextIO | None = None) -> Console:
    """A console on `out` (standard output): no wider than reads well, coloured only where that is wanted.

    Follows COLUMNS, NO_COLOR and FORCE_COLOR. What the encoding of `out` cannot say is drawn in ASCII.
    """
    codecs.register_error(_ENCODING_ERRORS, _plainly)
    out = sys.stdout if out is None else out
    if isinstance(out, TextIOWrapper):
        out.reconfigure(errors=_ENCODING_ERRORS)
    attached = "COLUMNS" in os.environ or any(os.isatty(descriptor) for descriptor in (0, 1, 2))
    made = _Console(
        file=out, highlight=False, markup=False, emoji=False, width=None if attached else _PIPED_COLUMNS
    )
    made.width = min(made.width, _MOST_COLUMNS)
    return made
