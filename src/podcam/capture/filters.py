"""Classic BPF: an assembler with labels, and attaching programs to sockets.

The instruction set is that of linux/filter.h and the kernel's Documentation/networking/filter.rst. A program
returns how many bytes of the packet to keep, 0 to drop it. Conditional jumps reach 255 instructions ahead;
the assembler puts unconditional jumps in between where a label is farther away.
"""

import ctypes
import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from podcam.errors import CaptureError

MAX_INSTRUCTIONS = 4096  # linux/bpf_common.h: BPF_MAXINSNS

LD, LDX, ST, STX, ALU, JMP, RET, MISC = range(8)
W, H, B = 0x00, 0x08, 0x10
IMM, ABS, IND, MEM, LEN, MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, NEG, MOD, XOR = range(0x00, 0xB0, 0x10)
JA, JEQ, JGT, JGE, JSET = range(0x00, 0x50, 0x10)
K, X = 0x00, 0x08
RET_A = 0x10
TAX, TXA = 0x00, 0x80

NETWORK_HEADER = 0xFFF00000  # SKF_NET_OFF: offsets from the network header on
_ANCILLARY = 0xFFFFF000  # SKF_AD_OFF: what the kernel knows of a packet beside its bytes
AD_PROTOCOL = _ANCILLARY + 0
AD_PACKET_TYPE = _ANCILLARY + 4
AD_INTERFACE = _ANCILLARY + 8
AD_HARDWARE_TYPE = _ANCILLARY + 28

_REACH = 255
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter
_OPTMEM_MAX = Path("/proc/sys/net/core/optmem_max")


class FilterTooLongError(CaptureError):
    """The kernel takes no filter of this length; a filter attached before stays in force."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One `struct sock_filter`: `code`, jump offsets when true and when false, and the operand `k`."""

    code: int
    jt: int
    jf: int
    k: int


@dataclass(frozen=True, slots=True)
class Program:
    """A filter, ready to be attached."""

    instructions: tuple[Instruction, ...]

    def __len__(self) -> int:
        return len(self.instructions)

    def pack(self) -> bytes:
        """Return the array of `struct sock_filter`."""
        return b"".join(_INSTRUCTION.pack(i.code, i.jt, i.jf, i.k) for i in self.instructions)

    @classmethod
    def unpack(cls, array: bytes) -> "Program":
        """Read an array of `struct sock_filter` (`struct bpf_insn` of libpcap is the same)."""
        return cls(tuple(Instruction(*fields) for fields in _INSTRUCTION.iter_unpack(array)))


def attach(sock: socket.socket, program: Program) -> None:
    """Attach the program in place of the one before: packets see the one or the other, none is lost.

    Raises:
        FilterTooLongError: more than 4096 instructions, or more memory than net.core.optmem_max allows.
        CaptureError: the kernel refuses the program for another reason.
    """
    if len(program) > MAX_INSTRUCTIONS:
        raise FilterTooLongError(_too_long(program, f"the kernel takes at most {MAX_INSTRUCTIONS}"))
    try:
        with sock_fprog(program) as fprog:
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
    except OSError as error:
        if error.errno == errno.ENOMEM:
            limit = _OPTMEM_MAX.read_text().strip() if _OPTMEM_MAX.exists() else "unknown"
            reason = f"net.core.optmem_max is {limit}; raise it with sysctl"
            raise FilterTooLongError(_too_long(program, reason)) from None
        raise CaptureError(f"the kernel refuses the packet filter: {error.strerror}") from error


@contextmanager
def sock_fprog(program: Program) -> Iterator[bytes]:
    """Hold the program in memory, and give the `struct sock_fprog` that points there."""
    array = ctypes.create_string_buffer(program.pack())
    yield struct.pack("@HP", len(program), ctypes.addressof(array))
    del array


def constant(value: int) -> Program:
    """Return the program that returns `value` for every packet."""
    return Program((Instruction(RET | K, 0, 0, value),))


DROP_ALL = constant(0)


def _too_long(program: Program, reason: str) -> str:
    return (
        f"the packet filter is too long: {len(program)} instructions, and {reason}; "
        "or choose fewer --host, or larger networks"
    )


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """A place in a program to jump to, forward only. `name` is for the reader of an error."""

    name: str


@dataclass(frozen=True, slots=True)
class _Step:
    code: int
    k: int = 0
    true: Label | None = None
    """Where a jump goes; None for the next instruction."""
    false: Label | None = None


class Assembler:
    """Collects instructions and labels in order; `assemble()` resolves the jumps."""

    def __init__(self) -> None:
        self._steps: list[_Step | Label] = []

    def emit(self, code: int, k: int = 0) -> None:
        """Add an instruction that does not jump."""
        self._steps.append(_Step(code, k & 0xFFFFFFFF))

    def jump_if(
        self, test: int, k: int, true: Label | None = None, false: Label | None = None, source: int = K
    ) -> None:
        """Compare A with `k` (or X) by `test` (JEQ, JGT, JGE, JSET); a label left out is what follows."""
        self._steps.append(_Step(JMP | test | source, k & 0xFFFFFFFF, true, false))

    def jump(self, to: Label) -> None:
        """Go on at the label."""
        self._steps.append(_Step(JMP | JA, 0, to))

    def place(self, label: Label) -> None:
        """Put the label here."""
        self._steps.append(label)

    def keep(self, size_bytes: int) -> None:
        """Return: keep so many bytes, 0 drops the packet."""
        self.emit(RET | K, size_bytes)

    def append(self, program: Program, *, kept: Label, dropped: Label) -> None:
        """Add a whole program whose returns go on at `kept` (anything but 0) or `dropped`."""
        starts = [Label(f"instruction {i}") for i in range(len(program))]
        for position, step in enumerate(program.instructions):
            self.place(starts[position])
            after = position + 1
            if step.code == RET | K:
                self.jump(kept if step.k else dropped)
            elif step.code == RET | RET_A:
                self.jump_if(JEQ, 0, dropped, kept)
            elif step.code == JMP | JA:
                self.jump(starts[after + step.k])
            elif step.code & 0x07 == JMP:
                self._steps.append(_Step(step.code, step.k, starts[after + step.jt], starts[after + step.jf]))
            else:
                self._steps.append(_Step(step.code, step.k))

    def assemble(self) -> Program:
        """Resolve every jump.

        Works from the last instruction to the first, so that the distance of every label is known when a
        jump to it is met. Where it is out of reach, a `ja` is put right behind that conditional jump, and
        serves all earlier jumps to the same label that reach it.
        """
        done: list[Instruction] = []  # the last instruction first
        remaining: dict[Label, int] = {}  # how many instructions follow the label, or a `ja` to it

        def distance(label: Label) -> int:
            try:
                return len(done) - remaining[label]
            except KeyError:
                raise ValueError(f"a jump back, or to a label never placed: {label.name}") from None

        def bring_within_reach(label: Label) -> None:
            if distance(label) >= _REACH:  # one less than it can: the other branch may put a `ja` as well
                done.append(Instruction(JMP | JA, 0, 0, distance(label)))
                remaining[label] = len(done)

        for step in reversed(self._steps):
            if isinstance(step, Label):
                remaining[step] = len(done)
                continue
            if step.code & 0x07 != JMP:
                done.append(Instruction(step.code, 0, 0, step.k))
            elif step.code == JMP | JA and step.true is not None:
                done.append(Instruction(step.code, 0, 0, distance(step.true)))
            else:
                following = Label("next")
                remaining[following] = len(done)
                true, false = step.true or following, step.false or following
                bring_within_reach(true)
                bring_within_reach(false)
                done.append(Instruction(step.code, distance(true), distance(false), step.k))
        return Program(tuple(reversed(done)))


def emit_search(assembler: Assembler, values: Iterable[int], found: Label, missing: Label) -> None:
    """Look for A among the values: binary search down to a few, then one compare each."""
    _search(assembler, sorted(set(values)), found, missing)


def _search(assembler: Assembler, values: list[int], found: Label, missing: Label) -> None:
    if len(values) > 6:
        middle = len(values) // 2
        upper = Label(f"from {values[middle]} on")
        assembler.jump_if(JGE, values[middle], upper)
        _search(assembler, values[:middle], found, missing)
        assembler.place(upper)
        _search(assembler, values[middle:], found, missing)
        return
    if not values:
        assembler.jump(missing)
        return
    *others, last = values
    for value in others:
        assembler.jump_if(JEQ, value, found)
    assembler.jump_if(JEQ, last, found, missing)
