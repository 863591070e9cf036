"""What an agent counts, in the text format of Prometheus.

Pure: figures come in, text goes out. Labels name namespaces and recordings, never pods or addresses: those
are many, come and go, and are for people with rights to see. The format:
https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricKind(StrEnum):
    """What may be done with the values of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Sample:
    """One value, told from the others of its metric by labels."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its samples; the name of a counter ends in `_total`."""

    name: str
    kind: MetricKind
    help: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class RecordingFigures:
    """One recording on this node; counts since the agent started."""

    namespace: str
    recording: str
    packets: int = 0
    bytes: int = 0
    dropped: int = 0
    connections: int = 0
    ring_bytes: int = 0
    ring_limit_bytes: int = 0
    """What the node's budget allows its rings to take."""
    ring_asked_bytes: int = 0
    points: Mapping[str, int] = field(default_factory=dict)
    """By state."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """By class."""
    clips: Mapping[str, int] = field(default_factory=dict)
    """Parts kept, by origin: `wire`, or `asked` by somebody else."""
    clips_suppressed: int = 0
    clips_failed: int = 0


@dataclass(frozen=True, slots=True)
class WatchFigures:
    """One watch of the API server."""

    kind: str
    connected: bool
    last_event_age_seconds: float | None
    """None before the first."""
    lists: int
    """How often everything was listed: once at the start, and again after each loss of the watch's place."""


@dataclass(frozen=True, slots=True)
class DiskFigures:
    """The file system that holds rings and clips, and what Podcam takes of it."""

    free_bytes: int
    floor_bytes: int
    budget_bytes: int
    rings_bytes: int
    clips_bytes: int
    ring_share: float
    """What live rings get together of what was asked for, 0 to 1."""


@dataclass(frozen=True, slots=True)
class AgentFigures:
    """Everything that an agent counts."""

    version: str
    started_seconds: float
    """Since 1970 UTC."""
    disk: DiskFigures
    recordings: tuple[RecordingFigures, ...] = ()
    watches: tuple[WatchFigures, ...] = ()
    requests: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """To the API server, by verb and by the answer's code."""
    restarts: Mapping[str, int] = field(default_factory=dict)
    """By process: `writer`, `detector`."""


def exposition(figures: AgentFigures) -> str:
    """The figures as a page that Prometheus reads."""
    return written((*_of_agent(figures), *_of_disk(figures.disk), *_of_recordings(figures.recordings)))


def written(metrics: Iterable[Metric]) -> str:
    """Metrics in the text format; one without samples is left out."""
    lines: list[str] = []
    for metric in metrics:
        if not metric.samples:
            continue
        lines += [f"# HELP {metric.name} {_escaped(metric.help)}", f"# TYPE {metric.name} {metric.kind}"]
        lines += [
            f"{metric.name}{_labels(sample.labels)} {_number(sample.value)}" for sample in metric.samples
        ]
    return "".join(f"{line}\n" for line in lines)


def _of_agent(figures: AgentFigures) -> Iterable[Metric]:
    yield _gauge("build_info", "Which Podcam runs here.", (Sample(1, {"version": figures.version}),))
    yield _gauge("start_time_seconds", "When the agent started.", (Sample(figures.started_seconds),))
    yield _counter(
        "process_restarts_total",
        "How often a process of the recorder had to be started again.",
        (Sample(count, {"process": process}) for process, count in sorted(figures.restarts.items())),
    )
    yield _counter(
        "api_requests_total",
        "Requests to the API server, by verb and code of the answer.",
        (
            Sample(count, {"verb": verb, "code": code})
            for (verb, code), count in sorted(figures.requests.items())
        ),
    )
    watches = figures.watches
    yield _gauge(
        "watch_connected",
        "Whether the watch of a kind of objects is open.",
        (Sample(watch.connected, {"kind": watch.kind}) for watch in watches),
    )
    yield _gauge(
        "watch_last_event_age_seconds",
        "How long ago a watch last said something, bookmarks included.",
        (
            Sample(watch.last_event_age_seconds, {"kind": watch.kind})
            for watch in watches
            if watch.last_event_age_seconds is not None
        ),
    )
    yield _counter(
        "watch_lists_total",
        "How often all objects of a kind were listed: once, and after each watch that lost its place.",
        (Sample(watch.lists, {"kind": watch.kind}) for watch in watches),
    )


def _of_disk(disk: DiskFigures) -> Iterable[Metric]:
    for name, text, value in (
        ("disk_free_bytes", "Free space of the file system that holds rings and clips.", disk.free_bytes),
        ("disk_floor_bytes", "Free space that rings and clips leave to others.", disk.floor_bytes),
        ("disk_budget_bytes", "What all rings and clips of the node may take.", disk.budget_bytes),
        ("disk_rings_bytes", "What rings take that no clip holds too.", disk.rings_bytes),
        ("disk_clips_bytes", "What clips take.", disk.clips_bytes),
        ("disk_ring_share", "What live rings get together of what was asked for, 0 to 1.", disk.ring_share),
    ):
        yield _gauge(name, text, (Sample(value),))


def _of_recordings(recordings: tuple[RecordingFigures, ...]) -> Iterable[Metric]:
    named = [({"namespace": each.namespace, "recording": each.recording}, each) for each in recordings]
    yield _gauge("recordings", "Recordings that concern this node.", (Sample(len(recordings)),))
    yield _gauge(
        "points",
        "Pods that a recording covers on this node, by state.",
        (
            Sample(count, {**names, "state": state})
            for names, each in named
            for state, count in sorted(each.points.items())
        ),
    )
    yield _counter(
        "packets_total", "Packets recorded.", (Sample(each.packets, names) for names, each in named)
    )
    yield _counter(
        "bytes_total", "Bytes of packets recorded.", (Sample(each.bytes, names) for names, each in named)
    )
    yield _counter(
        "packets_dropped_total",
        "Packets that the kernel could not hand over.",
        (Sample(each.dropped, names) for names, each in named),
    )
    yield _gauge(
        "ring_bytes", "Bytes in rings on disk.", (Sample(each.ring_bytes, names) for names, each in named)
    )
    yield _gauge(
        "ring_limit_bytes",
        "The most that the node's budget allows live rings now.",
        (Sample(each.ring_limit_bytes, names) for names, each in named),
    )
    yield _gauge(
        "ring_asked_bytes",
        "The most that the recording asks for its live rings.",
        (Sample(each.ring_asked_bytes, names) for names, each in named),
    )
    yield _counter(
        "connections_total",
        "TCP connections seen by the wire detector.",
        (Sample(each.connections, names) for names, each in named),
    )
    yield _counter(
        "failures_total",
        "Connections that failed, by the wire detector's class.",
        (
            Sample(count, {**names, "class": failure_class})
            for names, each in named
            for failure_class, count in sorted(each.failures.items())
        ),
    )
    yield _counter(
        "clips_total",
        "Parts of clips that this node kept, by what asked for them.",
        (
            Sample(count, {**names, "origin": origin})
            for names, each in named
            for origin, count in sorted(each.clips.items())
        ),
    )
    yield _counter(
        "clips_suppressed_total",
        "Failures that made no clip, as there had been enough.",
        (Sample(each.clips_suppressed, names) for names, each in named),
    )
    yield _counter(
        "clips_failed_total",
        "Parts of clips that could not be kept.",
        (Sample(each.clips_failed, names) for names, each in named),
    )


def _counter(name: str, text: str, samples: Iterable[Sample]) -> Metric:
    return Metric(f"podcam_{name}", MetricKind.COUNTER, text, tuple(samples))


def _gauge(name: str, text: str, samples: Iterable[Sample]) -> Metric:
    return Metric(f"podcam_{name}", MetricKind.GAUGE, text, tuple(samples))


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_quoted(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _quoted(value: str) -> str:
    return _escaped(value).replace('"', '\\"')


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    return repr(float(value)).removesuffix(".0")


@dataclass(slots=True)
class RunningTotals:
    """Counts of points summed by recording: they only grow, though points end and processes start anew."""

    _last: dict[str, dict[str, int]] = field(default_factory=dict)
    _sums: dict[str, dict[str, int]] = field(default_factory=dict)

    def take(self, point: str, recording: str, counts: Mapping[str, int | None]) -> None:
        """The counts of a point since its processes began; one smaller than before says they began anew."""
        last = self._last.setdefault(point, {})
        sums = self._sums.setdefault(recording, {})
        for name, count in counts.items():
            if count is None:
                continue
            before = last.get(name, 0)
            sums[name] = sums.get(name, 0) + (count - before if count >= before else count)
            last[name] = count

    def ended(self, point: str) -> None:
        """The point is recorded no more; should it come back, it counts from nought."""
        self._last.pop(point, None)

    def forget(self, kept: Container[str]) -> None:
        """Forget all recordings but these."""
        for recording in [recording for recording in self._sums if recording not in kept]:
            del self._sums[recording]

    def of(self, recording: str) -> Mapping[str, int]:
        """The sums of a recording, by name."""
        return self._sums.get(recording, {})
