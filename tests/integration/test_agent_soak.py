"""Weeks of a node: pods, recordings and clips come and go, and the agent remembers nothing of them."""

import dataclasses
import os
import shutil
from collections import OrderedDict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents import PaperNode
from podcam.agent.naming import Name, clip_folder
from podcam.clip import COMPLETE, ClipPart, Manifest, write_manifest
from podcam.kube import CLIPS, NAMESPACES, PODS, RECORDINGS, Changed, Deleted, format_time, path_of
from podcam.model.failure import Failure
from podcam.model.point import Endpoint, Point, Window
from podcam.model.verdict import FailureClass
from podcam.ring import Totals

SECOND = 1_000_000_000
AT_ONCE = 10
"""Pods of one recording."""
GENERATIONS = 500
"""Recordings, one after the other: 5,000 pods, more than what is remembered of the latest, and 500 clips."""

Object = dict[str, Any]


class Life(PaperNode):
    """What happens on a node in so long a time."""

    def generation(self, number: int, *, clips: int) -> None:
        """A recording comes, with pods and clips, and all of it goes."""
        recording = self._object(f"checkout-{number}", selector={"matchLabels": {"app": "web"}})
        self.take[RECORDINGS](Changed(recording))
        pods = [self._pod(f"web-{number}-{index}") for index in range(AT_ONCE)]
        for pod in pods:
            self.finder.appears(pod["metadata"]["uid"])
            self.take[PODS](Changed(pod))
        self._passes(1)
        points = list(self.recorder.added)
        for point in points:
            self._observe("started", point)
            self._observe("status", point, suppressed=1, packets=7, connections=1)
        self._passes(6)
        for index in range(clips):
            self._clip(recording, f"clip-{number}-{index}", wire=index % 2 == 0)
        for pod in pods:
            self.take[PODS](Deleted(pod))
            self.finder.goes(pod["metadata"]["uid"])
        self._passes(1)
        for point in points:
            self._observe("stopped", point, why="the pod has ended", packets=9)
        self.take[RECORDINGS](Deleted(recording))
        self._passes(11)
        assert not self.recorder.added
        assert not self.recorder.defined
        self.recorder.asked.clear()
        self.recorder.limits.clear()
        self.recorder.kept.clear()
        self.api.requests.clear()
        for path in self.api.objects.keys() - {path_of(NAMESPACES, name="shop")}:
            del self.api.objects[path]

    def _clip(self, recording: Object, name: str, *, wire: bool) -> None:
        namespace, owner = "shop", recording["metadata"]["name"]
        path = self.folder.clips / clip_folder(Name(namespace, name))
        now_ns = self.clock.now_ns()
        window = Window(now_ns - 60 * SECOND, now_ns)
        ends = Endpoint("10.244.0.7", 40_000), Endpoint("10.96.0.5", 5432)
        failure = Failure(now_ns, FailureClass.RESET_EARLY, *ends, "server", now_ns)
        manifest = Manifest(
            path.name,
            "it was reset",
            now_ns,
            window,
            triggers=(failure,),
            recording=f"{namespace}/{owner}",
        )
        spec = {
            "recording": owner,
            "reason": "asked for",
            "window": {"start": format_time(window.start_ns), "end": format_time(window.end_ns)},
        }
        body = self._object(name, **spec)
        body["metadata"]["uid"] = f"uid-of-{name}"
        path.mkdir()
        write_manifest(path, manifest)
        event = {
            "clip": path.name,
            "path": str(path),
            "point": "shop/web",
            "points": None,
            "recording": f"{namespace}/{owner}",
        }
        if wire:
            self._observe("clip", f"{namespace}/{owner}/web", **event, origin="wire")
            self._passes(1)
        self.take[CLIPS](Changed(body))
        point = Point("shop/web", "node-1")
        part = ClipPart(point, "web", ("1.seg",), Totals(7, 700, 0, now_ns, now_ns))
        write_manifest(path, dataclasses.replace(manifest, state=COMPLETE, parts=(part,)))
        self._observe("complete", None, **event)
        self._passes(1)
        self.take[CLIPS](Deleted(body))
        assert ("drop", path.name) in self.recorder.asked
        shutil.rmtree(path)

    def _passes(self, seconds: float) -> None:
        before = self.clock.monotonic()
        self.clock.passes(seconds)
        if before // 5 != self.clock.monotonic() // 5:
            self.node.recordings.keep_within()
        self.writes.send()

    def _observe(self, kind: str, point_id: str | None, **fields: Any) -> None:
        recording = fields.pop("recording", "" if point_id is None else point_id.rpartition("/")[0])
        self.node.hearing.hear([{"event": kind, "id": point_id, "recording": recording, **fields}])

    def _object(self, name: str, **spec: Any) -> Object:
        created = format_time(self.clock.now_ns())
        metadata = {"namespace": "shop", "name": name, "uid": f"uid-{name}", "creationTimestamp": created}
        return {"metadata": metadata, "spec": spec, "status": {}}

    def _pod(self, name: str) -> Object:
        body = self._object(name, nodeName="node-1", runtimeClassName="runc")
        body["metadata"]["labels"] = {"app": "web"}
        body["status"] = {"phase": "Running", "podIP": "10.244.0.7"}
        return body


BOUNDED = {"_known": 4096, "_pods": 4096, "_said": 1024}
"""Of the OrderedDicts that hold the latest: how many."""


def sizes(thing: object, path: str = "node", seen: set[int] | None = None) -> Iterator[tuple[str, int]]:
    """All containers that hang on an agent's parts, and how much is in them."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, OrderedDict):
        assert len(thing) <= BOUNDED[path.rpartition(".")[2]], path
        return
    if isinstance(thing, dict | set | list | deque):
        yield path, len(thing)
        for value in list(thing.values() if isinstance(thing, dict) else thing):
            yield from sizes(value, f"{path}[]", seen)
    elif type(thing).__module__.startswith("podcam."):
        slots = getattr(type(thing), "__slots__", ())
        names = [*getattr(thing, "__dict__", {}), *(slots if isinstance(slots, tuple) else ())]
        for name in names:
            yield from sizes(getattr(thing, name, None), f"{path}.{name}", seen)


def test_what_has_gone_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        os, "fsync", lambda _descriptor: None
    )  # what survives a power cut is tested elsewhere
    life = Life(tmp_path)
    life.generation(0, clips=2)
    before = dict(sizes(life.node))
    assert len(before) > 20
    for number in range(1, GENERATIONS):
        life.generation(number, clips=1)
    assert dict(sizes(life.node)) == before
    assert not life.writes.waiting
    assert not list(life.folder.clips.iterdir())
    assert not list((life.folder.path / "objects").iterdir())
    assert '"level": "error"' not in life.lines.getvalue()
