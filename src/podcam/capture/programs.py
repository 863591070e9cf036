"""The filter programs of a recording: what its ring keeps, and what its detector hears."""

from podcam.capture import filters as bpf
from podcam.capture.filters import Label, Program, emit_search
from podcam.capture.layers import (
    PROTOCOL,
    PacketFilter,
)
from podcam.capture.traffic import Traffic

CONTROL_SNAPLEN = 224
"""Bytes kept of a control packet: enough for Ethernet with tags, IPv6 with extensions, ICMPv6, and the quoted
IPv6 and TCP headers."""
DNS_SNAPLEN = 4096

_ICMP, _TCP, _UDP, _ICMPV6, _SCTP = 1, 6, 17, 58, 132
_ICMP_ERRORS = (3, 4, 5, 11, 12)  # unreachable, source quench, redirect, time exceeded, parameter problem
_ICMPV6_ERROR_LAST = 4
_SYN_FIN_RST = 0x07
_DNS_PORT = 53
_DNS_RESPONSE = 0x80


def recording_program(traffic: Traffic) -> Program:
    """Build the program for a ring: a SOCK_RAW packet socket, whose packets begin with their link header.

    Raises:
        UsageError: the expression is wrong, or libpcap is missing.
    """
    return _Recording(traffic).assemble()


def control_program(traffic: Traffic) -> Program:
    """Build the program for the detector: as for a ring, but for what tells of connections only.

    It keeps TCP packets with SYN, FIN or RST of the chosen traffic, and ICMP errors that quote TCP with a
    chosen port.

    Raises:
        UsageError: the expression is wrong, or libpcap is missing.
    """
    return _Control(traffic).assemble()


def answers_program(traffic: Traffic) -> Program:
    """Build the program that hears the DNS answers of every name server on the chosen interfaces."""
    return _Answers(traffic).assemble()


class _Recording(PacketFilter):
    def __init__(self, traffic: Traffic) -> None:
        super().__init__(traffic)
        self.notes_redirected = traffic.narrows
        self.elsewhere = Label("other host or port")

    def assemble(self) -> Program:
        traffic, code = self.traffic, self.code
        self.once_per_packet()
        self.chosen_interfaces()
        if traffic.expression is not None:
            self.require_expression(traffic.expression)
        everything = not traffic.narrows
        if not (everything and traffic.payload is None):
            self.link_layer()
            self.internet_layer()
            self.choose()
            self.cut_payload(traffic.payload)
            if traffic.narrows:
                self.keep_redirected()
            code.place(self.fragment)
            self.require_host()
            code.jump(self.whole)
            code.place(self.not_ip)
            code.jump(self.whole if everything else self.drop)
        return self.returns(traffic.snaplen)

    def choose(self) -> None:
        """With X at the transport header: drop what was not asked for; ICMP errors are never dropped."""
        code = self.code
        icmp, icmpv6, echo, chosen, ports = (
            Label(name) for name in ("ICMP", "ICMPv6", "no ICMP error", "chosen", "ports")
        )
        code.emit(bpf.LD | bpf.MEM, PROTOCOL)
        code.jump_if(bpf.JEQ, _ICMP, icmp)
        code.jump_if(bpf.JEQ, _ICMPV6, icmpv6)
        self.require_host(self.elsewhere)
        if self.traffic.ports is not None:
            code.emit(bpf.LD | bpf.MEM, PROTOCOL)
            for protocol in (_TCP, _UDP):
                code.jump_if(bpf.JEQ, protocol, ports)
            code.jump_if(bpf.JEQ, _SCTP, ports, self.drop)
            code.place(ports)
            self.require_port(self.elsewhere)
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

    def keep_redirected(self) -> None:
        """Keep the headers of what goes to a proxy on this host, and drop what else was not asked for.

        The packet does not tell where its program wanted to send it, to a chosen server or to another: its
        headers are what the other direction, whose packets do tell, has to be completed with.
        """
        code = self.code
        code.place(self.elsewhere)
        self.require_redirected()
        code.emit(bpf.LD | bpf.MEM, PROTOCOL)
        code.jump_if(bpf.JEQ, _TCP, None, self.drop)
        self.cut_payload(0)

    def cut_payload(self, payload: int | None) -> None:
        """With X at the transport header: keep up to so many bytes behind it, all for None."""
        code = self.code
        if payload is None:
            code.jump(self.whole)
            return
        tcp, udp, add = Label("TCP"), Label("UDP"), Label("cut")
        code.emit(bpf.LD | bpf.MEM, PROTOCOL)
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


class _Control(PacketFilter):
    snaplen = CONTROL_SNAPLEN

    def __init__(self, traffic: Traffic) -> None:
        super().__init__(traffic)
        self.notes_redirected = traffic.narrows

    def assemble(self) -> Program:
        self.once_per_packet()
        self.chosen_interfaces()
        self.link_layer()
        self.internet_layer()
        self.choose()
        self.code.place(self.fragment)
        self.code.place(self.not_ip)
        self.code.jump(self.drop)
        return self.returns(self.snaplen)

    def choose(self) -> None:
        code = self.code
        tcp, icmp, icmpv6 = (Label(name) for name in ("TCP", "ICMP", "ICMPv6"))
        code.emit(bpf.LD | bpf.MEM, PROTOCOL)
        code.jump_if(bpf.JEQ, _TCP, tcp)
        code.jump_if(bpf.JEQ, _ICMP, icmp)
        code.jump_if(bpf.JEQ, _ICMPV6, icmpv6, self.drop)
        code.place(tcp)
        self.load(bpf.B, 13)
        code.jump_if(bpf.JSET, _SYN_FIN_RST, None, self.drop)
        elsewhere, chosen = Label("other host or port"), Label("chosen connection")
        self.require_host(elsewhere)
        self.require_port(elsewhere)
        code.jump(chosen)
        code.place(elsewhere)
        self.require_redirected()
        code.place(chosen)
        if self.traffic.expression is not None:
            self.require_expression(self.traffic.expression)
        code.jump(self.whole)
        code.place(icmp)
        self.quoted_ipv4()
        code.place(icmpv6)
        self.quoted_ipv6()

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


class _Answers(_Control):
    snaplen = DNS_SNAPLEN

    def __init__(self, traffic: Traffic) -> None:
        super().__init__(traffic)
        self.notes_redirected = False

    def choose(self) -> None:
        """With X at the UDP header: RFC 1035, section 4.1.1."""
        code = self.code
        code.emit(bpf.LD | bpf.MEM, PROTOCOL)
        code.jump_if(bpf.JEQ, _UDP, None, self.drop)
        self.load(bpf.H, 0)
        code.jump_if(bpf.JEQ, _DNS_PORT, None, self.drop)
        self.load(bpf.B, 8 + 2)
        code.jump_if(bpf.JSET, _DNS_RESPONSE, None, self.drop)
        code.jump(self.whole)
