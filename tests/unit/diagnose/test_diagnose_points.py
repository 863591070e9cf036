"""One connection at several points: joined by sequence numbers and time; what two points prove; gaps."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from conversations import startup
from kernel_blocks import Sent, block
from podcam.clip import ClipPart, Manifest, export, open_packets, read_manifest, write_manifest
from podcam.diagnose import diagnose
from podcam.model.diagnosis import DiagnosedConnection, Diagnosis
from podcam.model.point import Gap, Interface, Point, Window
from podcam.model.verdict import Fault, VerdictId
from podcam.ring import Ring, Source, Totals
from proxied import redirected
from traces import ACK, FIN, MS, PSH, RST, START_NS, SYN, Talk, Timed, ethernet

SECOND = 10**9
DATA = PSH | ACK
WEB, DB = ("10.0.0.1", "shop/web-1"), ("10.0.0.2", "shop/db-0")
SERVICE = "10.96.0.7"
NAMES = {WEB[0]: "pod shop/web-1", DB[0]: "pod shop/db-0", SERVICE: "service shop/db"}
WINDOW = Window(START_NS - 60 * SECOND, START_NS + 60 * SECOND)
INTERFACES = (Interface(2, "eth0", 1),)


@dataclass
class Recorded:
    """What a point of a clip recorded."""

    name: str
    packets: Sequence[Timed]
    dropped: int = 0
    gaps: tuple[Gap, ...] = ()


def clip(folder: Path, *points: Recorded, names: dict[str, str] | None = None) -> Path:
    parts = []
    for number, point in enumerate(points):
        where = f"p{number}"
        source = Source(Point(point.name, f"node-{number}"), "boot", 1 << 17, INTERFACES)
        ring = Ring(folder / "rings" / where, source, limit_bytes=1 << 24, segment_bytes=1 << 20, now_ns=0)
        packets = sorted(point.packets, key=lambda timed: timed[0])
        ring.append([block([Sent(time_ns, ethernet(data))]) for time_ns, data in packets], now_ns=0)
        ring.close(0)
        (folder / where).mkdir(parents=True)
        segments = ring.freeze(folder / where, [WINDOW], 0).segments
        totals = Totals(dropped=point.dropped)
        parts.append(
            ClipPart(source.point, where, tuple(segments), totals, interfaces=INTERFACES, gaps=point.gaps)
        )
    manifest = Manifest("c", "why", START_NS, WINDOW, "complete", parts=tuple(parts), names=names or {})
    write_manifest(folder, manifest)
    return folder


def rows_of(clip_folder: Path) -> tuple[DiagnosedConnection, ...]:
    return diagnose([clip_folder]).diagnosis.connections


def beside(*ports: int, server: str, shift_ms: float = 0.0) -> list[Timed]:
    """Good connections long before and long after, which show that a point recorded."""
    packets: list[Timed] = []
    for port in ports:
        for second in (-10, 10):
            isn = (port * 1000 + second, port * 7000 + second)
            start = START_NS + second * SECOND + int(shift_ms * MS)
            talk = Talk((WEB[0], port), (server, 5432), isn, start).open()
            talk.client(DATA, b"hello")
            talk.server(DATA, b"world")
            talk.client(FIN | ACK)
            talk.server(FIN | ACK)
            talk.client(ACK)
            packets += talk.packets
    return packets


def through_nat(packets: Iterable[Timed], delay_ms: float = 0.25) -> list[Timed]:
    """The same packets at the server's pod: the Service's address is translated; answers left earlier."""
    service, pod = ip_address(SERVICE).packed, ip_address(DB[0]).packed
    arrived = []
    for time_ns, data in packets:
        from_server = data[12:16] == service
        moved = data[:12] + data[12:20].replace(service, pod) + data[20:]
        arrived.append((time_ns + int((-delay_ms if from_server else delay_ms) * MS), moved))
    return arrived


def asking(server: str = SERVICE, port: int = 40000) -> Talk:
    return Talk((WEB[0], port), (server, 5432), (5_000, 90_000)).open()


# --- joined ---


def test_a_service_between_two_points_joins_what_it_translates(tmp_path: Path) -> None:
    near = beside(50001, 50002, server=SERVICE)
    rows = rows_of(clip(tmp_path, Recorded(DB[1], through_nat(near)), Recorded(WEB[1], near)))
    assert len(rows) == 8
    pairs: dict[int, list[DiagnosedConnection]] = {}
    for row in rows:
        pairs.setdefault(row.end_to_end, []).append(row)
    for end_to_end, pair in pairs.items():
        assert {row.point for row in pair} == {WEB[1], DB[1]}
        (at_client,) = [row for row in pair if row.id == end_to_end]
        assert (at_client.point, at_client.server.ip) == (WEB[1], SERVICE)


def test_equal_sequence_numbers_are_joined_with_the_nearest_in_time(tmp_path: Path) -> None:
    """A collision: the same pair of initial sequence numbers twice, minutes apart, at both points."""
    first = Talk((WEB[0], 40000), (SERVICE, 5432), (7, 8), START_NS - 50 * SECOND).open().packets
    second = Talk((WEB[0], 40001), (SERVICE, 5432), (7, 8), START_NS + 50 * SECOND).open().packets
    rows = rows_of(
        clip(
            tmp_path,
            Recorded(WEB[1], [*first, *second]),
            Recorded(DB[1], through_nat([*second, *first], delay_ms=900)),
        )
    )
    ports: dict[int, set[int]] = {}
    for row in rows:
        ports.setdefault(row.end_to_end, set()).add(row.client.port)
    assert sorted(map(tuple, ports.values())) == [(40000,), (40001,)]


def test_a_connection_is_never_joined_with_another_of_its_own_point(tmp_path: Path) -> None:
    once = Talk((WEB[0], 40000), (SERVICE, 5432), (7, 8)).open().packets
    again = Talk((WEB[0], 40001), (SERVICE, 5432), (7, 8), START_NS + SECOND).open().packets
    rows = rows_of(clip(tmp_path, Recorded(WEB[1], [*once, *again]), Recorded(DB[1], through_nat(once))))
    assert sorted(
        len({row.point for row in rows if row.end_to_end == end}) for end in {row.end_to_end for row in rows}
    ) == [1, 2]


def test_a_syn_that_one_point_missed(tmp_path: Path) -> None:
    """Its number is told by what the SYN-ACK acknowledges."""
    packets = asking().packets
    rows = rows_of(clip(tmp_path, Recorded(WEB[1], packets), Recorded(DB[1], through_nat(packets[1:]))))
    assert len({row.end_to_end for row in rows}) == 1
    assert len(rows) == 2


def test_a_connect_without_an_answer_is_joined_by_what_there_is_of_it(tmp_path: Path) -> None:
    lone = Talk((WEB[0], 40000), (SERVICE, 5432), (7, 8))
    lone.client(SYN)
    later = Talk((WEB[0], 40001), (SERVICE, 5432), (7, 8), START_NS + 30 * SECOND)
    later.client(SYN)
    rows = rows_of(
        clip(
            tmp_path,
            Recorded(WEB[1], [*lone.packets, *later.packets]),
            Recorded(DB[1], through_nat(lone.packets)),
        )
    )
    groups = [
        [row.client.port for row in rows if row.end_to_end == end] for end in {r.end_to_end for r in rows}
    ]
    assert sorted(groups) == [[40000, 40000], [40001]]


# --- what two points prove ---


def at_both(
    folder: Path,
    near: Sequence[Timed],
    far: Sequence[Timed],
    names: dict[str, str] | None = None,
    **changes: object,
) -> DiagnosedConnection:
    """The failed connection as the client's point tells it, beside others that both recorded."""
    others = beside(50001, server=SERVICE)
    there = Recorded(DB[1], [*far, *through_nat(others)])
    rows = rows_of(
        clip(folder, Recorded(WEB[1], [*near, *others]), replace(there, **changes), names=names)  # type: ignore[arg-type]
    )
    (row,) = [row for row in rows if row.point == WEB[1] and row.client.port == 40000]
    return row


def reset_on_the_way() -> tuple[list[Timed], list[Timed]]:
    """The client gets a reset that the server never sent."""
    talk = asking()
    talk.client(DATA, startup())
    talk.server(ACK)
    shared = list(talk.packets)
    talk.server(RST | ACK)
    return talk.packets, through_nat(shared)


def test_a_reset_that_arrived_and_never_left(tmp_path: Path) -> None:
    row = at_both(tmp_path, *reset_on_the_way(), names=NAMES)
    assert row.verdict.id is VerdictId.RESET_DURING_STARTUP
    assert row.verdict.fault is Fault.NETWORK
    assert row.verdict.summary.endswith(
        "But the server's RST, which arrived at pod shop/web-1, never left pod shop/db-0: "
        "it was sent between the two, in the server's name."
    )
    assert (row.client.name, row.server.name) == ("pod shop/web-1", "service shop/db")


@pytest.mark.parametrize(
    "changes",
    [
        {"dropped": 1},
        {"gaps": (Gap(START_NS, START_NS + MS, "the recorder was not running"),)},
        {"gaps": (Gap(START_NS + 50 * MS, START_NS + 60 * MS, "the writer ended"),)},
        {"gaps": (Gap(START_NS + 600 * MS, START_NS + 900 * MS, "killed: its last packets are lost too"),)},
    ],
    ids=["packets were lost there", "a gap", "a gap right after it", "a recorder that is killed after it"],
)
def test_nothing_is_proved_where_a_point_may_have_missed_it(tmp_path: Path, changes: dict[str, Any]) -> None:
    row = at_both(tmp_path, *reset_on_the_way(), names=NAMES, **changes)
    assert (row.verdict.id, row.verdict.fault) == (VerdictId.RESET_DURING_STARTUP, Fault.SERVER)
    assert "never left" not in row.verdict.summary


def test_nothing_is_proved_by_a_point_of_which_something_cannot_be_read(tmp_path: Path) -> None:
    near, far = reset_on_the_way()
    others = beside(50001, server=SERVICE)
    there = Recorded(DB[1], [*far, *through_nat(others)])
    folder = clip(tmp_path, Recorded(WEB[1], [*near, *others]), there)
    (segment,) = (folder / "p1").iterdir()
    manifest = read_manifest(folder)
    missing = replace(manifest.parts[1], segments=("00000000-1.seg", segment.name))
    write_manifest(folder, replace(manifest, parts=(manifest.parts[0], missing)))
    assert [row.verdict.fault for row in rows_of(folder) if row.verdict.failed] == [Fault.SERVER]


def test_nothing_is_proved_by_a_point_that_recorded_only_before(tmp_path: Path) -> None:
    near, far = reset_on_the_way()
    early = [timed for timed in through_nat(beside(50001, server=SERVICE)) if timed[0] < START_NS]
    rows = rows_of(clip(tmp_path, Recorded(WEB[1], near), Recorded(DB[1], [*far, *early])))
    assert [row.verdict.fault for row in rows if row.verdict.failed] == [Fault.SERVER]


def test_a_reset_that_both_points_saw_was_not_made_between_them(tmp_path: Path) -> None:
    talk = asking()
    talk.client(DATA, startup())
    talk.server(ACK)
    talk.server(RST | ACK)
    row = at_both(tmp_path, talk.packets, through_nat(talk.packets), names=NAMES)
    assert (row.verdict.id, row.verdict.fault) == (VerdictId.RESET_DURING_STARTUP, Fault.SERVER)
    assert row.verdict.summary.endswith(
        "Its RST was recorded at pod shop/db-0, too: nothing between the two points made it."
    )
    assert [proof.note for proof in row.verdict.evidence[-2:]] == [
        "the same RST at pod shop/db-0",
        "RST of the server",
    ]
    assert len(row.verdict.candidates) > 0


def test_bytes_that_left_and_never_arrived(tmp_path: Path) -> None:
    """Sent again and again: the server's pod never saw them, so that its silence is not its own."""
    talk = asking()
    shared = list(talk.packets)
    for wait in (0, 200, 400, 800, 1_600, 3_200):
        talk.wait(wait)
        talk.client(DATA, startup(), seq=5_001)
    row = at_both(tmp_path, talk.packets, through_nat(shared))
    assert row.verdict.id is VerdictId.PEER_VANISHED
    assert row.verdict.fault is Fault.NETWORK
    assert row.verdict.summary.endswith(
        f"{len(startup())} bytes of the client left shop/web-1 6 times and never arrived at shop/db-0."
    )


def test_a_failed_connection_is_compared_with_a_good_one_of_its_own_point(tmp_path: Path) -> None:
    """Another replica connected to the same server, nearer in time."""
    failed = asking(DB[0])
    failed.client(DATA, startup())
    failed.server(RST | ACK)
    replica = Talk(("10.0.0.9", 50002), (DB[0], 5432), (1, 2), START_NS + 20 * MS).open()
    replica.client(DATA, b"hello")
    replica.server(DATA, b"world")
    replica.client(FIN | ACK)
    mine = [*failed.packets, *beside(50001, server=DB[0])]
    found = diagnose(
        [clip(tmp_path, Recorded("shop/web-2", replica.packets), Recorded(WEB[1], mine))]
    ).diagnosis
    rows = {row.id: row for row in found.connections}
    ((one, other),) = found.comparisons.items()
    assert (rows[one].client.port, rows[other].client.port) == (40000, 50001)


def test_what_arrived_in_other_pieces_is_not_lost(tmp_path: Path) -> None:
    talk, there = asking(), asking()
    talk.client(DATA, startup())
    there.client(ACK, startup()[:10])
    there.client(DATA, startup()[10:])
    for each in (talk, there):
        each.server(ACK)
        each.server(RST | ACK)
    row = at_both(tmp_path, talk.packets, through_nat(there.packets))
    assert row.verdict.fault is Fault.SERVER
    assert "never" not in row.verdict.summary


def test_a_syn_ack_that_never_came_back(tmp_path: Path) -> None:
    talk = Talk((WEB[0], 40000), (SERVICE, 5432), (5_000, 90_000))
    for wait in (0, 1_000, 2_000):
        talk.wait(wait)
        talk.client(SYN, seq=5_000)
        talk.server(SYN | ACK, seq=90_000)
    from_client = talk.packets[::2]
    row = at_both(tmp_path, from_client, through_nat(talk.packets))
    assert row.verdict.id is VerdictId.CONNECT_TIMEOUT
    assert row.verdict.fault is Fault.NETWORK
    assert row.verdict.summary.endswith("The SYN-ACK left shop/db-0 3 times and never arrived at shop/web-1.")


def direct(tmp_path: Path, near: Sequence[Timed], names: dict[str, str]) -> DiagnosedConnection:
    """A connect to the pod itself, which its point did not see."""
    others = beside(50001, server=DB[0])
    rows = rows_of(clip(tmp_path, Recorded(WEB[1], [*near, *others]), Recorded(DB[1], others), names=names))
    (row,) = [row for row in rows if row.client.port == 40000]
    return row


def test_a_syn_that_never_arrived_at_the_pod_it_was_sent_to(tmp_path: Path) -> None:
    talk = Talk((WEB[0], 40000), (DB[0], 5432), (5_000, 0))
    for wait in (0, 1_000, 2_000):
        talk.wait(wait)
        talk.client(SYN, seq=5_000)
    row = direct(tmp_path / "named", talk.packets, NAMES)
    assert row.verdict.fault is Fault.NETWORK
    assert row.verdict.summary.endswith(
        "The SYN left pod shop/web-1 3 times and never arrived at pod shop/db-0."
    )
    unnamed = direct(tmp_path / "unnamed", talk.packets, {})
    assert unnamed.verdict.fault is Fault.UNKNOWN


def test_a_refusal_that_does_not_come_from_the_pod(tmp_path: Path) -> None:
    talk = Talk((WEB[0], 40000), (DB[0], 5432), (5_000, 0))
    talk.client(SYN)
    talk.server(RST | ACK)
    row = direct(tmp_path, talk.packets, NAMES)
    assert (row.verdict.id, row.verdict.fault) == (VerdictId.CONNECT_REFUSED, Fault.NETWORK)
    assert row.verdict.summary.endswith(
        "never arrived at pod shop/db-0: something between the two answered it."
    )


def test_what_a_proxy_refuses_was_not_lost_on_the_way(tmp_path: Path) -> None:
    """Its host redirected the SYN: that it did not arrive at the server's pod says nothing."""
    talk = Talk((WEB[0], 40000), (DB[0], 5432), (5_000, 0))
    talk.client(SYN)
    talk.server(RST | ACK)
    row = direct(tmp_path, redirected(talk.packets, pod=WEB[0]), NAMES)
    assert (row.verdict.id, row.verdict.fault) == (VerdictId.CONNECT_REFUSED, Fault.SERVER)
    assert "never arrived" not in row.verdict.summary


# --- gaps ---


OUT = "the recorder was not running"


def alone(tmp_path: Path, packets: Sequence[Timed], *gaps: Gap) -> Diagnosis:
    return diagnose([clip(tmp_path, Recorded(WEB[1], packets, gaps=gaps))]).diagnosis


def test_a_gap_is_told_of_the_capture_and_survives_the_export(tmp_path: Path) -> None:
    gap = Gap(START_NS + SECOND, START_NS + 2_200 * MS, OUT)
    folder = clip(tmp_path, Recorded(WEB[1], beside(50001, server=SERVICE), gaps=(gap,)), names=NAMES)
    export(open_packets(folder), tmp_path / "out.pcapng")
    for path in (folder, tmp_path / "out.pcapng"):
        found = diagnose([path]).diagnosis
        (warning,) = found.captures[0].warnings
        assert warning == (
            "nothing was recorded at shop/web-1 from 2023-11-14 22:13:21.000 to 22:13:22.200 UTC "
            f"(1.2 s): {OUT}"
        )
        assert found.connections[0].server.name == "service shop/db"


def test_silence_in_a_gap_is_nobodys(tmp_path: Path) -> None:
    talk = Talk((WEB[0], 40000), (SERVICE, 5432))
    for wait in (0, 1_000, 2_000):
        talk.wait(wait)
        talk.client(SYN, seq=1_000)
    (row,) = alone(tmp_path / "without", talk.packets).connections
    assert (row.verdict.id, row.verdict.failed) == (VerdictId.CONNECT_TIMEOUT, True)
    (row,) = alone(tmp_path / "with", talk.packets, Gap(START_NS + MS, START_NS + 900 * MS, OUT)).connections
    assert (row.verdict.id, row.verdict.failed, row.verdict.fault) == (VerdictId.PARTIAL, False, Fault.NONE)
    assert row.verdict.summary.startswith(
        f"What seems to be missing may lie in a gap: nothing was recorded for 899 ms of this time ({OUT})."
    )
    far_away = Gap(START_NS + 30 * SECOND, START_NS + 31 * SECOND, OUT)
    (row,) = alone(tmp_path / "later", talk.packets, far_away).connections
    assert row.verdict.id is VerdictId.CONNECT_TIMEOUT


def test_silence_that_was_seen_to_its_end_stays_a_failure(tmp_path: Path) -> None:
    """Blocks are written in order: what lies before the recorded FIN was recorded, too."""
    talk = asking()
    talk.client(DATA, startup())
    talk.server(ACK)
    talk.wait(5_000)
    talk.client(FIN | ACK)
    gap = Gap(talk.now_ns + 100 * MS, talk.now_ns + SECOND, OUT)
    (row,) = alone(tmp_path, talk.packets, gap).connections
    assert (row.verdict.id, row.verdict.failed) == (VerdictId.STARTUP_TIMEOUT, True)


def test_a_failure_around_a_gap_says_what_it_cannot_know(tmp_path: Path) -> None:
    talk = asking()
    talk.client(DATA, startup())
    talk.wait(3_000)
    talk.server(RST | ACK)
    (row,) = alone(tmp_path, talk.packets, Gap(START_NS + 4 * MS, START_NS + 2_000 * MS, OUT)).connections
    assert row.verdict.failed
    assert "nothing was recorded for 2 s of this time" in row.verdict.summary
    assert row.verdict.candidates[-1] == "something that passed while nothing was recorded explains it"


def test_segments_that_a_gap_swallowed_are_not_taken_for_lost(tmp_path: Path) -> None:
    talk = asking()
    talk.client(DATA, b"x" * 100)
    unseen = len(talk.packets)
    talk.server(DATA, b"y" * 1_000)
    talk.wait(1_000)
    talk.server(DATA, b"z" * 10)
    talk.client(FIN | ACK)
    del talk.packets[unseen]
    (row,) = alone(tmp_path, talk.packets, Gap(START_NS + 4 * MS, START_NS + 900 * MS, OUT)).connections
    assert row.tcp is not None
    assert row.tcp.lost_segments == 1
    assert not row.verdict.failed
    assert "what seems lost, unanswered or silent there may have been sent" in row.verdict.summary


@pytest.mark.parametrize(
    ("since", "until", "told"),
    [(-9, -5, "Its beginning may lie in a gap"), (5, 9, "Its end may lie in a gap"), (-40, -35, None)],
)
def test_what_may_begin_or_end_in_a_gap(tmp_path: Path, since: int, until: int, told: str | None) -> None:
    talk = asking()
    packets = talk.packets if told is None or since > 0 else talk.packets[2:]
    gap = Gap(START_NS + since * SECOND, START_NS + until * SECOND, OUT)
    (row,) = alone(tmp_path, packets, gap).connections
    assert not row.verdict.failed
    assert ("in a gap" in row.verdict.summary) == (told is not None)
    assert told is None or told in row.verdict.summary
