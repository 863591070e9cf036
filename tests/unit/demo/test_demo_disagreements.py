"""The demo ends well only if the diagnosis says what the proxy did: no more, no less, nothing else."""

from typing import Any

import pytest

from podcam.demo.proxy import Failed, Misbehaviour
from podcam.demo.story import disagreements

_FAILED = [Failed(1, "192.0.2.10", 40020, 20, Misbehaviour.RESET)]


def _row(port: int, **changes: Any) -> dict[str, Any]:
    row = {"client": {"ip": "192.0.2.10", "port": port}, "failed": True, "verdict": "reset-during-startup"}
    return row | {"fault": "server", "phase": "startup", "evidence": [{"frame": 1}]} | changes


def _good(port: int) -> dict[str, Any]:
    return _row(port, failed=False, verdict="ok", fault="none", phase="closing", evidence=[])


def test_agrees_on_exactly_the_failed_connections() -> None:
    assert disagreements({"connections": [_good(40019), _row(40020), _good(40021)]}, _FAILED) == []


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([_good(40020)], "port 40020 was failed and is not flagged"),
        ([_row(40020), _row(40021)], "port 40021 is flagged and was not failed"),
        (
            [_row(40020, verdict="connect-refused", fault="client", phase="connect")],
            "port 40020 is connect-refused, client, connect instead of reset-during-startup, server, startup",
        ),
        ([_row(40020, evidence=[])], "port 40020 has no evidence"),
    ],
)
def test_tells_what_differs(rows: list[dict[str, Any]], complaint: str) -> None:
    assert disagreements({"connections": rows}, _FAILED) == [complaint]


def test_a_proxy_that_failed_nothing_proves_nothing() -> None:
    assert disagreements({"connections": [_good(40019)]}, []) == ["the proxy failed no connection"]
