"""The agent's log: one JSON object per line on standard error, never with payload."""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol


class _Lines(Protocol):
    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


class Log:
    """Writes lines, and counts them by level. From any thread."""

    def __init__(self, lines: _Lines | None = None, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.counts: Counter[str] = Counter()
        self._lines = sys.stderr if lines is None else lines
        self._now_ns = now_ns
        self._lock = threading.Lock()

    def info(self, text: str, **fields: Any) -> None:
        """Something worth knowing happened."""
        self._line("info", text, fields)

    def warning(self, text: str, **fields: Any) -> None:
        """Something is not as it should be; the agent goes on."""
        self._line("warning", text, fields)

    def error(self, text: str, **fields: Any) -> None:
        """Something that was asked for cannot be done, or the agent has a defect; it goes on."""
        self._line("error", text, fields)

    def _line(self, level: str, text: str, fields: dict[str, Any]) -> None:
        moment = datetime.fromtimestamp(self._now_ns() / 1e9, UTC)
        body = {"time": f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z", "level": level, "text": text}
        body |= {name: value for name, value in fields.items() if value is not None}
        line = json.dumps(body, default=str, ensure_ascii=False) + "\n"
        with self._lock:
            self.counts[level] += 1
            try:
                self._lines.write(line)
                self._lines.flush()
            except OSError:
                self.counts["unwritten"] += 1  # a full disk behind the log is no reason to stop recording
