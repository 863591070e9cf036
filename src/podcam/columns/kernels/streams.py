"""Which connection a segment belongs to: streams by addresses and ports, connections by stream and point.

A connection has a row per point where it is seen; the rows of its sides and flows are twice its row, plus 0
for the client and 1 for the server.
"""

from typing import Any

from podcam.columns.kernels.analysis import ACK, NO_WINDOW, REUSED_PORTS, SYN, UNKNOWN_SHIFT
from podcam.columns.kernels.memory import int64
from podcam.columns.kernels.segments import QUOTED_PORTS
from podcam.columns.layout import COUNT_CONNECTIONS, COUNT_STREAM_ROWS, COUNT_STREAMS, NEVER, Tables

# What a SYN says of the stream that its addresses and ports lead to.
ORDINARY = 0
REPEATED = 1
NEW_STREAM = 2
OTHER_ANSWER = 3

HASH_MASK = (1 << 62) - 1
"""Hashing stays within 62 bits, so that compiled and plain numbers agree."""


def new_row(
    tables: Tables,
    segment: Any,
    packet_row: int,
    point: int,
    slot: int,
    meaning: int,
    most_connections: int,
) -> tuple[int, int]:
    """A row for a segment that is of no known connection, and its stream's; NEVER where it gets none."""
    stream_row = int64(tables.slots[slot])
    is_full = int64(tables.counters[COUNT_CONNECTIONS]) >= most_connections
    if stream_row >= 0 and meaning != NEW_STREAM:
        if is_full:
            return NEVER, stream_row
        return join_point(tables, segment, packet_row, point, tables.streams[stream_row]), stream_row
    if int64(segment["kind"]) == QUOTED_PORTS:
        return NEVER, NEVER
    number = int64(tables.counters[COUNT_STREAMS])
    tables.counters[COUNT_STREAMS] = number + 1
    if is_full:
        count_overflow(tables, segment)
        return NEVER, NEVER
    row = open_connection(tables, segment, packet_row, point, number, is_client(segment))
    if meaning == NEW_STREAM:
        tables.connections[row]["previous"] = tables.streams[stream_row]["connection"]
        tables.connections[row]["reused"] = 1
    return row, open_stream(tables, slot, number, row)


def mix(high: int, low: int, port: int) -> int:
    """One endpoint as 62 well-mixed bits (constants: SplitMix64's, cut)."""
    bits = (high * 0x1F58476D1CE4E5B9 + low * 0x14D049BB133111EB + port * 0x1E3779B97F4A7C15) & HASH_MASK
    bits = ((bits ^ bits >> 30) * 0x1F58476D1CE4E5B9) & HASH_MASK
    return bits ^ bits >> 27


def find_slot(slots: Any, streams: Any, connections: Any, sides: Any, segment: Any) -> int:
    """The slot that holds the latest stream of these addresses and ports, or the empty one for it."""
    source_high = int64(segment["source_high"])
    source_low = int64(segment["source_low"])
    source_port = int64(segment["source_port"])
    target_high = int64(segment["target_high"])
    target_low = int64(segment["target_low"])
    target_port = int64(segment["target_port"])
    mask = len(slots) - 1
    slot = (mix(source_high, source_low, source_port) + mix(target_high, target_low, target_port)) & mask
    while True:
        stream_row = int64(slots[slot])
        if stream_row < 0:
            return slot
        row = int64(streams[stream_row]["connection"])
        if int64(connections[row]["ip_version"]) == int64(segment["ip_version"]):
            client = sides[2 * row]
            server = sides[2 * row + 1]
            if (
                is_endpoint(client, source_high, source_low, source_port)
                and is_endpoint(server, target_high, target_low, target_port)
            ) or (
                is_endpoint(client, target_high, target_low, target_port)
                and is_endpoint(server, source_high, source_low, source_port)
            ):
                return slot
        slot = (slot + 1) & mask


def is_endpoint(side: Any, high: int, low: int, port: int) -> int:
    """Whether a side has this address and port."""
    return (
        int64(side["port"]) == port
        and int64(side["address_low"]) == low
        and int64(side["address_high"]) == high
    )


def refill_slots(tables: Tables) -> None:
    """Put all streams into `tables.slots`, which is new and empty; a later stream wins over an earlier."""
    mask = len(tables.slots) - 1
    for stream_row in range(int64(tables.counters[COUNT_STREAM_ROWS])):
        row = int64(tables.streams[stream_row]["connection"])
        client = tables.sides[2 * row]
        server = tables.sides[2 * row + 1]
        slot = (
            mix(int64(client["address_high"]), int64(client["address_low"]), int64(client["port"]))
            + mix(int64(server["address_high"]), int64(server["address_low"]), int64(server["port"]))
        ) & mask
        while int64(tables.slots[slot]) >= 0 and not same_ends(tables, int64(tables.slots[slot]), row):
            slot = (slot + 1) & mask
        tables.slots[slot] = stream_row


def same_ends(tables: Tables, stream_row: int, row: int) -> int:
    """Whether a stream has the addresses and ports of a connection, in either direction."""
    other = int64(tables.streams[stream_row]["connection"])
    if int64(tables.connections[other]["ip_version"]) != int64(tables.connections[row]["ip_version"]):
        return False
    client = tables.sides[2 * row]
    server = tables.sides[2 * row + 1]
    first = tables.sides[2 * other]
    second = tables.sides[2 * other + 1]
    return (same_side(first, client) and same_side(second, server)) or (
        same_side(first, server) and same_side(second, client)
    )


def same_side(side: Any, other: Any) -> int:
    """Whether two sides have the same address and port."""
    return is_endpoint(side, int64(other["address_high"]), int64(other["address_low"]), int64(other["port"]))


def side_of(sides: Any, segment: Any, row: int) -> int:
    """Which side of a connection of its addresses and ports sent a segment."""
    client = sides[2 * row]
    source_port = int64(segment["source_port"])
    if source_port != int64(segment["target_port"]):
        return 0 if source_port == int64(client["port"]) else 1
    high = int64(segment["source_high"])
    return 0 if is_endpoint(client, high, int64(segment["source_low"]), source_port) else 1


def is_client(segment: Any) -> int:
    """Whether the first segment seen of a connection was sent by its client, as far as it tells."""
    flags = int64(segment["flags"]) & (SYN | ACK)
    if flags & SYN:
        return flags == SYN
    return int64(segment["source_port"]) >= int64(segment["target_port"])


def meaning_of_syn(sides: Any, segment: Any, stream: Any) -> int:
    """What a SYN or SYN-ACK means for the latest stream of its addresses and ports."""
    side = side_of(sides, segment, int64(stream["connection"]))
    if not int64(stream["base_known"][side]):
        return ORDINARY
    seq = int64(segment["seq"])
    if int64(segment["flags"]) & ACK:
        if seq == int64(stream["base_seq"][side]):
            return ORDINARY
        stream["base_seq"][side] = seq
        return OTHER_ANSWER
    return REPEATED if seq == int64(stream["base_seq"][side]) else NEW_STREAM


def events_of_syn(meaning: int) -> int:
    """The event that Wireshark gives to a SYN or SYN-ACK with another sequence number than expected."""
    return REUSED_PORTS if meaning in (NEW_STREAM, OTHER_ANSWER) else 0


def open_stream(tables: Tables, slot: int, number: int, row: int) -> int:
    """A new stream in `slot`, with its first connection; gives its row."""
    stream_row = int64(tables.counters[COUNT_STREAM_ROWS])
    tables.counters[COUNT_STREAM_ROWS] = stream_row + 1
    tables.streams[stream_row]["number"] = number
    tables.streams[stream_row]["connection"] = row
    tables.slots[slot] = stream_row
    return stream_row


def connection_at(connections: Any, tracks: Any, stream: Any, point: int) -> int:
    """The stream's connection at a point, or NEVER."""
    row = int64(stream["connection"])
    while row >= 0 and int64(connections[row]["point"]) != point:
        row = int64(tracks[row]["sibling"])
    return row


def join_point(tables: Tables, segment: Any, packet_row: int, point: int, stream: Any) -> int:
    """A row for a stream at one more point, with the same client."""
    first = int64(stream["connection"])
    client = side_of(tables.sides, segment, first) == 0
    row = open_connection(tables, segment, packet_row, point, int64(stream["number"]), client)
    tables.tracks[row]["sibling"] = first
    stream["connection"] = row
    return row


def open_connection(
    tables: Tables, segment: Any, packet_row: int, point: int, number: int, source_is_client: int
) -> int:
    """A new row, between the addresses and ports of its first segment."""
    row = int64(tables.counters[COUNT_CONNECTIONS])
    tables.counters[COUNT_CONNECTIONS] = row + 1
    connection = tables.connections[row]
    connection["stream"] = number
    connection["point"] = point
    connection["ip_version"] = segment["ip_version"]
    connection["first_ns"] = tables.packets[packet_row]["time_ns"]
    connection["handshake_ns"] = NEVER
    connection["first_packet"] = NEVER
    connection["previous"] = NEVER
    tables.tracks[row]["sibling"] = NEVER
    source = 2 * row if source_is_client else 2 * row + 1
    target = 4 * row + 1 - source
    for end in (source, target):
        side = tables.sides[end]
        for_source = end == source
        side["address_high"] = segment["source_high"] if for_source else segment["target_high"]
        side["address_low"] = segment["source_low"] if for_source else segment["target_low"]
        side["port"] = segment["source_port"] if for_source else segment["target_port"]
        side["first_ns"] = NEVER
        side["last_ns"] = NEVER
        side["first_data_ns"] = NEVER
        side["last_data_ns"] = NEVER
        side["syn_ns"] = NEVER
        side["fin_ns"] = NEVER
        side["rst_ns"] = NEVER
        side["first_data_packet"] = NEVER
        side["last_data_packet"] = NEVER
        tables.flows[end]["window_shift"] = UNKNOWN_SHIFT
        tables.flows[end]["window"] = NO_WINDOW
    return row


def count_overflow(tables: Tables, segment: Any) -> None:
    """Count the SYN of a connection that gets no row, for its server."""
    if int64(segment["flags"]) & (SYN | ACK) != SYN:
        return
    high = int64(segment["target_high"])
    low = int64(segment["target_low"])
    port = int64(segment["target_port"])
    last = len(tables.servers) - 1
    slot = mix(high, low, port) % last
    for _ in range(last):
        server = tables.servers[slot]
        if int64(server["syns"]) == 0:
            server["address_high"] = segment["target_high"]
            server["address_low"] = segment["target_low"]
            server["port"] = port
        elif not is_endpoint(server, high, low, port):
            slot = (slot + 1) % last
            continue
        server["syns"] += 1
        return
    tables.servers[last]["syns"] += 1  # all other servers
