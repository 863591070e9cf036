"""Write down what is diagnosed now as what is expected; then read the diff.

Run it with `.venv/bin/python tests/golden_diagnosis.py`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from podcam.diagnose import diagnose

CAPTURES = Path(__file__).parent / "golden" / "captures"
EXPECTED = Path(__file__).parent / "golden" / "expected"


def diagnosed(capture: Path) -> list[dict[str, Any]]:
    """The verdicts of a capture, one row per connection."""
    case = diagnose([capture])
    return [
        {
            "tcp_stream": row.tcp_stream,
            "server_port": row.server.port,
            "protocol": row.verdict.protocol.value,
            "verdict": row.verdict.id.value,
            "failed": row.verdict.failed,
            "fault": row.verdict.fault.value,
            "phase": row.verdict.phase.value,
            "summary": row.verdict.summary,
            "evidence": [[evidence.frame, evidence.note] for evidence in row.verdict.evidence],
            "compared_with": case.diagnosis.comparisons.get(row.id),
        }
        for row in case.diagnosis.connections
    ]


def lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """JSON with one connection per line, for diffs."""
    yield "[\n"
    for index, row in enumerate(rows):
        end = "," if index + 1 < len(rows) else ""
        yield f"  {json.dumps(row, ensure_ascii=False)}{end}\n"
    yield "]\n"


if __name__ == "__main__":
    for capture in sorted(CAPTURES.glob("*.pcap")):
        with (EXPECTED / f"{capture.stem}.json").open("w") as file:
            file.writelines(lines(diagnosed(capture)))
