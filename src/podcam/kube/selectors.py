"""Label selectors: which objects are meant. Pure.

As metav1.LabelSelector, in objects as well as in kubectl's spelling (`app=web,tier in (a, b),!legacy`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self, assert_never

_REQUIREMENT = re.compile(
    r"\s*(?:"
    r"(?P<in_key>[^\s,()!=]+)\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)"
    r"|(?P<key>[^\s,()!=]+)\s*(?P<sign>==|=|!=)\s*(?P<value>[^\s,()!=]*)"
    r"|!\s*(?P<absent>[^\s,()!=]+)"
    r"|(?P<present>[^\s,()!=]+)"
    r")\s*(?:,|$)"
)


class Operator(StrEnum):
    """How a label's value is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels fulfil it; NotIn is fulfilled by a label that is not there."""
        match self.operator:
            case Operator.IN:
                return self.key in labels and labels[self.key] in self.values
            case Operator.NOT_IN:
                return self.key not in labels or labels[self.key] not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels
            case _:
                assert_never(self.operator)

    def __str__(self) -> str:
        match self.operator:
            case Operator.IN if len(self.values) == 1:
                return f"{self.key}={self.values[0]}"
            case Operator.IN:
                return f"{self.key} in ({','.join(self.values)})"
            case Operator.NOT_IN if len(self.values) == 1:
                return f"{self.key}!={self.values[0]}"
            case Operator.NOT_IN:
                return f"{self.key} notin ({','.join(self.values)})"
            case Operator.EXISTS:
                return self.key
            case Operator.DOES_NOT_EXIST:
                return f"!{self.key}"
            case _:
                assert_never(self.operator)


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All requirements together; none at all selects everything.

    `str` gives the spelling of the `labelSelector` parameter and of kubectl's `-l`.
    """

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        """Read `matchLabels` and `matchExpressions`.

        Raises:
            ValueError: with a sentence, where it is no selector.
        """
        equal = body.get("matchLabels") or {}
        expressions = body.get("matchExpressions") or []
        if not isinstance(equal, dict) or not isinstance(expressions, list):
            raise ValueError("matchLabels is a map, matchExpressions a list")  # noqa: TRY004 - as documented
        requirements = [Requirement(str(key), Operator.IN, (str(value),)) for key, value in equal.items()]
        return cls((*sorted(requirements, key=str), *map(_expression, expressions)))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read kubectl's spelling.

        Raises:
            ValueError: with a sentence, where it is no selector.
        """
        requirements: list[Requirement] = []
        at = 0
        while at < len(text):
            found = _REQUIREMENT.match(text, at)
            if found is None:
                raise ValueError(
                    f"{text!r} is not a label selector, such as app=web,tier in (front, back),!legacy"
                )
            requirements.append(_requirement(found))
            at = found.end()
        return cls(tuple(requirements))

    def to_json(self) -> dict[str, Any]:
        """As it stands in an object's `selector`."""
        equal = {r.key: r.values[0] for r in self.requirements if _is_equality(r)}
        others = [
            {"key": r.key, "operator": str(r.operator), **({"values": list(r.values)} if r.values else {})}
            for r in self.requirements
            if not (_is_equality(r) and equal[r.key] == r.values[0])
        ]
        return ({"matchLabels": equal} if equal else {}) | ({"matchExpressions": others} if others else {})

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is meant."""
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


def _is_equality(requirement: Requirement) -> bool:
    return requirement.operator is Operator.IN and len(requirement.values) == 1


def _expression(body: Any) -> Requirement:
    try:
        key, operator = str(body["key"]), Operator(body["operator"])
        values = tuple(map(str, body.get("values") or ()))
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{body!r} in matchExpressions is no condition on a label") from None
    if bool(values) != (operator in {Operator.IN, Operator.NOT_IN}):
        raise ValueError(
            f"the condition {operator} on the label {key} takes {'no' if values else 'some'} values"
        )
    return Requirement(key, operator, values)


def _requirement(found: re.Match[str]) -> Requirement:
    if key := found["in_key"]:
        operator = Operator.IN if found["operator"] == "in" else Operator.NOT_IN
        return Requirement(key, operator, tuple(value.strip() for value in found["values"].split(",")))
    if key := found["key"]:
        operator = Operator.NOT_IN if found["sign"] == "!=" else Operator.IN
        return Requirement(key, operator, (found["value"],))
    if key := found["absent"]:
        return Requirement(key, Operator.DOES_NOT_EXIST)
    return Requirement(found["present"], Operator.EXISTS)
