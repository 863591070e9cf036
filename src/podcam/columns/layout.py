"""The tables of the analyser: what each column means, and its unit.

Tables are numpy structured arrays, so that a kernel touches one stretch of memory per packet and side. What
stays for the whole file is little: 32 bytes per packet, about 600 per connection.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[np.void]

Rows = Any
"""A table as the kernels index it: an array, or for plain kernels a list of dicts (`columns.tables`)."""

MAX_CONNECTIONS = 1 << 20
"""Connections that get a row of their own in one capture; what comes beyond is summed per server."""

HEAD_BYTES = 16
"""How many of a side's first payload bytes are kept with the connection."""

TAIL_BYTES = 8
"""How many of a side's last payload bytes are kept with the connection."""

NEVER = -1
"""A time, or a row, that there is not."""

PACKET = np.dtype(
    [
        ("position", np.int64),  # of the first captured byte, in the mapped files
        ("time_ns", np.int64),
        ("captured", np.uint32),  # bytes in the file
        ("original", np.uint32),  # bytes on the wire
        ("next", np.int32),  # row of the connection's next packet, NEVER for its last one
        ("interface", np.uint16),  # index into the capture's interfaces
        ("events", np.uint16),  # model.connection.TcpEvent
    ],
    align=True,
)
"""One row per packet of the file: row = frame number - 1."""

CONNECTION = np.dtype(
    [
        ("first_ns", np.int64),
        ("last_ns", np.int64),
        ("handshake_ns", np.int64),  # from the last SYN to the ACK that completes it; NEVER when not all seen
        ("stream", np.int32),  # Wireshark's tcp.stream; rows of one stream at several points share it
        ("point", np.int32),  # index into the capture's points
        ("server_id", np.int32),  # equal for connections to the same server address and port
        ("client_id", np.int32),  # equal for connections from the same client address
        ("first_packet", np.int32),  # row of PACKET; its frame number is one more
        ("last_packet", np.int32),
        ("packets", np.int32),  # both sides, ICMP errors left out
        ("previous", np.int32),  # row of the connection that used these addresses and ports before, or NEVER
        ("copies", np.int32),  # packets left out: seen already at another interface of the point (a bridge)
        ("icmp_errors", np.int32),  # ICMP and ICMPv6 errors that quote a packet of it
        (
            "completeness",
            np.uint8,
        ),  # Wireshark's tcp.completeness: SYN 1, SYN-ACK 2, ACK 4, DATA 8, FIN 16, RST 32
        ("ip_version", np.uint8),  # 4 or 6
        ("syn_seen", np.uint8),  # 1: the client is who sent the SYN; 0: who acknowledged a SYN-ACK, or the
        # side with the higher port
        ("reused", np.uint8),  # 1: a SYN came on addresses and ports that were in use before
    ],
    align=True,
)
"""One row per TCP connection and point."""

SIDE = np.dtype(
    [
        ("address_high", np.uint64),  # big-endian halves of the IPv6 address; IPv4 as ::ffff:a.b.c.d
        ("address_low", np.uint64),
        ("first_ns", np.int64),  # times of packets that this side sent
        ("last_ns", np.int64),
        ("first_data_ns", np.int64),
        ("last_data_ns", np.int64),  # retransmissions and keep-alive probes of one byte included
        ("syn_ns", np.int64),  # the first SYN (for a server: SYN-ACK)
        ("fin_ns", np.int64),  # the first FIN
        ("rst_ns", np.int64),  # the first RST
        ("bytes", np.int64),  # payload, each byte once; from the lowest to the highest sequence number seen
        ("acked_bytes", np.int64),  # of them acknowledged by the other side
        ("isn", np.uint32),  # initial sequence number, where `isn_known`
        ("packets", np.int32),
        ("data_packets", np.int32),
        (
            "retransmissions",
            np.int32,
        ),  # counts of TcpEvent among this side's packets; fast and spurious included
        ("fast_retransmissions", np.int32),
        ("spurious_retransmissions", np.int32),
        ("out_of_order", np.int32),
        ("lost_segments", np.int32),
        ("ack_lost_segments", np.int32),
        ("duplicate_acks", np.int32),
        ("zero_windows", np.int32),
        ("window_fulls", np.int32),
        ("keep_alives", np.int32),
        ("first_data_packet", np.int32),  # row of PACKET, NEVER without payload
        ("last_data_packet", np.int32),  # the packet with the highest sequence number
        ("port", np.uint16),
        ("syns", np.uint16),  # SYNs (for a server: SYN-ACKs), retransmitted ones included; saturating
        ("fins", np.uint16),
        ("rsts", np.uint16),
        ("flags", np.uint8),  # all TCP flags that this side ever set
        ("isn_known", np.uint8),  # told by its SYN; or by the first acknowledgement of a handshake
        ("rst_acks", np.uint8),  # 1: its first RST carried an ACK number
        ("head_bytes", np.uint8),  # valid bytes of `head`
        ("tail_bytes", np.uint8),  # valid bytes of `tail`
        ("head", np.uint8, (HEAD_BYTES,)),  # the first payload bytes of its first data packet
        ("tail", np.uint8, (TAIL_BYTES,)),  # the last payload bytes of `last_data_packet`, right-aligned at 0
    ],
    align=True,
)
"""Two rows per connection: what each side did."""

INTERFACE = np.dtype(
    [
        ("offset_s", np.int64),  # added to timestamps (if_tsoffset)
        ("ticks_per_second", np.int64),  # if_tsresol
        ("snap_length", np.int64),  # 0: none
        ("link_type", np.int32),  # LINKTYPE_*
        ("point", np.int32),  # index into the capture's points
    ],
    align=True,
)
"""One row per interface of a capture."""

SEGMENT = np.dtype(
    [
        ("source_high", np.uint64),
        ("source_low", np.uint64),
        ("target_high", np.uint64),
        ("target_low", np.uint64),
        ("payload_at", np.int64),  # position of the payload in the mapped files
        ("payload_bytes", np.int64),  # on the wire; UNKNOWN where the IP length is less than the headers'
        ("payload_captured", np.int64),
        ("icmp_high", np.uint64),  # who sent the ICMP error
        ("icmp_low", np.uint64),
        ("seq", np.uint32),
        ("ack", np.uint32),
        ("window", np.uint16),  # as in the header
        ("source_port", np.uint16),
        ("target_port", np.uint16),
        ("ip_id", np.uint16),
        ("kind", np.uint8),  # kernels.segments: NOT_TCP, TCP, QUOTED, QUOTED_PORTS
        ("ip_version", np.uint8),
        ("ttl", np.uint8),
        ("flags", np.uint8),
        ("window_shift", np.int8),  # of a Window Scale option in a SYN, UNKNOWN without one
        ("icmp_version", np.uint8),
        ("icmp_type", np.uint8),
        ("icmp_code", np.uint8),
    ],
    align=True,
)
"""One row per packet of the chunk that is being read."""

STREAM = np.dtype(
    [
        ("number", np.int32),  # tcp.stream
        ("connection", np.int32),  # its row at the point where it was seen last
        ("base_seq", np.uint32, (2,)),  # Wireshark's base for relative numbers, by side of `connection`
        ("base_known", np.uint8, (2,)),
    ],
    align=True,
)
"""One row per Wireshark conversation: the latest of its addresses and ports is found by them."""

FLOW = np.dtype(
    [
        ("ack_ns", np.int64),  # time of the last packet
        ("next_seq_ns", np.int64),  # when `next_seq` moved last
        ("next_seq", np.uint32),  # 0: none yet, as in Wireshark
        ("contiguous_seq", np.uint32),  # highest sequence number seen without a hole; 0: none yet
        ("last_ack", np.uint32),
        ("data_seq", np.uint32),  # sequence number that follows the payload counted in SIDE.bytes
        ("data_acked", np.uint32),  # highest acknowledgement of it
        ("interface", np.int32),  # where this direction is seen, plus 1; 0: nowhere yet
        ("duplicate_acks", np.uint32),
        ("window", np.uint32),  # of the last packet, as in its header
        ("events", np.uint16),  # of the last packet
        ("window_shift", np.int8),
        ("before_first_ack", np.uint8),  # 1 between a SYN and the first ACK: its window is not scaled yet
        ("data_seq_known", np.uint8),
    ],
    align=True,
)
"""Two rows per connection: what the analysis has to remember of each direction."""

TRACK = np.dtype(
    [
        ("syn_ns", np.int64),  # the last SYN; 0: none yet
        (
            "initial_rtt_ns",
            np.int64,
        ),  # Wireshark's: from the last SYN to the first ACK of either side; 0: unknown
        ("sibling", np.int32),  # row of the same stream at another point, NEVER for the first
    ],
    align=True,
)
"""One row per connection: what the analysis has to remember of both directions."""

SERVER = np.dtype(
    [
        ("address_high", np.uint64),
        ("address_low", np.uint64),
        ("port", np.int32),
        ("syns", np.int64),
    ],
    align=True,
)
"""Servers of connections beyond MAX_CONNECTIONS."""

MAX_OVERFLOW_SERVERS = 4096

PACKETS_PER_CHUNK = 1 << 16
"""Packets that compiled kernels take at a time, and whose segments are in memory."""
PLAIN_PACKETS_PER_CHUNK = 1 << 9
"""The same for plain kernels, for which rows are dear to make."""


class Tables(NamedTuple):
    """All tables of one capture, as the kernels take them."""

    packets: Table
    segments: Rows
    interfaces: Rows
    connections: Rows
    sides: Rows
    flows: Rows
    tracks: Rows
    streams: Rows
    slots: Rows
    """Rows of `streams` by hash of addresses and ports, NEVER where empty; a power of two of them."""
    servers: Rows
    counters: Rows
    """Indexed by COUNT_*."""


COUNT_CONNECTIONS = 0
COUNT_STREAM_ROWS = 1
COUNT_STREAMS = 2
"""Stream numbers given; more than there are rows when connections were beyond MAX_CONNECTIONS."""
COUNTERS = 3
