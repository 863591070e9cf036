"""Handing out bytes over HTTP: a bounded server, ranges, refusals that say why, and the files of a clip.

Stands on the standard library alone. Who may have what is decided by those who use it.
"""

from podcam.serving.clip_files import (
    GoneError,
    complete_clip,
    entries_of,
    files_of,
    opened,
    read_at,
    read_unchanged,
    version_of,
)
from podcam.serving.server import Body, Find, Limits, Refusal, Request, Server, whole

__all__ = [
    "Body",
    "Find",
    "GoneError",
    "Limits",
    "Refusal",
    "Request",
    "Server",
    "complete_clip",
    "entries_of",
    "files_of",
    "opened",
    "read_at",
    "read_unchanged",
    "version_of",
    "whole",
]
