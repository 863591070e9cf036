"""Fetching a clip: the parts of all nodes, whole segments, unsealed here, as one clip's folder.

What has come is kept in the user's cache, so that a pull that was cut goes on where it was: a part whose
files are all there is never asked for again, and of a file on its way all is kept that was proven to be the
agent's. No key is: the next pull has a key and a grant of its own, and whoever may not read packets any
more gets no further.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from podcam.clip import COMPLETE, ClipPart, Manifest, write_manifest
from podcam.cluster.agents import PORT
from podcam.cluster.road import File, Index, PartError, Pause, Reader, Road
from podcam.errors import ClipError, ForbiddenError, KubernetesError, UnauthorizedError, UnreachableError
from podcam.kube import Api, ClipObject
from podcam.model.failure import Failure
from podcam.model.point import Window
from podcam.sealed import CHUNK_BYTES

Tell = Callable[[int, int], None]
"""Takes how many bytes are there, of how many."""

_SYNC_BYTES: Final = 256 * CHUNK_BYTES
"""So much of a file at most comes again after a power cut."""
_MOST_CUTS: Final = 5
"""In a row, without a byte between them."""
_CUT_PAUSE_SECONDS: Final = 1.0
_LONGEST_FOLDER: Final = 200
_LONGEST_CLIP: Final = 120


@dataclass(frozen=True, slots=True)
class Missing:
    """A part that could not be had."""

    node: str
    why: str


@dataclass(frozen=True, slots=True)
class Pulled:
    """A clip that was fetched."""

    folder: Path
    """A clip's folder like any other."""
    manifest: Manifest
    missing: tuple[Missing, ...]
    fetched_bytes: int
    """What came this time."""


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where clips are kept that were fetched (XDG base directories)."""
    cache = environment.get("XDG_CACHE_HOME", "")
    return (Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache") / "podcam" / "clips"


def file_name(clip: ClipObject) -> str:
    """`CLIP-NAMESPACE-TIME.pcapng`, which every file system takes."""
    moment = datetime.fromtimestamp(clip.created_ns // 1_000_000_000, UTC)
    name = f"{clip.name[:_LONGEST_CLIP]}-{clip.namespace}".replace(".", "-")  # `con.x` is a device to some
    return f"{name}-{moment:%Y%m%d-%H%M%SZ}.pcapng"


def pull(api: Api, clip: ClipObject, cache: Path, *, tell: Tell, pause: Pause = time.sleep) -> Pulled:
    """Fetches what the nodes keep of a clip into a folder of its own below `cache`.

    Args:
        api: the API server, as the one who reads.
        clip: as the API server has it now.
        cache: made, for its owner alone, where it is not there.
        tell: takes the progress.
        pause: waits between two tries.

    Raises:
        ForbiddenError: the caller may not read packets of this namespace.
        KubernetesError: the API server cannot be reached, or refuses.
        ClipError: no node has a part that could be had, another pull of this clip is running, or the files
            cannot be written.
    """
    try:
        with _own(cache / f"{clip.namespace}_{clip.name}_{clip.uid[:8]}") as folder:
            return _Pull(api, clip, folder, tell, pause).run()
    except OSError as error:
        raise ClipError(f"cannot keep clip {clip.name} in {cache}: {error.strerror}") from error


@contextmanager
def _own(folder: Path) -> Iterator[Path]:
    """The folder, with nobody else writing into it."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    except BlockingIOError:
        raise ClipError(f"{folder} is being written by another pull of the same clip: wait for it") from None
    finally:
        os.close(descriptor)


class _Pull:
    """One clip being fetched."""

    def __init__(self, api: Api, clip: ClipObject, folder: Path, tell: Tell, pause: Pause) -> None:
        self._api = api
        self._clip = clip
        self._folder = folder
        self._tell = tell
        self._pause = pause
        self._there = 0
        self._total = 0
        self._fetched = 0

    def run(self) -> Pulled:
        nodes, missing = _nodes(self._clip)
        manifests = {node: manifest for node in nodes if (manifest := self._kept(node))}
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
        return Pulled(self._folder, manifest, tuple(missing), self._fetched)

    def _fetch(self, reader: Reader, nodes: Sequence[str]) -> tuple[dict[str, Manifest], list[Missing]]:
        """First what there is, for the progress to be honest; then the files, node by node."""
        missing = []
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
                pause=self._pause,
            )
            try:
                found[node] = road, road.index()
            except (ForbiddenError, UnauthorizedError):
                raise
            except (PartError, KubernetesError) as error:
                missing.append(Missing(node, str(error)))
        self._total = sum(file.size for _, index in found.values() for file in index.files)
        manifests = {}
        for node, (road, index) in found.items():
            try:
                for file in index.files:
                    self._fetch_file(road, file, self._folder / folder_of(node, file.folder))
            except (ForbiddenError, UnauthorizedError):
                raise
            except (PartError, KubernetesError) as error:
                missing.append(Missing(node, str(error)))
                continue
            manifests[node] = _told(index)
            self._keep(node, manifests[node])
        return manifests, missing

    def _fetch_file(self, road: Road, file: File, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        target = folder / file.name
        if _is(target, file):
            self._arrived(file.size, came=False)
            return
        with _Partial(target, file) as partial:
            self._arrived(partial.size, came=False)
            cuts = 0
            while partial.size < file.size:
                before = partial.size
                try:
                    for plain in road.content(file, partial.size):
                        partial.write(plain)
                        self._arrived(len(plain))
                except UnreachableError:
                    cuts = 0 if partial.size > before else cuts + 1
                    if cuts >= _MOST_CUTS:
                        raise
                    road.pause(_CUT_PAUSE_SECONDS)
            partial.finish()

    def _arrived(self, count: int, *, came: bool = True) -> None:
        self._there += count
        self._fetched += count if came else 0
        self._tell(self._there, self._total)

    def _kept(self, node: str) -> Manifest | None:
        """The node's manifest, where an earlier pull has brought all of its part."""
        try:
            return Manifest.from_json(json.loads(self._note(node).read_bytes()))
        except (FileNotFoundError, KeyError, TypeError, ValueError, AttributeError):
            return None

    def _keep(self, node: str, manifest: Manifest) -> None:
        """All of the node's part is here, and on disk."""
        note = self._note(node)
        hidden = note.with_name(f"{note.name}.new")
        with os.fdopen(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(manifest.to_json(), file)
            file.flush()
            os.fsync(file.fileno())
        hidden.rename(note)

    def _note(self, node: str) -> Path:
        return self._folder / f".{_short(node)}.json"


class _Partial:
    """A file on its way, under a hidden name that tells its version, and how much is surely on disk."""

    def __init__(self, target: Path, file: File) -> None:
        self._target = target
        self._file = file
        found = {path: _synced(path) for path in target.parent.glob(f".{target.name}.{file.version}.*")}
        self._path = max(found, key=lambda path: found[path], default=self._named(0))
        self._on_disk = self.size = found.get(self._path, 0)
        for other in target.parent.glob(f".{target.name}.*"):
            if other != self._path:
                other.unlink()
        self._out = os.fdopen(
            os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+b"
        )
        self._out.truncate(self.size)
        self._out.seek(self.size)

    def __enter__(self) -> "_Partial":
        return self

    def __exit__(self, *error: object) -> None:
        if not self._out.closed:
            self._sync()
            self._out.close()

    def write(self, plain: bytes) -> None:
        """The next bytes, whole chunks but at the end."""
        self._out.write(plain)
        self.size += len(plain)
        if self.size - self._on_disk >= _SYNC_BYTES:
            self._sync()

    def finish(self) -> None:
        """All is there: give it its name, and the time by which `_is` knows it again."""
        self._out.flush()
        os.utime(self._out.fileno(), ns=(self._file.modified_ns, self._file.modified_ns))
        os.fsync(self._out.fileno())
        self._path.rename(self._target)
        self._out.close()

    def _sync(self) -> None:
        self._out.flush()
        os.fdatasync(self._out.fileno())
        self._on_disk = self.size
        self._path = self._path.rename(self._named(self.size))

    def _named(self, size: int) -> Path:
        return self._target.with_name(f".{self._target.name}.{self._file.version}.{size}")


def _synced(partial: Path) -> int:
    """How much of a file on its way is surely on disk."""
    count = partial.name.rpartition(".")[2]
    return min(int(count), partial.stat().st_size) // CHUNK_BYTES * CHUNK_BYTES if count.isdecimal() else 0


def _is(target: Path, file: File) -> bool:
    """Whether this file is there already."""
    try:
        status = target.lstat()
    except FileNotFoundError:
        return False
    return (status.st_size, status.st_mtime_ns) == (file.size, file.modified_ns)


def folder_of(node: str, folder: str) -> str:
    """What a part's folder is called here: the nodes' own names may be the same on two of them.

    A node's name has no `_`, so that no two become one.
    """
    return _short(f"{node}_{folder}")


def _short(name: str) -> str:
    if len(name.encode()) <= _LONGEST_FOLDER:
        return name
    return hashlib.sha256(name.encode()).hexdigest()


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


def _told(index: Index) -> Manifest:
    """The node's manifest, with what its agent no longer has."""
    warnings = [
        *index.manifest.warnings,
        *(f"{name} was gone when the clip was pulled" for name in index.gone),
    ]
    return replace(index.manifest, warnings=tuple(warnings))


def _merged(clip: ClipObject, manifests: Mapping[str, Manifest], missing: Sequence[Missing]) -> Manifest:
    """One manifest for all nodes' parts."""
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
        parts=tuple(_moved(node, part) for node, manifest in manifests.items() for part in manifest.parts),
        warnings=tuple(warnings),
        recording=f"{clip.namespace}/{clip.recording}",
        names=names,
    )


def _moved(node: str, part: ClipPart) -> ClipPart:
    return replace(part, folder=folder_of(node, part.folder))
