"""Conditions: how a status says, in one way everywhere in Kubernetes, whether something is so. Pure."""

from dataclasses import dataclass
from typing import Self

from podcam.kube.fields import Fields


@dataclass(frozen=True, slots=True)
class Condition:
    """One of the `conditions` of a status."""

    type: str
    status: str
    """True, False, Unknown."""
    reason: str = ""
    message: str = ""
    since_ns: int | None = None

    @classmethod
    def read(cls, part: Fields) -> Self:
        """Read one."""
        return cls(
            type=part.text("type", ""),
            status=part.text("status", ""),
            reason=part.text("reason", ""),
            message=part.text("message", ""),
            since_ns=part.time_ns_or_none("lastTransitionTime"),
        )
