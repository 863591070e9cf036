"""Captures to columns to connections: one row per packet, decoded by compiled kernels.

Knows file formats and TCP, and has no opinion about what went wrong. What others may use:

    captures = open_captures(["a.pcapng", "clips/2026-…"])   # one CaptureColumns per path
    capture.summary                    # model.diagnosis.CaptureSummary
    capture.points                     # names; connections.table["point"] indexes them
    connections = capture.connections  # Connections: arrays with one row per TCP connection and point
    connections.table["completeness"]  # fields of `layout.CONNECTION`
    connections.client["rst_ns"]       # fields of `layout.SIDE`, for the side that opened the connection
    connections.server["head"]         # its first payload bytes, uint8 (n, HEAD_BYTES)
    capture.endpoints(row)             # (client, server) as model.point.Endpoint
    capture.conversation(row)          # model.connection.Conversation, with packets and payload

All rows of all captures of one call have distinct ids: `capture.first_id + row`. Rows are in the order of
their first packet in the file. Times are nanoseconds since 1970 UTC, -1 where there was no such packet.
"""

from podcam.columns.capture import CaptureColumns, open_captures
from podcam.columns.connections import Connections
from podcam.columns.layout import CONNECTION, HEAD_BYTES, MAX_CONNECTIONS, SIDE, TAIL_BYTES

__all__ = [
    "CONNECTION",
    "HEAD_BYTES",
    "MAX_CONNECTIONS",
    "SIDE",
    "TAIL_BYTES",
    "CaptureColumns",
    "Connections",
    "open_captures",
]
