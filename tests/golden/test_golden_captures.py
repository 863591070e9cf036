"""Captures of real servers and misbehaving proxies keep their diagnosis.

`record.py` records them, `tests/golden_diagnosis.py` updates what is expected.
"""

import json
import shutil
import struct
import subprocess
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from golden_diagnosis import CAPTURES, EXPECTED, diagnosed
from podcam.columns import open_captures
from podcam.diagnose import judge
from podcam.diagnose.neighbours import Neighbours
from podcam.model.connection import TcpFlags
from podcam.model.verdict import VerdictId

# What the scenarios of record.py did, told independently of what golden_diagnosis.py writes: how often
# which verdict, at whose fault, in which phase. Everything else must not have failed.
FAILURES = {
    "reset-during-startup": {("reset-during-startup", "server", "startup"): 2},
    "reset-during-startup-ipv6": {("reset-during-startup", "server", "startup"): 2},
    "reset-during-startup-tls13": {("reset-during-startup", "server", "startup"): 2},
    "reset-during-startup-tls12": {("reset-during-startup", "server", "startup"): 2},
    "reset-during-tls-handshake": {("reset-during-startup", "server", "tls"): 1},
    "reset-during-authentication": {("reset-during-startup", "server", "authentication"): 1},
    "closed-during-startup": {("closed-during-startup", "server", "startup"): 2},
    "closed-during-startup-tls13": {("closed-during-startup", "server", "startup"): 1},
    "startup-timeout": {("startup-timeout", "server", "startup"): 1},
    "tls-timeout": {("tls-timeout", "server", "tls"): 1},
    "good": {},
    "good-protocol-32": {},
    "good-direct-tls": {},
    "near-misses": {},
    "startup-rejected": {("startup-rejected", "server", "authentication"): 4},
    "startup-rejected-tls13": {("closed-during-startup", "server", "authentication"): 1},
    "tls-rejected": {
        ("tls-rejected", "server", "startup"): 1,
        ("tls-rejected", "client", "tls"): 2,
        ("tls-rejected", "server", "tls"): 1,
    },
    "session-terminated": {("session-terminated", "server", "request"): 1},
    "broken-sessions": {
        ("reset-mid-request", "server", "request"): 1,
        ("closed-mid-request", "server", "request"): 1,
        ("closed-idle", "server", "ready"): 1,
    },
    "ended-before-data": {
        ("reset-before-data", "server", "handshake"): 1,
        ("closed-before-data", "server", "handshake"): 1,
    },
    "wrong-protocol": {
        ("wrong-protocol", "unknown", "startup"): 1,
        ("wrong-protocol", "unknown", "tls"): 1,
        ("wrong-protocol", "client", "data"): 1,
    },
    "connect-failures": {
        ("connect-refused", "server", "connect"): 2,
        ("connect-unreachable", "network", "connect"): 2,
        ("connect-timeout", "unknown", "connect"): 1,
    },
    "handshake-incomplete": {("handshake-incomplete", "unknown", "handshake"): 1},
}
GOOD = {VerdictId.OK, VerdictId.PROBE}
SEED = [name for name in FAILURES if name.startswith("reset-during-startup")]


def test_every_capture_has_its_expectation() -> None:
    captures = {path.stem for path in CAPTURES.glob("*.pcap")}
    assert captures == set(FAILURES) == {path.stem for path in EXPECTED.glob("*.json")}


@pytest.mark.parametrize("name", FAILURES)
def test_what_the_scenario_did_is_found_and_nothing_else(name: str) -> None:
    rows = diagnosed(CAPTURES / f"{name}.pcap")
    failures = Counter((row["verdict"], row["fault"], row["phase"]) for row in rows if row["failed"])
    assert failures == FAILURES[name]


@pytest.mark.parametrize("name", FAILURES)
def test_the_diagnosis_is_the_expected_one(name: str) -> None:
    expected = json.loads((EXPECTED / f"{name}.json").read_text())
    assert diagnosed(CAPTURES / f"{name}.pcap") == expected


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark: apt install tshark")
@pytest.mark.parametrize("name", SEED)
def test_the_evidence_is_what_wireshark_shows(name: str) -> None:
    """The client's last data, the first packet of the server that acknowledges it, and the server's RST."""
    path = CAPTURES / f"{name}.pcap"
    failed = [row for row in diagnosed(path) if row["failed"]]
    assert failed
    for row in failed:
        packets = _packets(path, row["tcp_stream"])
        last = [p for p in packets if p["to_server"] and p["len"]][-1]
        end = last["seq"] + last["len"]
        ack = next(
            p for p in packets if not p["to_server"] and p["ack"] >= end and p["frame"] > last["frame"]
        )
        reset = next(p for p in packets if p["reset"])
        assert [frame for frame, _ in row["evidence"]] == [last["frame"], ack["frame"], reset["frame"]]
        assert row["compared_with"] is not None


def _packets(path: Path, stream: int) -> list[dict[str, Any]]:
    fields = ["frame.number", "tcp.seq", "tcp.ack", "tcp.len", "tcp.flags.reset", "tcp.dstport"]
    command = ["tshark", "-r", str(path), "-Y", f"tcp.stream=={stream}", "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [[_number(value) for value in line.split("\t")] for line in told.splitlines()]
    server_port = rows[0][5]
    return [
        {
            "frame": frame,
            "seq": seq,
            "ack": ack,
            "len": length,
            "reset": bool(reset),
            "to_server": port == server_port,
        }
        for frame, seq, ack, length, reset, port in rows
    ]


def _number(value: str) -> int:
    """Flags are 0 and 1 up to tshark 4.0, False and True since."""
    return ["False", "True"].index(value) if value in {"False", "True"} else int(value or 0)


@pytest.mark.parametrize("name", FAILURES)
def test_what_is_not_read_among_many_has_not_failed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The columns alone call a connection good only where reading it finds the same."""
    read = diagnosed(CAPTURES / f"{name}.pcap")
    monkeypatch.setattr("podcam.diagnose.screening.READ_ALL", 0)
    monkeypatch.setattr("podcam.diagnose.screening.READ_TIDY", 10_000)
    screened = diagnosed(CAPTURES / f"{name}.pcap")
    assert [row["failed"] for row in screened] == [row["failed"] for row in read]


@pytest.mark.parametrize("payload_bytes", [0, 8, 64])
@pytest.mark.parametrize("name", FAILURES)
def test_a_snap_length_makes_no_good_connection_fail(name: str, payload_bytes: int, tmp_path: Path) -> None:
    """A write budget cuts payloads: what is then not known must not be called a failure."""
    path = CAPTURES / f"{name}.pcap"
    cut = _cut(path.read_bytes(), 14 + 40 + 32 + payload_bytes)  # the longest headers, IPv6
    (tmp_path / "cut.pcap").write_bytes(cut)
    whole = {row["tcp_stream"]: row["failed"] for row in diagnosed(path)}
    for row in diagnosed(tmp_path / "cut.pcap"):
        assert whole[row["tcp_stream"]] or not row["failed"], row["summary"]


def _cut(pcap: bytes, snap_length: int) -> bytes:
    """A pcap file (little-endian, as tcpdump writes it here) with shorter packets."""
    content, at = pcap[:24], 24
    while at < len(pcap):
        seconds, fraction, captured, original = struct.unpack_from("<4I", pcap, at)
        kept = pcap[at + 16 : at + 16 + min(captured, snap_length)]
        content += struct.pack("<4I", seconds, fraction, len(kept), original) + kept
        at += 16 + captured
    return content


@pytest.mark.parametrize("name", FAILURES)
def test_a_lost_packet_makes_no_good_connection_fail(name: str) -> None:
    """Recorders drop packets; whatever one to three in a row are missing, good connections stay good."""
    (columns,) = open_captures([CAPTURES / f"{name}.pcap"])
    neighbours = Neighbours(columns)
    for row in range(len(columns.connections)):
        whole, context = columns.conversation(row), neighbours.context(row)
        if judge(whole, context).id not in GOOD or len(whole.packets) > 60:
            continue
        for first, missing in product(range(len(whole.packets)), (1, 2, 3)):
            packets = whole.packets[:first] + whole.packets[first + missing :]
            if packets:
                syn_seen = any(p.from_client and p.has(TcpFlags.SYN) for p in packets)
                verdict = judge(replace(whole, packets=packets, syn_seen=syn_seen), context)
                assert not verdict.failed, (row, first, missing, verdict.summary)
