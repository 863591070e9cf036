"""From segments to connections.

Packets come in the order of the file, and each is seen once.
"""

from typing import Any

from podcam.columns.kernels.analysis import ACK, FIN, MODULO, NO_SHIFT, SYN, UNKNOWN_SHIFT, analyse, distance
from podcam.columns.kernels.memory import Memory, int64
from podcam.columns.kernels.segments import NOT_TCP, QUOTED_PORTS, TCP, UNKNOWN
from podcam.columns.kernels.sides import take
from podcam.columns.kernels.streams import (
    NEW_STREAM,
    ORDINARY,
    REPEATED,
    connection_at,
    events_of_syn,
    find_slot,
    meaning_of_syn,
    new_row,
    side_of,
)
from podcam.columns.layout import NEVER, Tables

COPY_WITHIN_NS = 50_000_000
"""How long a packet takes from one interface of a host to another, at most."""


def follow(data: Memory, tables: Tables, first: int, count: int, most_connections: int) -> None:
    """Take `count` packets from row `first` on, with their `tables.segments`, into the tables.

    There must be `count` free rows for streams and connections (up to `most_connections`), and the slots must
    stay at most half full.
    """
    # Each look into `tables` counts a reference in compiled code: once here, not once per packet.
    packets, segments, connections, sides = tables.packets, tables.segments, tables.connections, tables.sides
    flows, tracks, streams, slots = tables.flows, tables.tracks, tables.streams, tables.slots
    interfaces = tables.interfaces
    for i in range(count):
        segment = segments[i]
        kind = int64(segment["kind"])
        if kind == NOT_TCP:
            continue
        packet_row = first + i
        packet = packets[packet_row]
        point = int64(interfaces[int64(packet["interface"])]["point"])
        slot = find_slot(slots, streams, connections, sides, segment)
        stream_row = int64(slots[slot])
        meaning = ORDINARY
        row = NEVER
        if stream_row >= 0:
            stream = streams[stream_row]
            if int64(segment["flags"]) & SYN:
                meaning = meaning_of_syn(sides, segment, stream)
            if meaning != NEW_STREAM:
                row = connection_at(connections, tracks, stream, point)
        if row < 0:
            row, stream_row = new_row(tables, segment, packet_row, point, slot, meaning, most_connections)
            if row < 0:
                continue
        stream = streams[stream_row]
        connection = connections[row]
        track = tracks[row]
        side = side_of(sides, segment, row)
        forward = flows[2 * row + side]
        if kind == TCP and is_copy(segment, packet, forward):
            connection["copies"] += 1
            continue
        link(packets, packet, packet_row, connection)
        if kind == TCP:
            base_side = side_of(sides, segment, int64(stream["connection"]))
            events = events_of(
                segment, packet, stream, base_side, meaning, track, forward, flows[2 * row + 1 - side]
            )
            packet["events"] = events
            take(
                data,
                segment,
                packet,
                packet_row,
                connection,
                track,
                side,
                sides[2 * row + side],
                sides[2 * row + 1 - side],
                forward,
                flows[2 * row + 1 - side],
            )
        else:
            connection["icmp_errors"] += 1
            if int64(segment["payload_bytes"]) >= 0:
                packet["events"] = events_of_syn(meaning)
        if kind != QUOTED_PORTS:
            note_handshake(segment, track, forward, int64(packet["time_ns"]))


def is_copy(segment: Any, packet: Any, forward: Any) -> bool:
    """Whether a segment was seen before at another interface of the point: at a bridge and at its ports, say.

    Each direction belongs to the interface that saw it first. What comes at another one soon after, and
    brings nothing new, neither a sequence number nor an acknowledgement, is a copy; else it has moved.
    """
    interface = int64(packet["interface"])
    home = int64(forward["interface"]) - 1
    if home == interface:
        return False
    if home >= 0 and int64(packet["time_ns"]) - int64(forward["ack_ns"]) < COPY_WITHIN_NS:
        flags = int64(segment["flags"])
        length = max(int64(segment["payload_bytes"]), 0) + (1 if flags & (SYN | FIN) else 0)
        end = (int64(segment["seq"]) + length) & MODULO
        newly_acked = flags & ACK and distance(int64(segment["ack"]), int64(forward["last_ack"])) > 0
        if distance(end, int64(forward["next_seq"])) <= 0 and not newly_acked:
            return True
    forward["interface"] = interface + 1
    return False


def link(packets: Any, packet: Any, packet_row: int, connection: Any) -> None:
    """Append a packet to its connection."""
    packet["next"] = NEVER
    if int64(connection["first_packet"]) < 0:
        connection["first_packet"] = packet_row
    else:
        packets[int64(connection["last_packet"])]["next"] = packet_row
    connection["last_packet"] = packet_row
    connection["last_ns"] = packet["time_ns"]


def events_of(
    segment: Any,
    packet: Any,
    stream: Any,
    base_side: int,
    meaning: int,
    track: Any,
    forward: Any,
    reverse: Any,
) -> int:
    """Wireshark's events of a TCP segment, whose sender is `base_side` of its stream."""
    if meaning == REPEATED:
        forward["next_seq"] = forward["contiguous_seq"]
    events = events_of_syn(meaning)
    if int64(segment["payload_bytes"]) >= 0:
        note_base(segment, stream, base_side)
        time_ns = int64(packet["time_ns"])
        events = analyse(segment, forward, reverse, time_ns, int64(track["initial_rtt_ns"]), events)
    if int64(segment["flags"]) & SYN:
        note_shift(segment, forward, reverse)
    return events


def note_base(segment: Any, stream: Any, side: int) -> None:
    """Wireshark's base of each direction's sequence numbers, by which it knows a SYN again."""
    flags = int64(segment["flags"])
    if not int64(stream["base_known"][side]):
        seq = int64(segment["seq"])
        stream["base_seq"][side] = seq if flags & SYN else (seq - 1) & MODULO
        stream["base_known"][side] = 1
    if flags & ACK and not int64(stream["base_known"][1 - side]):
        stream["base_seq"][1 - side] = (int64(segment["ack"]) - 1) & MODULO
        stream["base_known"][1 - side] = 1


def note_shift(segment: Any, forward: Any, reverse: Any) -> None:
    """Window scaling, which holds only when both sides offer it (RFC 7323, section 2.2)."""
    shift = int64(segment["window_shift"])
    if shift != UNKNOWN:
        forward["window_shift"] = shift
    if int64(forward["window_shift"]) == UNKNOWN_SHIFT:
        forward["window_shift"] = NO_SHIFT
        reverse["window_shift"] = NO_SHIFT
    elif int64(segment["flags"]) & ACK and int64(reverse["window_shift"]) == NO_SHIFT:
        forward["window_shift"] = NO_SHIFT


def note_handshake(segment: Any, track: Any, flow: Any, time_ns: int) -> None:
    """What Wireshark remembers of SYNs and first ACKs once a packet is analysed (quoted ones too)."""
    flags = int64(segment["flags"])
    if flags & SYN:
        flow["before_first_ack"] = 1
        if not flags & ACK:
            track["syn_ns"] = time_ns
    elif flags & ACK:
        flow["before_first_ack"] = 0
        if int64(track["syn_ns"]) != 0 and int64(track["initial_rtt_ns"]) == 0:
            track["initial_rtt_ns"] = time_ns - int64(track["syn_ns"])
