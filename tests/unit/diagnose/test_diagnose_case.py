"""Captures to diagnoses: what connections tell about each other, and where one was seen twice."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from conversations import TERMINATE, WELCOME, startup
from podcam.columns import open_captures
from podcam.diagnose import Case, diagnose
from podcam.diagnose.screening import Finding, screen
from podcam.errors import CaptureFileError
from podcam.model.diagnosis import DiagnosedConnection
from podcam.model.verdict import VerdictId
from traces import ACK, FIN, MS, PSH, RST, START_NS, SYN, Talk, icmp_error, write_pcap

DATA = PSH | ACK


def capture(path: Path, *talks: Talk) -> Path:
    packets = sorted((packet for talk in talks for packet in talk.packets), key=lambda timed: timed[0])
    return write_pcap(path, packets)


def case_of(tmp_path: Path, *talks: Talk) -> Case:
    return diagnose([capture(tmp_path / "a.pcap", *talks)])


def good(port: int, *, at_ms: float = 0, server: str = "10.0.0.2", client: str = "10.0.0.1") -> Talk:
    talk = Talk((client, port), (server, 5432), (port, port * 7), START_NS + int(at_ms * MS)).open()
    talk.client(DATA, startup())
    talk.server(DATA, WELCOME)
    talk.client(DATA, TERMINATE)
    talk.client(FIN | ACK)
    talk.server(FIN | ACK)
    talk.client(ACK)
    return talk


def reset_in_startup(port: int, *, at_ms: float = 0) -> Talk:
    talk = Talk(("10.0.0.1", port), isn=(port, port * 7), now_ns=START_NS + int(at_ms * MS)).open()
    talk.client(DATA, startup())
    talk.server(ACK)
    talk.server(RST | ACK)
    return talk


def refused(port: int, *, at_ms: float = 0, server: str = "10.0.0.3", client: str = "10.0.0.1") -> Talk:
    talk = Talk((client, port), (server, 5432), (port, 0), START_NS + int(at_ms * MS))
    talk.client(SYN)
    talk.server(RST | ACK)
    return talk


def verdicts(rows: Iterable[DiagnosedConnection]) -> dict[int, VerdictId]:
    return {row.client.port: row.verdict.id for row in rows}


def test_a_failed_connection_is_compared_with_the_nearest_good_one_to_its_server(tmp_path: Path) -> None:
    case = case_of(
        tmp_path,
        good(40000),
        good(40001, at_ms=900),
        reset_in_startup(40002, at_ms=1000),
        good(40003, at_ms=1050, server="10.0.0.9"),
        good(40004, at_ms=2000),
    )
    ids = {row.client.port: row.id for row in case.diagnosis.connections}
    assert case.diagnosis.comparisons == {ids[40002]: ids[40001]}
    assert case.conversation(ids[40001]).client.port == 40001


def test_a_failure_without_a_good_connection_has_no_comparison(tmp_path: Path) -> None:
    case = case_of(tmp_path, reset_in_startup(40000))
    assert [row.verdict.id for row in case.diagnosis.connections] == [VerdictId.RESET_DURING_STARTUP]
    assert case.diagnosis.comparisons == {}


def test_nobody_knows_a_connection_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        case_of(tmp_path, good(40000)).conversation(1)


def test_the_client_that_falls_back_to_another_address_has_not_failed(tmp_path: Path) -> None:
    case = case_of(tmp_path, refused(40000, server="fd00::2", client="fd00::1"), good(40001, at_ms=3))
    assert verdicts(case.diagnosis.connections) == {40000: VerdictId.PROBE, 40001: VerdictId.OK}


def test_one_success_excuses_one_failure_per_address(tmp_path: Path) -> None:
    case = case_of(tmp_path, refused(40000), refused(40001, at_ms=1), good(40002, at_ms=5))
    assert sorted(verdicts(case.diagnosis.connections).values()) == [
        VerdictId.CONNECT_REFUSED,
        VerdictId.OK,
        VerdictId.PROBE,
    ]


@pytest.mark.parametrize(
    "others",
    [
        [good(40001, at_ms=2_500)],
        [good(40001, at_ms=3, client="10.0.0.77")],
        [good(40001, at_ms=-0.5)],
        [good(40001, at_ms=3), good(40002, at_ms=90, server="10.0.0.3")],
    ],
    ids=["too late", "another client", "began before", "a server that answers others"],
)
def test_a_refusal_that_no_success_makes_good(tmp_path: Path, others: list[Talk]) -> None:
    case = case_of(tmp_path, refused(40000), *others)
    assert verdicts(case.diagnosis.connections)[40000] is VerdictId.CONNECT_REFUSED


def test_an_icmp_error_is_evidence(tmp_path: Path) -> None:
    talk = Talk()
    quoted = talk.client(SYN)
    talk.packets.append((talk.now_ns, icmp_error(quoted, "10.0.0.254", "10.0.0.1")))
    (row,) = case_of(tmp_path, talk).diagnosis.connections
    assert row.verdict.id is VerdictId.CONNECT_UNREACHABLE
    assert [evidence.frame for evidence in row.verdict.evidence] == [1, 2]


def test_http_to_a_server_that_speaks_postgresql_to_others(tmp_path: Path) -> None:
    talk = Talk(("10.0.0.1", 41000), now_ns=START_NS + 50 * MS).open()
    talk.client(DATA, b"GET / HTTP/1.1\r\nHost: db\r\n\r\n")
    talk.server(FIN | ACK)
    case = case_of(tmp_path, good(40000), good(40001), talk)
    assert verdicts(case.diagnosis.connections)[41000] is VerdictId.WRONG_PROTOCOL


def test_a_connection_seen_at_two_points_is_one_end_to_end(tmp_path: Path) -> None:
    """A Service's DNAT changes the server's address between the points, and clocks differ."""
    near, far = good(40000), Talk(("10.0.0.1", 40000), ("172.16.0.9", 5432), (40000, 40000 * 7))
    far.now_ns += 300 * MS
    far.open()
    paths = [capture(tmp_path / "near.pcap", near, good(40005)), capture(tmp_path / "far.pcap", far)]
    first, other, second = diagnose(paths).diagnosis.connections
    assert (first.end_to_end, second.end_to_end) == (first.id, first.id)
    assert other.end_to_end == other.id


def test_ids_are_distinct_over_captures(tmp_path: Path) -> None:
    paths = [
        capture(tmp_path / "a.pcap", good(40000), good(40001)),
        capture(tmp_path / "b.pcap", good(40009)),
    ]
    case = diagnose(paths)
    assert [row.id for row in case.diagnosis.connections] == [0, 1, 2]
    assert case.conversation(2).client.port == 40009
    assert [row.capture for row in case.diagnosis.connections] == [0, 0, 1]


def test_not_a_capture(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no packets here, only words")
    with pytest.raises(CaptureFileError):
        diagnose([tmp_path / "notes.txt"])


def test_what_is_not_read_among_many_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podcam.diagnose.screening.READ_ALL", 2)
    talks = [good(40000), good(40001), reset_in_startup(40002), refused(40003, server="10.0.0.2")]
    path = capture(tmp_path / "a.pcap", *talks)
    screened = screen(open_captures([path])[0])
    assert screened.read.tolist() == [2, 3]
    assert [Finding(finding) for finding in screened.findings] == [
        Finding.GOODBYE,
        Finding.GOODBYE,
        Finding.SUSPECT,
        Finding.SUSPECT,
    ]
    assert verdicts(diagnose([path]).diagnosis.connections) == {
        40000: VerdictId.OK,
        40001: VerdictId.OK,
        40002: VerdictId.RESET_DURING_STARTUP,
        40003: VerdictId.CONNECT_REFUSED,
    }


def test_a_storm_is_judged_from_the_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podcam.diagnose.screening.READ_ALL", 0)
    monkeypatch.setattr("podcam.diagnose.screening.READ_SUSPECT", 1)
    silent = Talk(("10.0.0.1", 40009), ("10.0.0.3", 5432), now_ns=START_NS + 9 * MS)
    silent.client(SYN)
    case = case_of(tmp_path, *[refused(40000 + i, at_ms=i) for i in range(3)], silent)
    rows = case.diagnosis.connections
    assert [row.verdict.id for row in rows[:3]] == [VerdictId.CONNECT_REFUSED] * 3
    assert [evidence.frame for evidence in rows[2].verdict.evidence] == [5, 6]
    assert rows[3].verdict.id is VerdictId.CONNECT_TIMEOUT
