"""What is read from one path: a file, a segment, a folder of segments, or a clip."""

from collections.abc import Callable, Sequence
from pathlib import Path

from podcam.columns.connections import Connections
from podcam.model.connection import Conversation
from podcam.model.diagnosis import CaptureSummary
from podcam.model.point import Endpoint

MAX_CONVERSATION_PACKETS = 50_000
"""Packets of one connection that `conversation` makes objects of: its first and its last half of that."""


class CaptureColumns:
    """The packets and connections of one capture.

    Attributes:
        summary: what the file holds; its warnings tell what could not be read.
        index: place among the captures of the call, as in `Conversation.capture`.
        first_id: id of the connection in row 0; the id of row n is n more.
        points: names of the points; `connections.table["point"]` indexes them.
        connections: one row per TCP connection and point.
    """

    summary: CaptureSummary
    index: int
    first_id: int
    points: tuple[str, ...]
    connections: Connections

    def endpoints(self, row: int) -> tuple[Endpoint, Endpoint]:
        """Client and server of a connection."""
        raise NotImplementedError

    def conversation(self, row: int, max_packets: int = MAX_CONVERSATION_PACKETS) -> Conversation:
        """A connection with its packets, payload and events, ICMP errors that quote it included.

        Of a connection with more packets than `max_packets`, the first and the last half are given.
        """
        raise NotImplementedError


def open_captures(
    paths: Sequence[str | Path], *, progress: Callable[[float], None] | None = None
) -> list[CaptureColumns]:
    """Read captures: pcap, pcapng (gzip and zstd too), Podcam segments, folders of segments, and clips.

    `progress` is called with the fraction done, now and then.

    Raises:
        CaptureFileError: a path is not there, cannot be read, is empty, or is not a capture. A capture that is
            cut or garbled in places is read as far as it goes, and `summary.warnings` says so.
    """
    raise NotImplementedError
