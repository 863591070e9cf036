"""What is printed: tables as kubectl has them, whole objects, and what a person is told beside them."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

from podcam.model.text import printable, printable_lines

_GAP = 3
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def say(text: str) -> None:
    """Tell the person, not the program that reads standard output."""
    print(printable_lines(text), file=sys.stderr, flush=True)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as they need to be; nothing is cut, however narrow the terminal."""
    lines = [list(header), *([printable(cell) or "-" for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) + _GAP for column in range(len(header) - 1)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, [*widths, 0], strict=True)]
        print("".join(cells).rstrip())


def print_objects(objects: Sequence[Mapping[str, Any]], output: str, *, single: bool) -> None:
    """Whole objects with `-o json|yaml|name`: one alone, or a list as kubectl prints it."""
    if output == "name":
        for each in objects:
            print(object_name(each))
        return
    shown: Any = [without_managers(each) for each in objects]
    shown = shown[0] if single else {"apiVersion": "v1", "items": shown, "kind": "List", "metadata": {}}
    if output == "json":
        print(json.dumps(shown, indent=4, ensure_ascii=False))
    else:
        print(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True), end="")


def object_name(each: Mapping[str, Any]) -> str:
    """`recording.podcam.dev/web`, as `-o name` prints it."""
    group = each["apiVersion"].rpartition("/")[0]
    return f"{each['kind'].lower()}{'.' if group else ''}{group}/{each['metadata']['name']}"


def without_managers(each: Mapping[str, Any]) -> dict[str, Any]:
    """The object without `managedFields`, which kubectl hides, too."""
    metadata = {key: value for key, value in each["metadata"].items() if key != "managedFields"}
    return {**each, "metadata": metadata}


def counted(count: int, what: str) -> str:
    """`1 clip`, `1,200 clips`, `0 clips`."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def age(timestamp: str | None, now: datetime) -> str:
    """How long ago an RFC 3339 time was, as kubectl says it: `42s`, `3m5s`, `7h`, `12d`."""
    if not timestamp:
        return "<unknown>"
    seconds = max(0, int((now - datetime.fromisoformat(timestamp)).total_seconds()))
    return short_duration(seconds)


def short_duration(seconds: int) -> str:
    """`42s`, `3m5s`, `7h12m`, `12d`: one unit, and the next smaller one while the first is below ten."""
    for place, (unit, size) in enumerate(_UNITS):
        if seconds >= size:
            count, rest = divmod(seconds, size)
            if count < 10 and place + 1 < len(_UNITS) and rest // _UNITS[place + 1][1]:
                smaller, smaller_size = _UNITS[place + 1]
                return f"{count}{unit}{rest // smaller_size}{smaller}"
            return f"{count}{unit}"
    return "0s"


def now() -> datetime:
    """The time that ages are counted to."""
    return datetime.now(UTC)
