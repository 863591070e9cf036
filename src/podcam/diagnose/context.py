"""What the other connections of the same captures tell about one."""

from dataclasses import dataclass

from podcam.model.point import Endpoint
from podcam.model.verdict import Protocol


@dataclass(frozen=True, slots=True)
class Context:
    """What a rule may know beyond the connection itself.

    Attributes:
        winner: the address to which the same client connected successfully at about the same time and to the
            same port, where this connection was the loser of the two (RFC 8305, "Happy Eyeballs").
        protocol: what good connections to this server speak.
        greets: whether this server speaks first.
        resets_by_habit: whether this server ends its good connections with RST more often than not.
    """

    winner: Endpoint | None = None
    protocol: Protocol = Protocol.UNKNOWN
    greets: bool = False
    resets_by_habit: bool = False


ALONE = Context()
"""Nothing is known of other connections."""
