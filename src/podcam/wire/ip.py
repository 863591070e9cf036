"""IPv4 (RFC 791) and IPv6 (RFC 8200) headers: where the transport begins, and whose packet it is."""

import ipaddress
import struct
from dataclasses import dataclass

ICMP = 1
TCP = 6
UDP = 17
ICMPV6 = 58

_HOP_BY_HOP = 0
_ROUTING = 43
_FRAGMENT = 44
_AUTHENTICATION = 51
_DESTINATION = 60

_MAX_EXTENSION_HEADERS = 8
"""Real packets carry one or two; a longer chain is an attack on whoever walks it."""

_IPV4 = struct.Struct(">BxHxxHxBxx4s4s").unpack_from
_IPV6 = struct.Struct(">4xHBx16s16s").unpack_from
_FRAGMENT_FIELD = struct.Struct(">H").unpack_from


@dataclass(frozen=True, slots=True)
class Transport:
    """The transport part of an IP packet, or of the start of one.

    `offset` is where its header begins in the bytes given; `length` how long header and payload are on the
    wire, None where the header does not say (BIG TCP writes 0). Addresses are 4 or 16 bytes.
    """

    protocol: int
    offset: int
    length: int | None
    source: bytes
    destination: bytes


def transport(packet: bytes, start: int = 0) -> Transport | None:
    """Find the transport header of the IP packet that begins at `start`.

    None for what is no IP packet, is cut before its transport header, or is a fragment other than the first.
    """
    version = packet[start] >> 4 if len(packet) > start else 0
    if version == 4:
        return _ipv4(packet, start)
    if version == 6:
        return _ipv6(packet, start)
    return None


def _ipv4(packet: bytes, start: int) -> Transport | None:
    if len(packet) < start + 20:
        return None
    first, total, fragment, protocol, source, destination = _IPV4(packet, start)
    header = (first & 0x0F) * 4
    if header < 20 or fragment & 0x1FFF or len(packet) < start + header:
        return None
    length = total - header if total else None
    return Transport(protocol, start + header, length, source, destination)


def _ipv6(packet: bytes, start: int) -> Transport | None:
    if len(packet) < start + 40:
        return None
    payload, following, source, destination = _IPV6(packet, start)
    offset = start + 40
    for _ in range(_MAX_EXTENSION_HEADERS):
        if following not in (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION):
            length = start + 40 + payload - offset if payload else None
            return Transport(following, offset, length, source, destination)
        if len(packet) < offset + 8:
            return None
        if following == _FRAGMENT:
            if _FRAGMENT_FIELD(packet, offset + 2)[0] >> 3:
                return None
            size = 8
        elif following == _AUTHENTICATION:
            size = (packet[offset + 1] + 2) * 4
        else:
            size = (packet[offset + 1] + 1) * 8
        following = packet[offset]
        offset += size
    return None


def address_text(address: bytes) -> str:
    """An address of 4 or 16 bytes in its usual spelling (RFC 5952 for IPv6)."""
    return str(ipaddress.ip_address(address))


def quoted_by_icmp_error(packet: bytes, found: Transport) -> int | None:
    """Offset of the IP packet that an ICMP or ICMPv6 error quotes because it could not be delivered.

    None for other messages, also for those that say that a packet is too big: its connection lives on.
    """
    if len(packet) < found.offset + 8:
        return None
    kind, code = packet[found.offset], packet[found.offset + 1]
    if found.protocol == ICMP:
        # RFC 792: destination unreachable (4: fragmentation needed), time exceeded, parameter problem
        undelivered = kind in (11, 12) or (kind == 3 and code != 4)
    else:
        # RFC 4443: destination unreachable, time exceeded, parameter problem
        undelivered = found.protocol == ICMPV6 and kind in (1, 3, 4)
    return found.offset + 8 if undelivered else None
