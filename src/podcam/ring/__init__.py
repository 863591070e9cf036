"""The segment format and its versions, the bounded ring of segments, eviction (pure), freezing.

Owns every byte of a segment; knows nothing of sockets.
"""

from podcam.ring.freeze import FrozenPart, freeze, read_totals, segments_in
from podcam.ring.notices import Notice, NotKept, PacketsLost, RingGrew, RingShrunk, TornSegment
from podcam.ring.reader import SegmentReader
from podcam.ring.ring import Ring
from podcam.ring.segment import (
    FLAG_PAYLOAD_CUT,
    STATUS_CSUM_NOT_READY,
    RecordedPacket,
    SegmentHeader,
    Source,
    Totals,
    is_segment,
    parse_segment_name,
)
from podcam.ring.writer import SegmentWriter, sync

__all__ = [
    "FLAG_PAYLOAD_CUT",
    "STATUS_CSUM_NOT_READY",
    "FrozenPart",
    "NotKept",
    "Notice",
    "PacketsLost",
    "RecordedPacket",
    "Ring",
    "RingGrew",
    "RingShrunk",
    "SegmentHeader",
    "SegmentReader",
    "SegmentWriter",
    "Source",
    "TornSegment",
    "Totals",
    "freeze",
    "is_segment",
    "parse_segment_name",
    "read_totals",
    "segments_in",
    "sync",
]
