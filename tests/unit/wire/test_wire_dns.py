"""DNS answers, as they are and as they should not be (RFC 1035)."""

import struct

import pytest

from podcam.wire import dns

QUESTION = b"\x02db\x07example\0" + struct.pack(">HH", 1, 1)


def message(records: bytes, *, count: int = 1, flags: int = 0x8180, questions: int = 1) -> bytes:
    return struct.pack(">HHHHHH", 7, flags, questions, count, 0, 0) + QUESTION + records


def record(name: bytes, kind: int, data: bytes) -> bytes:
    return name + struct.pack(">HHIH", kind, 1, 300, len(data)) + data


def test_compressed_names() -> None:
    alias = record(b"\xc0\x0c", dns.CNAME, b"\x04node\xc0\x0f")  # node.example
    at = 12 + len(QUESTION) + 12  # the alias' target
    address = record(bytes((0xC0, at)), dns.A, b"\x0a\0\0\x02")
    answer = dns.parse_answer(message(alias + address, count=2))
    assert answer == dns.Answer(
        7,
        "db.example",
        1,
        0,
        (dns.Alias("db.example", "node.example", 300), dns.Address("node.example", b"\x0a\0\0\x02", 300)),
    )


def test_other_records_are_passed_over() -> None:
    signed = record(b"\xc0\x0c", 46, b"signature") + record(b"\xc0\x0c", dns.AAAA, bytes(16))
    answer = dns.parse_answer(message(signed, count=2))
    assert isinstance(answer, dns.Answer)
    assert answer.records == (dns.Address("db.example", bytes(16), 300),)
    assert answer.malformed is None


def test_no_such_name() -> None:
    answer = dns.parse_answer(message(b"", count=0, flags=0x8183))
    assert isinstance(answer, dns.Answer)
    assert (answer.code, answer.records) == (3, ())


@pytest.mark.parametrize("settings", [{"flags": 0x0100}, {"questions": 0}, {"questions": 2}])
def test_what_answers_no_single_question_is_none(settings: dict[str, int]) -> None:
    assert dns.parse_answer(message(b"", **settings)) is None


@pytest.mark.parametrize(
    "name",
    [
        bytes((0xC0, 12 + len(QUESTION))),  # itself
        b"\x3f" + b"x" * 63 + bytes((0xC0, 12 + len(QUESTION))),  # grows with every turn
        b"\x80",
        b"\xff",
        b"\x05ab",
        b"",
    ],
)
def test_bad_names_end_the_reading(name: bytes) -> None:
    good = record(b"\xc0\x0c", dns.A, b"\x0a\0\0\x02")
    answer = dns.parse_answer(message(name, count=1))
    assert isinstance(answer, dns.Answer)
    assert isinstance(answer.malformed, dns.Malformed)
    answer = dns.parse_answer(message(good + name, count=2))
    assert isinstance(answer, dns.Answer)
    assert len(answer.records) == 1


def test_a_cut_answer_gives_what_is_there() -> None:
    whole = message(record(b"\xc0\x0c", dns.A, b"\x0a\0\0\x02") * 2, count=2)
    for length in range(len(whole)):
        answer = dns.parse_answer(whole[:length])
        if isinstance(answer, dns.Answer):
            assert len(answer.records) == max(0, (length - 12 - len(QUESTION)) // 16)
