"""What an agent counts, as Prometheus reads it."""

import re
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podcam.agent.metrics import (
    AgentFigures,
    DiskFigures,
    Metric,
    MetricKind,
    RecordingFigures,
    RunningTotals,
    Sample,
    WatchFigures,
    exposition,
    written,
)

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'(?P<label>[a-zA-Z_][a-zA-Z0-9_]*)="(?P<text>(?:[^"\\\n]|\\["\\n])*)"'
LINE = re.compile(
    rf"(?P<name>{NAME})(?:\{{(?P<labels>{LABEL.replace('?P<label>', '?:').replace('?P<text>', '?:')}"
    rf"(?:,{LABEL.replace('?P<label>', '?:').replace('?P<text>', '?:')})*)\}})? (?P<value>\S+)"
)
HEAD = re.compile(rf"# (?P<what>HELP|TYPE) (?P<name>{NAME}) (?P<rest>(?:[^\\\n]|\\[\\n])*)")

FIGURES = AgentFigures(
    version="0.4.0",
    started_seconds=1_790_000_000.25,
    disk=DiskFigures(80 * 10**9, 20 * 10**9, 10 * 10**9, 5 * 10**8, 10**6, 0.57),
    recordings=(
        RecordingFigures(
            "shop",
            "proxy",
            packets=10,
            bytes=2**60 + 1,
            dropped=2,
            connections=3,
            ring_bytes=4,
            ring_limit_bytes=5,
            ring_asked_bytes=6,
            points={"Recording": 2, "Refused": 1},
            failures={"reset": 1, "refused": 2},
            clips={"wire": 1},
            clips_suppressed=7,
            clips_failed=8,
        ),
        RecordingFigures("bank", "all"),
    ),
    watches=(WatchFigures("Recording", True, 1.5, 1), WatchFigures("Clip", False, None, 0)),
    requests={("patch", "200"): 5, ("create", "409"): 1},
    restarts={"writer": 1, "detector": 0},
)


def read(page: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """A page as its format's grammar has it: a head per metric, its samples together, no sample twice."""
    assert page == "" or page.endswith("\n")
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
    heads: list[tuple[str, str]] = []
    for line in page.splitlines():
        if head := HEAD.fullmatch(line):
            assert (head["what"], head["name"]) not in heads
            heads.append((head["what"], head["name"]))
            assert head["what"] == "HELP" or head["rest"] in ("counter", "gauge")
            continue
        sample = LINE.fullmatch(line)
        assert sample, line
        assert heads[-2:] == [("HELP", sample["name"]), ("TYPE", sample["name"])]
        labels = tuple(
            (pair["label"], _unescaped(pair["text"])) for pair in re.finditer(LABEL, sample["labels"] or "")
        )
        assert len(dict(labels)) == len(labels)
        assert labels not in found[sample["name"]]
        found[sample["name"]][labels] = float(sample["value"])
    assert {name for _, name in heads} == found.keys()
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda escape: "\n" if escape[1] == "n" else escape[1], text)


def test_all_that_is_counted_can_be_read() -> None:
    page = read(exposition(FIGURES))
    proxy = (("namespace", "shop"), ("recording", "proxy"))
    assert page["podcam_build_info"] == {(("version", "0.4.0"),): 1}
    assert page["podcam_start_time_seconds"] == {(): 1_790_000_000.25}
    assert page["podcam_points"] == {(*proxy, ("state", "Recording")): 2, (*proxy, ("state", "Refused")): 1}
    assert page["podcam_failures_total"][*proxy, ("class", "refused")] == 2
    assert page["podcam_clips_total"] == {(*proxy, ("origin", "wire")): 1}
    assert {name: samples[proxy] for name, samples in page.items() if proxy in samples} == {
        "podcam_packets_total": 10,
        "podcam_bytes_total": 2**60,
        "podcam_packets_dropped_total": 2,
        "podcam_ring_bytes": 4,
        "podcam_ring_limit_bytes": 5,
        "podcam_ring_asked_bytes": 6,
        "podcam_connections_total": 3,
        "podcam_clips_suppressed_total": 7,
        "podcam_clips_failed_total": 8,
    }
    assert page["podcam_watch_connected"] == {(("kind", "Recording"),): 1, (("kind", "Clip"),): 0}
    assert page["podcam_watch_last_event_age_seconds"] == {(("kind", "Recording"),): 1.5}
    assert page["podcam_watch_lists_total"] == {(("kind", "Recording"),): 1, (("kind", "Clip"),): 0}
    assert page["podcam_api_requests_total"][("verb", "create"), ("code", "409")] == 1
    assert page["podcam_process_restarts_total"] == {
        (("process", "detector"),): 0,
        (("process", "writer"),): 1,
    }
    assert {name: samples[()] for name, samples in page.items() if name.startswith("podcam_disk")} == {
        "podcam_disk_free_bytes": 80e9,
        "podcam_disk_floor_bytes": 20e9,
        "podcam_disk_budget_bytes": 10e9,
        "podcam_disk_rings_bytes": 5e8,
        "podcam_disk_clips_bytes": 1e6,
        "podcam_disk_ring_share": 0.57,
    }


def test_an_agent_without_recordings_has_a_page_too() -> None:
    page = read(exposition(AgentFigures("0", 0, DiskFigures(0, 0, 0, 0, 0, 1))))
    assert page["podcam_recordings"] == {(): 0}
    assert "podcam_packets_total" not in page


def test_counters_end_in_total_and_gauges_do_not() -> None:
    kinds = re.findall(r"^# TYPE (\S+) (\S+)$", exposition(FIGURES), re.MULTILINE)
    assert len(kinds) > 20
    assert all((kind == "counter") == name.endswith("_total") for name, kind in kinds)


def test_no_label_could_name_a_pod_or_an_address() -> None:
    labels = {label for samples in read(exposition(FIGURES)).values() for key in samples for label, _ in key}
    assert labels == {
        "version",
        "namespace",
        "recording",
        "state",
        "class",
        "origin",
        "kind",
        "verb",
        "code",
        "process",
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (True, "1"),
        (1.5, "1.5"),
        (2**40, "1099511627776"),
        (-3, "-3"),
        (1e300, "1e+300"),
        (0.1, "0.1"),
    ],
)
def test_numbers_are_written_so_that_nothing_is_lost(value: float, text: str) -> None:
    assert written([Metric("a", MetricKind.GAUGE, "b", (Sample(value),))]).splitlines()[-1] == f"a {text}"


@given(
    st.lists(st.text(), unique=True, max_size=4),
    st.text(st.characters(exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")),
    st.floats(allow_nan=False),
)
def test_whatever_stands_in_a_label_is_read_as_it_was_written(
    labels: list[str], text: str, value: float
) -> None:
    samples = tuple(Sample(value, {"label": label, "other": "x"}) for label in labels)
    page = written([Metric("name", MetricKind.GAUGE, text, samples)])
    if not labels:
        assert page == ""
        return
    head, _, *lines = page.removesuffix("\n").split("\n")
    assert HEAD.fullmatch(head)
    for line, label in zip(lines, labels, strict=True):
        sample = LINE.fullmatch(line)
        assert sample
        first = re.match(LABEL, sample["labels"])
        assert first
        assert _unescaped(first["text"]) == label
        assert float(sample["value"]) == value


def test_counts_of_points_are_summed_by_recording() -> None:
    totals = RunningTotals()
    totals.take("a", "shop/proxy", {"packets": 10, "dropped": None})
    totals.take("b", "shop/proxy", {"packets": 5})
    totals.take("a", "shop/proxy", {"packets": 12, "dropped": 1})
    totals.take("c", "shop/dns", {"packets": 1})
    assert totals.of("shop/proxy") == {"packets": 17, "dropped": 1}
    assert totals.of("shop/other") == {}


def test_what_ended_points_counted_stays_and_one_that_begins_anew_adds_to_it() -> None:
    totals = RunningTotals()
    totals.take("a", "r", {"packets": 10})
    totals.ended("a")
    assert totals.of("r") == {"packets": 10}
    totals.take("a", "r", {"packets": 12})
    assert totals.of("r") == {"packets": 22}
    totals.take("a", "r", {"packets": 3})
    assert totals.of("r") == {"packets": 25}
    totals.forget({"r"})
    assert totals.of("r") == {"packets": 25}
    totals.forget(set())
    assert totals.of("r") == {}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9) | st.none())))
def test_sums_only_grow(counts: list[tuple[str, int | None]]) -> None:
    totals, last = RunningTotals(), 0
    for point, count in counts:
        totals.take(point, "r", {"packets": count})
        assert totals.of("r").get("packets", 0) >= last
        last = totals.of("r").get("packets", 0)
