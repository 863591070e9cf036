"""DNS messages (RFC 1035): the question and the addresses that answer it.

Enough of a parser to follow names: CNAME, A and AAAA records of the answer section.
"""

import struct
from dataclasses import dataclass

CNAME = 5
A = 1
AAAA = 28

_INTERNET = 1
_RESPONSE = 0x8000
_RESPONSE_CODE = 0x000F
_RECURSION_DESIRED = 0x0100
_EDNS0 = struct.pack(">BHHIH", 0, 41, 4096, 0, 0)
"""An OPT record: the root's name, the type, the size of answers, flags, no data."""

_HEADER = struct.Struct(">HHHHHH").unpack_from
_QUESTION = struct.Struct(">HH").unpack_from
_RECORD = struct.Struct(">HHIH").unpack_from

_MAX_POINTERS = 32
"""Compression pointers followed in one name: each goes back, so a loop needs more."""
_MAX_NAME_BYTES = 255
_MAX_RECORDS = 1024
"""An answer of 64 KB holds about 4,000 A records; nobody has that many addresses."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """The bytes at `offset` are not what RFC 1035 has there."""

    offset: int
    reason: str


@dataclass(frozen=True, slots=True)
class Alias:
    """A CNAME record: `name` is another name for `target`. Names are lower case, without the last dot."""

    name: str
    target: str
    seconds: int
    """Time to live."""


@dataclass(frozen=True, slots=True)
class Address:
    """An A or AAAA record; `address` has 4 or 16 bytes."""

    name: str
    address: bytes
    seconds: int
    """Time to live."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response to one question; `code` is its RCODE (0 no error, 2 server failure, 3 no such name)."""

    id: int
    name: str
    type: int
    code: int
    records: tuple[Alias | Address, ...]
    malformed: Malformed | None = None
    """Where reading had to stop; what comes before is in `records`."""


def question(identifier: int, name: str, kind: int) -> bytes:
    """A query for one name, recursion desired, ready for answers of 4 KB over UDP (EDNS0, RFC 6891).

    Raises:
        ValueError: it is no name of a host.
    """
    labels = [label.encode("idna") for label in name.rstrip(".").split(".")]
    if not all(0 < len(label) < 64 for label in labels) or sum(map(len, labels)) + len(labels) > 254:
        raise ValueError(f"{name!r} is no name of a host")
    head = struct.pack(">HHHHHH", identifier, _RECURSION_DESIRED, 1, 0, 0, 1)
    spelled = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return head + spelled + struct.pack(">HH", kind, _INTERNET) + _EDNS0


def parse_answer(message: bytes) -> Answer | Malformed | None:
    """Read a response; None for a query, or for a response that does not repeat exactly one question."""
    if len(message) < 12:
        return Malformed(0, "shorter than a header")
    identifier, flags, questions, answers, _, _ = _HEADER(message)
    if not flags & _RESPONSE or questions != 1:
        return None
    try:
        name, offset = _name(message, 12)
        kind, _ = _QUESTION(message, offset)
    except (_NameError, struct.error) as error:
        return Malformed(12, str(error))
    records, malformed = _records(message, offset + 4, min(answers, _MAX_RECORDS))
    return Answer(identifier, name, kind, flags & _RESPONSE_CODE, records, malformed)


class _NameError(Exception):
    """A name that is cut, too long, or points in circles."""


def _records(message: bytes, offset: int, count: int) -> tuple[tuple[Alias | Address, ...], Malformed | None]:
    records: list[Alias | Address] = []
    for _ in range(count):
        start = offset
        try:
            name, offset = _name(message, offset)
            kind, record_class, seconds, size = _RECORD(message, offset)
            offset += 10
            if offset + size > len(message):
                return tuple(records), Malformed(start, "record is cut")
            if record_class == _INTERNET:
                if kind == CNAME:
                    records.append(Alias(name, _name(message, offset)[0], seconds))
                elif (kind, size) in ((A, 4), (AAAA, 16)):
                    records.append(Address(name, message[offset : offset + size], seconds))
        except (_NameError, struct.error) as error:
            return tuple(records), Malformed(start, str(error))
        offset += size
    return tuple(records), None


def _name(message: bytes, offset: int) -> tuple[str, int]:
    """A name, and the offset behind it (RFC 1035, 4.1.4)."""
    labels: list[str] = []
    after: int | None = None
    pointers = length = 0
    while True:
        if offset >= len(message):
            raise _NameError("name is cut")
        size = message[offset]
        if size == 0:
            return ".".join(labels), after or offset + 1
        if size >= 0xC0:
            if offset + 1 >= len(message):
                raise _NameError("name is cut")
            after = after or offset + 2
            offset = (size & 0x3F) << 8 | message[offset + 1]
            pointers += 1
            if pointers > _MAX_POINTERS:
                raise _NameError("name points in circles")
            continue
        length += size + 1
        if size > 63 or length > _MAX_NAME_BYTES:
            raise _NameError("name is too long")
        label = message[offset + 1 : offset + 1 + size]
        if len(label) < size:
            raise _NameError("name is cut")
        labels.append(label.decode("ascii", "backslashreplace").lower())
        offset += 1 + size
