"""What each side of a connection did, as its segments tell."""

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
    OUT_OF_ORDER,
    RETRANSMISSION,
    REUSED_PORTS,
    RST,
    SPURIOUS_RETRANSMISSION,
    SYN,
    WINDOW_FULL,
    ZERO_WINDOW,
    distance,
)
from podcam.columns.kernels.memory import Memory, int64
from podcam.columns.layout import HEAD_BYTES, TAIL_BYTES

# Wireshark's tcp.completeness
SEEN_SYN = 1
SEEN_SYN_ACK = 2
SEEN_ACK = 4
SEEN_DATA = 8
SEEN_FIN = 16
SEEN_RST = 32

SYN_FROM_OTHER_SIDE = 2
"""Mark in CONNECTION.syn_seen: who was taken for the server sent the SYN."""

MOST = 0xFFFF
"""Where the 16-bit counters stay."""


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
