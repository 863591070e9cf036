"""What a packet is called in a ladder diagram, and which packets of two connections are alike."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from podcam.model.connection import IcmpError, Packet, TcpEvent, TcpFlags

_ENDS = TcpFlags.FIN | TcpFlags.RST
_CONTROL = TcpFlags.SYN | _ENDS
_CONTROL_NAMES = (("SYN", TcpFlags.SYN), ("FIN", TcpFlags.FIN), ("RST", TcpFlags.RST))
_RESENT = TcpEvent.RETRANSMISSION | TcpEvent.FAST_RETRANSMISSION | TcpEvent.SPURIOUS_RETRANSMISSION

_EVENT_SPELLINGS = (
    (_RESENT, "retransmission", "retr."),
    (TcpEvent.OUT_OF_ORDER, "out of order", "ooo"),
    (TcpEvent.LOST_SEGMENT, "segment before it not captured", "gap"),
    (TcpEvent.ZERO_WINDOW_PROBE, "zero-window probe", "probe"),
    (TcpEvent.ZERO_WINDOW, "zero window", "win 0"),
    (TcpEvent.WINDOW_FULL, "window full", "full"),
    (TcpEvent.WINDOW_UPDATE, "window update", "win"),
    (TcpEvent.KEEP_ALIVE, "keep-alive", "alive"),
    (TcpEvent.DUPLICATE_ACK, "duplicate", "dup"),
    (TcpEvent.REUSED_PORTS, "port reused", "reused"),
)

_ICMP_UNREACHABLE = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    4: "fragmentation needed",
    9: "network prohibited",
    10: "host prohibited",
    13: "administratively prohibited",
}
"""RFC 792 and RFC 1812, section 5.2.7.1."""
_ICMPV6_UNREACHABLE = {
    0: "no route",
    1: "administratively prohibited",
    3: "address unreachable",
    4: "port unreachable",
    5: "source address refused",
    6: "route rejected",
}
"""RFC 4443, section 3.1."""

Likeness = tuple[object, ...]


def likeness(packet: Packet, messages: Sequence[str]) -> Likeness | None:
    """What makes packets of two connections alike; None for an end, which is alike to nothing."""
    if packet.icmp is not None or packet.flags & _ENDS:
        return None
    carries = messages[:1] or ("data",) if packet.payload_bytes else ()
    return packet.from_client, packet.flags & _CONTROL, bool(packet.events & _RESENT), tuple(carries)


def is_bare_ack(packet: Packet) -> bool:
    """Nothing but an acknowledgement: whether and when one is sent says little."""
    return not packet.payload_bytes and not packet.flags & _CONTROL and packet.icmp is None


def spellings(packet: Packet, messages: Sequence[str]) -> tuple[str, ...]:
    """What the packet carries, the most complete spelling first, each one shorter than the one before."""
    if packet.icmp is not None:
        return _icmp_spellings(packet.icmp)
    bodies = list(_bodies(packet, messages))
    events = [(long, short) for event, long, short in _EVENT_SPELLINGS if packet.events & event]
    if not events:
        return tuple(bodies)
    long = ", ".join(long for long, _ in events)
    short = ", ".join(short for _, short in events)
    return (*(f"{body}, {long}" for body in bodies), f"{bodies[-1]}, {short}")


def _bodies(packet: Packet, messages: Sequence[str]) -> Iterator[str]:
    flags = [name for name, flag in _CONTROL_NAMES if packet.flags & flag]
    if not packet.payload_bytes:
        yield ", ".join([*flags, "ACK"] if packet.has(TcpFlags.ACK) else flags) or "no flags"
        return
    end = "".join(f" + {flag}" for flag in flags)
    names = [
        name if (times := len(list(same))) == 1 else f"{times} {name}" for name, same in groupby(messages)
    ] or ["data"]
    size = f"{packet.payload_bytes:,} B"
    yield f"{', '.join(names)}, {size}{end}"
    if len(names) > 2:
        yield f"{names[0]} … {names[-1]}, {size}{end}"
    ends = " … ".join(dict.fromkeys((names[0], names[-1])))
    yield f"{ends}{end}"
    abbreviated = ends.replace("Authentication", "Auth").replace("encrypted", "enc.")
    if abbreviated != ends:
        yield f"{abbreviated}{end}"
    if len(names) > 1:
        yield f"… {names[-1]}{end}"


def _icmp_spellings(error: IcmpError) -> tuple[str, ...]:
    match error.version, error.type:
        case (4, 3):
            what = _ICMP_UNREACHABLE.get(error.code, f"unreachable, code {error.code}")
        case (6, 1):
            what = _ICMPV6_UNREACHABLE.get(error.code, f"unreachable, code {error.code}")
        case (4, 11) | (6, 3):
            what = "time exceeded"
        case (6, 2):
            what = "packet too big"
        case _:
            what = f"type {error.type} code {error.code}"
    return f"ICMP {what} from {error.sender}", f"ICMP {what}", what
