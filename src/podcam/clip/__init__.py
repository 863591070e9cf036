"""The kept packets of a window: manifest, budget, export to pcapng.

Moves no bytes where a hard link will do.
"""

from podcam.clip.export import Exported, export, is_read_from, write_pcapng, written_whole
from podcam.clip.manifest import (
    COMPLETE,
    MANIFEST,
    OPEN,
    ClipPart,
    Manifest,
    read_manifest,
    write_manifest,
)
from podcam.clip.missing import gap_sentence
from podcam.clip.parts import PacketSet, Part, PartPacket, open_packets
from podcam.clip.store import Clip, ClipStore, open_clip, pin, remove

__all__ = [
    "COMPLETE",
    "MANIFEST",
    "OPEN",
    "Clip",
    "ClipPart",
    "ClipStore",
    "Exported",
    "Manifest",
    "PacketSet",
    "Part",
    "PartPacket",
    "export",
    "gap_sentence",
    "is_read_from",
    "open_clip",
    "open_packets",
    "pin",
    "read_manifest",
    "remove",
    "write_manifest",
    "write_pcapng",
    "written_whole",
]
