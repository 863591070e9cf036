"""`podcam diagnose --json`: the contract `podcam.diagnosis/1`. Fields may be added, not renamed."""

import json
from collections.abc import Iterator
from typing import Any, TextIO

from podcam.model.connection import TcpCounts
from podcam.model.diagnosis import CaptureSummary, DiagnosedConnection, Diagnosis, Leg
from podcam.model.point import Endpoint
from podcam.report.view import overview

SCHEMA = "podcam.diagnosis/1"


def write_json(diagnosis: Diagnosis, out: TextIO) -> None:
    """Write the document with one connection per line, so that it can be read, grepped and streamed."""
    out.writelines(_lines(diagnosis))


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    captures = [_capture(capture) for capture in diagnosis.captures]
    yield f'{{"schema": "{SCHEMA}",\n "captures": {_line(captures)},\n'
    yield f' "summary": {_line(_summary(diagnosis))},\n'
    yield ' "connections": ['
    separator = "\n  "
    for row in diagnosis.connections:
        yield separator + _line(_connection(row))
        separator = ",\n  "
    yield "\n ]}\n"


def _line(value: object) -> str:
    return json.dumps(value, allow_nan=False)


def _capture(capture: CaptureSummary) -> dict[str, Any]:
    return {
        "path": capture.path,
        "packets": capture.packets,
        "bytes": capture.bytes,
        "first_ns": capture.first_ns,
        "last_ns": capture.last_ns,
        "link_types": list(capture.link_types),
        "points": list(capture.points),
        "dropped": capture.dropped,
        "warnings": list(capture.warnings),
    }


def _summary(diagnosis: Diagnosis) -> dict[str, Any]:
    total = overview(diagnosis)
    return {
        "packets": total.packets,
        "connections": total.connections,
        "failed": total.failed,
        "verdicts": {str(verdict): count for verdict, count in total.verdicts.items()},
    }


def _connection(row: DiagnosedConnection) -> dict[str, Any]:
    verdict = row.verdict
    return {
        "id": row.id,
        "end_to_end": row.end_to_end,
        "capture": row.capture,
        "point": row.point,
        "transport": row.transport,
        "tcp_stream": row.tcp_stream,
        "tunnel": list(row.tunnel),
        "client": _endpoint(row.client),
        "server": _endpoint(row.server),
        "protocol": str(verdict.protocol),
        "protocol_detail": dict(verdict.protocol_detail),
        "start_ns": row.start_ns,
        "end_ns": row.end_ns,
        "client_packets": row.client_packets,
        "server_packets": row.server_packets,
        "client_bytes": row.client_bytes,
        "server_bytes": row.server_bytes,
        "tcp": None if row.tcp is None else _tcp(row.tcp),
        "phase": str(verdict.phase),
        "verdict": str(verdict.id),
        "failed": verdict.failed,
        "fault": str(verdict.fault),
        "summary": verdict.summary,
        "evidence": [
            {"capture": proof.capture, "frame": proof.frame, "time_ns": proof.time_ns, "note": proof.note}
            for proof in verdict.evidence
        ],
        "candidates": list(verdict.candidates),
        "proxy": None if row.proxy is None else _endpoint(row.proxy),
        "answers_tcp_stream": row.answers_tcp_stream,
        "leg": None if row.leg is None else _leg(row.leg),
    }


def _leg(leg: Leg) -> dict[str, Any]:
    """As the name of the last field says: nothing in the packets proves it."""
    began = None if leg.began is None else str(leg.began)
    return {"connection": leg.connection, "towards": str(leg.towards), "began": began, "guess": True}


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {"ip": endpoint.ip, "port": endpoint.port, "name": endpoint.name}


def _tcp(counts: TcpCounts) -> dict[str, Any]:
    return {
        "retransmissions": counts.retransmissions,
        "fast_retransmissions": counts.fast_retransmissions,
        "out_of_order": counts.out_of_order,
        "duplicate_acks": counts.duplicate_acks,
        "zero_windows": counts.zero_windows,
        "lost_segments": counts.lost_segments,
        "handshake_ns": counts.handshake_ns,
    }
