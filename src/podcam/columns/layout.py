"""The tables of the analyser: what each column means, and its unit.

Tables are numpy structured arrays, so that a kernel touches one stretch of memory per packet and side. All of
them are little enough to hold whole files: 32 bytes per packet, about 500 per connection.
"""

import numpy as np

MAX_CONNECTIONS = 1 << 20
"""Connections that get a row of their own in one capture; what comes beyond (a SYN flood) is summed per server."""

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
        ("tunnel", np.int32),  # index into the capture's tunnels, NEVER outside one
        ("first_packet", np.int32),  # row of PACKET; its frame number is one more
        ("last_packet", np.int32),
        ("packets", np.int32),  # both sides, ICMP errors left out
        ("previous", np.int32),  # row of the connection that used these addresses and ports before, or NEVER
        ("icmp_errors", np.int32),  # ICMP and ICMPv6 errors that quote a packet of it
        ("completeness", np.uint8),  # Wireshark's tcp.completeness: SYN 1, SYN-ACK 2, ACK 4, DATA 8, FIN 16, RST 32
        ("ip_version", np.uint8),  # 4 or 6
        ("syn_seen", np.uint8),  # 1: the client is who sent the SYN; 0: the side with the higher port
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
        ("retransmissions", np.int32),  # counts of TcpEvent among this side's packets; fast and spurious included
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
