"""What surrounds the parts of an agent in tests: a recorder, a clock and an API server made of paper."""

import heapq
import io
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podcam.agent.guard import Guard
from podcam.agent.log import Log
from podcam.agent.node import Node
from podcam.agent.settings import AgentSettings, Share
from podcam.errors import PodcamError
from podcam.kube import CLIPS, GRANTS, NAMESPACES, PODS, RECORDINGS, Listed, Pod, path_of
from podcam.recorder import KeepRequest, PointSettings, RecorderFolder, RecordingSettings, Timer

SECOND = 1_000_000_000
NOON = 1_795_000_000 * SECOND
Call = Callable[[], None]


class PaperClock:
    """Both clocks of an agent, and its timers: time passes when a test says so."""

    def __init__(self) -> None:
        self._now_ns = NOON
        self._set_ns = 0
        self._timers: list[tuple[int, int, Timer]] = []
        self._numbers = itertools.count()

    def now_ns(self) -> int:
        return self._now_ns + self._set_ns

    def monotonic(self) -> float:
        return (self._now_ns - NOON) / SECOND

    def is_set_by(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self._set_ns += int(seconds * SECOND)

    def later(self, seconds: float, function: Call) -> Timer:
        timer = Timer(function)
        heapq.heappush(self._timers, (self._now_ns + int(seconds * SECOND), next(self._numbers), timer))
        return timer

    def passes(self, seconds: float) -> None:
        end_ns = self._now_ns + int(seconds * SECOND)
        while self._timers and self._timers[0][0] <= end_ns:
            self._now_ns, _, timer = heapq.heappop(self._timers)
            timer.fire()
        self._now_ns = end_ns


class PaperRecorder:
    """Writes down what it is asked to do."""

    def __init__(self) -> None:
        self.added: dict[str, PointSettings] = {}
        self.defined: dict[str, RecordingSettings] = {}
        self.asked: list[tuple[str, str]] = []
        """What was done to which point or clip, in order."""
        self.limits: dict[str, int | None] = {}
        self.at_once: list[int] = []
        """How many points it was given together."""
        self.clips_limit = 0
        self.kept: list[KeepRequest] = []
        self.counts: dict[str, dict[str, int | None]] = {}
        self.refuses: PodcamError | None = None

    def add(self, point: PointSettings, *, limit_bytes: int | None = None) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.added[point.id] = point
        self.limits[point.id] = limit_bytes
        self.asked.append(("add", point.id))

    def add_all(self, points: Sequence[tuple[PointSettings, int | None]]) -> dict[str, PodcamError]:
        self.at_once.append(len(points))
        failed: dict[str, PodcamError] = {}
        for point, limit_bytes in points:
            try:
                self.add(point, limit_bytes=limit_bytes)
            except PodcamError as error:
                failed[point.id] = error
        return failed

    def define(self, recording: str, settings: RecordingSettings) -> None:
        self.defined[recording] = settings

    def forget(self, recording: str) -> None:
        del self.defined[recording]

    def end(self, point_id: str, why: str) -> None:
        del self.added[point_id]
        self.asked.append(("end", point_id))

    def limit(self, point_id: str, limit_bytes: int) -> None:
        self.limits[point_id] = limit_bytes

    def limit_clips(self, limit_bytes: int) -> None:
        self.clips_limit = limit_bytes

    def totals(self) -> Mapping[str, Mapping[str, int | None]]:
        return {point_id: self.counts.get(point_id, {}) for point_id in self.added}

    def keep(self, request: KeepRequest) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.kept.append(request)

    def drop(self, clip_id: str) -> None:
        self.asked.append(("drop", clip_id))


class PaperFinder:
    """Finds namespaces where a test has put them: each is a link to this process's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_uid: dict[str, Path] = {}
        self._numbers = itertools.count()
        self.looks = 0

    def appears(self, uid: str) -> None:
        path = self._folder / f"cni-{next(self._numbers)}"
        path.symlink_to("/proc/self/ns/net")
        self._by_uid[uid] = path

    def goes(self, uid: str) -> None:
        self._by_uid.pop(uid).unlink()

    def find(self, pod: Pod) -> Path | None:
        self.looks += 1
        return self._by_uid.get(pod.uid)


@dataclass
class PaperApi:
    """An API server that remembers what it was sent, and fails when told to."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    lists: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    fails: Exception | None = None

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self._note("create", path, body)
        made = {**body, "metadata": {**body["metadata"], "uid": f"uid-of-{body['metadata']['name']}"}}
        self.objects[f"{path}/{body['metadata']['name']}"] = made
        return made

    def apply(self, path: str, body: dict[str, Any], **options: Any) -> dict[str, Any]:
        self._note(f"apply as {options['manager']}", path, body["status"])
        return body

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        self._note("get", path, params)
        if path in self.objects:
            return self.objects[path]
        return {"items": self.lists.get(f"{path}?{(params or {}).get('fieldSelector')}", [])}

    def delete(self, path: str, **options: Any) -> dict[str, Any]:
        self._note("delete", path, options)
        return {}

    def _note(self, verb: str, path: str, body: Any) -> None:
        if self.fails is not None:
            raise self.fails
        self.requests.append((verb, path, json.loads(json.dumps(body))))


class PaperWrites:
    """Requests that are sent when a test says so."""

    def __init__(self, api: PaperApi) -> None:
        self.api = api
        self.waiting: dict[str, Callable[[Any], None]] = {}

    def put(
        self, key: str, send: Callable[[Any], None], *, delay_seconds: float = 0.0, insist: bool = True
    ) -> None:
        self.waiting[key] = send

    def drop(self, key: str) -> None:
        self.waiting.pop(key, None)

    def send(self) -> None:
        """All that waits, and what comes of it."""
        while self.waiting:
            key = next(iter(self.waiting))
            send = self.waiting.pop(key)
            try:
                send(self.api)
            except PodcamError:
                self.waiting[key] = send
                return


class PaperNode:
    """A node with everything around it made of paper: one namespace, and nothing in it so far."""

    def __init__(self, path: Path) -> None:
        self.clock = PaperClock()
        self.recorder = PaperRecorder()
        self.api = PaperApi()
        self.writes = PaperWrites(self.api)
        self.finder = PaperFinder(path)
        self.folder = RecorderFolder(path / "podcam")
        self.folder.create()
        log, self.lines = paper_log()
        settings = AgentSettings(
            node="node-1",
            folder=self.folder.path,
            pod="agent-x",
            namespace="podcam-system",
            disk_budget=Share(bytes=1 << 40),
            free_floor=Share(bytes=0),
        )
        self.node = Node(
            settings,
            "key",
            recorder=self.recorder,
            folder=self.folder,
            finder=self.finder,
            search=lambda _namespace: (),
            writes=self.writes,
            call=lambda function: function(),
            later=self.clock.later,
            guard=Guard(log),
            clock=self.clock,
            log=log,
        )
        self.take = {kind: objects.take for kind, objects in self.node.objects.by_kind.items()}
        for kind in (RECORDINGS, PODS, CLIPS, GRANTS):
            self.take[kind](Listed(()))
        namespace = {"metadata": {"name": "shop", "uid": "n"}}
        self.api.objects[path_of(NAMESPACES, name="shop")] = namespace
        self.take[NAMESPACES](Listed((namespace,)))


def paper_log() -> tuple[Log, io.StringIO]:
    """A log, and what is written to it."""
    lines = io.StringIO()
    return Log(lines), lines


def pod(name: str, uid: str = "", namespace: str = "shop", **changes: Any) -> Pod:
    """A pod of node-1 that runs."""
    values: dict[str, Any] = {
        "namespace": namespace,
        "name": name,
        "uid": uid or f"uid-{name}",
        "node": "node-1",
        "labels": {"app": "web"},
        "host_network": False,
        "runtime_class": None,
        "phase": "Running",
        "ip": "10.244.0.7",
        "ips": ("10.244.0.7",),
        "deleting": False,
        "finished": False,
        "created_ns": NOON,
    }
    return Pod(**values | changes)
