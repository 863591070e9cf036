"""What an agent is told when it starts; validated once, passed explicitly."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Share:
    """So many bytes, or a part of the file system's size."""

    bytes: int | None = None
    fraction: float | None = None

    def of(self, whole_bytes: int) -> int:
        """In bytes, where the file system has `whole_bytes`."""
        if self.bytes is not None:
            return self.bytes
        return int(whole_bytes * (self.fraction or 0.0))


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """One agent: its node, its folder, and what it may use of the node."""

    node: str
    folder: Path
    pod: str
    """The agent's own, which is where readers of clips turn to."""
    namespace: str
    """The agent's own."""
    kernel_memory_bytes: int = 128 * 1024 * 1024
    """For all kernel rings together."""
    disk_budget: Share = Share(fraction=0.1)
    """What all rings and clips may take."""
    free_floor: Share = Share(fraction=0.2)
    """What must stay free on the file system, whoever fills it: more than the kubelet evicts pods for."""
    clips_bytes: int | None = None
    """What all clips may take; None: half of the disk budget."""
    write_bytes_per_second: int | None = 20_000_000
    http_port: int = 9472
