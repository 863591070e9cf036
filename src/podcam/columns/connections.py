"""The connections of one capture, as columns."""

import socket
from dataclasses import dataclass

from podcam.columns.layout import Rows, Table

_MAPPED = 0xFFFF


@dataclass(frozen=True, slots=True)
class ServerOverflow:
    """Connections to one server beyond `layout.MAX_CONNECTIONS`, counted by their SYNs only.

    `ip` is empty for all servers beyond `layout.MAX_OVERFLOW_SERVERS` together.
    """

    ip: str
    port: int
    syns: int


@dataclass(frozen=True, slots=True)
class Connections:
    """One row per connection: `table[row]`, `client[row]` and `server[row]` speak of the same one.

    The client is who sent the SYN; where no SYN was seen, who acknowledged a SYN-ACK, or the side with the
    higher port.
    """

    table: Table
    """`layout.CONNECTION`"""
    client: Table
    """`layout.SIDE`"""
    server: Table
    """`layout.SIDE`"""
    overflow: tuple[ServerOverflow, ...] = ()

    def __len__(self) -> int:
        return len(self.table)


def address_text(row: Rows, prefix: str = "address") -> str:
    """The usual spelling of an address whose halves are in the fields `prefix`_high and _low."""
    high, low = int(row[f"{prefix}_high"]), int(row[f"{prefix}_low"])
    if high == 0 and low >> 32 == _MAPPED:
        return socket.inet_ntop(socket.AF_INET, (low & 0xFFFFFFFF).to_bytes(4, "big"))
    return socket.inet_ntop(socket.AF_INET6, (high << 64 | low).to_bytes(16, "big"))
