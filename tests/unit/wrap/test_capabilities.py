import struct

import pytest

from podcam.wrap.capabilities import NET_RAW, parse_file_capability, parse_status

STATUS = """\
Name:\tapp
NoNewPrivs:\t1
CapInh:\t0000000000000000
CapPrm:\t0000000000002000
CapEff:\t0000000000000000
CapBnd:\t00000000a80425fb
CapAmb:\t0000000000000000
"""


def test_a_permitted_capability_is_not_yet_effective() -> None:
    found = parse_status(STATUS)
    assert found.is_permitted(NET_RAW)
    assert not found.is_effective(NET_RAW)
    assert not found.is_bounded(NET_RAW)
    assert found.no_new_privileges


def test_what_the_bounding_set_lacks_nobody_gets() -> None:
    assert parse_status(STATUS.replace("a80425fb", "a80405fb")).is_bounded(NET_RAW)


def test_a_status_without_capabilities_is_refused() -> None:
    with pytest.raises(KeyError):
        parse_status("Name:\tapp\n")


@pytest.mark.parametrize(
    "value",
    [
        struct.pack("<IIIII", 0x02000001, 1 << NET_RAW, 0, 0, 0),
        struct.pack("<IIIIII", 0x03000000, 1 << NET_RAW, 0, 0, 0, 1000),
        struct.pack("<III", 0x01000001, 1 << NET_RAW, 0),
    ],
    ids=["revision 2", "revision 3, of a user namespace", "revision 1"],
)
def test_file_capabilities_of_every_revision(value: bytes) -> None:
    assert parse_file_capability(value) == 1 << NET_RAW


def test_the_second_word_holds_the_higher_capabilities() -> None:
    assert parse_file_capability(struct.pack("<IIIII", 0x02000000, 0, 0, 1 << 6, 0)) == 1 << 38


@pytest.mark.parametrize("value", [b"", bytes(8), struct.pack("<IIIII", 0x04000000, 1, 0, 0, 0)])
def test_what_is_no_file_capability_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="capabilities"):
        parse_file_capability(value)
