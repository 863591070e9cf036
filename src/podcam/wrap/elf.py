"""A program that finds its loader and its libraries in a folder of its own: ELF files, rewritten.

What patchelf(1) does, as far as a bundle needs it: the interpreter and DT_RPATH of a program. Both stand in a
new segment at the end of the file; its program header takes the place of a note's, which nobody reads.
System V ABI (gABI 4.1), chapters 4 and 5; 64 bits, little-endian, as amd64 and arm64 are. Pure.

DT_RPATH, unlike DT_RUNPATH, holds for the libraries of libraries too, and comes before LD_LIBRARY_PATH, which
is the app's.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

_MAGIC: Final = b"\x7fELF\x02\x01"
"""ELF, of 64 bits, little-endian."""
_PAGE_BYTES: Final = 1 << 16
"""The largest of both architectures."""
_LOAD, _DYNAMIC, _INTERP, _NOTE = 1, 2, 3, 4
_READ_AND_WRITE: Final = 6
_DT_NULL, _DT_STRTAB, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH = 0, 5, 10, 15, 29

_PROGRAM_HEADERS_AT = struct.Struct("<Q")
_PROGRAM_HEADER_SIZES = struct.Struct("<HH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_DYNAMIC_ENTRY = struct.Struct("<qQ")


@dataclass(frozen=True, slots=True)
class _ProgramHeader:
    kind: int
    flags: int
    offset: int
    address: int
    physical: int
    file_bytes: int
    memory_bytes: int
    alignment: int


def is_elf(content: bytes) -> bool:
    """Whether this is a file that `without_paths` and `bound_to` can read."""
    return content.startswith(_MAGIC)


def without_paths(content: bytes) -> bytes:
    """A library that looks for its own libraries where the program says.

    Raises:
        ValueError, struct.error: it is damaged.
    """
    changed = bytearray(content)
    for header in _program_headers(content):
        if header.kind == _DYNAMIC:
            kept = [entry for entry in _dynamic(content, header) if entry[0] not in {_DT_RPATH, _DT_RUNPATH}]
            entries = b"".join(_DYNAMIC_ENTRY.pack(*entry) for entry in kept)
            changed[header.offset : header.offset + header.file_bytes] = entries.ljust(
                header.file_bytes, b"\0"
            )
    return bytes(changed)


def bound_to(content: bytes, loader: str, libraries: str) -> bytes:
    """A program that is started by this loader, and finds its libraries in this folder.

    Raises:
        ValueError, struct.error: it is damaged, has no loader, or no note.
    """
    headers = _program_headers(content)
    dynamic = _only(headers, _DYNAMIC)
    interpreter, note = _only(headers, _INTERP), _only(headers, _NOTE)
    entries = dict(_dynamic(content, dynamic))
    if not {_DT_STRTAB, _DT_STRSZ} <= entries.keys():
        raise ValueError("its dynamic section names no strings")
    repeated = [e for e in _dynamic(content, dynamic) if e[0] not in {_DT_RPATH, _DT_RUNPATH}]

    strings_at = _offset_of(headers, entries[_DT_STRTAB])
    strings = content[strings_at : strings_at + entries[_DT_STRSZ]]
    offset = _rounded(len(content), _PAGE_BYTES)
    address = _rounded(max(h.address + h.memory_bytes for h in headers if h.kind == _LOAD), _PAGE_BYTES)

    interpreter_bytes = loader.encode() + b"\0"
    strings_begin = _rounded(len(interpreter_bytes), 16)
    new_strings = strings + libraries.encode() + b"\0"
    dynamic_begin = _rounded(strings_begin + len(new_strings), 16)
    table = [(_DT_RPATH, len(strings))]
    for tag, value in repeated:
        table.append(
            (tag, {_DT_STRTAB: address + strings_begin, _DT_STRSZ: len(new_strings)}.get(tag, value))
        )
    dynamic_bytes = b"".join(_DYNAMIC_ENTRY.pack(*entry) for entry in [*table, (_DT_NULL, 0)])
    segment = interpreter_bytes.ljust(strings_begin, b"\0") + new_strings
    segment = segment.ljust(dynamic_begin, b"\0") + dynamic_bytes

    def placed(header: _ProgramHeader, at: int, length: int) -> _ProgramHeader:
        return replace(
            header,
            offset=offset + at,
            address=address + at,
            physical=address + at,
            file_bytes=length,
            memory_bytes=length,
        )

    whole = placed(note, 0, len(segment))
    headers[headers.index(note)] = replace(whole, kind=_LOAD, flags=_READ_AND_WRITE, alignment=_PAGE_BYTES)
    headers[headers.index(dynamic)] = placed(dynamic, dynamic_begin, len(dynamic_bytes))
    headers[headers.index(interpreter)] = placed(interpreter, 0, len(interpreter_bytes))
    changed = bytearray(content.ljust(offset, b"\0") + segment)
    at = _PROGRAM_HEADERS_AT.unpack_from(content, 32)[0]
    for number, header in enumerate(headers):
        _PROGRAM_HEADER.pack_into(changed, at + number * _PROGRAM_HEADER.size, *_fields(header))
    return bytes(changed)


def _program_headers(content: bytes) -> list[_ProgramHeader]:
    if not is_elf(content):
        raise ValueError("not an ELF file of 64 bits, little-endian")
    (at,) = _PROGRAM_HEADERS_AT.unpack_from(content, 32)
    size, count = _PROGRAM_HEADER_SIZES.unpack_from(content, 54)
    if size != _PROGRAM_HEADER.size:
        raise ValueError(f"program headers of {size} bytes")
    headers = [_ProgramHeader(*_PROGRAM_HEADER.unpack_from(content, at + n * size)) for n in range(count)]
    if any(header.offset + header.file_bytes > len(content) for header in headers):
        raise ValueError("a segment reaches beyond its end")
    return headers


def _dynamic(content: bytes, header: _ProgramHeader) -> Iterator[tuple[int, int]]:
    """Tags and values, up to the one that ends them."""
    table = content[header.offset : header.offset + header.file_bytes]
    for tag, value in _DYNAMIC_ENTRY.iter_unpack(table[: len(table) // 16 * 16]):
        if tag == _DT_NULL:
            return
        yield tag, value


def _only(headers: list[_ProgramHeader], kind: int) -> _ProgramHeader:
    """The last of its kind: the segments that are loaded have to stay in the order of their addresses."""
    found = [header for header in headers if header.kind == kind]
    if not found:
        raise ValueError(f"no program header of kind {kind}")
    return found[-1]


def _offset_of(headers: list[_ProgramHeader], address: int) -> int:
    for header in headers:
        if header.kind == _LOAD and header.address <= address < header.address + header.file_bytes:
            return header.offset + address - header.address
    raise ValueError(f"address {address:#x} is in no segment")


def _fields(header: _ProgramHeader) -> tuple[int, ...]:
    return (
        header.kind,
        header.flags,
        header.offset,
        header.address,
        header.physical,
        header.file_bytes,
        header.memory_bytes,
        header.alignment,
    )


def _rounded(number: int, step: int) -> int:
    return -(-number // step) * step
