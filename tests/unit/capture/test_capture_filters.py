import random
import socket
from pathlib import Path

import pytest

from cbpf import Skb, run
from podcam.capture import FilterTooLongError, Program, attach
from podcam.capture.filters import (
    ABS,
    JEQ,
    JGT,
    LD,
    MAX_INSTRUCTIONS,
    RET,
    Assembler,
    B,
    K,
    Label,
    constant,
    emit_search,
)


def search_program(values: list[int]) -> Program:
    """Keep 1 byte of a packet whose first four bytes are one of the values."""
    code, found, missing = Assembler(), Label("found"), Label("missing")
    code.emit(LD | ABS, 0)
    emit_search(code, values, found, missing)
    code.place(found)
    code.keep(1)
    code.place(missing)
    code.keep(0)
    return code.assemble()


@pytest.mark.parametrize("count", [0, 1, 6, 7, 100, 1500])
def test_search_finds_what_is_there_and_nothing_else(count: int) -> None:
    generator = random.Random(count)
    values = [generator.randrange(1 << 32) for _ in range(count)]
    program = search_program(values)
    for value in values:
        assert run(program, Skb(value.to_bytes(4))) == 1
    others = (
        {0, (1 << 32) - 1} | {value ^ 1 for value in values} | {value + 1 & 0xFFFFFFFF for value in values}
    )
    for value in others - set(values):
        assert run(program, Skb(value.to_bytes(4))) == 0


def test_far_labels_are_reached_from_everywhere() -> None:
    code, far, farther = Assembler(), Label("far"), Label("farther")
    code.emit(LD | ABS | B, 0)
    for value in range(250):
        for _ in range(4):  # so that neither label is near
            code.jump_if(JGT, 254, farther)
        code.jump_if(JEQ, value, far)
    code.keep(1)
    code.place(far)
    code.keep(2)
    code.place(farther)
    code.keep(3)
    program = code.assemble()
    assert {run(program, Skb(bytes((value,)))) for value in range(250)} == {2}
    assert run(program, Skb(bytes((252,)))) == 1
    assert run(program, Skb(bytes((255,)))) == 3
    assert len(program) < 5 * 250 + 30  # jumps in between are shared


def test_a_jump_back_is_refused() -> None:
    code, back = Assembler(), Label("back")
    code.place(back)
    code.jump(back)
    with pytest.raises(ValueError, match="back"):
        code.assemble()


def test_an_appended_program_goes_on_at_the_labels() -> None:
    code, kept, dropped = Assembler(), Label("kept"), Label("dropped")
    code.append(search_program([7, 9]), kept=kept, dropped=dropped)
    code.place(dropped)
    code.keep(10)
    code.place(kept)
    code.keep(20)
    program = code.assemble()
    assert [run(program, Skb(value.to_bytes(4))) for value in (7, 8, 9)] == [20, 10, 20]


def test_packed_programs_read_back() -> None:
    program = search_program([1, 2, 3])
    assert Program.unpack(program.pack()) == program


@pytest.fixture
def datagrams() -> "list[socket.socket]":
    """Two connected sockets; a filter on the second decides what arrives, from the UDP header on."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(receiver.getsockname())
    receiver.settimeout(5)
    return [sender, receiver]


def test_the_kernel_runs_an_attached_program_and_its_successor(datagrams: list[socket.socket]) -> None:
    sender, receiver = datagrams
    with sender, receiver:
        attach(receiver, constant(8 + 3))
        sender.send(b"shortened")
        assert receiver.recv(100) == b"sho"
        attach(receiver, constant(0))
        sender.send(b"dropped")
        attach(receiver, constant(100))
        sender.send(b"whole")
        assert receiver.recv(100) == b"whole"


def test_a_program_too_long_is_refused_and_the_old_one_stays(datagrams: list[socket.socket]) -> None:
    sender, receiver = datagrams
    too_long = Program(constant(0).instructions * (MAX_INSTRUCTIONS + 1))
    with sender, receiver:
        attach(receiver, constant(8 + 3))
        with pytest.raises(FilterTooLongError, match="4097 instructions"):
            attach(receiver, too_long)
        sender.send(b"shortened")
        assert receiver.recv(100) == b"sho"


def test_what_exceeds_the_memory_for_options_is_refused_with_the_limit() -> None:
    code = Assembler()
    for _ in range(MAX_INSTRUCTIONS - 1):
        code.emit(LD | ABS, 0)
    code.emit(RET | K, 0)
    program = code.assemble()
    limit = int(Path("/proc/sys/net/core/optmem_max").read_text())
    refusal = pytest.raises(FilterTooLongError, match=f"optmem_max is {limit}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, refusal:
        attach(sock, program)
