"""Fetching a clip: the parts of all nodes, whole segments, unsealed here, as one clip's folder.

What has come is kept in the user's cache, so that a pull that was cut goes on where it was: a part whose
files are all there is never asked for again, and of a file on its way all is kept that was proven to be the
agent's. No key is: the next pull has a key and a grant of its own, and whoever may not read packets any
more gets no further.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from podcam.clip import COMPLETE, ClipPart, Manifest, write_manifest
from podcam.clip.parts import CUT_SHORT
from podcam.cluster.agents import PORT
from podcam.cluster.fetching import (
    Fetching,
    Index,
    Missing,
    PartError,
    Pause,
    Pulled,
    Tell,
    keep,
    kept,
    own,
    short,
    told,
)
from podcam.cluster.road import Patience, Reader, Road, Say
from podcam.errors import ClipError, ForbiddenError, KubernetesError, UnauthorizedError
from podcam.kube import Api, ClipObject
from podcam.model.failure import Failure
from podcam.model.point import Window


def pull(
    api: Api,
    clip: ClipObject,
    cache: Path,
    *,
    tell: Tell,
    say: Say = lambda _: None,
    pause: Pause = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Pulled:
    """Fetches what the nodes keep of a clip into a folder of its own below `cache`.

    Args:
        api: the API server, as the one who reads.
        clip: as the API server has it now.
        cache: made, for its owner alone, where it is not there.
        tell: takes the progress.
        say: takes which agent is waited for, and why.
        pause: waits between two tries.
        clock: seconds, by which agents are waited for.

    Raises:
        ForbiddenError: the caller may not read packets of this namespace.
        KubernetesError: the API server cannot be reached, or refuses.
        ClipError: no node has a part that could be had, another pull of this clip is running, or the files
            cannot be written.
    """
    try:
        with own(cache / f"{clip.namespace}_{clip.name}_{clip.uid[:8]}") as folder:
            return _Pull(api, clip, folder, tell, say, pause, clock).run()
    except OSError as error:
        raise ClipError(f"cannot keep clip {clip.name} in {cache}: {error.strerror}") from error


class _Pull:
    """One clip being fetched."""

    def __init__(
        self,
        api: Api,
        clip: ClipObject,
        folder: Path,
        tell: Tell,
        say: Say,
        pause: Pause,
        clock: Callable[[], float],
    ) -> None:
        self._api = api
        self._clip = clip
        self._folder = folder
        self._say = say
        self._pause = pause
        self._clock = clock
        self._fetching = Fetching(tell)

    def run(self) -> Pulled:
        nodes, missing = _nodes(self._clip)
        manifests = {node: manifest for node in nodes if (manifest := kept(self._note(node)))}
        wanted = [node for node in nodes if node not in manifests]
        if wanted:
            with Reader(self._api, self._clip.namespace, self._clip.name) as reader:
                fetched, more_missing = self._fetch(reader, wanted)
            manifests |= fetched
            missing = [*missing, *more_missing]
        if not manifests:
            whys = "; ".join(f"{part.node}: {part.why}" for part in missing)
            raise ClipError(
                f"nothing of clip {self._clip.name} can be had: {whys or 'no ring reached into its window'}"
            )
        manifest = _merged(self._clip, dict(sorted(manifests.items())), missing)
        write_manifest(self._folder, manifest)
        return Pulled(self._folder, manifest, tuple(missing), self._fetching.fetched_bytes)

    def _fetch(self, reader: Reader, nodes: Sequence[str]) -> tuple[dict[str, Manifest], list[Missing]]:
        """First what there is, for the progress to be honest; then the files, node by node."""
        missing = []
        patience = Patience(self._clock)
        found: dict[str, tuple[Road, Index]] = {}
        for node in nodes:
            part = self._clip.parts[node]
            road = Road(
                self._api,
                reader,
                node=node,
                pod=part.agent_pod,
                port=part.agent_port or PORT,
                agent_key=part.public_key or b"",
                patience=patience,
                say=self._say,
                pause=self._pause,
            )
            try:
                index = road.index()
            except (ForbiddenError, UnauthorizedError):
                raise
            except (PartError, KubernetesError) as error:
                missing.append(Missing(node, str(error)))
            else:
                found[node] = road, index
                self._fetching.expect(index)
        manifests = {}
        for node, (road, index) in found.items():
            try:
                for file in index.files:
                    self._fetching.fetch(road, file, self._folder / folder_of(node, file.folder))
            except (ForbiddenError, UnauthorizedError):
                raise
            except (PartError, KubernetesError) as error:
                missing.append(Missing(node, str(error)))
                continue
            manifests[node] = told(index)
            keep(self._note(node), manifests[node])
        return manifests, missing

    def _note(self, node: str) -> Path:
        return self._folder / f".{short(node)}.json"


def folder_of(node: str, folder: str) -> str:
    """What a part's folder is called here: the nodes' own names may be the same on two of them.

    A node's name has no `_`, so that no two become one.
    """
    return short(f"{node}_{folder}")


def _nodes(clip: ClipObject) -> tuple[list[str], list[Missing]]:
    """Nodes whose part can be asked for, and those whose part cannot, with the reason."""
    nodes, missing = [], []
    for node in sorted({*(clip.expected_nodes or ()), *clip.missing, *clip.parts}):
        part = clip.parts.get(node)
        if part is None:
            missing.append(
                Missing(node, "its agent has not reported: `kubectl podcam doctor` tells how it is")
            )
        elif part.state == "Complete" and part.public_key is None:
            missing.append(Missing(node, "its agent shows no key: it is not the agent that wrote its status"))
        elif part.state == "Complete":
            nodes.append(node)
        elif part.state == "Freezing":
            missing.append(Missing(node, "it is still being kept: pull again later"))
        elif part.state != "Nothing":
            missing.append(Missing(node, part.message or f"its part is {part.state.lower()}"))
    return nodes, missing


def _merged(clip: ClipObject, manifests: Mapping[str, Manifest], missing: Sequence[Missing]) -> Manifest:
    """One manifest for all nodes' parts. Those say themselves whether their recorder was interrupted."""
    windows = [manifest.window for manifest in manifests.values()]
    triggers: list[Failure] = []
    warnings: list[str] = []
    names: dict[str, str] = {}
    for manifest in manifests.values():
        triggers += [failure for failure in manifest.triggers if failure not in triggers]
        warnings += [warning for warning in manifest.warnings if warning not in warnings]
        names |= manifest.names
    warnings += [f"the part of node {part.node} is missing: {part.why}" for part in missing]
    return Manifest(
        id=clip.name,
        reason=clip.reason,
        created_ns=clip.created_ns,
        window=Window(min(w.start_ns for w in windows), max(w.end_ns for w in windows)),
        state=COMPLETE,
        triggers=tuple(sorted(triggers, key=lambda failure: failure.time_ns)),
        parts=tuple(part for node, manifest in manifests.items() for part in _moved(node, manifest)),
        warnings=tuple(warnings),
        recording=f"{clip.namespace}/{clip.recording}",
        names=names,
    )


def _moved(node: str, manifest: Manifest) -> Iterator[ClipPart]:
    told = [f"the recorder of node {node} {CUT_SHORT}"] if manifest.interrupted else []
    for part in manifest.parts:
        yield replace(part, folder=folder_of(node, part.folder), warnings=(*told, *part.warnings))
        told = []
