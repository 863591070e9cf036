"""The wire detector on whatever arrives: nothing raises, memory is bounded, strangers do not matter."""

import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

import frames
from podcam.model.failure import Failure
from podcam.model.verdict import FailureClass
from podcam.trigger import Detector, FollowedNames, Policy
from podcam.wire import dns, ip
from wire_scene import ACK, FIN, RST, START_NS, SYN, Scene, segment

ALL = Policy(classes=frozenset(FailureClass), max_connections=64, max_starting=16, max_servers=8)
HOSTS = ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"]
STEP_NS = 100_000_000

seqs = st.sampled_from([0, 1, 83, 1000, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
segments = st.builds(
    lambda version, ends, flags, seq, ack, payload: segment(
        (HOSTS[version + ends[0]], ends[1]), (HOSTS[version + ends[2]], ends[3]), flags, seq, ack, payload
    ),
    st.sampled_from([0, 2]),
    st.tuples(
        st.integers(0, 1), st.sampled_from([53, 4000, 5432]), st.integers(0, 1), st.sampled_from([4000, 5432])
    ),
    st.sampled_from([SYN, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN, SYN | FIN | RST | ACK]),
    seqs,
    seqs,
    st.integers(0, 1460),
)
icmp_errors = st.builds(
    lambda quoted, kind, cut: frames.ipv4(frames.icmp(kind, 1, quoted[:cut]), 1),
    segments,
    st.integers(0, 15),
    st.integers(0, 60),
)
packets = segments | icmp_errors | st.binary(max_size=80)
headed = st.tuples(st.sampled_from([b"\x45", b"\x46", b"\x60"]), st.binary(max_size=120)).map(b"".join)


@given(st.lists(st.tuples(packets | headed, st.integers(-2, 60)), max_size=60))
def test_nothing_that_arrives_raises(arriving: list[tuple[bytes, int]]) -> None:
    detector = Detector(START_NS, ALL)
    now_ns = START_NS
    for packet, steps in arriving:
        now_ns += steps * STEP_NS
        detector.feed(now_ns, packet)
        for failure in detector.tick(now_ns):
            assert failure.sentence()
    for _ in range(50):
        now_ns += STEP_NS
        detector.tick(now_ns)


@given(st.lists(packets | headed, min_size=1, max_size=40), st.integers(0, 80))
def test_packets_fed_together_are_told_as_one_by_one(arriving: list[bytes], offset: int) -> None:
    stride = offset + 128
    together = Detector(START_NS, ALL)
    frames_of_all = b"".join((bytes(offset) + packet[:128]).ljust(stride, b"\xee") for packet in arriving)
    lengths = [min(len(packet), 128) for packet in arriving]
    together.feed_all([START_NS] * len(arriving), lengths, memoryview(frames_of_all), stride, offset)
    alone = Detector(START_NS, ALL)
    for packet in arriving:
        alone.feed(START_NS, packet[:128])
    later = [START_NS + step * STEP_NS for step in range(1, 60)]
    assert [together.tick(now_ns) for now_ns in later] == [alone.tick(now_ns) for now_ns in later]
    assert together.connections == alone.connections


@given(st.binary(max_size=600), st.binary(max_size=100))
def test_no_dns_message_raises(body: bytes, question: bytes) -> None:
    names = FollowedNames(["db"])
    for message in (body, bytes.fromhex("000781800001000300000000") + question + body):
        parsed = dns.parse_answer(message)
        assert parsed is None or isinstance(parsed, dns.Answer | dns.Malformed)
        names.learn(message, START_NS)


@given(headed | st.binary(max_size=120), st.integers(0, 130))
def test_no_ip_packet_raises(packet: bytes, start: int) -> None:
    found = ip.transport(packet, start)
    if found is not None:
        assert start + 20 <= found.offset
        ip.quoted_by_icmp_error(packet, found)


@given(st.lists(segments, min_size=1, max_size=40), st.data())
def test_order_between_connections_does_not_matter(of_one: list[bytes], data: st.DataObject) -> None:
    """Strangers in between change nothing in what is told of a connection."""
    told = _told(of_one)
    mixed: list[bytes] = []
    for packet in of_one:
        mixed.extend(data.draw(st.lists(st.sampled_from(_STRANGERS), max_size=2)))
        mixed.append(packet)
    strangers = {"192.0.2.1", "192.0.2.2"}
    assert [failure for failure in _told(mixed) if failure.client.ip not in strangers] == told


_STRANGERS = [
    segment(("192.0.2.1", 7000), ("192.0.2.2", 7001), SYN, 1, 0),
    segment(("192.0.2.2", 7001), ("192.0.2.1", 7000), SYN | ACK, 9, 2),
    segment(("192.0.2.2", 7001), ("192.0.2.1", 7000), RST | ACK, 10, 85),
    segment(("192.0.2.1", 7000), ("192.0.2.2", 7001), FIN | ACK, 85, 10),
]


def _told(arriving: Sequence[bytes]) -> list[Failure]:
    detector = Detector(START_NS, Policy(classes=frozenset(FailureClass)))
    failures = []
    for packet in arriving:
        detector.feed(START_NS, packet)
    for step in range(1, 60):
        failures += detector.tick(START_NS + step * STEP_NS)
    return failures


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_memory_is_bounded_whatever_is_sent(seed: int) -> None:
    choose = random.Random(seed)
    detector = Detector(START_NS, ALL)
    now_ns = START_NS
    for _ in range(3_000):
        now_ns += choose.randrange(20_000_000)
        client = (f"10.1.{choose.randrange(256)}.{choose.randrange(256)}", choose.randrange(1, 65536))
        server = (f"10.2.0.{choose.randrange(256)}", choose.choice([443, 5432]))
        flags = choose.choice([SYN, SYN, SYN | ACK, RST | ACK, FIN | ACK])
        ends = (server, client) if flags == SYN | ACK else (client, server)
        detector.feed(now_ns, segment(*ends, flags, choose.randrange(2**32), choose.randrange(2**32)))
        detector.tick(now_ns)
        assert len(detector._table.starting) <= ALL.max_starting
        assert detector._table._open <= ALL.max_connections
    assert len(detector.counts) <= ALL.max_servers


@given(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.integers(1, 100_000),
    st.integers(0, 16_383),
    st.booleans(),
)
def test_counts_are_exact_wherever_the_sequence_numbers_begin(
    isn: tuple[int, int], client: int, server: int, bare: bool
) -> None:
    scene = Scene()
    scene.connect(isn=isn).client_sends(client).server_sends(server).server_resets(bare=bare)
    assert scene.wait() == ["reset-early by server"]
    assert scene.last[0].client_acked == (None if bare else client)
    assert scene.last[0].server_bytes == server


sizes = st.tuples(st.integers(2, 5_000), st.integers(2, 5_000))


@given(st.lists(sizes, min_size=5, max_size=20), sizes)
def test_a_race_to_the_fin_is_no_failure_once_as_much_was_said(
    good: list[tuple[int, int]], last: tuple[int, int]
) -> None:
    scene = Scene()
    for asked, answered in good:
        scene.connect().client_sends(asked).server_sends(answered).after(0.01).client_closes().server_closes()
    scene.connect().client_sends(last[0]).server_sends(last[1]).after(0.01).server_closes().client_closes()
    smaller = [size for size in good[-8:] if size[0] <= last[0] and size[1] <= last[1]]
    assert scene.wait() == ([] if len(smaller) >= 2 else ["closed-early by server"])
