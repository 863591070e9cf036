"""Captures that other projects recorded, where they are at hand: nothing raises, nothing good is flagged."""

from pathlib import Path

import pytest

from podcam.diagnose import diagnose
from podcam.errors import CaptureFileError
from podcam.model.diagnosis import DiagnosedConnection
from podcam.model.verdict import Phase, Protocol, VerdictId

CAPTURES = Path(__file__).parents[3] / "shared" / "captures"
FILES = sorted(CAPTURES.rglob("*.pcap*"))

pytestmark = pytest.mark.skipif(not FILES, reason="needs others' captures in ../shared/captures")


def diagnosed(name: str) -> tuple[DiagnosedConnection, ...]:
    return diagnose([CAPTURES / name]).diagnosis.connections


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_connection_gets_a_verdict(path: Path) -> None:
    try:
        case = diagnose([path])
    except CaptureFileError:
        return  # the message is the subject of the readers' tests
    for row in case.diagnosis.connections:
        frames = {packet.frame for packet in case.conversation(row.id).packets}
        assert {evidence.frame for evidence in row.verdict.evidence} <= frames
        assert row.verdict.evidence or not row.verdict.failed


def test_a_wrong_password() -> None:
    (row,) = diagnosed("zeek/postgresql_psql-login-fail.pcap")
    assert (row.verdict.id, row.verdict.phase) == (VerdictId.STARTUP_REJECTED, Phase.AUTHENTICATION)
    assert row.verdict.protocol_detail["sqlstate"] == "28P01"
    assert [evidence.frame for evidence in row.verdict.evidence] == [4, 11]


@pytest.mark.parametrize(
    "name",
    [
        "zeek/postgresql_psql-login.pcap",
        "zeek/postgresql_psql-create-insert-select-delete-drop.pcap",
        "zeek/postgresql_psql-aws-ssl-preferred.pcap",
        "suricata-verify/pgsql_pgsql-ssl-rejected-md5-auth-simple-query_input.pcap",
    ],
)
def test_good_postgresql(name: str) -> None:
    for row in diagnosed(name):
        assert (row.verdict.id, row.verdict.protocol) == (VerdictId.OK, Protocol.POSTGRESQL)


def test_http_on_the_port_of_postgresql_is_not_postgresql() -> None:
    (row,) = diagnosed("zeek/postgresql_http-on-port-5432.pcap")
    assert (row.verdict.failed, row.verdict.protocol) == (False, Protocol.UNKNOWN)


def test_tls_failures() -> None:
    (row,) = diagnosed("zeek/tls_tls-1.2-handshake-failure.pcap")
    assert (row.verdict.id, row.verdict.phase) == (VerdictId.TLS_REJECTED, Phase.TLS)
    (row,) = diagnosed("zeek/tls_https-to-http.pcap")
    assert row.verdict.id is VerdictId.WRONG_PROTOCOL


@pytest.mark.parametrize("folder", ["pcapplusplus", "tcpdump", "suricata-verify"])
def test_ordinary_traffic_is_not_flagged(folder: str) -> None:
    for path in sorted((CAPTURES / folder).iterdir()):
        try:
            rows = diagnose([path]).diagnosis.connections
        except CaptureFileError:
            continue
        assert [(path.name, row.tcp_stream, row.verdict.id) for row in rows if row.verdict.failed] == []
