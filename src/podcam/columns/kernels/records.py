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

NANOSECONDS = 1_000_000_000


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


def ticks_to_ns(ticks: int, ticks_per_second: int) -> int:
    """Nanoseconds of a pcapng timestamp, rounded down; any resolution without overflow."""
    whole = ticks // ticks_per_second
    fraction = ticks - whole * ticks_per_second
    if ticks_per_second <= 1 << 30:
        return whole * NANOSECONDS + fraction * NANOSECONDS // ticks_per_second
    if ticks_per_second % NANOSECONDS == 0:
        return whole * NANOSECONDS + fraction // (ticks_per_second // NANOSECONDS)
    return whole * NANOSECONDS + (fraction // (ticks_per_second >> 30)) * NANOSECONDS // (1 << 30)


# Block types of pcapng (draft-ietf-opsawg-pcapng, section 10.1, and wiretap/pcapng.c for those that Wireshark
# shows as frames although they hold no packet of a network).
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
        if kind != ENHANCED_PACKET and kind != SIMPLE_PACKET and kind != OBSOLETE_PACKET:
            return row, at, OTHER_BLOCK
        length = either32(data, at + 4, big)
        if length < 16 or length > MAX_CAPTURED_BYTES * 2:
            return row, at, GARBLED
        # Wireshark wants lengths in multiples of four too, but reads those that are not by rounding up.
        length = (length + 3) & ~3
        if at + length > end:
            return row, at, CUT
        interface = 0
        if kind == SIMPLE_PACKET:
            start = at + 12
            original = either32(data, at + 8, big)
            captured = min(original, length - 16)
        else:
            if length < 32:
                return row, at, GARBLED
            start = at + 28
            interface = (
                either32(data, at + 8, big) if kind == ENHANCED_PACKET else either16(data, at + 8, big)
            )
            captured = either32(data, at + 20, big)
            original = either32(data, at + 24, big)
        if interface >= section_interfaces or captured > length - (start - at) - 4:
            return row, at, GARBLED
        source = interfaces[first_interface + interface]
        time_ns = 0
        if kind == SIMPLE_PACKET:
            snap_length = int64(source["snap_length"])
            if 0 < snap_length < captured:
                captured = snap_length
        else:
            ticks = either32(data, at + 12, big) << 32 | either32(data, at + 16, big)
            time_ns = ticks_to_ns(ticks, int64(source["ticks_per_second"])) + int64(source["offset_ns"])
        packet = packets[row]
        packet["position"] = start
        packet["time_ns"] = time_ns
        packet["captured"] = captured
        packet["original"] = original
        packet["interface"] = first_interface + interface
        row += 1
        at += length
    return row, at, FULL


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
    packets: Any,
    row: int,
) -> tuple[int, int, int]:
    """The `count` packets of a block of a kernel's ring, as segments hold them; there must be rows for all.

    Packets with an Ethernet header are of `interface`; of others only the network layer is taken, and they are
    of `interface` + 1.
    """
    for number in range(count):
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
            or (step == 0) == (number + 1 < count)
        ):
            return row, at, GARBLED
        hardware_type = either16(data, at + 56, big)
        packet = packets[row]
        packet["time_ns"] = either32(data, at + 4, big) * NANOSECONDS + either32(data, at + 8, big)
        if hardware_type == ARPHRD_ETHER or hardware_type == ARPHRD_LOOPBACK:
            packet["position"] = at + link
            packet["captured"] = captured
            packet["original"] = original
            packet["interface"] = interface
        else:
            skipped = min(network - link, captured)
            packet["position"] = at + link + skipped
            packet["captured"] = captured - skipped
            packet["original"] = original - skipped
            packet["interface"] = interface + 1
        row += 1
        at += step
    return row, at, END
