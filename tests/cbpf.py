"""Classic BPF as the kernel runs it: an independent reading of Documentation/networking/filter.rst."""

import operator
from collections.abc import Callable
from dataclasses import dataclass

from podcam.capture import Program

NETWORK_HEADER, ANCILLARY = 0xFFF00000, 0xFFFFF000
WORD = 0xFFFFFFFF
SIZES = {0x00: 4, 0x08: 2, 0x10: 1}
ALU: dict[int, Callable[[int, int], int]] = {
    0x00: operator.add,
    0x10: operator.sub,
    0x20: operator.mul,
    0x40: operator.or_,
    0x50: operator.and_,
    0x60: operator.lshift,
    0x70: operator.rshift,
    0xA0: operator.xor,
}
TESTS: dict[int, Callable[[int, int], object]] = {
    0x10: operator.eq,
    0x20: operator.gt,
    0x30: operator.ge,
    0x40: operator.and_,
}


@dataclass(frozen=True)
class Skb:
    """What the kernel holds of a packet: `data` as a filter sees it, and what it knows beside."""

    data: bytes
    network_offset: int = 14
    protocol: int = 0x0800
    packet_type: int = 0
    interface: int = 2
    hardware_type: int = 1

    def load(self, offset: int, size: int) -> int | None:
        """Read a number in network order; None when out of bounds."""
        offset &= WORD
        if offset >= ANCILLARY:
            known = {0: self.protocol, 4: self.packet_type, 8: self.interface, 28: self.hardware_type}
            return known[offset - ANCILLARY]
        if offset >= NETWORK_HEADER:
            offset += self.network_offset - NETWORK_HEADER
        part = self.data[offset : offset + size]
        return int.from_bytes(part) if len(part) == size else None


def run(program: Program, skb: Skb) -> int:
    """Run the program: how many bytes of the packet are kept."""
    a = x = 0
    memory = [0] * 16
    position = 0
    while True:
        step = program.instructions[position]
        position += 1
        kind, code, k = step.code & 0x07, step.code, step.k
        operand = x if code & 0x08 else k
        if kind in {0, 1}:  # LD, LDX
            mode = code & 0xE0
            if mode == 0x00:
                value: int | None = k
            elif mode == 0x60:
                value = memory[k]
            elif mode == 0x80:
                value = len(skb.data)
            elif mode == 0xA0:
                value = skb.load(k, 1)
                value = None if value is None else 4 * (value & 0x0F)
            else:
                value = skb.load(k + (x if mode == 0x40 else 0), SIZES[code & 0x18])
            if value is None:
                return 0
            a, x = (value, x) if kind == 0 else (a, value)
        elif kind in {2, 3}:  # ST, STX
            memory[k] = a if kind == 2 else x
        elif kind == 4:
            a = ALU[code & 0xF0](a, operand) & WORD
        elif kind == 5:
            if code & 0xF0 == 0:
                position += k
            else:
                position += step.jt if TESTS[code & 0xF0](a, operand) else step.jf
        elif kind == 6:
            return a if code & 0x18 == 0x10 else k
        else:
            a, x = (x, x) if code & 0xF8 else (a, a)
