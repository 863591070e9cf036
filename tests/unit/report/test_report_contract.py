"""`podcam diagnose --json`: the fields of the contract, their names, and what is counted once."""

import io
import json
from dataclasses import replace
from typing import Any

from conversations import (
    OK,
    PROBE,
    Talk,
    diagnosis,
    good,
    opened,
    reset_in_startup,
    row,
    startup_reset_verdict,
)
from podcam.model.connection import TcpCounts
from podcam.model.diagnosis import Diagnosis, Leg, LegEnd
from podcam.model.point import Endpoint
from podcam.report import write_json


def document(what: Diagnosis) -> dict[str, Any]:
    out = io.StringIO()
    write_json(what, out)
    parsed: dict[str, Any] = json.loads(out.getvalue())
    return parsed


def test_the_contract() -> None:
    talk = reset_in_startup(Talk(id=3, first_frame=110))
    counted = replace(
        row(talk, startup_reset_verdict(talk)),
        tcp=TcpCounts(1, 2, 3, 4, 5, 6, 40_000),
        proxy=Endpoint("127.0.0.1", 15001),
        answers_tcp_stream=5,
        leg=Leg(4, LegEnd.SERVER, LegEnd.PROXY),
    )
    assert document(diagnosis(counted, row(good(Talk(id=4)), OK))) == {
        "schema": "podcam.diagnosis/1",
        "captures": [
            {
                "path": "proxy.pcap",
                "packets": 4812,
                "bytes": 1_203_411,
                "first_ns": 1_763_863_200_000_000_000,
                "last_ns": 1_763_863_260_000_000_000,
                "link_types": [1],
                "points": ["web-0"],
                "dropped": 0,
                "warnings": [],
            }
        ],
        "summary": {
            "packets": 4812,
            "connections": 2,
            "failed": 1,
            "verdicts": {"reset-during-startup": 1, "ok": 1},
        },
        "connections": [
            {
                "id": 3,
                "end_to_end": 3,
                "capture": 0,
                "point": "web-0",
                "transport": "tcp",
                "tcp_stream": 3,
                "tunnel": [],
                "client": {"ip": "10.1.2.3", "port": 51544, "name": None},
                "server": {"ip": "10.0.0.5", "port": 5432, "name": "db.example"},
                "protocol": "postgresql",
                "protocol_detail": {"user": "app", "database": "shop"},
                "start_ns": 1_763_863_200_000_000_000,
                "end_ns": 1_763_863_200_001_942_000,
                "client_packets": 3,
                "server_packets": 3,
                "client_bytes": 53,
                "server_bytes": 0,
                "tcp": {
                    "retransmissions": 1,
                    "fast_retransmissions": 2,
                    "out_of_order": 3,
                    "duplicate_acks": 4,
                    "zero_windows": 5,
                    "lost_segments": 6,
                    "handshake_ns": 40_000,
                },
                "phase": "startup",
                "verdict": "reset-during-startup",
                "failed": True,
                "fault": "server",
                "summary": startup_reset_verdict(talk).summary,
                "evidence": [
                    {
                        "capture": 0,
                        "frame": 113,
                        "time_ns": 1_763_863_200_000_122_000,
                        "note": "StartupMessage, 53 bytes",
                    },
                    {
                        "capture": 0,
                        "frame": 114,
                        "time_ns": 1_763_863_200_000_142_000,
                        "note": "the server acknowledges it",
                    },
                    {
                        "capture": 0,
                        "frame": 115,
                        "time_ns": 1_763_863_200_001_942_000,
                        "note": "the server resets",
                    },
                ],
                "candidates": [
                    "a proxy or load balancer in front of the server",
                    "the server ran into its start-up timeout or was told to stop",
                ],
                "proxy": {"ip": "127.0.0.1", "port": 15001, "name": None},
                "answers_tcp_stream": 5,
                "leg": {"connection": 4, "towards": "server", "began": "proxy", "guess": True},
            },
            {
                **document(diagnosis(row(good(Talk(id=4)), OK)))["connections"][0],
                "verdict": "ok",
                "tcp": None,
                "proxy": None,
                "answers_tcp_stream": None,
                "leg": None,
            },
        ],
    }


def test_a_connection_seen_at_two_points_counts_once_and_as_failed() -> None:
    talk = reset_in_startup(Talk(id=0))
    failed = row(talk, startup_reset_verdict(talk))
    elsewhere = replace(row(good(Talk(id=1)), OK, end_to_end=0), point="db-0")
    for rows in ((failed, elsewhere), (elsewhere, failed)):
        summary = document(diagnosis(*rows))["summary"]
        assert (summary["connections"], summary["failed"]) == (1, 1)
        assert summary["verdicts"] == {"reset-during-startup": 1}


def test_no_connections() -> None:
    nothing = document(Diagnosis((), ()))
    assert nothing["captures"] == nothing["connections"] == []
    assert nothing["summary"] == {"packets": 0, "connections": 0, "failed": 0, "verdicts": {}}


def test_one_connection_per_line() -> None:
    rows = [row(opened(Talk(id=number)), PROBE) for number in range(5)]
    out = io.StringIO()
    write_json(diagnosis(*rows), out)
    lines = [line for line in out.getvalue().splitlines() if '"end_to_end"' in line]
    assert [json.loads(line.strip().rstrip(","))["id"] for line in lines] == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_text_of_strangers_stays_text() -> None:
    strange = replace(
        OK, summary='quote " back\\slash \x1b[2J \ud800 newline\n', protocol_detail={"u": "\udcff"}
    )
    [connection] = document(diagnosis(row(good(Talk()), strange)))["connections"]
    assert connection["summary"] == strange.summary
