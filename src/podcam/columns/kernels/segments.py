"""From a packet to its TCP segment: link layer, IP, TCP, and TCP quoted in ICMP errors."""

from typing import Any

from podcam.columns.kernels.memory import Memory, big16, big32, big64, int64

NOT_TCP = 0
TCP = 1
QUOTED = 2
"""A TCP header within an ICMP error."""
QUOTED_PORTS = 3
"""Only the first 8 bytes of one, as RFC 792 asks for: ports and sequence number."""

UNKNOWN = -1
"""A length that cannot be told."""

# LINKTYPE_* of https://www.tcpdump.org/linktypes.html
LINK_NULL = 0
LINK_ETHERNET = 1
LINK_PPP = 9
LINK_RAW = 101
LINK_LOOP = 108
LINK_SLL = 113
LINK_IPV4 = 228
LINK_IPV6 = 229
LINK_SLL2 = 276

MAX_TAGS = 8
"""VLAN tags, MPLS labels and such in front of one IP header."""
MAX_EXTENSIONS = 16
"""IPv6 extension headers of one packet."""
LEAST_TCP_BYTES = 16
"""What must be captured of a TCP header to be analysed: all up to the window, as in Wireshark."""

IP_PROTOCOL_ICMP = 1
IP_PROTOCOL_TCP = 6
IP_PROTOCOL_ICMPV6 = 58

MAPPED = 0xFFFF << 32
"""Upper half of ::ffff:0:0/96, before the IPv4 address (RFC 4291, section 2.5.5.2)."""


def read_segments(data: Memory, packets: Any, first: int, count: int, interfaces: Any, segments: Any) -> None:
    """Fill `segments[:count]` (`layout.SEGMENT`) from the packets from row `first` on."""
    for i in range(count):
        packet = packets[first + i]
        at = int64(packet["position"])
        captured = int64(packet["captured"])
        original = max(int64(packet["original"]), captured)
        interface = interfaces[int64(packet["interface"])]
        segment = segments[i]
        segment["kind"] = NOT_TCP
        start = find_ip(data, at, at + captured, int64(interface["link_type"]))
        if start >= 0:
            read_ip(data, start, at + captured, at + original, segment)


def find_ip(data: Memory, at: int, limit: int, link_type: int) -> int:
    """Where the IP header begins; UNKNOWN where there is none."""
    start = UNKNOWN
    if link_type == LINK_ETHERNET:
        if at + 14 <= limit:
            start = skip_tags(data, at + 14, limit, big16(data, at + 12))
    elif link_type in (LINK_RAW, LINK_IPV4, LINK_IPV6):
        start = at
    elif link_type == LINK_SLL:
        if at + 16 <= limit:
            start = skip_tags(data, at + 16, limit, big16(data, at + 14))
    elif link_type == LINK_SLL2:
        if at + 20 <= limit:
            start = skip_tags(data, at + 20, limit, big16(data, at))
    elif link_type in (LINK_NULL, LINK_LOOP):
        start = at + 4
    elif link_type == LINK_PPP:
        with_address = at + 4 <= limit and big16(data, at) == 0xFF03
        start = skip_ppp(data, at + 2 if with_address else at, limit)
    return start


def skip_tags(data: Memory, at: int, limit: int, ethertype: int) -> int:
    """Where the IP header behind VLAN tags, MPLS labels, PPPoE or an LLC header begins, or UNKNOWN."""
    for _ in range(MAX_TAGS):
        if ethertype in (0x0800, 0x86DD):
            return at
        if at + 8 > limit:
            return UNKNOWN
        if ethertype in (0x8100, 0x88A8, 0x9100):
            ethertype = big16(data, at + 2)
            at += 4
        elif ethertype == 0x8847:
            while at + 4 <= limit and not int64(data[at + 2]) & 1:
                at += 4
            at += 4
            return at
        elif ethertype == 0x8864:
            return skip_ppp(data, at + 6, limit)
        elif ethertype <= 1500 and big32(data, at) == 0xAAAA0300 and int64(data[at + 4]) == 0:
            ethertype = big16(data, at + 6)  # IEEE 802.2 SNAP
            at += 8
        else:
            return UNKNOWN
    return UNKNOWN


def skip_ppp(data: Memory, at: int, limit: int) -> int:
    """Where the IP header behind a PPP protocol field begins, or UNKNOWN."""
    if at + 2 > limit:
        return UNKNOWN
    protocol = big16(data, at)
    if protocol in (0x0021, 0x0057):
        return at + 2
    return UNKNOWN


def read_ip(data: Memory, at: int, limit: int, end: int, segment: Any) -> None:
    """Read an IP packet at `at`, captured up to `limit`, which on the wire reached to `end` at most."""
    protocol, payload, end = read_ip_header(data, at, limit, end, segment)
    if protocol == IP_PROTOCOL_TCP:
        read_tcp(data, payload, min(limit, end), end, segment)
    elif protocol in (IP_PROTOCOL_ICMP, IP_PROTOCOL_ICMPV6):
        read_icmp(data, payload, min(limit, end), protocol, segment)


def read_ip_header(data: Memory, at: int, limit: int, end: int, segment: Any) -> tuple[int, int, int]:
    """Addresses into `segment`; gives protocol (UNKNOWN if none can be read), its start, and where it ends.

    Fragments have none: Wireshark analyses them only when put together.
    """
    if at + 20 > limit:
        return UNKNOWN, at, at
    version = int64(data[at]) >> 4
    segment["ip_version"] = version
    if version == 4:
        header_bytes = (int64(data[at]) & 15) * 4
        total = big16(data, at + 2)
        if header_bytes < 20 or big16(data, at + 6) & 0x3FFF:
            return UNKNOWN, at, at
        # A total length of 0 is what a segment above 64 KB has before it is cut up (TSO, BIG TCP).
        if total > 0:
            if total < header_bytes:
                return UNKNOWN, at, at
            end = min(end, at + total)
        segment["ip_id"] = big16(data, at + 4)
        segment["ttl"] = int64(data[at + 8])
        segment["source_high"] = 0
        segment["source_low"] = MAPPED | big32(data, at + 12)
        segment["target_high"] = 0
        segment["target_low"] = MAPPED | big32(data, at + 16)
        return int64(data[at + 9]), at + header_bytes, end
    if version != 6 or at + 40 > limit:
        return UNKNOWN, at, at
    if big16(data, at + 4) > 0:  # else a jumbogram (RFC 2675), or TSO
        end = min(end, at + 40 + big16(data, at + 4))
    segment["ip_id"] = 0
    segment["ttl"] = int64(data[at + 7])
    segment["source_high"] = big64(data, at + 8)
    segment["source_low"] = big64(data, at + 16)
    segment["target_high"] = big64(data, at + 24)
    segment["target_low"] = big64(data, at + 32)
    protocol, payload = skip_extensions(data, at + 40, limit, int64(data[at + 6]))
    return protocol, payload, end


def skip_extensions(data: Memory, at: int, limit: int, protocol: int) -> tuple[int, int]:
    """Upper-layer protocol behind IPv6 extension headers (RFC 8200, section 4), and where it begins."""
    for _ in range(MAX_EXTENSIONS):
        if protocol in (0, 43, 60, 135):
            if at + 8 > limit:
                return UNKNOWN, at
            length = (int64(data[at + 1]) + 1) * 8
        elif protocol == 51:  # Authentication Header (RFC 4302)
            if at + 8 > limit:
                return UNKNOWN, at
            length = (int64(data[at + 1]) + 2) * 4
        elif protocol == 44:
            if at + 8 > limit or big16(data, at + 2) & 0xFFF9:
                return UNKNOWN, at
            length = 8
        else:
            return protocol, at
        protocol = int64(data[at])
        at += length
    return UNKNOWN, at


def read_tcp(data: Memory, at: int, limit: int, end: int, segment: Any) -> None:
    """A TCP segment (RFC 9293, section 3.1) captured up to `limit`, which on the wire ends at `end`."""
    if at + LEAST_TCP_BYTES > limit:
        return
    read_tcp_header(data, at, segment)
    segment["kind"] = TCP
    header_bytes = (int64(data[at + 12]) >> 4) * 4
    payload = at + header_bytes
    segment["payload_at"] = payload
    segment["payload_bytes"] = end - payload if end >= payload else UNKNOWN
    segment["payload_captured"] = max(min(limit, end) - payload, 0)
    segment["window_shift"] = UNKNOWN
    if int64(data[at + 13]) & 0x02:
        segment["window_shift"] = window_shift(data, at + 20, min(payload, limit))


def read_tcp_header(data: Memory, at: int, segment: Any) -> None:
    """The fixed part up to the window."""
    segment["source_port"] = big16(data, at)
    segment["target_port"] = big16(data, at + 2)
    segment["seq"] = big32(data, at + 4)
    segment["ack"] = big32(data, at + 8)
    segment["flags"] = int64(data[at + 13])
    segment["window"] = big16(data, at + 14)


def window_shift(data: Memory, at: int, limit: int) -> int:
    """The shift count of a Window Scale option (RFC 7323, section 2.2), UNKNOWN without one."""
    while at + 1 < limit:
        kind = int64(data[at])
        if kind == 0:
            break
        if kind == 1:
            at += 1
            continue
        length = int64(data[at + 1])
        if kind == 3 and length == 3 and at + 3 <= limit:
            return min(int64(data[at + 2]), 14)
        if length < 2:
            break
        at += length
    return UNKNOWN


def read_icmp(data: Memory, at: int, limit: int, protocol: int, segment: Any) -> None:
    """An ICMP (RFC 792) or ICMPv6 error (RFC 4443) that quotes a TCP segment."""
    if at + 8 > limit:
        return
    kind = int64(data[at])
    if protocol == IP_PROTOCOL_ICMP:
        # destination unreachable, source quench, time exceeded, parameter problem
        if kind not in (3, 4, 11, 12):
            return
    elif kind < 1 or kind > 4:  # unreachable, packet too big, time exceeded, parameter problem
        return
    segment["icmp_version"] = 4 if protocol == IP_PROTOCOL_ICMP else 6
    segment["icmp_type"] = kind
    segment["icmp_code"] = int64(data[at + 1])
    segment["icmp_high"] = segment["source_high"]
    segment["icmp_low"] = segment["source_low"]
    # The quoted packet is cut, but its IP header has the length that it had: no end is known but that one.
    quoted, quote, _ = read_ip_header(data, at + 8, limit, at + (1 << 24), segment)
    if quoted != IP_PROTOCOL_TCP or quote + 8 > limit:
        return
    segment["payload_at"] = limit
    segment["payload_bytes"] = 0
    segment["payload_captured"] = 0
    segment["window_shift"] = UNKNOWN
    if quote + LEAST_TCP_BYTES <= limit:
        read_tcp_header(data, quote, segment)
        segment["kind"] = QUOTED
        if quote + (int64(data[quote + 12]) >> 4) * 4 > limit:
            segment["payload_bytes"] = UNKNOWN
    else:
        segment["source_port"] = big16(data, quote)
        segment["target_port"] = big16(data, quote + 2)
        segment["seq"] = big32(data, quote + 4)
        segment["ack"] = 0
        segment["flags"] = 0
        segment["window"] = 0
        segment["kind"] = QUOTED_PORTS
