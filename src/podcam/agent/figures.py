"""The figures of an agent, put together for its metrics."""

from collections import Counter
from collections.abc import Iterable, Mapping

from podcam import __version__
from podcam.agent.metrics import AgentFigures, DiskFigures, RecordingFigures, WatchFigures
from podcam.agent.points import Points
from podcam.agent.rings import Rings
from podcam.agent.tallies import Tallies


def agent_figures(
    *,
    started_ns: int,
    recordings: Iterable[str],
    points: Points,
    rings: Rings,
    tallies: Tallies,
    watches: tuple[WatchFigures, ...],
    requests: Mapping[tuple[str, str], int],
    restarts: Mapping[str, int],
) -> AgentFigures:
    """What stands now, and what was counted since the agent started."""
    disk, plan = rings.disk(), rings.plan
    concerned = sorted(points.recordings & set(recordings))
    figures = tuple(_recording(recording, points, rings, tallies) for recording in concerned)
    return AgentFigures(
        version=__version__,
        started_seconds=started_ns / 1e9,
        disk=DiskFigures(
            free_bytes=disk.free_bytes,
            floor_bytes=disk.floor_bytes,
            budget_bytes=disk.budget_bytes,
            rings_bytes=sum(each.ring_bytes for each in figures),
            clips_bytes=rings.clips_bytes,
            ring_share=plan.share,
        ),
        recordings=figures,
        watches=watches,
        requests=requests,
        restarts=restarts,
    )


def _recording(recording: str, points: Points, rings: Rings, tallies: Tallies) -> RecordingFigures:
    namespace, _, name = recording.partition("/")
    tally, counts = tallies.of(recording), tallies.counts(recording)
    limit_bytes, asked_bytes = rings.limits_of(recording)
    return RecordingFigures(
        namespace=namespace,
        recording=name,
        packets=counts.get("packets", 0),
        bytes=counts.get("bytes", 0),
        dropped=counts.get("dropped", 0),
        connections=counts.get("connections", 0),
        ring_bytes=rings.bytes_of(recording),
        ring_limit_bytes=limit_bytes,
        ring_asked_bytes=asked_bytes,
        points=Counter(point.state.value for point in points.of(recording)),
        failures=dict(tally.failures),
        clips=dict(tally.clips),
        clips_suppressed=tally.suppressed,
        clips_failed=tally.clips_failed,
    )
