"""Whatever packets a capture holds, a connection gets one verdict, and its evidence lies in the capture."""

from hypothesis import given
from hypothesis import strategies as st

from conversations import CLIENT, SERVER, START_NS, WELCOME, message, startup
from podcam.diagnose import Context, judge
from podcam.model.connection import Conversation, IcmpError, Packet, TcpEvent
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
