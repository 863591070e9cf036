"""Pods that say something, and what of it a recorder in the test's own process has on disk."""

import time
from pathlib import Path

import network_lab as lab
from podcam.capture import Namespace
from podcam.model.point import Window
from podcam.model.verdict import FailureClass
from podcam.recorder import (
    KeepRequest,
    RecordingSettings,
    RingSettings,
    Scope,
    TrafficSettings,
    TriggerSettings,
)
from podcam.ring import SegmentReader, segments_in
from recorders import OwnRecorder

SECOND = 1_000_000_000
PORT, OTHER_PORT = 7000, 7001
SMALL = RingSettings(4, 1_000_000)


def settings(
    *,
    ports: tuple[int, ...] = (),
    payload: int | None = None,
    on: tuple[FailureClass, ...] = (),
    scope: Scope = Scope.RECORDING,
    clips_per_hour: int | None = None,
) -> RecordingSettings:
    return RecordingSettings(
        traffic=TrafficSettings(ports=ports, payload_bytes=payload),
        ring=SMALL,
        trigger=TriggerSettings(frozenset(on), before_ns=20 * SECOND, after_ns=SECOND // 5),
        scope=scope,
        clips_per_hour=clips_per_hour,
    )


def send(where: Namespace, text: bytes, port: int = PORT) -> None:
    """A datagram over loopback, to a socket that is there."""
    with lab.udp_socket(where, port=port), lab.udp_socket(where) as sender:
        sender.sendto(text, ("127.0.0.1", port))


def texts_in(folder: Path) -> set[bytes]:
    """What the datagrams in the segments of a folder say."""
    found = set()
    for path in segments_in(folder):
        found |= {
            bytes(p.data[42:]) for p in SegmentReader(path).packets() if bytes(p.data[23:24]) == b"\x11"
        }
    return found


def texts_of(own: OwnRecorder, point_id: str) -> set[bytes]:
    return texts_in(own.folder.ring(point_id))


def recorded(own: OwnRecorder, point_id: str, text: bytes) -> None:
    """Wait until a datagram lies on disk."""
    own.until(lambda: text in texts_of(own, point_id))


def for_long(clip: str, **others: bool) -> KeepRequest:
    """A clip that stays open until its recorder is stopped."""
    now_ns = time.time_ns()
    window = Window(now_ns - SECOND, now_ns + 3600 * SECOND)
    return KeepRequest(clip, "web", None, window, "why", now_ns, **others)
