"""Typed reading of the fields of an object that came as JSON. Pure.

The API server has checked Podcam's own kinds against their schemas; but those of an older or newer version
may be installed, and an annotation may hold anything.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Self, TypeVar

from podcam.errors import InvalidObjectError
from podcam.kube.spelling import parse_duration, parse_quantity, parse_time

_T = TypeVar("_T")

_NAME = re.compile(r"[A-Za-z0-9]([-.A-Za-z0-9]{0,251}[A-Za-z0-9])?", re.ASCII)
"""What names of objects, and their uids, have in common: as a part of a path, each leads nowhere else."""
_NAMES = ("namespace", "name", "uid")
"""Of an object's metadata."""


class Fields:
    """The fields of an object, or of a part of it; a field that is null counts as absent.

    Everything raises InvalidObjectError, which names object and field, for a value of another type.

    Args:
        body: the part.
        of: what people call the object.
        path: where the part lies in it: `.spec.ring`.
    """

    def __init__(self, body: Any, of: str, path: str = "") -> None:
        self._of = of
        self._path = path
        if not isinstance(body, dict):
            self.fail("", "is not an object")
        self._body = body

    def fail(self, name: str, why: str) -> NoReturn:
        """Refuse the object for one of its fields.

        Raises:
            InvalidObjectError: always.
        """
        where = f"{self._path}.{name}" if name else self._path
        raise InvalidObjectError(f"{self._of}: {where.lstrip('.') or 'it'} {why}")

    def names(self) -> tuple[str, ...]:
        """The names of all fields that are not null."""
        return tuple(name for name, value in self._body.items() if value is not None)

    def part(self, name: str) -> Self:
        """A part that is an object; empty when it is absent."""
        value = self._body.get(name)
        return type(self)({} if value is None else value, self._of, f"{self._path}.{name}")

    def parts(self, name: str) -> tuple[Self, ...]:
        """A list of objects; empty when it is absent."""
        return tuple(
            type(self)(value, self._of, f"{self._path}.{name}[{at}]")
            for at, value in enumerate(self._list(name))
        )

    def text(self, name: str, default: str | None = None) -> str:
        """A string; without a default it has to be there, and not be empty."""
        value = self.text_or_none(name)
        if value is None:
            value = default
        if value is None or (default is None and not value):
            self.fail(name, "is missing")
        return value

    def text_or_none(self, name: str) -> str | None:
        """A string, None when it is absent."""
        return self._typed(name, str, "a string")

    def name_or_none(self, name: str) -> str | None:
        """The name of an object, or its uid, which may become part of a path; None when it is absent."""
        value = self.text_or_none(name)
        if value and not _NAME.fullmatch(value):
            self.fail(name, f"is {value!r}, which is no name of an object")
        return value

    def number(self, name: str, default: int) -> int:
        """A whole number that is not negative."""
        value = self.number_or_none(name)
        return default if value is None else value

    def number_or_none(self, name: str) -> int | None:
        """A whole number that is not negative, None when it is absent."""
        value = self._body.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            self.fail(name, f"is {value!r}, and not a whole number from 0 on")
        return value

    def flag(self, name: str) -> bool:
        """True or false; false when it is absent."""
        return bool(self._typed(name, bool, "true or false"))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; empty when it is absent."""
        values = self._list(name)
        if not all(isinstance(value, str) for value in values):
            self.fail(name, "holds something that is not a string")
        return tuple(values)

    def numbers(self, name: str, least: int, most: int) -> tuple[int, ...]:
        """A list of whole numbers within bounds; empty when it is absent."""
        values = self._list(name)
        for value in values:
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                self.fail(name, f"holds {value!r}, which is not a whole number from {least} to {most}")
        return tuple(values)

    def text_map(self, name: str) -> dict[str, str]:
        """A map of strings; empty when it is absent."""
        values = self._typed(name, dict, "a map") or {}
        if not all(isinstance(value, str) for value in values.values()):
            self.fail(name, "holds something that is not a string")
        return values

    def time_ns(self, name: str, default: int | None = None) -> int:
        """A time, in nanoseconds since 1970 UTC; without a default it has to be there."""
        return self._spelled(name, parse_time, default)

    def duration_ns(self, name: str, default: int | None = None) -> int:
        """A duration, in nanoseconds; without a default it has to be there."""
        return self._spelled(name, parse_duration, default)

    def size_bytes(self, name: str, default: int | None = None) -> int:
        """A quantity of bytes; without a default it has to be there."""
        return self._spelled(name, parse_quantity, default)

    def raw(self, name: str) -> Any:
        """Whatever it is, None when it is absent."""
        return self._body.get(name)

    def _spelled(self, name: str, parse: Callable[[str], int], default: int | None) -> int:
        text = self.text_or_none(name)
        if text is None:
            if default is None:
                self.fail(name, "is missing")
            return default
        try:
            return parse(text)
        except ValueError as error:
            self.fail(name, f"is wrong: {error}")

    def _list(self, name: str) -> list[Any]:
        return self._typed(name, list, "a list") or []

    def _typed(self, name: str, kind: type[_T], called: str) -> _T | None:
        value = self._body.get(name)
        if value is not None and not isinstance(value, kind):
            self.fail(name, f"is {value!r}, and not {called}")
        return value


def by_name(fields: Fields) -> Mapping[str, Fields]:
    """The parts of a map, by the names of the objects that they are about."""
    for name in fields.names():
        if not _NAME.fullmatch(name):
            fields.fail("", f"speaks of {name!r}, which is no name of an object")
    return {name: fields.part(name) for name in fields.names()}


def object_fields(body: Any, kind: str) -> tuple[Fields, Fields]:
    """An object's metadata, whose names are checked, and the whole of it."""
    metadata = body.get("metadata") if isinstance(body, dict) else None
    metadata = metadata if isinstance(metadata, dict) else {}
    name = "/".join(str(metadata[part]) for part in ("namespace", "name") if metadata.get(part))
    fields = Fields(body, f"{kind} {name}".rstrip())
    meta = fields.part("metadata")
    for part in _NAMES:
        meta.name_or_none(part)
    return meta, fields
