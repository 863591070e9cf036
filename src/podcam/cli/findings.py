"""What the doctors found, a line each."""

from collections.abc import Sequence
from typing import Protocol

from podcam.model.text import printable_lines


class Finding(Protocol):
    """One thing that was looked at."""

    @property
    def subject(self) -> str:
        """What was looked at."""

    @property
    def found(self) -> str:
        """How it is."""

    @property
    def remedy(self) -> str | None:
        """What to do; None where all is well."""

    @property
    def needed(self) -> bool:
        """Whether recording lacks something without it."""


def print_findings(findings: Sequence[Finding]) -> None:
    """A line each, and what to do about those that are not well below it."""
    width = max((len(each.subject) for each in findings), default=0)
    for each in findings:
        mark = "ok  " if each.remedy is None else "FAIL" if each.needed else "note"
        print(f"{mark}  {each.subject:<{width}}  {printable_lines(each.found)}")
        if each.remedy is not None:
            print(f"{'':{width + 8}}{printable_lines(each.remedy)}")
