"""Whatever packets a capture holds, a connection gets one verdict, and its evidence lies in the capture."""

from hypothesis import given
from hypothesis import strategies as st

from conversations import CLIENT, SERVER, START_NS, WELCOME, message, startup
from podcam.diagnose import Context, judge
from podcam.diagnose.between import Place, Seen, compare
from podcam.model.connection import Conversation, IcmpError, Packet, TcpEvent
from podcam.model.point import Window
from podcam.model.verdict import Fault, Protocol

said = [b"", b"", startup(), WELCOME, message(b"Q", b"select 1\0"), b"N", b"S", b"x" * 40]
payloads = st.sampled_from(said)
errors = st.builds(
    IcmpError, st.sampled_from([4, 6]), st.integers(0, 12), st.integers(0, 13), st.just("10.9.9.9")
)
icmp_errors = st.one_of(st.none(), st.none(), errors)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """Packets with any flags and nearby sequence numbers, in no sensible order."""
    packets = []
    time_ns = START_NS
    for frame in range(1, draw(st.integers(1, 12)) + 1):
        time_ns += draw(st.sampled_from([1_000, 1_000_000, 2_000_000_000]))
        payload = draw(payloads)
        cut = draw(st.sampled_from([0, 0, 5]))
        packets.append(
            Packet(
                frame=frame,
                time_ns=time_ns,
                from_client=draw(st.booleans()),
                flags=draw(st.sampled_from([0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14, 0x00, 0x13])),
                seq=draw(st.sampled_from([999, 1000, 1001, 1054, 9000, 0xFFFFFFFF])),
                ack=draw(st.sampled_from([0, 1000, 1001, 1054, 9001])),
                window=draw(st.sampled_from([0, 64240])),
                ttl=draw(st.sampled_from([49, 64])),
                ip_id=draw(st.sampled_from([0, 1, 2])),
                payload_bytes=len(payload),
                payload=payload[: len(payload) - cut] if payload else b"",
                events=draw(st.sampled_from([TcpEvent(0), TcpEvent.RETRANSMISSION, TcpEvent.REUSED_PORTS])),
                icmp=draw(icmp_errors),
            )
        )
    return Conversation(
        id=0,
        capture=0,
        point="web-0",
        tcp_stream=0,
        client=CLIENT,
        server=SERVER,
        packets=tuple(packets),
        syn_seen=draw(st.booleans()),
        capture_first_ns=START_NS,
        capture_last_ns=time_ns,
        capture_dropped=draw(st.booleans()),
    )


contexts = st.builds(
    Context,
    winner=st.sampled_from([None, SERVER]),
    protocol=st.sampled_from([Protocol.UNKNOWN, Protocol.POSTGRESQL]),
    greets=st.booleans(),
    resets_by_habit=st.booleans(),
)


@given(conversations(), contexts)
def test_every_connection_gets_a_verdict_with_evidence_from_the_capture(
    conversation: Conversation, context: Context
) -> None:
    verdict = judge(conversation, context)
    frames = {packet.frame: packet.time_ns for packet in conversation.packets}
    assert all(frames[evidence.frame] == evidence.time_ns for evidence in verdict.evidence)
    assert verdict.failed or verdict.fault is Fault.NONE
    assert verdict.evidence or not verdict.failed
    assert verdict.summary.endswith(".")


class Sides:
    """A connection as one point sees it; one that was opened, and of which all that is told arrives there."""

    def __init__(self, start_ns: int) -> None:
        self.start_ns = self.now_ns = start_ns
        self.packets: list[Packet] = []
        self.next = {True: 5_001, False: 2**32 - 10}  # the server's numbers come around
        self._put(True, 0x02, 5_000, 0)
        self._put(False, 0x12, 2**32 - 11, 0)

    def says(self, from_client: bool, length: int, largest: int, *, lost: bool = False) -> None:
        """Bytes, in segments of `largest` at most; `lost` ones were sent, but not seen here."""
        seq = self.next[from_client]
        self.next[from_client] = (seq + length) % 2**32
        self.now_ns += 1_000_000
        for start in range(0, 0 if lost else length, largest):
            size = min(largest, length - start)
            self._put(from_client, 0x18, (seq + start) % 2**32, size)

    def seen(self, called: str) -> Seen:
        recorded = Window(self.start_ns - 10**10, self.now_ns + 10**10)
        ours = sum(packet.from_client for packet in self.packets)
        conversation = Conversation(
            id=0,
            capture=0,
            point=called,
            tcp_stream=0,
            client=CLIENT,
            server=SERVER,
            packets=tuple(self.packets),
            syn_seen=True,
            capture_first_ns=recorded.start_ns,
            capture_last_ns=recorded.end_ns,
            capture_dropped=False,
            client_packets=ours,
            server_packets=len(self.packets) - ours,
        )
        return Seen(Place(called, recorded, 0), conversation, 5_000, 2**32 - 11)

    def _put(self, from_client: bool, flags: int, seq: int, size: int) -> None:
        self.packets.append(
            Packet(
                frame=len(self.packets) + 1,
                time_ns=self.now_ns,
                from_client=from_client,
                flags=flags,
                seq=seq,
                ack=0,
                window=512,
                ttl=64,
                ip_id=0,
                payload_bytes=size,
            )
        )


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 40)), min_size=1, max_size=12),
    st.sets(st.integers(0, 11)),
    st.integers(1, 40),
    st.integers(-(10**12), 10**12),
)
def test_two_points_tell_exactly_what_was_lost_between_them(
    said: list[tuple[bool, int]], lost: set[int], largest: int, clock_ns: int
) -> None:
    """However the segments are cut on the way, and however far the clocks are apart."""
    near, far = Sides(START_NS), Sides(START_NS + clock_ns)
    for at, (from_client, length) in enumerate(said):
        sender, receiver = (near, far) if from_client else (far, near)
        sender.says(from_client, length, length)
        receiver.says(from_client, length, largest, lost=at in lost)
    found = compare(near.seen("a"), far.seen("b"))
    missing = [length for at, (_, length) in enumerate(said) if at in lost]
    if not missing:
        assert found is None
    else:
        assert found is not None
        assert "never arrived" in found.sentence
        assert found.fault is Fault.NETWORK


@given(conversations(), conversations(), st.integers(0, 2**32 - 1))
def test_nothing_that_two_points_saw_raises(one: Conversation, other: Conversation, isn: int) -> None:
    recorded = Window(START_NS - 10**12, START_NS + 10**12)
    near, far = (Seen(Place(n, recorded, 0), talk, isn, 8_999) for n, talk in (("a", one), ("b", other)))
    found = compare(near, far)
    assert found is None or found.evidence
