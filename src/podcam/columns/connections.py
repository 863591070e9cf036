"""The connections of one capture, as columns."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class ServerOverflow:
    """Connections to one server beyond `layout.MAX_CONNECTIONS`, counted by their SYNs only."""

    ip: str
    port: int
    syns: int


@dataclass(frozen=True, slots=True)
class Connections:
    """One row per connection: `table[row]`, `client[row]` and `server[row]` speak of the same one.

    The client is who sent the SYN; where no SYN was seen, the side with the higher port.
    """

    table: npt.NDArray[np.void]
    """`layout.CONNECTION`"""
    client: npt.NDArray[np.void]
    """`layout.SIDE`"""
    server: npt.NDArray[np.void]
    """`layout.SIDE`"""
    overflow: tuple[ServerOverflow, ...] = ()

    def __len__(self) -> int:
        return len(self.table)
