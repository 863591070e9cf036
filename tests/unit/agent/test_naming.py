"""What clips, points and their folders are called."""

import re

import pytest

from podcam.agent.naming import Name, PointId, clip_folder, clip_of_folder, wire_clip_name

NOON_NS = 1_790_000_007 * 1_000_000_000  # 2026-09-21 14:13:27 UTC
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def test_a_clip_is_named_after_its_recording_and_ten_seconds() -> None:
    assert wire_clip_name("proxy", NOON_NS) == "proxy-20260921-141320"


def test_failures_of_the_same_ten_seconds_share_a_name_and_later_ones_do_not() -> None:
    at = {second: wire_clip_name("proxy", NOON_NS + second * 10**9) for second in (-8, -7, 2, 3)}
    assert at[-7] == at[2]
    assert len(set(at.values())) == 3


def test_a_clip_of_one_pod_carries_what_tells_the_pod_from_its_like() -> None:
    assert wire_clip_name("proxy", NOON_NS, pod="web-7d4b9c5f6-x2k9z") == "proxy-x2k9z-20260921-141320"
    assert wire_clip_name("proxy", NOON_NS, pod="db-0") == "proxy-db-0-20260921-141320"


def test_two_long_stateful_pods_do_not_share_a_clip() -> None:
    pods = [f"{name}-of-the-customer-database-0" for name in ("primary", "standby")]
    assert len({wire_clip_name("proxy", NOON_NS, pod=pod) for pod in pods}) == 2


def test_two_long_recordings_do_not_share_a_clip() -> None:
    names = [f"{'r' * 45}-{number}" for number in (1, 2)]
    assert len({wire_clip_name(name, NOON_NS) for name in names}) == 2


def test_another_clip_of_the_same_ten_seconds_is_numbered() -> None:
    taken = {"proxy-20260921-141320", "proxy-20260921-141320-2"}
    assert wire_clip_name("proxy", NOON_NS, taken=taken) == "proxy-20260921-141320-3"


@pytest.mark.parametrize("recording", ["a", "r" * 63, "a.b-c" * 50, f"{'x' * 33}.{'y' * 40}"])
@pytest.mark.parametrize("pod", [None, "web-7d4b9c5f6-x2k9z", f"{'s' * 7}-{'t' * 80}", "p" * 253])
def test_a_clips_name_is_a_subdomain_that_fits_a_label(recording: str, pod: str | None) -> None:
    first = wire_clip_name(recording, NOON_NS, pod=pod)
    second = wire_clip_name(recording, NOON_NS, pod=pod, taken={first})
    for name in (first, second):
        assert len(name) <= 63
        assert SUBDOMAIN.fullmatch(name), name
    assert first != second


def test_a_clips_folder_leads_back_to_the_clip() -> None:
    clip = Name("team-a", "proxy-20260921-141320")
    assert clip_folder(clip) == "team-a_proxy-20260921-141320"
    assert clip_of_folder(clip_folder(clip)) == clip


@pytest.mark.parametrize("folder", ["20260921-141320-asked", "_name", "namespace_", "a_b_c", ""])
def test_another_folder_is_no_clip_of_a_cluster(folder: str) -> None:
    assert clip_of_folder(folder) is None


def test_a_clip_whose_folder_could_not_be_made_is_refused() -> None:
    with pytest.raises(ValueError, match="too long by 18 characters"):
        clip_folder(Name("n" * 10, "c" * 253))


def test_a_point_knows_its_recording_and_what_people_call_it() -> None:
    point = PointId.parse("team-a/proxy/web-7d4b9c5f6-x2k9z")
    assert (point.recording_id, point.name) == ("team-a/proxy", "team-a/web-7d4b9c5f6-x2k9z")
    assert PointId.parse(str(point)) == point


@pytest.mark.parametrize("text", ["", "a", "a/b", "a//c", "a/b/c/d", "/b/c"])
def test_what_is_no_point_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NAMESPACE/RECORDING/POD"):
        PointId.parse(text)


@pytest.mark.parametrize("text", ["", "a", "a/", "/b", "a/b/c"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NAMESPACE/NAME"):
        Name.parse(text)


def test_a_points_folder_has_to_fit_its_file_system() -> None:
    assert PointId("n" * 63, "r" * 63, "p" * 114).fits_a_folder
    assert not PointId("n" * 63, "r" * 63, "p" * 115).fits_a_folder
