"""One or many points: their writer, wire detector, control socket and freezing.

Stands on the standard library alone and imports nothing that analyses. `Recorder` (supervisor.py) starts a
writer (writer.py) and a detector (detection.py), which are processes of their own.
"""

from podcam.recorder.control import ask_recorder
from podcam.recorder.events import Event
from podcam.recorder.folder import RecorderFolder, default_folder
from podcam.recorder.resting import clip_at_rest
from podcam.recorder.settings import (
    RecorderSettings,
    RingSettings,
    TrafficSettings,
    TriggerSettings,
)
from podcam.recorder.supervisor import Recorder

__all__ = [
    "Event",
    "Recorder",
    "RecorderFolder",
    "RecorderSettings",
    "RingSettings",
    "TrafficSettings",
    "TriggerSettings",
    "ask_recorder",
    "clip_at_rest",
    "default_folder",
]
