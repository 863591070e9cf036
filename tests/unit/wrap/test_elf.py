import random
import struct
import sys
from pathlib import Path

import pytest

from podcam.wrap.elf import bound_to, is_elf, without_paths

PROGRAM = Path(sys.executable).resolve().read_bytes()
LOADER, LIBRARIES = "/a/folder/lib/ld.so", "/a/folder/lib"


def headers(content: bytes) -> list[tuple[int, ...]]:
    (at,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    return [struct.unpack_from("<IIQQQQQQ", content, at + n * size) for n in range(count)]


def dynamic(content: bytes) -> dict[int, int]:
    (header,) = (each for each in headers(content) if each[0] == 2)
    table = content[header[2] : header[2] + header[5]]
    return dict(struct.iter_unpack("<qQ", table))


def at_address(content: bytes, address: int) -> int:
    for kind, _, offset, start, _, length, *_ in headers(content):
        if kind == 1 and start <= address < start + length:
            return offset + address - start
    raise AssertionError(f"{address:#x} is not loaded")


def text_at(content: bytes, offset: int) -> str:
    return content[offset : content.index(b"\0", offset)].decode()


def test_a_program_is_bound_to_its_loader_and_libraries() -> None:
    bound = bound_to(PROGRAM, LOADER, LIBRARIES)
    (interpreter,) = (each for each in headers(bound) if each[0] == 3)
    assert text_at(bound, interpreter[2]) == LOADER
    tags = dynamic(bound)
    strings = at_address(bound, tags[5])
    assert text_at(bound, strings + tags[15]) == LIBRARIES
    assert 29 not in tags
    assert tags[10] == len(LIBRARIES) + 1 + dynamic(PROGRAM)[10]


def test_what_is_loaded_stays_in_the_order_of_its_addresses_and_in_step_with_pages() -> None:
    loaded = [each for each in headers(bound_to(PROGRAM, LOADER, LIBRARIES)) if each[0] == 1]
    assert len(loaded) == 1 + sum(each[0] == 1 for each in headers(PROGRAM))
    assert [each[3] for each in loaded] == sorted(each[3] for each in loaded)
    assert all(each[2] % each[7] == each[3] % each[7] for each in loaded)


def test_libraries_lose_paths_of_their_own() -> None:
    bound = bound_to(PROGRAM, LOADER, LIBRARIES)
    freed = without_paths(bound)
    assert set(dynamic(bound)) - set(dynamic(freed)) == {15}
    assert len(freed) == len(bound)


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(100)])
def test_what_is_no_such_file_is_refused(content: bytes) -> None:
    assert not is_elf(content)
    with pytest.raises(ValueError, match="not an ELF file"):
        bound_to(content, LOADER, LIBRARIES)


def test_damage_raises_nothing_else() -> None:
    dice = random.Random(5)
    for _ in range(300):
        damaged = bytearray(PROGRAM[: dice.choice([len(PROGRAM), dice.randrange(64, len(PROGRAM))])])
        for _ in range(4):
            damaged[dice.randrange(6, min(1024, len(damaged)))] = dice.randrange(256)
        for change in (without_paths, lambda content: bound_to(content, LOADER, LIBRARIES)):
            try:
                change(bytes(damaged))
            except (ValueError, struct.error):
                continue
