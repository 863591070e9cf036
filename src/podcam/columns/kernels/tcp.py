"""From segments to connections: which is whose, who opened it, and what each side did.

Packets come in the order of the file, and each is seen once. Sides are 0 (client) and 1 (server); the rows of
a connection's sides and flows are twice its row, plus the side.
"""

from typing import Any

from podcam.columns.kernels.analysis import (
    ACK,
    ACK_LOST_SEGMENT,
    DUPLICATE_ACK,
    FAST_RETRANSMISSION,
    FIN,
    KEEP_ALIVE,
    LOST_SEGMENT,
    MODULO,
    NO_SHIFT,
    NO_WINDOW,
    OUT_OF_ORDER,
    RETRANSMISSION,
    REUSED_PORTS,
    RST,
    SPURIOUS_RETRANSMISSION,
    SYN,
    UNKNOWN_SHIFT,
    WINDOW_FULL,
    ZERO_WINDOW,
    analyse,
    distance,
)
from podcam.columns.kernels.memory import Memory, int64
from podcam.columns.kernels.segments import NOT_TCP, QUOTED_PORTS, TCP, UNKNOWN
from podcam.columns.layout import (
    COUNT_CONNECTIONS,
    COUNT_STREAM_ROWS,
    COUNT_STREAMS,
    HEAD_BYTES,
    NEVER,
    TAIL_BYTES,
    Tables,
)

# Wireshark's tcp.completeness
SEEN_SYN = 1
SEEN_SYN_ACK = 2
SEEN_ACK = 4
SEEN_DATA = 8
SEEN_FIN = 16
SEEN_RST = 32

SYN_FROM_OTHER_SIDE = 2
"""Mark in CONNECTION.syn_seen: who was taken for the server sent the SYN."""

COPY_WITHIN_NS = 50_000_000
"""How long a packet takes from one interface of a host to another, at most."""

MOST = 0xFFFF
"""Where the 16-bit counters stay."""

# What a SYN says of the stream that its addresses and ports lead to.
ORDINARY = 0
REPEATED = 1
NEW_STREAM = 2
OTHER_ANSWER = 3

HASH_MASK = (1 << 62) - 1
"""Hashing stays within 62 bits, so that compiled and plain numbers agree."""


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


def take(
    data: Memory,
    segment: Any,
    packet: Any,
    packet_row: int,
    connection: Any,
    track: Any,
    side: int,
    sender: Any,
    receiver: Any,
    forward: Any,
    reverse: Any,
) -> None:
    """What one TCP segment says of its connection and of its side."""
    time_ns = int64(packet["time_ns"])
    flags = int64(segment["flags"])
    length = int64(segment["payload_bytes"])
    if int64(packet["events"]) & ~REUSED_PORTS:
        count_events(sender, int64(packet["events"]))
    connection["packets"] += 1
    sender["packets"] += 1
    sender["flags"] = int64(sender["flags"]) | flags
    if int64(sender["first_ns"]) < 0:
        sender["first_ns"] = time_ns
    sender["last_ns"] = time_ns
    if flags & (SYN | FIN | RST):
        note_control(segment, sender, receiver, forward, reverse, time_ns)
    seen = int64(connection["completeness"]) | seen_by(flags, length)
    connection["completeness"] = seen
    if flags & (SYN | ACK) == SYN and int64(connection["syn_seen"]) == 0:
        connection["syn_seen"] = 1 if side == 0 else SYN_FROM_OTHER_SIDE
    if flags & ACK:
        note_ack(int64(segment["ack"]), receiver, reverse)
        if not flags & (SYN | RST) and side == 0 and int64(connection["handshake_ns"]) < 0:
            note_established(connection, sender, receiver, time_ns - int64(track["syn_ns"]))
    if length > 0 and not flags & RST:
        note_data(data, segment, packet_row, sender, forward, time_ns)


def seen_by(flags: int, length: int) -> int:
    """The bits of Wireshark's tcp.completeness that a segment adds."""
    seen = 0
    if flags & SYN:
        seen |= SEEN_SYN_ACK if flags & ACK else SEEN_SYN
    elif flags & ACK and length <= 0:
        seen |= SEEN_ACK
    if length > 0:
        seen |= SEEN_DATA
    if flags & FIN:
        seen |= SEEN_FIN
    if flags & RST:
        seen |= SEEN_RST
    return seen


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


def note_control(segment: Any, sender: Any, receiver: Any, forward: Any, reverse: Any, time_ns: int) -> None:
    """SYN, FIN and RST of a side."""
    flags = int64(segment["flags"])
    if flags & SYN:
        sender["syns"] = min(int64(sender["syns"]) + 1, MOST)
        if int64(sender["syn_ns"]) < 0:
            sender["syn_ns"] = time_ns
        note_isn(int64(segment["seq"]), sender, forward)
        if flags & ACK:
            note_isn((int64(segment["ack"]) - 1) & MODULO, receiver, reverse)
    if flags & FIN:
        sender["fins"] = min(int64(sender["fins"]) + 1, MOST)
        if int64(sender["fin_ns"]) < 0:
            sender["fin_ns"] = time_ns
    if flags & RST:
        sender["rsts"] = min(int64(sender["rsts"]) + 1, MOST)
        if int64(sender["rst_ns"]) < 0:
            sender["rst_ns"] = time_ns
            sender["rst_acks"] = 1 if flags & ACK else 0


def note_isn(isn: int, side: Any, flow: Any) -> None:
    """A side's initial sequence number; the first that is told holds."""
    if not int64(side["isn_known"]):
        side["isn"] = isn
        side["isn_known"] = 1
    if not int64(flow["data_seq_known"]):
        flow["data_seq"] = (isn + 1) & MODULO
        flow["data_acked"] = (isn + 1) & MODULO
        flow["data_seq_known"] = 1


def note_established(connection: Any, client: Any, server: Any, since_syn_ns: int) -> None:
    """The client's ACK, which completes the handshake if both SYNs were seen."""
    if int64(client["syn_ns"]) >= 0 and int64(server["syn_ns"]) >= 0:
        connection["handshake_ns"] = since_syn_ns


def note_ack(ack: int, receiver: Any, reverse: Any) -> None:
    """Payload of the other side that an ACK covers, as far as that was seen."""
    if not int64(reverse["data_seq_known"]):
        return
    data_seq = int64(reverse["data_seq"])
    if distance(ack, data_seq) > 0:
        ack = data_seq
    acked = distance(ack, int64(reverse["data_acked"]))
    if acked > 0:
        reverse["data_acked"] = ack
        receiver["acked_bytes"] += acked


def note_data(data: Memory, segment: Any, packet_row: int, sender: Any, forward: Any, time_ns: int) -> None:
    """Payload of a side: how much, when, its first and its last bytes."""
    length = int64(segment["payload_bytes"])
    captured = int64(segment["payload_captured"])
    at = int64(segment["payload_at"])
    start = (int64(segment["seq"]) + (1 if int64(segment["flags"]) & SYN else 0)) & MODULO
    end = (start + length) & MODULO
    if not int64(forward["data_seq_known"]):
        forward["data_seq"] = start
        forward["data_acked"] = start
        forward["data_seq_known"] = 1
    if int64(sender["data_packets"]) == 0:
        sender["first_data_ns"] = time_ns
        sender["first_data_packet"] = packet_row
    first = int64(sender["isn_known"]) != 0 and start == (int64(sender["isn"]) + 1) & MODULO
    if first or int64(sender["data_packets"]) == 0:
        kept = min(captured, HEAD_BYTES)
        sender["head_bytes"] = kept
        head = sender["head"]
        for i in range(kept):
            head[i] = data[at + i]
    sender["data_packets"] += 1
    sender["last_data_ns"] = time_ns
    new = distance(end, int64(forward["data_seq"]))
    if new <= 0:
        return
    sender["bytes"] += new
    forward["data_seq"] = end
    sender["last_data_packet"] = packet_row
    kept = min(length, TAIL_BYTES) if captured >= length else 0
    sender["tail_bytes"] = kept
    tail = sender["tail"]
    for i in range(kept):
        tail[i] = data[at + length - kept + i]


def count_events(sender: Any, events: int) -> None:
    """Add a packet's events to its side."""
    if events & RETRANSMISSION:
        sender["retransmissions"] += 1
    if events & FAST_RETRANSMISSION:
        sender["fast_retransmissions"] += 1
    if events & SPURIOUS_RETRANSMISSION:
        sender["spurious_retransmissions"] += 1
    if events & OUT_OF_ORDER:
        sender["out_of_order"] += 1
    if events & LOST_SEGMENT:
        sender["lost_segments"] += 1
    if events & ACK_LOST_SEGMENT:
        sender["ack_lost_segments"] += 1
    if events & DUPLICATE_ACK:
        sender["duplicate_acks"] += 1
    if events & ZERO_WINDOW:
        sender["zero_windows"] += 1
    if events & WINDOW_FULL:
        sender["window_fulls"] += 1
    if events & KEEP_ALIVE:
        sender["keep_alives"] += 1
