"""Where the transport header lies (RFC 791, RFC 8200), and what ICMP errors quote."""

import pytest

import frames
from podcam.wire import ip


def test_plain_headers() -> None:
    segment = frames.tcp(1, 2, payload=b"abc")
    four = ip.transport(frames.ipv4(segment, 6))
    assert four == ip.Transport(ip.TCP, 20, 23, b"\x0a\0\0\1", b"\x0a\0\0\2")
    six = ip.transport(frames.ipv6(segment, 6))
    assert six is not None
    assert (six.protocol, six.offset, six.length) == (ip.TCP, 40, 23)
    assert ip.address_text(six.source) == "fd00::1"


def test_options_and_extension_headers() -> None:
    segment = frames.tcp(1, 2)
    four = ip.transport(frames.ipv4(segment, 6, options=3))
    assert four is not None
    assert (four.offset, four.length) == (32, 20)
    chain = frames.extension(frames.fragment_header(frames.extension(segment, 6, words=2), 60), 44)
    six = ip.transport(frames.ipv6(chain, 0))
    assert six is not None
    assert (six.protocol, six.offset, six.length) == (ip.TCP, 40 + 8 + 8 + 24, 20)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x45",
        b"\x10" * 60,
        frames.ipv4(b"", 6)[:19],
        b"\x44" + frames.ipv4(b"", 6)[1:],
        frames.ipv4(b"later", 6, fragment=3),
        frames.ipv6(frames.fragment_header(b"later", 6, offset=3), 44),
        frames.ipv6(b"", 6)[:39],
        frames.ipv6(b"\0" * 400, 0),
        frames.ipv6(b"\0\0", 0),
    ],
)
def test_what_has_no_transport_header(packet: bytes) -> None:
    assert ip.transport(packet) is None


def test_big_tcp_does_not_say_its_length() -> None:
    packet = bytearray(frames.ipv4(frames.tcp(1, 2), 6))
    packet[2:4] = b"\0\0"
    found = ip.transport(bytes(packet))
    assert found is not None
    assert found.length is None


@pytest.mark.parametrize(
    ("packet", "quotes"),
    [
        (frames.ipv4(frames.icmp(3, 1, b"quoted"), 1), True),
        (frames.ipv4(frames.icmp(3, 4, b"quoted"), 1), False),
        (frames.ipv4(frames.icmp(8, 0, b"quoted"), 1), False),
        (frames.ipv6(frames.icmp(1, 4, b"quoted"), 58), True),
        (frames.ipv6(frames.icmp(2, 0, b"quoted"), 58), False),
        (frames.ipv4(frames.icmp(3, 1)[:7], 1), False),
    ],
)
def test_icmp_errors(packet: bytes, quotes: bool) -> None:
    found = ip.transport(packet)
    assert found is not None
    offset = ip.quoted_by_icmp_error(packet, found)
    assert (offset is not None) is quotes
    if offset is not None:
        assert packet[offset:] == b"quoted"
