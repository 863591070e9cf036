"""What the tables say of connections, from conversations written down packet by packet."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from podcam.columns import CaptureColumns, open_captures
from podcam.columns.connections import ServerOverflow
from podcam.columns.layout import NEVER
from podcam.model.connection import TcpEvent
from podcam.model.point import Endpoint
from traces import (
    ACK,
    FIN,
    MS,
    PSH,
    RST,
    START_NS,
    SYN,
    Talk,
    Timed,
    enhanced,
    interface,
    option,
    section,
    write_pcap,
)


def read(tmp_path: Path, *packets: Iterable[Timed], max_connections: int = 1 << 20) -> CaptureColumns:
    together = sorted(packet for some in packets for packet in some)
    path = write_pcap(tmp_path / "a.pcap", together)
    return open_captures([path], max_connections=max_connections)[0]


def good_talk() -> Talk:
    talk = Talk().open()
    talk.client(PSH | ACK, b"hello, who are you?")
    talk.server(PSH | ACK, b"the server")
    talk.client(PSH | ACK, b"bye")
    talk.client(FIN | ACK)
    talk.server(FIN | ACK)
    talk.client(ACK)
    return talk


def test_a_whole_connection(tmp_path: Path) -> None:
    capture = read(tmp_path, good_talk().packets)
    table, client, server = (
        rows[0]
        for rows in (capture.connections.table, capture.connections.client, capture.connections.server)
    )
    assert capture.endpoints(0) == (Endpoint("10.0.0.1", 40000), Endpoint("10.0.0.2", 5432))
    assert (table["first_ns"], table["last_ns"]) == (START_NS, START_NS + 8 * MS)
    assert (table["packets"], client["packets"], server["packets"]) == (9, 6, 3)
    assert table["handshake_ns"] == 2 * MS
    assert table["completeness"] == 1 | 2 | 4 | 8 | 16
    assert (table["syn_seen"], table["reused"], table["previous"]) == (1, 0, NEVER)
    assert (client["bytes"], client["acked_bytes"], client["data_packets"]) == (22, 22, 2)
    assert (server["bytes"], server["acked_bytes"]) == (10, 10)
    assert (client["isn"], server["isn"]) == (1000, 9000)
    assert client["head"][: client["head_bytes"]].tobytes() == b"hello, who are y"
    assert client["tail"][: client["tail_bytes"]].tobytes() == b"bye"
    assert server["tail"].tobytes() == b"e server"
    assert (client["first_data_ns"], client["last_data_ns"]) == (START_NS + 3 * MS, START_NS + 5 * MS)
    assert (client["fin_ns"], server["fin_ns"]) == (START_NS + 6 * MS, START_NS + 7 * MS)
    assert (client["rst_ns"], server["rst_ns"]) == (NEVER, NEVER)
    assert client["flags"] == SYN | ACK | PSH | FIN


def test_the_conversation_has_every_packet(tmp_path: Path) -> None:
    conversation = read(tmp_path, good_talk().packets).conversation(0)
    assert [packet.frame for packet in conversation.packets] == list(range(1, 10))
    assert b"".join(p.payload for p in conversation.packets if p.from_client) == b"hello, who are you?bye"
    assert conversation.counts is not None
    assert conversation.counts.handshake_ns == 2 * MS
    assert (conversation.client_bytes, conversation.server_bytes) == (22, 10)
    assert (conversation.capture_first_ns, conversation.capture_last_ns) == (START_NS, START_NS + 8 * MS)


def test_long_conversations_give_both_ends(tmp_path: Path) -> None:
    conversation = read(tmp_path, good_talk().packets).conversation(0, max_packets=5)
    assert [packet.frame for packet in conversation.packets] == [1, 2, 7, 8, 9]


def test_retransmitted_bytes_count_once(tmp_path: Path) -> None:
    talk = Talk().open()
    talk.client(PSH | ACK, b"0123456789")
    talk.wait(300)
    talk.client(PSH | ACK, b"0123456789", seq=1001)
    talk.client(PSH | ACK, b"56789abc", seq=1006)
    capture = read(tmp_path, talk.packets)
    client = capture.connections.client[0]
    assert (client["bytes"], client["data_packets"], client["retransmissions"]) == (13, 3, 2)
    assert client["tail"].tobytes() == b"56789abc"


def test_sequence_numbers_wrap(tmp_path: Path) -> None:
    talk = Talk(isn=(2**32 - 5, 2**32 - 1)).open()
    talk.client(PSH | ACK, bytes(20))
    talk.server(ACK)
    client = read(tmp_path, talk.packets).connections.client[0]
    assert (client["bytes"], client["acked_bytes"], client["retransmissions"]) == (20, 20, 0)


def test_a_reset_tells_what_was_acknowledged(tmp_path: Path) -> None:
    talk = Talk().open()
    talk.client(PSH | ACK, bytes(83))
    talk.server(ACK)
    talk.server(RST | ACK)
    connections = read(tmp_path, talk.packets).connections
    client, server = connections.client[0], connections.server[0]
    assert (client["bytes"], client["acked_bytes"], server["bytes"]) == (83, 83, 0)
    assert (server["rst_ns"], server["rst_acks"], server["rsts"]) == (START_NS + 5 * MS, 1, 1)


def test_repeated_syns(tmp_path: Path) -> None:
    talk = Talk()
    for wait_ms in (1000, 2000, 4000):
        talk.client(SYN, seq=1000)
        talk.wait(wait_ms)
    capture = read(tmp_path, talk.packets)
    assert len(capture.connections) == 1
    assert capture.connections.client["syns"].tolist() == [3]
    assert capture.connections.client["retransmissions"].tolist() == [2]
    assert capture.connections.table["handshake_ns"].tolist() == [NEVER]


def test_reused_ports_make_a_new_connection(tmp_path: Path) -> None:
    first = good_talk()
    second = Talk(isn=(70_000, 80_000), now_ns=first.now_ns).open()
    capture = read(tmp_path, first.packets, second.packets)
    table = capture.connections.table
    assert table["stream"].tolist() == [0, 1]
    assert table["previous"].tolist() == [NEVER, 0]
    assert table["reused"].tolist() == [0, 1]
    assert TcpEvent.REUSED_PORTS in capture.conversation(1).packets[0].events


@pytest.mark.parametrize(("flags", "client"), [(SYN | ACK, 40000), (ACK, 40000), (RST, 40000)])
def test_half_seen_connections_have_a_client(tmp_path: Path, flags: int, client: int) -> None:
    talk = Talk()
    talk.server(flags)
    capture = read(tmp_path, talk.packets)
    assert capture.endpoints(0)[0].port == client
    assert capture.connections.table["syn_seen"].tolist() == [0]


def test_the_sender_of_the_syn_is_the_client_even_when_seen_late(tmp_path: Path) -> None:
    """A stray packet first, from the higher port; then the SYN comes from the lower one."""
    talk = Talk(client_end=("10.0.0.1", 1000), server_end=("10.0.0.2", 60000))
    talk.server(ACK, seq=5, ack=1001)
    talk.client(SYN, seq=1000)
    talk.server(SYN | ACK)
    capture = read(tmp_path, talk.packets)
    assert capture.endpoints(0)[0].port == 1000
    assert capture.connections.client["syns"].tolist() == [1]
    assert capture.connections.table["syn_seen"].tolist() == [1]
    assert [packet.from_client for packet in capture.conversation(0).packets] == [False, True, False]


def two_interfaces(path: Path, first: list[Timed], second: list[Timed]) -> CaptureColumns:
    blocks = [(time_ns, 0, data) for time_ns, data in first] + [(t, 1, data) for t, data in second]
    nanoseconds = option(9, b"\x09")
    content = section() + interface(options=nanoseconds) * 2
    path.write_bytes(content + b"".join(enhanced(number, t, data) for t, number, data in sorted(blocks)))
    return open_captures([path])[0]


@pytest.mark.parametrize("delay_ns", [10, 2 * MS + 10])
def test_copies_at_another_interface_are_left_out(tmp_path: Path, delay_ns: int) -> None:
    """A bridge and its port, recorded together; also when several packets are on their way."""
    talk = good_talk()
    copies = [(time_ns + delay_ns, data) for time_ns, data in talk.packets]
    capture = two_interfaces(tmp_path / "a.pcapng", talk.packets, copies)
    alone = read(tmp_path, talk.packets)
    assert capture.connections.table["copies"].tolist() == [9]
    assert capture.connections.table["packets"].tolist() == [9]
    assert capture.conversation(0).counts == alone.conversation(0).counts
    assert capture.connections.server["bytes"].tolist() == [10]


def test_directions_at_different_interfaces_are_one_connection(tmp_path: Path) -> None:
    packets = good_talk().packets
    client = [packet for packet in packets if packet[1][12:16] == bytes([10, 0, 0, 1])]
    server = [packet for packet in packets if packet not in client]
    table = two_interfaces(tmp_path / "a.pcapng", client, server).connections.table
    assert (table["packets"].tolist(), table["copies"].tolist()) == ([9], [0])


def test_a_connection_may_move_to_another_interface(tmp_path: Path) -> None:
    packets = good_talk().packets
    table = two_interfaces(tmp_path / "a.pcapng", packets[:4], packets[4:]).connections.table
    assert (table["packets"].tolist(), table["copies"].tolist()) == ([9], [0])


def test_server_and_client_numbers_group(tmp_path: Path) -> None:
    talks = [
        Talk(client_end=("10.0.0.1", 40000)).open(),
        Talk(client_end=("10.0.0.1", 40001)).open(),
        Talk(client_end=("10.0.0.3", 40000), server_end=("10.0.0.2", 5433)).open(),
    ]
    table = read(tmp_path, *(talk.packets for talk in talks)).connections.table
    servers, clients = table["server_id"].tolist(), table["client_id"].tolist()
    assert servers[0] == servers[1] != servers[2]
    assert clients[0] == clients[1] != clients[2]


def test_connections_beyond_the_bound_are_counted_per_server(tmp_path: Path) -> None:
    flood = Talk()
    for port in range(1, 101):
        flood.packets.append((flood.now_ns + port, Talk(client_end=("10.0.0.9", port)).client(SYN)))
    good = good_talk()
    capture = read(tmp_path, good.packets[:1], flood.packets, good.packets[1:], max_connections=11)
    assert len(capture.connections) == 11
    assert sum(server.syns for server in capture.connections.overflow) == 90
    assert capture.connections.overflow == (ServerOverflow("10.0.0.2", 5432, 90),)
    assert capture.connections.table["packets"][0] == 9


def test_an_empty_capture_has_no_connections(tmp_path: Path) -> None:
    assert len(read(tmp_path).connections) == 0
