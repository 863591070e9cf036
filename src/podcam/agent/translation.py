"""From what stands in a `Recording` to what the recorder is told. Pure."""

from podcam.capture import DEFAULT_SNAPLEN
from podcam.kube import NamespaceLimits, Recording
from podcam.recorder import RecordingSettings, RingSettings, Scope, TrafficSettings, TriggerSettings
from podcam.trigger import DEFAULT_CLASSES

_ALL_INTERFACES = "any"
_MOST_HEADERS = 128
"""Ethernet, IPv6 and TCP with all its options take 114 bytes. A namespace's limit cuts whole packets behind
them, too: fragments, and what is neither TCP nor UDP, have payload that the limit on payload cannot see."""


def recording_settings(recording: Recording, limits: NamespaceLimits) -> RecordingSettings:
    """What the recorder does for a recording in a namespace with these limits."""
    return RecordingSettings(
        traffic=_traffic(recording, limits),
        ring=RingSettings(recording.ring_segments, recording.ring_segment_bytes),
        trigger=TriggerSettings(
            on=DEFAULT_CLASSES if recording.on is None else frozenset(recording.on),
            exempt_habits=recording.on is None,
            before_ns=recording.before_ns,
            after_ns=recording.after_ns,
        ),
        scope=Scope(recording.scope),
        clips_per_hour=recording.clips_per_hour,
    )


def limit_notes(recording: Recording, limits: NamespaceLimits) -> tuple[str, ...]:
    """Sentences about what the namespace takes away from what was asked for."""
    notes = [f"namespace {limits.name}: {problem}" for problem in limits.problems]
    allowed = limits.max_payload_bytes
    if allowed is not None and (recording.payload_bytes is None or recording.payload_bytes > allowed):
        kept = "no payload is kept" if allowed == 0 else f"{allowed:,} bytes of payload per packet are kept"
        notes.append(f"{kept}, as namespace {limits.name} allows no more")
    return tuple(notes)


def _traffic(recording: Recording, limits: NamespaceLimits) -> TrafficSettings:
    allowed = limits.max_payload_bytes
    payload, snaplen = recording.payload_bytes, recording.snaplen or DEFAULT_SNAPLEN
    if allowed is not None:
        payload = allowed if payload is None else min(payload, allowed)
        snaplen = min(snaplen, _MOST_HEADERS + allowed)
    return TrafficSettings(
        interfaces=() if _ALL_INTERFACES in recording.interfaces else recording.interfaces,
        networks=recording.networks,
        names=recording.names,
        ports=recording.ports,
        narrow=recording.narrow,
        payload_bytes=payload,
        snaplen=snaplen,
        own_only=True,
    )
