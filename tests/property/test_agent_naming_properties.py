"""Names of clips and points, whatever recordings and pods are called."""

import re

from hypothesis import given
from hypothesis import strategies as st

from podcam.agent.naming import BUCKET_SECONDS, Name, PointId, clip_folder, clip_of_folder, wire_clip_name

SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
SECOND_NS = 10**9

labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?", fullmatch=True)
subdomains = st.lists(labels, min_size=1, max_size=4).map(".".join)
times = st.integers(0, 4 * 10**9 * SECOND_NS)


@given(subdomains, times, st.none() | subdomains, st.integers(0, 12))
def test_a_clips_name_is_an_objects_name_and_a_labels_value(
    recording: str, failed_ns: int, pod: str | None, others: int
) -> None:
    taken: set[str] = set()
    for _ in range(others + 1):
        name = wire_clip_name(recording, failed_ns, pod=pod, taken=taken)
        assert name not in taken
        assert re.fullmatch(SUBDOMAIN, name)
        assert LABEL_VALUE.fullmatch(name)
        taken.add(name)


@given(subdomains, times, st.integers(0, 3 * BUCKET_SECONDS * SECOND_NS))
def test_names_agree_within_ten_seconds_and_only_there(recording: str, first_ns: int, later_ns: int) -> None:
    bucket_ns = BUCKET_SECONDS * SECOND_NS
    together = first_ns // bucket_ns == (first_ns + later_ns) // bucket_ns
    names = {wire_clip_name(recording, time_ns) for time_ns in (first_ns, first_ns + later_ns)}
    assert len(names) == (1 if together else 2)


@given(st.lists(subdomains, min_size=2, max_size=2, unique=True), times)
def test_clips_of_two_recordings_never_share_a_name(recordings: list[str], failed_ns: int) -> None:
    assert len({wire_clip_name(recording, failed_ns) for recording in recordings}) == 2


@given(labels, subdomains, subdomains)
def test_folders_and_ids_lead_back(namespace: str, one: str, other: str) -> None:
    assert clip_of_folder(clip_folder(Name(namespace, one))) == Name(namespace, one)
    assert Name.parse(str(Name(namespace, one))) == Name(namespace, one)
    point = PointId(namespace, one, other)
    assert PointId.parse(str(point)) == point
