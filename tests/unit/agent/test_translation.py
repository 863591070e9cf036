"""From what stands in a recording to what the recorder is told."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from podcam.agent.translation import limit_notes, recording_settings
from podcam.kube import LabelSelector, NamespaceLimits, Recording
from podcam.model.verdict import FailureClass
from podcam.recorder import RecordingSettings, RingSettings, Scope, TrafficSettings, TriggerSettings
from podcam.trigger import DEFAULT_CLASSES

SECOND_NS = 10**9
FREE = NamespaceLimits("shop")
BARE = Recording(
    namespace="shop", name="proxy", uid="u", generation=1, created_ns=0, selector=LabelSelector()
)


def traffic(recording: Recording, limits: NamespaceLimits = FREE) -> TrafficSettings:
    return recording_settings(recording, limits).traffic


def test_a_bare_recording_keeps_all_traffic_in_a_quarter_of_a_gigabyte() -> None:
    assert recording_settings(BARE, FREE) == RecordingSettings(
        traffic=TrafficSettings(own_only=True),
        ring=RingSettings(10, 25_000_000),
        trigger=TriggerSettings(DEFAULT_CLASSES, True, 60 * SECOND_NS, 10 * SECOND_NS),
        scope=Scope.RECORDING,
        clips_per_hour=12,
    )


def test_everything_that_was_asked_for_is_told() -> None:
    asked = replace(
        BARE,
        ports=(5432, 6432),
        hosts=("10.0.0.0/8", "db.example"),
        networks=(ip_network("10.0.0.0/8"),),
        names=("db.example",),
        narrow=True,
        interfaces=("eth0", "lo"),
        payload_bytes=64,
        snaplen=256,
        ring_segments=4,
        ring_segment_bytes=50_000_000,
        on=(FailureClass.RESET,),
        before_ns=5 * SECOND_NS,
        after_ns=0,
        clips_per_hour=3,
        scope="pod",
    )
    assert recording_settings(asked, FREE) == RecordingSettings(
        traffic=TrafficSettings(
            own_only=True,
            interfaces=("eth0", "lo"),
            networks=(ip_network("10.0.0.0/8"),),
            names=("db.example",),
            ports=(5432, 6432),
            narrow=True,
            payload_bytes=64,
            snaplen=256,
        ),
        ring=RingSettings(4, 50_000_000),
        trigger=TriggerSettings(frozenset({FailureClass.RESET}), False, 5 * SECOND_NS, 0),
        scope=Scope.POD,
        clips_per_hour=3,
    )


def test_an_empty_list_of_triggers_means_none() -> None:
    trigger = recording_settings(replace(BARE, on=()), FREE).trigger
    assert (trigger.on, trigger.exempt_habits) == (frozenset(), False)


def test_any_interface_means_all() -> None:
    assert traffic(replace(BARE, interfaces=("eth0", "any"))).interfaces == ()


@pytest.mark.parametrize(
    ("asked", "allowed", "kept"),
    [
        (None, None, None),
        (64, None, 64),
        (None, 100, 100),
        (64, 100, 64),
        (200, 100, 100),
        (64, 0, 0),
        (0, 9, 0),
    ],
)
def test_of_payload_the_namespace_has_the_last_word(
    asked: int | None, allowed: int | None, kept: int | None
) -> None:
    limits = NamespaceLimits("shop", max_payload_bytes=allowed)
    assert traffic(replace(BARE, payload_bytes=asked), limits).payload_bytes == kept


def test_a_limit_on_payload_holds_for_packets_whose_payload_cannot_be_told() -> None:
    """Fragments, and what is neither TCP nor UDP; a TCP packet's headers stay whole."""
    ethernet, ipv6, tcp_with_options = 14, 40, 60
    limited = traffic(BARE, NamespaceLimits("shop", max_payload_bytes=100))
    assert ethernet + ipv6 + tcp_with_options + 100 <= limited.snaplen <= 128 + 100
    assert traffic(replace(BARE, snaplen=90), NamespaceLimits("shop", max_payload_bytes=100)).snaplen == 90
    assert traffic(replace(BARE, payload_bytes=0)).snaplen == TrafficSettings().snaplen


def test_what_a_namespace_takes_away_is_said() -> None:
    limits = NamespaceLimits("shop", 1000, False, ("podcam.dev/allow-host-network is 'yes'",))
    assert limit_notes(BARE, limits) == (
        "namespace shop: podcam.dev/allow-host-network is 'yes'",
        "1,000 bytes of payload per packet are kept, as namespace shop allows no more",
    )
    assert limit_notes(replace(BARE, payload_bytes=1000), NamespaceLimits("shop", 1000)) == ()
    assert limit_notes(BARE, FREE) == ()
