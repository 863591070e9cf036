"""Merging what agents report: however they report, die and come back, it says the same in the end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from podcam.agent import clip_status, recording_status
from podcam.agent.recording_status import NodeStatus, PointState, PointStatus, entry_due, node_entry
from podcam.agent.turns import Turn, without_times

SECOND_NS = 10**9
START_NS = 1_790_000_000 * SECOND_NS
NODES = ("node-a", "node-b", "node-c", "node-d")
END_NS = START_NS + 5 * SECOND_NS
FINAL = ("Complete", "Nothing", "Failed", "Removed")

nodes = st.sampled_from(NODES)

Merge = Callable[[dict[str, Any], int], dict[str, Any] | None]


@dataclass
class Cluster:
    """An object at an API server, and the agents that watch it; all clocks stand together."""

    merge: Merge
    entries: str
    status: dict[str, Any] = field(default_factory=dict)
    now_ns: int = START_NS
    alive: set[str] = field(default_factory=lambda: set(NODES))
    turns: dict[str, Turn] = field(default_factory=lambda: {node: Turn(node) for node in NODES})
    writes: int = 0

    def report(self, node: str, entry: dict[str, Any]) -> None:
        if node in self.alive:
            self.status.setdefault(self.entries, {})[node] = entry
            self.look()

    def die(self, node: str) -> None:
        self.alive.discard(node)

    def come_back(self, node: str) -> None:
        if node not in self.alive:
            self.alive.add(node)
            self.turns[node] = Turn(node)
            self.look()

    def look(self) -> None:
        """Every agent hears of the last change, and of the others' writes the next time only."""
        written = {}
        for node in sorted(self.alive, reverse=True):
            fields = self.merge(self.status, self.now_ns)
            due_ns = self.turns[node].due(fields, self.status.get(self.entries, {}), self.now_ns)
            if fields is not None and due_ns is not None and due_ns <= self.now_ns:
                written.update(fields)
                self.writes += 1
        self.status.update(written)

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now_ns += SECOND_NS
            self.look()


@dataclass(frozen=True)
class Step:
    """Something that happens to one agent."""

    node: str
    what: str
    seconds: int = 0


steps = st.lists(
    st.builds(Step, nodes, st.sampled_from(["die", "come back", "report"]), st.integers(0, 20)), max_size=12
)


def _clip(expected: Sequence[str]) -> Cluster:
    def merge(status: dict[str, Any], now_ns: int) -> dict[str, Any] | None:
        fields = clip_status.merged(status, expected, END_NS, now_ns).fields
        return None if fields is None else dict(fields)

    return Cluster(merge, "parts")


def _play(cluster: Cluster, happening: Sequence[Step], entries: dict[str, dict[str, Any]]) -> None:
    for step in happening:
        match step.what:
            case "die":
                cluster.die(step.node)
            case "come back":
                cluster.come_back(step.node)
            case _:
                cluster.report(
                    step.node, {"state": "Freezing"} if cluster.entries == "parts" else {"points": []}
                )
        cluster.wait(step.seconds)
    for node, entry in entries.items():  # whoever has something to say says it at last
        cluster.come_back(node)
        cluster.report(node, entry)


states = st.dictionaries(nodes, st.sampled_from(FINAL))


@settings(deadline=None)
@given(steps, steps, states, st.permutations(NODES), st.sets(nodes, min_size=1), st.sampled_from(NODES))
def test_a_clip_comes_to_the_same_whatever_happened_on_the_way(
    one: list[Step],
    other: list[Step],
    final: dict[str, str],
    order: list[str],
    expected: set[str],
    survivor: str,
) -> None:
    outcomes = []
    for happening, told in ((one, NODES), (other, order)):
        cluster = _clip(sorted(expected))
        _play(cluster, happening, {node: {"state": final[node]} for node in told if node in final})
        for node in cluster.status.get("parts", {}).keys() - final.keys():  # what was only begun
            del cluster.status["parts"][node]
        for node in NODES:
            cluster.die(node)
        cluster.come_back(survivor)
        cluster.wait(180)
        settled = cluster.writes
        cluster.wait(60)
        assert cluster.writes == settled
        outcomes.append(without_times(cluster.status))
    first, second = outcomes
    first.setdefault("parts", {})
    second.setdefault("parts", {})
    assert first == second
    assert first["missing"] == sorted(expected - final.keys())
    concerned = expected | final.keys()
    there = [node for node in concerned if final.get(node) in ("Complete", "Nothing")]
    assert first["partsComplete"] == f"{len(there)}/{len(concerned)}"
    assert first["state"] == ("Complete" if len(there) == len(concerned) else "Incomplete")


points = st.lists(
    st.builds(
        PointStatus,
        st.sampled_from(["web-1", "web-2", "web-3"]),
        st.sampled_from(list(PointState)),
        st.integers(0, 5).map(lambda seconds: START_NS - seconds * SECOND_NS),
    ),
    unique_by=lambda point: point.pod,
    max_size=3,
)


@settings(deadline=None)
@given(steps, steps, st.dictionaries(nodes, points), st.permutations(NODES), st.sampled_from(NODES))
def test_a_recording_comes_to_the_same_whatever_happened_on_the_way(
    one: list[Step],
    other: list[Step],
    said: dict[str, list[PointStatus]],
    order: list[str],
    survivor: str,
) -> None:
    outcomes = []
    for happening, told in ((one, NODES), (other, order)):
        cluster = Cluster(lambda status, now_ns: recording_status.merged(status, 3, now_ns), "nodes")
        entries = {node: node_entry(NodeStatus(tuple(said[node])), START_NS) for node in told if node in said}
        _play(cluster, happening, {node: entry for node, entry in entries.items() if entry is not None})
        for node in NODES:
            cluster.die(node)
        cluster.come_back(survivor)
        cluster.wait(60)
        settled = cluster.writes
        cluster.wait(60)
        assert cluster.writes == settled
        outcomes.append(
            {key: value for key, value in without_times(cluster.status).items() if key != "nodes"}
        )
    assert outcomes[0] == outcomes[1]


@given(st.permutations(NODES))
def test_with_all_agents_alive_each_change_costs_one_write_of_the_merged_fields(order: list[str]) -> None:
    cluster = _clip(NODES)
    for number, node in enumerate(order):
        cluster.report(node, {"state": "Complete"})
        cluster.wait(1)
        assert cluster.writes == number + 1
    cluster.wait(60)
    assert cluster.writes == len(NODES)


ticks = st.lists(
    st.tuples(st.integers(1, 20_000), st.integers(0, 3), st.integers(0, 3), st.integers(0, 10**9)),
    max_size=60,
)


@given(ticks)
def test_counters_that_tick_make_a_write_every_thirty_seconds_at_most(
    moving: list[tuple[int, int, int, int]],
) -> None:
    now_ns = START_NS
    status = NodeStatus((PointStatus("web-1", PointState.RECORDING, START_NS),))
    standing = node_entry(status, now_ns)
    written = [now_ns]
    for milliseconds, failures, dropped, ring_bytes in moving:
        now_ns += milliseconds * 1_000_000
        status = replace(
            status,
            failures=status.failures + failures,
            dropped=(status.dropped or 0) + dropped,
            ring_bytes=ring_bytes,
        )
        fresh = node_entry(status, now_ns)
        due_ns = entry_due(fresh, standing, now_ns)
        if due_ns is not None and due_ns <= now_ns:
            standing = fresh
            written.append(now_ns)
        elif failures or dropped:
            assert due_ns is not None
            assert due_ns - now_ns <= 30 * SECOND_NS
    assert all(later - earlier >= 30 * SECOND_NS for earlier, later in pairwise(written))
