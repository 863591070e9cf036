"""Where the packets lie in a file: one row of `layout.PACKET` for each.

A walker reads on from `at` until the file ends, `packets` is full, or something comes that Python must read
(a pcapng block with options, a block of a segment). It returns (next row, position, why it stopped).
"""

from typing import Any

from podcam.columns.kernels.memory import Memory, either16, either32, int64

END = 0
"""Nothing is left, or less than a record's header."""
FULL = 1
"""All rows are in use."""
CUT = 2
"""The file ends within the record at the position given."""
GARBLED = 3
"""There is no record at the position given."""
OTHER_BLOCK = 4
"""A pcapng block that is no packet begins at the position given."""

MAX_CAPTURED_BYTES = 16 << 20
"""More than any link layer carries: a record that claims more is garbled."""

MAX_BLOCK_BYTES = 2 * MAX_CAPTURED_BYTES

NANOSECONDS = 1_000_000_000
MOST_SECONDS = 1 << 33
"""Times later than this (in the year 2242) do not fit into 64 bits of nanoseconds, and are garbled."""


def walk_pcap(
    data: Memory,
    at: int,
    end: int,
    big: int,
    fraction_ns: int,
    header_bytes: int,
    interface: int,
    packets: Any,
    row: int,
    rows: int,
) -> tuple[int, int, int]:
    """Records of a pcap file (draft-ietf-opsawg-pcap, section 5).

    `fraction_ns` is the length of the sub-second unit, `header_bytes` 16, or 24 in the variant with an
    interface index.
    """
    while row < rows:
        if at + header_bytes > end:
            return row, at, END if at >= end else CUT
        captured = either32(data, at + 8, big)
        if captured > MAX_CAPTURED_BYTES:
            return row, at, GARBLED
        start = at + header_bytes
        if start + captured > end:
            return row, at, CUT
        packet = packets[row]
        packet["position"] = start
        packet["time_ns"] = either32(data, at, big) * NANOSECONDS + either32(data, at + 4, big) * fraction_ns
        packet["captured"] = captured
        packet["original"] = either32(data, at + 12, big)
        packet["interface"] = interface
        row += 1
        at = start + captured
    return row, at, FULL


def ticks_to_ns(ticks: int, ticks_per_second: int, offset_s: int) -> int:
    """Nanoseconds of a pcapng timestamp, rounded down; any resolution without overflow."""
    whole = ticks // ticks_per_second
    fraction = ticks - whole * ticks_per_second
    seconds = max(0, min(whole + offset_s, MOST_SECONDS))
    if ticks_per_second <= 1 << 30:
        return seconds * NANOSECONDS + fraction * NANOSECONDS // ticks_per_second
    if ticks_per_second % NANOSECONDS == 0:
        return seconds * NANOSECONDS + fraction // (ticks_per_second // NANOSECONDS)
    return seconds * NANOSECONDS + (fraction // (ticks_per_second >> 30)) * NANOSECONDS // (1 << 30)


# Block types of pcapng (draft-ietf-opsawg-pcapng, section 10.1).
OBSOLETE_PACKET = 2
SIMPLE_PACKET = 3
ENHANCED_PACKET = 6


def walk_pcapng(
    data: Memory,
    at: int,
    end: int,
    big: int,
    interfaces: Any,
    first_interface: int,
    section_interfaces: int,
    packets: Any,
    row: int,
    rows: int,
) -> tuple[int, int, int]:
    """Packet blocks of one pcapng section (draft-ietf-opsawg-pcapng, section 4).

    `interfaces` is a table of `layout.INTERFACE`; those of this section begin at `first_interface`.
    """
    while row < rows:
        if at + 12 > end:
            return row, at, END if at >= end else CUT
        kind = either32(data, at, big)
        if kind not in (ENHANCED_PACKET, SIMPLE_PACKET, OBSOLETE_PACKET):
            return row, at, OTHER_BLOCK
        # Lengths are multiples of four; Wireshark reads others by rounding them up.
        length = either32(data, at + 4, big) + 3 & ~3
        if at + length > end:
            return row, at, CUT if length <= MAX_BLOCK_BYTES else GARBLED
        packet = packets[row]
        if kind == SIMPLE_PACKET:
            fits = read_simple(data, at, length, big, interfaces, first_interface, section_interfaces, packet)
        else:
            fits = read_enhanced(
                data, at, length, big, kind, interfaces, first_interface, section_interfaces, packet
            )
        if not fits:
            return row, at, GARBLED
        row += 1
        at += length
    return row, at, FULL


def read_simple(
    data: Memory,
    at: int,
    length: int,
    big: int,
    interfaces: Any,
    first_interface: int,
    section_interfaces: int,
    packet: Any,
) -> bool:
    """A simple packet block, which has no time, and is of the section's first interface."""
    if length < 16 or section_interfaces == 0:
        return False
    original = either32(data, at + 8, big)
    captured = min(original, length - 16)
    snap_length = int64(interfaces[first_interface]["snap_length"])
    if 0 < snap_length < captured:
        captured = snap_length
    packet["position"] = at + 12
    packet["time_ns"] = 0
    packet["captured"] = captured
    packet["original"] = original
    packet["interface"] = first_interface
    return True


def read_enhanced(
    data: Memory,
    at: int,
    length: int,
    big: int,
    kind: int,
    interfaces: Any,
    first_interface: int,
    section_interfaces: int,
    packet: Any,
) -> bool:
    """An enhanced packet block, or the obsolete one, which has the interface in 16 bits."""
    if length < 32:
        return False
    number = either32(data, at + 8, big) if kind == ENHANCED_PACKET else either16(data, at + 8, big)
    captured = either32(data, at + 20, big)
    if number >= section_interfaces or captured > length - 32:
        return False
    interface = interfaces[first_interface + number]
    ticks = (either32(data, at + 12, big) & 0x7FFFFFFF) << 32 | either32(data, at + 16, big)
    packet["position"] = at + 28
    packet["time_ns"] = ticks_to_ns(ticks, int64(interface["ticks_per_second"]), int64(interface["offset_s"]))
    packet["captured"] = captured
    packet["original"] = either32(data, at + 24, big)
    packet["interface"] = first_interface + number
    return True


PACKET_HEAD_BYTES = 68
"""`struct tpacket3_hdr` and the `struct sockaddr_ll` behind it (linux/if_packet.h)."""
ARPHRD_ETHER = 1
ARPHRD_LOOPBACK = 772


def walk_block(
    data: Memory,
    at: int,
    end: int,
    count: int,
    big: int,
    interface: int,
    interfaces: int,
    packets: Any,
    row: int,
    rows: int,
) -> tuple[int, int, int]:
    """The `count` packets from `at` to the end of a block of a kernel's ring, as segments hold them.

    `interface` is the first of 2 * `interfaces` rows: two per index that the kernel gives an interface
    (modulo `interfaces`), for packets with an Ethernet header, and for others, of which only the network
    layer is taken.
    """
    while count > 0:
        if row == rows:
            return row, at, FULL
        if at + PACKET_HEAD_BYTES > end:
            return row, at, GARBLED
        step = either32(data, at, big)
        captured = either32(data, at + 12, big)
        original = either32(data, at + 16, big)
        link = either16(data, at + 24, big)
        network = either16(data, at + 26, big)
        if (
            link < PACKET_HEAD_BYTES
            or network < link
            or at + link + captured > end
            or (step == 0) == (count > 1)
        ):
            return row, at, GARBLED
        hardware_type = either16(data, at + 56, big)
        row_of_interface = interface + 2 * (either32(data, at + 52, big) % interfaces)
        packet = packets[row]
        packet["time_ns"] = either32(data, at + 4, big) * NANOSECONDS + either32(data, at + 8, big)
        if hardware_type in (ARPHRD_ETHER, ARPHRD_LOOPBACK):
            packet["position"] = at + link
            packet["captured"] = captured
            packet["original"] = original
            packet["interface"] = row_of_interface
        else:
            skipped = min(network - link, captured)
            packet["position"] = at + link + skipped
            packet["captured"] = captured - skipped
            packet["original"] = original - skipped
            packet["interface"] = row_of_interface + 1
        row += 1
        count -= 1
        at += step
    return row, at, END
