"""A failure as the wire detector reports it, and what is known of a server since the detector began."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from podcam.model.point import Endpoint
from podcam.model.verdict import FailureClass


@dataclass(frozen=True, slots=True)
class Failure:
    """One connection that failed, told from its control packets.

    Byte counts are payload bytes modulo 2**32 as the sequence numbers tell them, None when they cannot be
    known: `*_bytes` is what that side had sent, `*_acked` what of it the other side had acknowledged.
    """

    time_ns: int
    failure_class: FailureClass
    client: Endpoint
    server: Endpoint
    by: str
    """`client`, `server`, `network` (ICMP), or `nobody` (silence)."""
    start_ns: int | None
    """When the first SYN was seen; None for a connection that began before the detector did."""
    client_bytes: int | None = None
    client_acked: int | None = None
    server_bytes: int | None = None
    server_acked: int | None = None

    def sentence(self) -> str:
        """What happened, in one line for a log."""
        return _SENTENCES[self.failure_class](self)


def _bytes(n: int | None) -> str:
    match n:
        case None:
            return "an unknown number of bytes"
        case 0:
            return "no byte"
        case 1:
            return "1 byte"
        case _:
            return f"{n:,} bytes"


def _ended(failure: Failure, how: str) -> str:
    what = f"{failure.client} → {failure.server} {how} by the {failure.by}"
    if failure.by == "server":
        return (
            f"{what} after it had acknowledged {_bytes(failure.client_acked)} "
            f"and sent {_bytes(failure.server_bytes)}"
        )
    return (
        f"{what} after it had sent {_bytes(failure.client_bytes)} "
        f"and the server {_bytes(failure.server_acked)}"
    )


_SENTENCES = {
    FailureClass.REFUSED: lambda f: f"{f.client} → {f.server} refused: SYN answered by RST",
    FailureClass.UNREACHABLE: lambda f: f"{f.client} → {f.server} unreachable: ICMP error for the SYN",
    FailureClass.NO_ANSWER: lambda f: f"{f.client} → {f.server} got no answer in the handshake",
    FailureClass.HANDSHAKE_RESET: lambda f: f"{f.client} → {f.server} reset by the {f.by} in the handshake",
    FailureClass.RESET_EARLY: lambda f: _ended(f, "reset"),
    FailureClass.CLOSED_EARLY: lambda f: _ended(f, "closed early"),
    FailureClass.RESET: lambda f: _ended(f, "reset"),
}


@dataclass(frozen=True, slots=True)
class ServerCounts:
    """What became of the connections to one server at one point since `since_ns`."""

    server: Endpoint
    since_ns: int
    connections: int
    failures: dict[FailureClass, int] = field(default_factory=dict)
    last_good_start_ns: int | None = None
    """Where the last connection that ended well began."""
    last_good_end_ns: int | None = None


def failure_from_json(body: Mapping[str, Any]) -> Failure:
    """A failure after `dataclasses.asdict` and its way through JSON.

    Raises:
        KeyError, TypeError, ValueError: it is not one.
    """
    values = dict(body)
    values["failure_class"] = FailureClass(values["failure_class"])
    return Failure(**values | {side: Endpoint(**values[side]) for side in ("client", "server")})


def counts_from_json(body: Mapping[str, Any]) -> ServerCounts:
    """Counts of a server after `dataclasses.asdict` and their way through JSON.

    Raises:
        KeyError, TypeError, ValueError: they are not.
    """
    values = dict(body)
    values["server"] = Endpoint(**values["server"])
    values["failures"] = {FailureClass(name): count for name, count in values["failures"].items()}
    return ServerCounts(**values)
