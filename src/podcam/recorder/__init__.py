"""One or many points: their writer, wire detector, control socket and freezing.

Stands on the standard library alone and imports nothing that analyses. `Recorder` (supervisor.py) starts a
writer (writer.py) and a detector (detection.py), which are processes of their own; points and recordings come
and go while it runs:

    loop = Loop()
    recorder = Recorder(RecorderSettings(folder), loop, observe)
    recorder.start()
    recorder.define("shop/checkout", RecordingSettings(traffic, ring, trigger))
    recorder.add(PointSettings("shop/checkout/web-7d", "shop/web-7d", "shop/checkout", namespace))
    while …:
        loop.run_once(1.0)
    recorder.stop()

`Foreground` is that for one recording, until a signal.
"""

from podcam.recorder.control import ask_recorder
from podcam.recorder.events import Event
from podcam.recorder.folder import RecorderFolder
from podcam.recorder.foreground import Foreground
from podcam.recorder.loop import HasFileno, Loop, Timer
from podcam.recorder.resolver import ResolverConfig
from podcam.recorder.resting import clip_at_rest
from podcam.recorder.rings import Owner, RestingRing, resting_ring, resting_rings
from podcam.recorder.settings import (
    KeepRequest,
    PointSettings,
    RecorderSettings,
    RecordingSettings,
    RingSettings,
    Scope,
    Subject,
    TrafficSettings,
    TriggerSettings,
)
from podcam.recorder.supervisor import Recorder

__all__ = [
    "Event",
    "Foreground",
    "HasFileno",
    "KeepRequest",
    "Loop",
    "Owner",
    "PointSettings",
    "Recorder",
    "RecorderFolder",
    "RecorderSettings",
    "RecordingSettings",
    "ResolverConfig",
    "RestingRing",
    "RingSettings",
    "Scope",
    "Subject",
    "Timer",
    "TrafficSettings",
    "TriggerSettings",
    "ask_recorder",
    "clip_at_rest",
    "resting_ring",
    "resting_rings",
]
