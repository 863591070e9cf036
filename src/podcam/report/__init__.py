"""Diagnosis to view model (pure), then terminal, JSON and annotated pcapng.

Decides nothing: what it shows is in the diagnosis.
"""

from podcam.report.annotate import annotate
from podcam.report.console import console
from podcam.report.contract import write_json
from podcam.report.terminal import TerminalReport

__all__ = ["TerminalReport", "annotate", "console", "write_json"]
