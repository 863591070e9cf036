"""Names are followed through the DNS answers that a point receives."""

import struct
from ipaddress import ip_address

import pytest

from podcam.trigger import FollowedNames

Record = tuple[str, str]


def name(text: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in text.split(".")) + b"\0"


def answer(question: str, *records: Record, code: int = 0, kind: int = 1) -> bytes:
    """Each record is a name, and an address or the name that it is an alias of."""
    body = name(question) + struct.pack(">HH", kind, 1)
    for owner, value in records:
        try:
            data = ip_address(value).packed
            record_type = 1 if len(data) == 4 else 28
        except ValueError:
            data, record_type = name(value), 5
        body += name(owner) + struct.pack(">HHIH", record_type, 1, 60, len(data)) + data
    return struct.pack(">HHHHHH", 7, 0x8180 | code, 1, len(records), 0, 0) + body


def test_addresses_of_both_families_are_learnt_once() -> None:
    names = FollowedNames(["db.example"])
    assert names.learn(answer("db.example", ("db.example", "10.0.0.2")), 1) == {"10.0.0.2"}
    assert names.learn(answer("DB.example", ("DB.example", "10.0.0.2")), 2) == set()
    assert names.learn(answer("db.example", ("db.example", "fd00::2"), kind=28), 3) == {"fd00::2"}
    assert names.addresses == {"10.0.0.2", "fd00::2"}
    assert names.name_of("fd00::2") == "db.example"
    assert names.name_of("10.0.0.3") is None


def test_other_names_are_passed_over() -> None:
    names = FollowedNames(["db.example"])
    assert names.learn(answer("web.example", ("web.example", "10.0.0.9")), 1) == set()
    assert names.learn(answer("db.example", ("elsewhere.example", "10.0.0.9")), 1) == set()


def test_aliases_are_followed_in_one_answer_and_over_several() -> None:
    names = FollowedNames(["db.example"])
    chain = answer(
        "db.example",
        ("db.example", "proxy.cloud.example"),
        ("proxy.cloud.example", "lb-7.cloud.example"),
        ("lb-7.cloud.example", "10.0.0.2"),
    )
    assert names.learn(chain, 1) == {"10.0.0.2"}
    later = answer("lb-7.cloud.example", ("lb-7.cloud.example", "10.0.0.3"))
    assert names.learn(later, 2) == {"10.0.0.3"}
    assert names.name_of("10.0.0.3") == "db.example"


@pytest.mark.parametrize(
    ("typed", "search", "question", "followed"),
    [
        ("db", None, "db.shop.svc.cluster.local", True),
        ("db", None, "db.corp.example", True),
        ("db", None, "db2.corp.example", False),
        ("db.shop", None, "db.shop.svc.cluster.local", True),
        ("db.example", None, "db.example.org", False),
        ("db.", None, "db", True),
        ("db", ["shop.svc.cluster.local"], "db.shop.svc.cluster.local", True),
        ("db", ["shop.svc.cluster.local"], "db.corp.example", False),
    ],
)
def test_search_domains(typed: str, search: list[str] | None, question: str, followed: bool) -> None:
    names = FollowedNames([typed], search)
    assert bool(names.learn(answer(question, (question, "10.0.0.2")), 1)) is followed


def test_old_addresses_stay_until_they_are_forgotten() -> None:
    names = FollowedNames(["db"])
    names.learn(answer("db", ("db", "10.0.0.2")), 10)
    names.learn(answer("db", ("db", "10.0.0.3")), 20)
    assert names.addresses == {"10.0.0.2", "10.0.0.3"}
    assert names.forget(15) == {"10.0.0.2"}
    assert names.addresses == {"10.0.0.3"}


def test_dozens_of_addresses_and_own_lookups() -> None:
    names = FollowedNames(["db"])
    many = [f"10.0.1.{number}" for number in range(60)]
    assert names.learn(answer("db", *[("db", address) for address in many]), 1) == set(many)
    assert names.add("db", ["10.0.1.5", "10.0.2.1"], 2) == {"10.0.2.1"}


def test_memory_is_bounded() -> None:
    names = FollowedNames(["db"])
    for number in range(5_000):
        names.add("db", [f"10.{number >> 8}.{number & 255}.1"], number)
        names.learn(answer("db", ("db", f"alias-{number}")), number)
    assert len(names.addresses) == 4_096
    assert "10.19.135.1" in names.addresses
    assert "10.0.0.1" not in names.addresses
