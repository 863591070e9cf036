"""What Wireshark's `tcp.analysis` says of a packet, by the rules and in the order of its TCP dissector (4.0).

Sequence arithmetic is modulo 2**32. "Forward" is the direction of the packet. Oddities are Wireshark's own (a
sequence number of 0 means "none yet"): whoever compares wants the same answer.
"""

from typing import Any

from podcam.columns.kernels.memory import int64

FIN = 0x01
SYN = 0x02
RST = 0x04
ACK = 0x10

# model.connection.TcpEvent
RETRANSMISSION = 1 << 0
FAST_RETRANSMISSION = 1 << 1
SPURIOUS_RETRANSMISSION = 1 << 2
OUT_OF_ORDER = 1 << 3
LOST_SEGMENT = 1 << 4
ACK_LOST_SEGMENT = 1 << 5
DUPLICATE_ACK = 1 << 6
ZERO_WINDOW = 1 << 7
WINDOW_FULL = 1 << 8
WINDOW_UPDATE = 1 << 9
KEEP_ALIVE = 1 << 10
KEEP_ALIVE_ACK = 1 << 11
ZERO_WINDOW_PROBE = 1 << 12
ZERO_WINDOW_PROBE_ACK = 1 << 13
REUSED_PORTS = 1 << 14

MODULO = (1 << 32) - 1
HALF = 1 << 31

FAST_WITHIN_NS = 20_000_000
"""A fast retransmission follows the duplicate acknowledgements within this."""
DEFAULT_RTT_NS = 3_000_000
"""What out-of-order packets may be late by where no handshake was seen."""
FOREVER_NS = 1 << 62
NO_SHIFT = -2
"""Window scaling is known to be off."""
UNKNOWN_SHIFT = -1
SEEN_LOST = MODULO
"""In `duplicate_acks`: losses of this side were told by an acknowledgement, and more than it has sent."""
NO_WINDOW = (1 << 32) - 1
"""In `window`: no packet yet."""


def distance(a: int, b: int) -> int:
    """How far sequence number `a` is ahead of `b`, from -2**31 to 2**31 - 1."""
    return ((a - b + HALF) & MODULO) - HALF


def analyse(segment: Any, forward: Any, reverse: Any, time_ns: int, initial_rtt_ns: int, events: int) -> int:
    """Events of a packet, `events` among them, and the state of both directions (`layout.FLOW`) after it."""
    length = int64(segment["payload_bytes"])
    seq = int64(segment["seq"])
    ack = int64(segment["ack"])
    flags = int64(segment["flags"])
    window = int64(segment["window"])

    if length == 1 and seq == int64(forward["next_seq"]) and int64(reverse["window"]) == 0:
        events |= ZERO_WINDOW_PROBE
    else:
        events |= window_events(length, seq, ack, flags, window, forward, reverse)
        events |= repeat_events(length, seq, ack, flags, window, forward, reverse)
    if ack != int64(forward["last_ack"]):
        forward["duplicate_acks"] = 0
    if flags & ACK:
        events |= acknowledged_lost(ack, reverse)
    if (length > 0 or flags & (SYN | FIN)) and not events & KEEP_ALIVE:
        events |= retransmission(length, seq, flags, forward, reverse, time_ns, initial_rtt_ns)

    if not events & ZERO_WINDOW_PROBE:
        advance(seq, seq + length + (1 if flags & (SYN | FIN) else 0) & MODULO, forward, time_ns)
    forward["window"] = window
    forward["last_ack"] = ack
    forward["ack_ns"] = time_ns
    forward["events"] = events
    return events


def window_events(
    length: int, seq: int, ack: int, flags: int, window: int, forward: Any, reverse: Any
) -> int:
    """What a packet says by itself: shut and full windows, a hole before it, keep-alives, window updates."""
    events = 0
    next_seq = int64(forward["next_seq"])
    if next_seq != 0 and distance(next_seq, seq) < 0 and not flags & RST:
        events |= LOST_SEGMENT
    if flags & (SYN | FIN | RST):
        return events
    if window == 0:
        events |= ZERO_WINDOW
    if length <= 1 and seq == (next_seq - 1) & MODULO:
        events |= KEEP_ALIVE
    if length == 0:
        if (
            window != 0
            and window != int64(forward["window"])
            and seq == next_seq
            and ack == int64(forward["last_ack"])
        ):
            events |= WINDOW_UPDATE
    elif int64(reverse["window_shift"]) != UNKNOWN_SHIFT:
        shift = int64(reverse["window_shift"])
        if shift == NO_SHIFT or int64(reverse["before_first_ack"]):
            shift = 0
        edge = int64(reverse["last_ack"]) + (int64(reverse["window"]) << shift)
        if (seq + length - edge) & MODULO == 0:
            events |= WINDOW_FULL
    return events


def repeat_events(
    length: int, seq: int, ack: int, flags: int, window: int, forward: Any, reverse: Any
) -> int:
    """A pure acknowledgement that repeats the one before: of a keep-alive, of a probe, or a duplicate."""
    if (
        length != 0
        or flags & (SYN | FIN | RST)
        or window != int64(forward["window"])
        or seq != int64(forward["next_seq"])
        or ack != int64(forward["last_ack"])
    ):
        return 0
    if window == 0:
        return ZERO_WINDOW_PROBE_ACK if int64(reverse["events"]) & ZERO_WINDOW_PROBE else 0
    if int64(reverse["events"]) & KEEP_ALIVE:
        return KEEP_ALIVE_ACK
    count = int64(forward["duplicate_acks"])
    forward["duplicate_acks"] = 1 if count == SEEN_LOST else count + 1
    return DUPLICATE_ACK


def acknowledged_lost(ack: int, reverse: Any) -> int:
    """Whether an acknowledgement covers what was never seen; told once per loss."""
    contiguous = int64(reverse["contiguous_seq"])
    if contiguous == 0 or distance(contiguous, ack) >= 0:
        return 0
    next_seq = int64(reverse["next_seq"])
    if distance(contiguous, next_seq) < 0:
        reverse["contiguous_seq"] = next_seq
        return ACK_LOST_SEGMENT
    first = int64(reverse["duplicate_acks"]) == 0
    reverse["duplicate_acks"] = SEEN_LOST
    return ACK_LOST_SEGMENT if first else 0


def retransmission(
    length: int, seq: int, flags: int, forward: Any, reverse: Any, time_ns: int, initial_rtt_ns: int
) -> int:
    """Which kind of packet that does not move the sequence number on; 0 for one that does."""
    last_ack = int64(reverse["last_ack"])
    if length > 0 and last_ack != 0 and distance(last_ack, seq + length) >= 0:
        return SPURIOUS_RETRANSMISSION | RETRANSMISSION
    next_seq = int64(forward["next_seq"])
    if next_seq == 0 or distance(seq, next_seq) >= 0:
        return 0
    # What starts one byte early and goes on is new data after a probe.
    if length > 1 and (next_seq - 1) & MODULO == seq:
        return 0
    since_ack_ns = time_ns - int64(reverse["ack_ns"])
    if int64(reverse["duplicate_acks"]) >= 2 and last_ack == seq and 0 <= since_ack_ns < FAST_WITHIN_NS:
        return FAST_RETRANSMISSION | RETRANSMISSION
    late_ns = initial_rtt_ns if initial_rtt_ns != 0 else DEFAULT_RTT_NS
    if late_ns < 0:  # the clock was set back; Wireshark takes that for a very long time
        late_ns = FOREVER_NS
    end = (seq + length + (1 if flags & (SYN | FIN) else 0)) & MODULO
    if 0 <= time_ns - int64(forward["next_seq_ns"]) < late_ns and next_seq != end:
        return OUT_OF_ORDER
    return RETRANSMISSION


def advance(seq: int, end: int, forward: Any, time_ns: int) -> None:
    """Remember the highest sequence numbers seen."""
    next_seq = int64(forward["next_seq"])
    if next_seq == 0 or distance(next_seq, end) < 0:
        forward["next_seq"] = end
        forward["next_seq_ns"] = time_ns
    contiguous = int64(forward["contiguous_seq"])
    if contiguous in (0, seq):
        forward["contiguous_seq"] = forward["next_seq"]
