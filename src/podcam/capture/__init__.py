"""The kernel: network namespaces, packet sockets and their rings, filters, interfaces.

The only room that opens packet sockets; writes no files.
"""

from podcam.capture.answers import open_answers_socket, read_answers
from podcam.capture.blocks import (
    BLOCK_HEADER,
    PACKET_HEADER,
    PRIVATE_BYTES,
    BlockHeader,
    read_header,
)
from podcam.capture.control import (
    ControlPackets,
    ControlRing,
    control_frames_for,
    dropped,
    open_control_socket,
)
from podcam.capture.filters import DROP_ALL, FilterTooLongError, Program, attach
from podcam.capture.interfaces import LinkWatch, list_interfaces
from podcam.capture.netns import Namespace, find_namespace, open_inside, own_namespace
from podcam.capture.programs import answers_program, control_program, recording_program
from podcam.capture.rings import (
    Geometry,
    MappedRing,
    Statistics,
    geometry,
    geometry_for,
    hand_over,
    open_ring_socket,
)
from podcam.capture.traffic import DEFAULT_SNAPLEN, Network, Traffic

__all__ = [
    "BLOCK_HEADER",
    "DEFAULT_SNAPLEN",
    "DROP_ALL",
    "PACKET_HEADER",
    "PRIVATE_BYTES",
    "BlockHeader",
    "ControlPackets",
    "ControlRing",
    "FilterTooLongError",
    "Geometry",
    "LinkWatch",
    "MappedRing",
    "Namespace",
    "Network",
    "Program",
    "Statistics",
    "Traffic",
    "answers_program",
    "attach",
    "control_frames_for",
    "control_program",
    "dropped",
    "find_namespace",
    "geometry",
    "geometry_for",
    "hand_over",
    "list_interfaces",
    "open_answers_socket",
    "open_control_socket",
    "open_inside",
    "open_ring_socket",
    "own_namespace",
    "read_answers",
    "read_header",
    "recording_program",
]
