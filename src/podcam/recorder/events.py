"""The events of a recorder, as `podcam record --json` prints them."""

import time
from collections.abc import Mapping
from typing import Any

from podcam.model.failure import Failure

Event = dict[str, Any]
"""One line of `podcam record --json`: `event`, `time_ns`, `point`, and what belongs to that event."""


def event(kind: str, point: str | None, fields: Mapping[str, Any]) -> Event:
    """An event that happens now."""
    return {"event": kind, "time_ns": time.time_ns(), "point": point, **fields}


def failure_fields(failure: Failure) -> Event:
    """A connection that failed, as events tell of it."""
    return {
        "class": failure.failure_class,
        "client": {"ip": failure.client.ip, "port": failure.client.port},
        "server": {"ip": failure.server.ip, "port": failure.server.port},
        "by": failure.by,
        "start_ns": failure.start_ns,
        "failed_ns": failure.time_ns,
        "client_bytes": failure.client_bytes,
        "client_acked": failure.client_acked,
        "server_bytes": failure.server_bytes,
        "server_acked": failure.server_acked,
        "text": failure.sentence(),
    }
