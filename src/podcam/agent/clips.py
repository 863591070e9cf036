"""Clips of the cluster and clips on this node's disk, held together.

A failure seen here becomes an object, whenever the API server is there to take it; an object, whoever made
it, becomes a part on this node if its rings may hold packets of it. What the node has of a clip goes when its
object does.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from podcam.agent.clip_bodies import clip_body
from podcam.agent.clip_status import PartState
from podcam.agent.collection import Collection
from podcam.agent.log import Log
from podcam.agent.marks import Mark, Marks
from podcam.agent.naming import Name, PointId, clip_folder, clip_of_folder
from podcam.agent.parts import NodePart, addresses_of, part_of
from podcam.agent.writes import Outbox
from podcam.clip import ClipStore, Manifest, read_manifest, write_manifest
from podcam.errors import (
    ClipError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    NotInstalledError,
    PodcamError,
)
from podcam.kube import CLIPS, NAMESPACES, Api, ClipObject, Object, path_of
from podcam.model.point import Window
from podcam.recorder import Event, KeepRequest

_SETTLED = frozenset({PartState.NOTHING.value, PartState.FAILED.value, PartState.REMOVED.value})


class KeepingRecorder(Protocol):
    """The part of a recorder that clips need."""

    def keep(self, request: KeepRequest) -> None:
        """Keep a clip that somebody else asks for, or widen it: `complete` follows. Raises PodcamError."""

    def drop(self, clip_id: str) -> None:
        """Remove a clip, open or not. Raises PodcamError."""


class Rings(Protocol):
    """What clips ask about the rings of this node."""

    def reach(self, recording: str, pods: tuple[str, ...] | None, window: Window) -> bool:
        """Whether a ring of the recording may hold packets of the window."""


class Peers(Protocol):
    """Tells whose addresses these are."""

    def look_up(
        self,
        clip: str,
        addresses: Iterable[str],
        pods: Iterable[str],
        done: Callable[[Mapping[str, str]], None],
    ) -> None:
        """Call `done`, once, with the names that are known of these addresses, and of these pods'."""


@dataclass(slots=True)
class _Local:
    """A clip of which this node holds something, or is keeping something."""

    name: Name
    part: NodePart
    uid: str | None = None
    """Of its object, as far as there is one."""
    home: str | None = None
    """The uid of the namespace that it was kept for, as long as it has no object; None: not known."""
    inherited: bool = False
    """Whether an earlier agent kept it, of which nothing has been heard since this one began."""
    interrupted: bool = False
    """Whether the earlier agent ended before the clip's window did."""
    listed: bool = True
    """Whether a list that lacks the object tells that it is gone: one may have been made before the object
    that this agent created, and be read after it."""


class Clips:
    """All clips that concern this node.

    Args:
        node: its name.
        store: the recorder's clips.
        marks: what is known of their objects.
        recorder: keeps packets.
        rings: what this node could keep.
        expected: the nodes that hold rings of a recording, as far as its status tells.
        home: the uid of a namespace; None where it is not known.
        peers: whose addresses.
        writes: the requests to the API server.
        call: runs a function in the agent's thread.
        objects: the clips of the cluster.
        report: is told of this node's part of a clip.
        refused: is told of the recording whose clip cannot get an object, and why; it is tried again.
        log: for what happens.
    """

    def __init__(
        self,
        *,
        node: str,
        store: ClipStore,
        marks: Marks,
        recorder: KeepingRecorder,
        rings: Rings,
        expected: Callable[[str], tuple[str, ...]],
        home: Callable[[str], str | None],
        peers: Peers,
        writes: Outbox,
        call: Callable[[Callable[[], None]], None],
        objects: Collection[ClipObject],
        report: Callable[[Name, NodePart], None],
        refused: Callable[[str, str], None],
        log: Log,
    ) -> None:
        self._node = node
        self._store = store
        self._marks = marks
        self._recorder = recorder
        self._rings = rings
        self._expected = expected
        self._home = home
        self._peers = peers
        self._writes = writes
        self._call = call
        self._objects = objects
        self._report = report
        self._refused = refused
        self._log = log
        self._local: dict[str, _Local] = {}

    def restore(self) -> None:
        """Take up the clips that an earlier agent left on the disk, all complete as far as they go."""
        for clip in self._store.clips():
            name = clip_of_folder(clip.path.name)
            if name is None:
                continue
            mark = self._marks.of(clip.path.name)
            part, interrupted = part_of(clip.manifest), clip.manifest.interrupted
            self._local[clip.path.name] = _Local(
                name, part, mark.uid, mark.home, inherited=True, interrupted=interrupted
            )
            if mark.uid is None and (clip.manifest.triggers or mark.body):
                body = mark.body or self._body(name, clip.manifest)
                self._create(clip.path.name, Mark(body=body, home=mark.home))

    def path_of(self, name: Name) -> Path | None:
        """Where this node's part of a clip lies, None when it has none."""
        try:
            clip_id = clip_folder(name)
        except ValueError:
            return None
        local = self._local.get(clip_id)
        return None if local is None else self._store.folder / clip_id

    def over(self, namespace: str, time_ns: int) -> set[str]:
        """The names of clips that a failure at this time cannot join."""
        names = {
            clip.name
            for clip in self._objects.values()
            if clip.namespace == namespace and clip.window.end_ns < time_ns
        }
        settled = (local.name for local in self._local.values() if local.part.state is not PartState.FREEZING)
        return names | {name.name for name in settled if name.namespace == namespace}

    # --- what the recorder tells ---

    def opened(self, event: Event) -> None:
        """The recorder has begun to keep a clip."""
        clip_id = str(event["clip"])
        name = clip_of_folder(clip_id)
        if name is None:
            return
        manifest = read_manifest(Path(event["path"]))
        part = NodePart(PartState.FREEZING, manifest.window)
        local = self._local.get(clip_id)
        if local is not None:
            local.part = part
            self._tell(local)
            return
        home = self._home(name.namespace)
        self._local[clip_id] = _Local(name, part, home=home)
        self._create(clip_id, Mark(body=self._body(name, manifest, event), home=home))
        there = self._objects.get(str(name))
        if there is not None:
            self._joined(clip_id, there.uid)

    def completed(self, event: Event) -> None:
        """The recorder has kept all of a clip."""
        clip_id = str(event["clip"])
        local = self._local.get(clip_id)
        if local is None:
            return
        manifest = read_manifest(Path(event["path"]))
        pods = [part.point.name for part in manifest.parts]
        self._peers.look_up(str(local.name), addresses_of(manifest), pods, partial(self._named, clip_id))

    def removed(self, event: Event) -> None:
        """The recorder has removed a clip for want of room."""
        clip_id = str(event["clip"])
        local = self._local.get(clip_id)
        if local is None:
            return
        why = str(event.get("reason") or "the room for clips was needed")
        local.part = NodePart(PartState.REMOVED, local.part.window, why)
        self._tell(local)
        if local.uid is not None:
            del self._local[clip_id]
            self._marks.remove(clip_id)

    def _named(self, clip_id: str, names: Mapping[str, str]) -> None:
        local = self._local.get(clip_id)
        if local is None:
            return
        path = self._store.folder / clip_id
        try:
            manifest = read_manifest(path)
            if names:
                manifest = replace(manifest, names={**manifest.names, **names})
                write_manifest(path, manifest)
            local.part = part_of(manifest)
        except ClipError as error:
            local.part = NodePart(PartState.FAILED, local.part.window, str(error))
        self._tell(local)

    # --- what the API server tells ---

    def changed(self, key: str, clip: ClipObject) -> None:
        """A clip's object is new, or has changed."""
        try:
            clip_id = clip_folder(Name.parse(key))
        except ValueError as error:
            self._log.warning("a clip's name is too long for a folder", clip=key, why=error)
            return
        local = self._local.get(clip_id)
        if local is not None:
            local.listed = True
            if local.uid is None and local.home is not None and self._home(clip.namespace) is None:
                return  # whether it is the same namespace is not known yet: its own request will tell
        if local is not None and not self._is_of(local, clip):
            self._discard(clip_id)  # another clip had the name before
            local = None
        if local is None:
            self._consider(clip_id, clip)
            return
        if local.uid is None:
            self._joined(clip_id, clip.uid)
        if local.inherited:
            self._take_over(clip_id, local, clip)
        else:
            self._widen(clip_id, local, clip)

    def _is_of(self, local: _Local, clip: ClipObject) -> bool:
        """Whether what this node holds is of this object, and not of one that had its name."""
        if local.uid is not None:
            return local.uid == clip.uid
        return local.home is None or self._home(clip.namespace) == local.home

    def gone(self, key: str) -> None:
        """A clip's object was deleted."""
        clip_id = clip_folder(Name.parse(key))
        if clip_id in self._local and self._local[clip_id].uid is not None:
            self._discard(clip_id)

    def listed(self) -> None:
        """All clips that there are have been heard of: what this node holds of others goes."""
        for clip_id, local in list(self._local.items()):
            if local.uid is None or str(local.name) in self._objects.unread:
                continue
            if self._objects.get(str(local.name)) is None:
                if local.listed:
                    self._discard(clip_id)
                local.listed = True
        for clip_id in self._marks.all() - self._local.keys():
            self._marks.remove(clip_id)

    def _consider(self, clip_id: str, clip: ClipObject) -> None:
        """Whether, and how, this node has a part of a clip that it does not hold yet."""
        name = Name(clip.namespace, clip.name)
        reported = clip.parts.get(self._node)
        if reported is not None and reported.state in _SETTLED:
            return
        if reported is not None and reported.state == PartState.COMPLETE:
            gone = "its files are not on the node any more"
            self._report(name, NodePart(PartState.REMOVED, clip.window, gone))
            return
        recording = f"{clip.namespace}/{clip.recording}"
        if self._rings.reach(recording, clip.pods, clip.window):
            self._keep(clip_id, name, clip)
        elif self._node in (clip.expected_nodes or self._expected(recording)):
            nothing = "no ring of this node reaches into the window"
            self._report(name, NodePart(PartState.NOTHING, clip.window, nothing))

    def _keep(self, clip_id: str, name: Name, clip: ClipObject) -> None:
        local = _Local(name, NodePart(PartState.FREEZING, clip.window), clip.uid)
        self._local[clip_id] = local
        try:
            self._marks.put(clip_id, Mark(uid=clip.uid))
            self._recorder.keep(self._request(clip_id, clip))
        except PodcamError as error:
            del self._local[clip_id]
            self._marks.remove(clip_id)
            self._log.error("a clip cannot be kept", clip=str(name), why=error)
            self._report(name, NodePart(PartState.FAILED, clip.window, str(error)))

    def _take_over(self, clip_id: str, local: _Local, clip: ClipObject) -> None:
        """Go on where an earlier agent ended: in the middle of the window, or before it had told."""
        local.inherited = False
        reported = clip.parts.get(self._node)
        if local.interrupted or reported is None or reported.state == PartState.FREEZING:
            self._ask(clip_id, local, clip)

    def _widen(self, clip_id: str, local: _Local, clip: ClipObject) -> None:
        """Two agents saw the failure at once: the window of the object is what both have to hold."""
        window = local.part.window
        within = clip.window.start_ns in window and clip.window.end_ns in window
        if local.part.state is PartState.FREEZING and not within:
            self._ask(clip_id, local, clip)

    def _ask(self, clip_id: str, local: _Local, clip: ClipObject) -> None:
        """Have the whole window of the object kept; the recorder tells what it has when it has all of it."""
        try:
            self._recorder.keep(self._request(clip_id, clip))
        except PodcamError as error:
            self._log.warning("of a clip not more can be kept", clip=str(local.name), why=error)
            self._tell(local)

    def _request(self, clip_id: str, clip: ClipObject) -> KeepRequest:
        points = None
        if clip.pods is not None:
            points = frozenset(str(PointId(clip.namespace, clip.recording, pod)) for pod in clip.pods)
        return KeepRequest(
            clip=clip_id,
            recording=f"{clip.namespace}/{clip.recording}",
            points=points,
            window=clip.window,
            reason=clip.reason,
            created_ns=clip.created_ns,
            joins=clip.origin_node not in {None, self._node},
        )

    # --- from a failure to an object ---

    def _body(self, name: Name, manifest: Manifest, opened: Event | None = None) -> Mapping[str, Any]:
        expected = self._expected(manifest.recording or "")
        return clip_body(name, manifest, node=self._node, expected=expected, opened=opened)

    def _create(self, clip_id: str, mark: Mark) -> None:
        """Make the clip's object, now or as soon as the API server is there.

        By then the namespace may be another one of that name, whose people must not get it.
        """
        body = mark.body or {}
        try:
            self._marks.put(clip_id, mark)
        except ClipError as error:
            self._log.warning("after a restart this clip will be made without its trigger", why=error)
        name = self._local[clip_id].name
        path = path_of(CLIPS, name.namespace)
        recording = f"{name.namespace}/{body['spec']['recording']}"

        def send(api: Api) -> None:
            try:
                if mark.home is not None:
                    _stand_in(api, name.namespace, mark.home)
                made = _made(api, f"{path}/{name.name}", path, body)
            except NotInstalledError:
                raise
            except NotFoundError as error:
                self._call(partial(self._homeless, clip_id, str(error)))
                return
            except (ForbiddenError, InvalidError) as error:
                text = f"clip {name.name} is kept, but the API server refuses its object: {error}"
                self._call(partial(self._refused, recording, text))
                raise
            self._call(lambda: self._created(clip_id, made["metadata"]["uid"]))

        self._writes.put(f"clips/{name}/create", send)

    def _created(self, clip_id: str, uid: str) -> None:
        local = self._local.get(clip_id)
        if local is not None and local.uid is None:
            local.listed = False
        self._joined(clip_id, uid)

    def _joined(self, clip_id: str, uid: str) -> None:
        """The clip has an object, made by this agent or by another."""
        local = self._local.get(clip_id)
        if local is None or local.uid == uid:
            return
        local.uid = uid
        self._writes.drop(f"clips/{local.name}/create")
        try:
            self._marks.put(clip_id, Mark(uid=uid))
        except ClipError as error:
            self._log.warning("what became of a clip's object cannot be written down", why=error)
        self._tell(local)

    def _homeless(self, clip_id: str, why: str) -> None:
        """A clip's namespace is gone, or its object was deleted before it was seen: nobody may read it."""
        self._log.warning("a clip has no place in the cluster any more", clip=clip_id, why=why)
        if clip_id in self._local:
            self._discard(clip_id)

    # --- both ---

    def _tell(self, local: _Local) -> None:
        if local.uid is not None:
            self._report(local.name, local.part)

    def _discard(self, clip_id: str) -> None:
        """Remove what this node holds of a clip."""
        local = self._local.pop(clip_id)
        for what in ("create", "names"):
            self._writes.drop(f"clips/{local.name}/{what}")
        try:
            self._recorder.drop(clip_id)
            self._marks.remove(clip_id)
            self._log.info("removed a clip whose object is gone", clip=str(local.name))
        except PodcamError as error:
            self._log.error("a clip whose object is gone cannot be removed", clip=str(local.name), why=error)


def _made(api: Api, path: str, kind: str, body: Mapping[str, Any]) -> Object:
    """The object of a clip, made now, or before by a request whose answer did not arrive.

    Raises:
        NotFoundError: its namespace is gone, or somebody deleted it in between.
    """
    try:
        return api.create(kind, dict(body))
    except ConflictError:
        pass
    return api.get(path)


def _stand_in(api: Api, namespace: str, uid: str) -> None:
    """Raise NotFoundError unless the namespace is still the one with this uid."""
    if api.get(path_of(NAMESPACES, name=namespace))["metadata"]["uid"] != uid:
        raise NotFoundError(f"namespace {namespace} was deleted, and another made of its name")
