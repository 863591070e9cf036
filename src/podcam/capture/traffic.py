"""Which packets a recording keeps, as classic BPF programs for every link type at once.

One socket hears all interfaces of a namespace, so a program asks the kernel for the packet's hardware type:
Ethernet and loopback frames are read from their own header on (VLAN tags included), all others from the
network header that the kernel knows. From there on loads are relative to X and the code is the same.

Out-of-bounds loads end a program with 0 (the packet is dropped), as in every classic BPF program.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

from podcam.capture import filters as bpf
from podcam.capture.filters import Assembler, Label, Program, emit_search
from podcam.capture.libpcap import compile_expression

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_SNAPLEN = 262144
CONTROL_SNAPLEN = 192
"""Bytes kept of a control packet: enough for IPv6, ICMPv6, and the quoted IPv6 and TCP headers."""
DNS_SNAPLEN = 4096

ARPHRD_ETHER = 1  # linux/if_arp.h
ARPHRD_LOOPBACK = 772
PACKET_OUTGOING = 4  # linux/if_packet.h

_ETH_P_IP, _ETH_P_IPV6 = 0x0800, 0x86DD  # linux/if_ether.h
_VLAN_PROTOCOLS = (0x8100, 0x88A8)
_ETHERNET_BYTES, _VLAN_TAG_BYTES = 14, 4
_VLAN_TAGS = 2
_ICMP, _TCP, _UDP, _ICMPV6, _SCTP = 1, 6, 17, 58, 132
_FRAGMENT_HEADER = 44
_EXTENSION_HEADERS = (0, 43, 60)  # hop-by-hop, routing, destination: RFC 8200, section 4
_EXTENSION_HEADERS_FOLLOWED = 4
_ICMP_ERRORS = (3, 4, 5, 11, 12)  # unreachable, source quench, redirect, time exceeded, parameter problem
_ICMPV6_ERROR_LAST = 4
_SYN_FIN_RST = 0x07
_DNS_PORT = 53
_DNS_RESPONSE = 0x80

# Scratch memory: X where the network layer begins, the transport protocol, and whether a host matched.
_BASE, _PROTOCOL, _HOST_MATCHED = range(3)


@dataclass(frozen=True, slots=True)
class Traffic:
    """The packets that a person chose. None leaves a thing open; an empty tuple matches nothing.

    A packet is kept when it came or went by one of `interfaces` (their indexes), one of its addresses lies in
    `hosts`, one of its TCP, UDP or SCTP ports is in `ports`, and `expression` (libpcap's language) holds.
    ICMP errors are kept whatever hosts and ports say, as they are evidence. Fragments without a
    transport header are kept when a host matches.

    `snaplen` cuts every packet to so many bytes; `payload` cuts TCP and UDP packets to so many bytes after
    their header.
    """

    hosts: tuple[Network, ...] | None = None
    ports: tuple[int, ...] | None = None
    interfaces: tuple[int, ...] | None = None
    expression: str | None = None
    payload: int | None = None
    snaplen: int = DEFAULT_SNAPLEN


def recording_program(traffic: Traffic) -> Program:
    """Build the program for a ring: a SOCK_RAW packet socket, whose packets begin with their link header.

    Raises:
        UsageError: the expression is wrong, or libpcap is missing.
    """
    return _Recording(traffic).assemble()


def control_program(traffic: Traffic, *, dns: bool = False) -> Program:
    """Build the program for the detector: a SOCK_DGRAM socket, whose packets begin at the network header.

    It keeps TCP packets with SYN, FIN or RST of the chosen traffic, ICMP errors that quote TCP with a chosen
    port, and with `dns` the answers of every name server.

    Raises:
        UsageError: the expression is wrong, or libpcap is missing.
    """
    return _Control(traffic, dns=dns).assemble()


class _Filter:
    """What both programs share: once per packet, chosen interfaces, and the way to the transport header."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.code = Assembler()
        self.drop = Label("drop")
        self.whole = Label("keep all of it")
        self.ipv4, self.ipv6, self.not_ip = Label("IPv4"), Label("IPv6"), Label("not IP")
        self.fragment = Label("fragment without a transport header")
        self.transport = Label("transport")

    def load(self, size: int, offset: int) -> None:
        """A = so much at X + offset."""
        self.code.emit(bpf.LD | bpf.IND | size, offset)

    def load_ancillary(self, what: int) -> None:
        self.code.emit(bpf.LD | bpf.ABS | bpf.W, what)

    def advance(self) -> None:
        """X = X + A."""
        self.code.emit(bpf.ALU | bpf.ADD | bpf.X)
        self.code.emit(bpf.MISC | bpf.TAX)

    def once_per_packet(self) -> None:
        """Loopback shows a packet going out and coming in: drop the first."""
        code, other = self.code, Label("not loopback")
        self.load_ancillary(bpf.AD_HARDWARE_TYPE)
        code.jump_if(bpf.JEQ, ARPHRD_LOOPBACK, None, other)
        self.load_ancillary(bpf.AD_PACKET_TYPE)
        code.jump_if(bpf.JEQ, PACKET_OUTGOING, self.drop)
        code.place(other)

    def chosen_interfaces(self) -> None:
        if self.traffic.interfaces is not None:
            chosen = Label("chosen interface")
            self.load_ancillary(bpf.AD_INTERFACE)
            emit_search(self.code, self.traffic.interfaces, chosen, self.drop)
            self.code.place(chosen)

    def dispatch(self) -> None:
        """By the EtherType in A and the beginning of the network layer in X."""
        self.code.emit(bpf.STX, _BASE)
        self.code.jump_if(bpf.JEQ, _ETH_P_IP, self.ipv4)
        self.code.jump_if(bpf.JEQ, _ETH_P_IPV6, self.ipv6, self.not_ip)

    def skip_vlan_tags(self, base: int) -> None:
        """With the EtherType in A that stands before `base`: leave both as they are behind the tags."""
        code, untagged = self.code, Label("behind VLAN tags")
        code.emit(bpf.LDX | bpf.IMM, base)
        for tag in range(1, _VLAN_TAGS + 1):
            tagged = Label(f"VLAN tag {tag}")
            code.jump_if(bpf.JEQ, _VLAN_PROTOCOLS[0], tagged)
            code.jump_if(bpf.JEQ, _VLAN_PROTOCOLS[1], tagged, untagged)
            code.place(tagged)
            behind = base + tag * _VLAN_TAG_BYTES
            code.emit(bpf.LDX | bpf.IMM, behind)
            code.emit(bpf.LD | bpf.ABS | bpf.H, behind - 2)
        code.place(untagged)

    def internet_layer(self) -> None:
        """From X to the transport header: X at its beginning, its protocol and the match in memory."""
        code, hosts = self.code, self.traffic.hosts
        code.place(self.ipv4)
        self.match_hosts(_networks(hosts, 4), source=12, destination=16)
        self.load(bpf.B, 9)
        code.emit(bpf.ST, _PROTOCOL)
        self.load(bpf.H, 6)
        code.jump_if(bpf.JSET, 0x1FFF, self.fragment)
        self.load(bpf.B, 0)
        code.emit(bpf.ALU | bpf.AND | bpf.K, 0x0F)
        code.emit(bpf.ALU | bpf.LSH | bpf.K, 2)
        self.advance()
        code.jump(self.transport)

        code.place(self.ipv6)
        self.match_hosts(_networks(hosts, 6), source=8, destination=24)
        self.load(bpf.B, 6)
        code.emit(bpf.ST, _PROTOCOL)
        code.emit(bpf.LD | bpf.IMM, 40)
        self.advance()
        code.emit(bpf.LD | bpf.MEM, _PROTOCOL)
        for position in range(_EXTENSION_HEADERS_FOLLOWED):
            self.skip_extension_header(position)
        code.place(self.transport)

    def skip_extension_header(self, position: int) -> None:
        """With X at a header of IPv6 whose number is in A and in memory: behind it, if it is an extension."""
        code = self.code
        options, fragment, behind = (
            Label(f"{what} {position}") for what in ("options", "fragment", "behind")
        )
        for number in _EXTENSION_HEADERS:
            code.jump_if(bpf.JEQ, number, options)
        code.jump_if(bpf.JEQ, _FRAGMENT_HEADER, fragment, self.transport)
        code.place(fragment)
        self.load(bpf.H, 2)
        code.jump_if(bpf.JSET, 0xFFF8, self.fragment)
        self.load(bpf.B, 0)
        code.emit(bpf.ST, _PROTOCOL)
        code.emit(bpf.LD | bpf.IMM, 8)
        code.jump(behind)
        code.place(options)
        self.load(bpf.B, 0)
        code.emit(bpf.ST, _PROTOCOL)
        self.load(bpf.B, 1)
        code.emit(bpf.ALU | bpf.ADD | bpf.K, 1)
        code.emit(bpf.ALU | bpf.LSH | bpf.K, 3)
        code.place(behind)
        self.advance()
        code.emit(bpf.LD | bpf.MEM, _PROTOCOL)

    def match_hosts(self, networks: "list[_Prefix] | None", *, source: int, destination: int) -> None:
        """Note in memory whether one of the addresses lies in one of the networks."""
        if networks is None:
            return
        code = self.code
        found, other, missing, noted = (
            Label(f"host {what}") for what in ("found", "other", "missing", "noted")
        )
        _match_prefixes(code, networks, source, found, other)
        code.place(other)
        _match_prefixes(code, networks, destination, found, missing)
        code.place(missing)
        code.emit(bpf.LD | bpf.IMM, 0)
        code.jump(noted)
        code.place(found)
        code.emit(bpf.LD | bpf.IMM, 1)
        code.place(noted)
        code.emit(bpf.ST, _HOST_MATCHED)

    def require_host(self) -> None:
        if self.traffic.hosts is not None:
            self.code.emit(bpf.LD | bpf.MEM, _HOST_MATCHED)
            self.code.jump_if(bpf.JEQ, 0, self.drop)

    def require_port(self) -> None:
        """With X at the header of TCP, UDP or SCTP."""
        if self.traffic.ports is not None:
            other, chosen = Label("other port"), Label("chosen port")
            self.load(bpf.H, 0)
            emit_search(self.code, self.traffic.ports, chosen, other)
            self.code.place(other)
            self.load(bpf.H, 2)
            emit_search(self.code, self.traffic.ports, chosen, self.drop)
            self.code.place(chosen)

    def returns(self, size_bytes: int) -> Program:
        code = self.code
        code.place(self.whole)
        code.keep(size_bytes)
        code.place(self.drop)
        code.keep(0)
        return code.assemble()


class _Recording(_Filter):
    def assemble(self) -> Program:
        traffic, code = self.traffic, self.code
        self.once_per_packet()
        self.chosen_interfaces()
        if traffic.expression is not None:
            self.require_expression(traffic.expression)
        everything = traffic.hosts is None and traffic.ports is None
        if not (everything and traffic.payload is None):
            self.link_layer()
            self.internet_layer()
            self.choose()
            self.cut_payload()
            code.place(self.fragment)
            self.require_host()
            code.jump(self.whole)
            code.place(self.not_ip)
            code.jump(self.whole if everything else self.drop)
        return self.returns(traffic.snaplen)

    def require_expression(self, expression: str) -> None:
        ethernet, raw = compile_expression(expression)
        code, frames, holds = self.code, Label("expression on frames"), Label("expression holds")
        self.load_ancillary(bpf.AD_HARDWARE_TYPE)
        code.jump_if(bpf.JEQ, ARPHRD_ETHER, frames)
        code.jump_if(bpf.JEQ, ARPHRD_LOOPBACK, frames)
        code.append(raw, kept=holds, dropped=self.drop)
        code.place(frames)
        code.append(ethernet, kept=holds, dropped=self.drop)
        code.place(holds)

    def link_layer(self) -> None:
        code, frames, dispatch = self.code, Label("Ethernet"), Label("dispatch")
        self.load_ancillary(bpf.AD_HARDWARE_TYPE)
        code.jump_if(bpf.JEQ, ARPHRD_ETHER, frames)
        code.jump_if(bpf.JEQ, ARPHRD_LOOPBACK, frames)
        code.emit(bpf.LDX | bpf.IMM, bpf.NETWORK_HEADER)
        self.load_ancillary(bpf.AD_PROTOCOL)
        code.jump(dispatch)
        code.place(frames)
        code.emit(bpf.LD | bpf.ABS | bpf.H, _ETHERNET_BYTES - 2)
        self.skip_vlan_tags(_ETHERNET_BYTES)
        code.place(dispatch)
        self.dispatch()

    def choose(self) -> None:
        """With X at the transport header: drop what was not asked for; ICMP errors are never dropped."""
        code = self.code
        icmp, icmpv6, echo, chosen, ports = (
            Label(name) for name in ("ICMP", "ICMPv6", "no ICMP error", "chosen", "ports")
        )
        code.emit(bpf.LD | bpf.MEM, _PROTOCOL)
        code.jump_if(bpf.JEQ, _ICMP, icmp)
        code.jump_if(bpf.JEQ, _ICMPV6, icmpv6)
        self.require_host()
        if self.traffic.ports is not None:
            code.emit(bpf.LD | bpf.MEM, _PROTOCOL)
            for protocol in (_TCP, _UDP):
                code.jump_if(bpf.JEQ, protocol, ports)
            code.jump_if(bpf.JEQ, _SCTP, ports, self.drop)
            code.place(ports)
            self.require_port()
        code.jump(chosen)
        code.place(icmp)
        self.load(bpf.B, 0)
        emit_search(code, _ICMP_ERRORS, self.whole, echo)
        code.place(icmpv6)
        self.load(bpf.B, 0)
        code.jump_if(bpf.JGT, _ICMPV6_ERROR_LAST, echo, self.whole)
        code.place(echo)
        if self.traffic.ports is not None:
            code.jump(self.drop)
        else:
            self.require_host()
            code.jump(self.whole)
        code.place(chosen)

    def cut_payload(self) -> None:
        """With X at the transport header: keep up to `payload` bytes behind it."""
        code, payload = self.code, self.traffic.payload
        if payload is None:
            code.jump(self.whole)
            return
        tcp, udp, add = Label("TCP"), Label("UDP"), Label("cut")
        code.emit(bpf.LD | bpf.MEM, _PROTOCOL)
        code.jump_if(bpf.JEQ, _TCP, tcp)
        code.jump_if(bpf.JEQ, _UDP, udp, self.whole)
        code.place(tcp)
        self.load(bpf.B, 12)
        code.emit(bpf.ALU | bpf.RSH | bpf.K, 2)
        code.emit(bpf.ALU | bpf.AND | bpf.K, 0x3C)
        code.jump(add)
        code.place(udp)
        code.emit(bpf.LD | bpf.IMM, 8)
        code.place(add)
        code.emit(bpf.ALU | bpf.ADD | bpf.X)
        # Interfaces without a link header of their own count from the network header: take its mark away.
        code.emit(bpf.ALU | bpf.AND | bpf.K, ~bpf.NETWORK_HEADER)
        code.emit(bpf.ALU | bpf.ADD | bpf.K, payload)
        code.jump_if(bpf.JGT, self.traffic.snaplen, self.whole)
        code.emit(bpf.RET | bpf.RET_A)


class _Control(_Filter):
    def __init__(self, traffic: Traffic, *, dns: bool) -> None:
        super().__init__(traffic)
        self.dns = dns

    def assemble(self) -> Program:
        self.once_per_packet()
        self.chosen_interfaces()
        self.network_layer()
        self.internet_layer()
        self.choose()
        self.code.place(self.fragment)
        self.code.place(self.not_ip)
        self.code.jump(self.drop)
        return self.returns(CONTROL_SNAPLEN)

    def network_layer(self) -> None:
        """The packet begins at its network header, or at inner VLAN tags, which the kernel leaves on."""
        code, dispatch, outgoing = self.code, Label("dispatch"), Label("tagged, going out")
        self.load_ancillary(bpf.AD_PROTOCOL)
        tagged = Label("tagged")
        code.emit(bpf.LDX | bpf.IMM, 0)
        code.jump_if(bpf.JEQ, _VLAN_PROTOCOLS[0], tagged)
        code.jump_if(bpf.JEQ, _VLAN_PROTOCOLS[1], tagged, dispatch)
        code.place(tagged)
        self.load_ancillary(bpf.AD_PACKET_TYPE)
        code.jump_if(bpf.JEQ, PACKET_OUTGOING, outgoing)
        self.load_ancillary(bpf.AD_PROTOCOL)
        self.skip_vlan_tags(0)
        code.jump(dispatch)
        code.place(outgoing)  # the tag is part of the link header, and the EtherType behind it out of reach
        code.emit(bpf.LDX | bpf.IMM, 0)
        code.emit(bpf.STX, _BASE)
        self.load(bpf.B, 0)
        code.emit(bpf.ALU | bpf.RSH | bpf.K, 4)
        code.jump_if(bpf.JEQ, 4, self.ipv4)
        code.jump_if(bpf.JEQ, 6, self.ipv6, self.drop)
        code.place(dispatch)
        self.dispatch()

    def choose(self) -> None:
        code = self.code
        tcp, icmp, icmpv6, dns = (Label(name) for name in ("TCP", "ICMP", "ICMPv6", "DNS"))
        code.emit(bpf.LD | bpf.MEM, _PROTOCOL)
        code.jump_if(bpf.JEQ, _TCP, tcp)
        code.jump_if(bpf.JEQ, _ICMP, icmp)
        code.jump_if(bpf.JEQ, _ICMPV6, icmpv6)
        code.jump_if(bpf.JEQ, _UDP, dns, self.drop)
        code.place(tcp)
        self.load(bpf.B, 13)
        code.jump_if(bpf.JSET, _SYN_FIN_RST, None, self.drop)
        self.require_host()
        self.require_port()
        if self.traffic.expression is not None:
            _, raw = compile_expression(self.traffic.expression)
            code.append(raw, kept=self.whole, dropped=self.drop)
        code.jump(self.whole)
        code.place(icmp)
        self.quoted_ipv4()
        code.place(icmpv6)
        self.quoted_ipv6()
        code.place(dns)
        self.dns_answer()

    def quoted_ipv4(self) -> None:
        """With X at the ICMP header: RFC 792, and the quoted IPv4 header 8 bytes on."""
        code, error = self.code, Label("ICMP error")
        self.load(bpf.B, 0)
        emit_search(code, _ICMP_ERRORS, error, self.drop)
        code.place(error)
        self.load(bpf.B, 8 + 9)
        code.jump_if(bpf.JEQ, _TCP, None, self.drop)
        self.load(bpf.B, 8)
        code.emit(bpf.ALU | bpf.AND | bpf.K, 0x0F)
        code.emit(bpf.ALU | bpf.LSH | bpf.K, 2)
        code.emit(bpf.ALU | bpf.ADD | bpf.K, 8)
        self.advance()
        self.require_port()
        code.jump(self.whole)

    def quoted_ipv6(self) -> None:
        """With X at the ICMPv6 header: RFC 4443, and the quoted IPv6 header 8 bytes on."""
        code = self.code
        self.load(bpf.B, 0)
        code.jump_if(bpf.JGT, _ICMPV6_ERROR_LAST, self.drop)
        self.load(bpf.B, 8 + 6)
        code.jump_if(bpf.JEQ, _TCP, None, self.drop)
        code.emit(bpf.LD | bpf.IMM, 8 + 40)
        self.advance()
        self.require_port()
        code.jump(self.whole)

    def dns_answer(self) -> None:
        """With X at the UDP header: RFC 1035, section 4.1.1."""
        code = self.code
        if not self.dns:
            code.jump(self.drop)
            return
        self.load(bpf.H, 0)
        code.jump_if(bpf.JEQ, _DNS_PORT, None, self.drop)
        self.load(bpf.B, 8 + 2)
        code.jump_if(bpf.JSET, _DNS_RESPONSE, None, self.drop)
        code.keep(DNS_SNAPLEN)


@dataclass(frozen=True, slots=True)
class _Prefix:
    words: tuple[int, ...]
    """The address as 32-bit words: one for IPv4, four for IPv6."""
    bits: int
    """How many of its bits count, from the first word here on."""


def _networks(hosts: Sequence[Network] | None, version: int) -> list[_Prefix] | None:
    return None if hosts is None else [_prefix(network) for network in _collapse(hosts, version)]


def _collapse(hosts: Iterable[Network], version: int) -> Iterable[Network]:
    if version == 4:
        return ipaddress.collapse_addresses(n for n in hosts if isinstance(n, ipaddress.IPv4Network))
    return ipaddress.collapse_addresses(n for n in hosts if isinstance(n, ipaddress.IPv6Network))


def _prefix(network: Network) -> _Prefix:
    address = network.network_address
    match address:
        case ipaddress.IPv4Address():
            words: tuple[int, ...] = (int(address),)
        case ipaddress.IPv6Address():
            words = tuple(int(address) >> shift & 0xFFFFFFFF for shift in (96, 64, 32, 0))
        case _:
            assert_never(address)
    return _Prefix(words, network.prefixlen)


def _match_prefixes(
    code: Assembler, prefixes: list[_Prefix], offset: int, found: Label, missing: Label
) -> None:
    """Compare the address at X + offset word by word; prefixes that share a word share its compare."""
    if any(prefix.bits == 0 for prefix in prefixes):
        code.jump(found)
        return
    masked: dict[int, set[int]] = {}
    whole: set[int] = set()
    deeper: dict[int, list[_Prefix]] = {}
    for prefix in prefixes:
        word, *rest = prefix.words
        if prefix.bits < 32:
            masked.setdefault(32 - prefix.bits, set()).add(word)
        elif prefix.bits == 32:
            whole.add(word)
        else:
            deeper.setdefault(word, []).append(_Prefix(tuple(rest), prefix.bits - 32))
    for host_bits, words in masked.items():
        longer = Label("longer prefixes")
        code.emit(bpf.LD | bpf.IND | bpf.W, offset)
        code.emit(bpf.ALU | bpf.AND | bpf.K, 0xFFFFFFFF << host_bits)
        emit_search(code, words, found, longer)
        code.place(longer)
    if whole or deeper:
        unequal = Label("unequal words")
        code.emit(bpf.LD | bpf.IND | bpf.W, offset)
        emit_search(code, whole, found, unequal)
        code.place(unequal)
    inner = {word: Label(f"behind {word:08x}") for word in deeper}
    for word, label in inner.items():
        code.jump_if(bpf.JEQ, word, label)
    code.jump(missing)
    for word, label in inner.items():
        code.place(label)
        _match_prefixes(code, deeper[word], offset + 4, found, missing)
