"""Where packets are recorded, and what they are recorded from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface of a point, as the kernel names it.

    `index` is its ifindex in its namespace; `hardware_type` the ARPHRD_* number of linux/if_arp.h
    (1 Ethernet, 772 loopback, 65534 none).
    """

    index: int
    name: str
    hardware_type: int


@dataclass(frozen=True, slots=True)
class Point:
    """One network namespace that is recorded.

    `name` is what people call it (a namespace's name, `pid-123`, a pod) and is unique within a recorder;
    `node` is the host it lies on; `namespace` the path of its network namespace, None for the recorder's own.
    """

    name: str
    node: str
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, both ends included, in nanoseconds since 1970 UTC."""

    start_ns: int
    end_ns: int

    def overlaps(self, first_ns: int, last_ns: int) -> bool:
        """Whether anything between `first_ns` and `last_ns` can lie within."""
        return first_ns <= self.end_ns and last_ns >= self.start_ns

    def __contains__(self, time_ns: int) -> bool:
        return self.start_ns <= time_ns <= self.end_ns


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of time in which nothing was recorded at a point, in nanoseconds since 1970 UTC.

    `since_ns` is the last moment that was recorded before it, `until_ns` the first after it; `reason` a
    clause that says why, without a full stop: "the recorder was not running".
    """

    since_ns: int
    until_ns: int
    reason: str


def gap_from_json(body: Mapping[str, Any]) -> Gap:
    """A gap after `dataclasses.asdict` and its way through JSON.

    Raises:
        ArithmeticError, KeyError, TypeError, ValueError: it is not one.
    """
    return Gap(int(body["since_ns"]), int(body["until_ns"]), str(body["reason"]))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One side of a connection: an address in its usual spelling, and a port."""

    ip: str
    port: int
    name: str | None = None

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"
