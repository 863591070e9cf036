"""The way of a filter program through the layers of a packet, for every link type at once.

One socket hears all interfaces of a namespace, so a program asks the kernel for the packet's hardware type
and finds out where the network layer begins. From there on loads are relative to X, and the code is the same.

An out-of-bounds load ends a program with 0 (the packet is dropped), as in every classic BPF program.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

from podcam.capture import filters as bpf
from podcam.capture.filters import Assembler, Label, Program, emit_search
from podcam.capture.libpcap import compile_expression
from podcam.capture.traffic import Network, Traffic

ARPHRD_ETHER = 1  # linux/if_arp.h
ARPHRD_LOOPBACK = 772
PACKET_OTHERHOST, PACKET_OUTGOING = 3, 4  # linux/if_packet.h
VLAN_PROTOCOLS = (0x8100, 0x88A8)  # linux/if_ether.h
ETHERNET_BYTES = 14

_ETH_P_IP, _ETH_P_IPV6 = 0x0800, 0x86DD
_VLAN_TAG_BYTES, _VLAN_TAGS_FOLLOWED = 4, 2
_IPV4_WITHOUT_OPTIONS = 0x45
_TCP = 6
_FRAGMENT_HEADER = 44
_EXTENSION_HEADERS = (0, 43, 60)  # hop-by-hop, routing, destination: RFC 8200, section 4
_EXTENSION_HEADERS_FOLLOWED = 4

PROTOCOL, HOST_MATCHED, REDIRECTED = range(3)
"""Scratch memory: the number of the transport protocol, whether a host matched, and whether the packet goes
to a proxy on this host in place of the server (netfilter's REDIRECT)."""


class PacketFilter:
    """What both programs share: once per packet, chosen interfaces, and the way to the transport header."""

    notes_redirected = False
    """Whether the program asks for REDIRECTED."""

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
        """A = what the kernel knows beside the packet's bytes."""
        self.code.emit(bpf.LD | bpf.ABS | bpf.W, what)

    def advance(self) -> None:
        """X = X + A."""
        self.code.emit(bpf.ALU | bpf.ADD | bpf.X)
        self.code.emit(bpf.MISC | bpf.TAX)

    def once_per_packet(self) -> None:
        """Loopback shows a packet going out and coming in: drop the first. Drop strangers' if asked to."""
        code, other = self.code, Label("not loopback")
        self.load_ancillary(bpf.AD_HARDWARE_TYPE)
        code.jump_if(bpf.JEQ, ARPHRD_LOOPBACK, None, other)
        self.load_ancillary(bpf.AD_PACKET_TYPE)
        code.jump_if(bpf.JEQ, PACKET_OUTGOING, self.drop)
        if self.traffic.own_port is not None:
            self._drop_port_of_loopback(self.traffic.own_port, other)
        code.place(other)
        if self.traffic.own_only:
            self.load_ancillary(bpf.AD_PACKET_TYPE)
            code.jump_if(bpf.JEQ, PACKET_OTHERHOST, self.drop)

    def _drop_port_of_loopback(self, port: int, otherwise: Label) -> None:
        """Drop TCP from and to it in IPv4 packets without options, behind loopback's Ethernet header."""
        code = self.code
        code.emit(bpf.LD | bpf.ABS | bpf.H, ETHERNET_BYTES - 2)
        code.jump_if(bpf.JEQ, _ETH_P_IP, None, otherwise)
        code.emit(bpf.LD | bpf.ABS | bpf.B, ETHERNET_BYTES)
        code.jump_if(bpf.JEQ, _IPV4_WITHOUT_OPTIONS, None, otherwise)
        code.emit(bpf.LD | bpf.ABS | bpf.B, ETHERNET_BYTES + 9)
        code.jump_if(bpf.JEQ, _TCP, None, otherwise)
        for offset in (20, 22):
            code.emit(bpf.LD | bpf.ABS | bpf.H, ETHERNET_BYTES + offset)
            code.jump_if(bpf.JEQ, port, self.drop)

    def chosen_interfaces(self) -> None:
        """Drop what came or went by another interface."""
        if self.traffic.interfaces is not None:
            chosen = Label("chosen interface")
            self.load_ancillary(bpf.AD_INTERFACE)
            emit_search(self.code, self.traffic.interfaces, chosen, self.drop)
            self.code.place(chosen)

    def require_expression(self, expression: str) -> None:
        """Drop a packet for which the expression does not hold. Uses X and the scratch memory."""
        ethernet, raw = compile_expression(expression)
        code, frames, holds = self.code, Label("expression on frames"), Label("expression holds")
        self.jump_if_ethernet(frames)
        code.append(raw, kept=holds, dropped=self.drop)
        code.place(frames)
        code.append(ethernet, kept=holds, dropped=self.drop)
        code.place(holds)

    def link_layer(self) -> None:
        """From the beginning to the network layer: X there, and on to IPv4, IPv6, or neither."""
        code, frames, dispatch = self.code, Label("Ethernet"), Label("dispatch")
        self.jump_if_ethernet(frames)
        code.emit(bpf.LDX | bpf.IMM, bpf.NETWORK_HEADER)
        self.load_ancillary(bpf.AD_PROTOCOL)
        code.jump(dispatch)
        code.place(frames)
        code.emit(bpf.LD | bpf.ABS | bpf.H, ETHERNET_BYTES - 2)
        self.skip_vlan_tags()
        code.place(dispatch)
        code.jump_if(bpf.JEQ, _ETH_P_IP, self.ipv4)
        code.jump_if(bpf.JEQ, _ETH_P_IPV6, self.ipv6, self.not_ip)

    def jump_if_ethernet(self, frames: Label) -> None:
        """Loopback carries Ethernet headers too."""
        self.load_ancillary(bpf.AD_HARDWARE_TYPE)
        self.code.jump_if(bpf.JEQ, ARPHRD_ETHER, frames)
        self.code.jump_if(bpf.JEQ, ARPHRD_LOOPBACK, frames)

    def skip_vlan_tags(self) -> None:
        """With the first EtherType in A: leave there the one behind the tags, and in X what follows it."""
        code, untagged = self.code, Label("behind VLAN tags")
        code.emit(bpf.LDX | bpf.IMM, ETHERNET_BYTES)
        for tag in range(1, _VLAN_TAGS_FOLLOWED + 1):
            tagged = Label(f"VLAN tag {tag}")
            code.jump_if(bpf.JEQ, VLAN_PROTOCOLS[0], tagged)
            code.jump_if(bpf.JEQ, VLAN_PROTOCOLS[1], tagged, untagged)
            code.place(tagged)
            behind = ETHERNET_BYTES + tag * _VLAN_TAG_BYTES
            code.emit(bpf.LDX | bpf.IMM, behind)
            code.emit(bpf.LD | bpf.ABS | bpf.H, behind - 2)
        code.place(untagged)

    def internet_layer(self) -> None:
        """From X to the transport header: X at its beginning, its protocol and the match in memory."""
        code, hosts = self.code, self.traffic.hosts
        code.place(self.ipv4)
        self.match_hosts(_networks(hosts, 4), source=12, destination=16)
        self.note_redirected(_LOOPBACK, source=12, destination=16)
        self.load(bpf.B, 9)
        code.emit(bpf.ST, PROTOCOL)
        self.load(bpf.H, 6)
        code.jump_if(bpf.JSET, 0x1FFF, self.fragment)
        self.load(bpf.B, 0)
        code.emit(bpf.ALU | bpf.AND | bpf.K, 0x0F)
        code.emit(bpf.ALU | bpf.LSH | bpf.K, 2)
        self.advance()
        code.jump(self.transport)

        code.place(self.ipv6)
        self.match_hosts(_networks(hosts, 6), source=8, destination=24)
        self.note_redirected(_LOOPBACK_V6, source=8, destination=24)
        self.load(bpf.B, 6)
        code.emit(bpf.ST, PROTOCOL)
        code.emit(bpf.LD | bpf.IMM, 40)
        self.advance()
        code.emit(bpf.LD | bpf.MEM, PROTOCOL)
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
        code.emit(bpf.ST, PROTOCOL)
        code.emit(bpf.LD | bpf.IMM, 8)
        code.jump(behind)
        code.place(options)
        self.load(bpf.B, 0)
        code.emit(bpf.ST, PROTOCOL)
        self.load(bpf.B, 1)
        code.emit(bpf.ALU | bpf.ADD | bpf.K, 1)
        code.emit(bpf.ALU | bpf.LSH | bpf.K, 3)
        code.place(behind)
        self.advance()
        code.emit(bpf.LD | bpf.MEM, PROTOCOL)

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
        code.emit(bpf.ST, HOST_MATCHED)

    def note_redirected(self, loopback: "_Prefix", *, source: int, destination: int) -> None:
        """Note in memory whether it goes from another address than the loopback's to one of the loopback's.

        That is what becomes of a packet that is redirected to a proxy on its own host; the proxy's answers
        have the server's address again.
        """
        if not self.notes_redirected:
            return
        code = self.code
        inwards, redirected, ordinary, noted = (
            Label(what) for what in ("to loopback", "redirected", "not redirected", "redirection noted")
        )
        _match_prefixes(code, [loopback], destination, inwards, ordinary)
        code.place(inwards)
        _match_prefixes(code, [loopback], source, ordinary, redirected)
        code.place(ordinary)
        code.emit(bpf.LD | bpf.IMM, 0)
        code.jump(noted)
        code.place(redirected)
        code.emit(bpf.LD | bpf.IMM, 1)
        code.place(noted)
        code.emit(bpf.ST, REDIRECTED)

    def require_redirected(self) -> None:
        """Drop a packet that was not redirected; always where that is not noted."""
        if not self.notes_redirected:
            self.code.jump(self.drop)
            return
        self.code.emit(bpf.LD | bpf.MEM, REDIRECTED)
        self.code.jump_if(bpf.JEQ, 0, self.drop)

    def require_host(self, otherwise: Label | None = None) -> None:
        """Drop a packet of which no address matched, or go on elsewhere with it."""
        if self.traffic.hosts is not None:
            self.code.emit(bpf.LD | bpf.MEM, HOST_MATCHED)
            self.code.jump_if(bpf.JEQ, 0, otherwise or self.drop)

    def require_port(self, otherwise: Label | None = None) -> None:
        """With X at the header of TCP, UDP or SCTP: as for a host."""
        if self.traffic.ports is not None:
            other, chosen = Label("other port"), Label("chosen port")
            self.load(bpf.H, 0)
            emit_search(self.code, self.traffic.ports, chosen, other)
            self.code.place(other)
            self.load(bpf.H, 2)
            emit_search(self.code, self.traffic.ports, chosen, otherwise or self.drop)
            self.code.place(chosen)

    def returns(self, size_bytes: int) -> Program:
        """End the program: `whole` keeps so many bytes."""
        code = self.code
        code.place(self.whole)
        code.keep(size_bytes)
        code.place(self.drop)
        code.keep(0)
        return code.assemble()


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


_LOOPBACK = _prefix(ipaddress.IPv4Network("127.0.0.0/8"))
_LOOPBACK_V6 = _prefix(ipaddress.IPv6Network("::1/128"))


def _match_prefixes(
    code: Assembler, prefixes: list[_Prefix], offset: int, found: Label, missing: Label
) -> None:
    """Compare the address at X + offset word by word; prefixes that share a word share its compare.

    No prefix may contain another: the first word that fits decides which ones remain.
    """
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
    if not whole and not deeper:
        code.jump(missing)
        return
    code.emit(bpf.LD | bpf.IND | bpf.W, offset)
    inner = {word: Label(f"behind {word:08x}") for word in deeper}
    for word, label in inner.items():
        code.jump_if(bpf.JEQ, word, label)
    emit_search(code, whole, found, missing)
    for word, label in inner.items():
        code.place(label)
        _match_prefixes(code, deeper[word], offset + 4, found, missing)
