"""Recorders in pods: which there are, what they tell, and their clips, through a forwarded port.

Nothing is sealed on this road: whoever may forward a port of the pod, or run something in it, can read its
packets.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from podcam.clip import COMPLETE, Manifest, write_manifest
from podcam.cluster.fetching import (
    Fetching,
    File,
    Index,
    PartError,
    Pause,
    Pulled,
    Tell,
    index_of,
    keep,
    kept,
    own,
    short,
    told,
)
from podcam.errors import (
    ClipError,
    ForbiddenError,
    KubernetesError,
    NotFoundError,
    PodcamError,
    UnreachableError,
)
from podcam.kube import PODS, SERVICES, Answer, Api, KubectlForward, Object, Pod, list_objects, path_of
from podcam.model.text import printable

LABEL: Final = "podcam.dev/recorder"
"""On pods: `sidecar` or `wrap`."""
SERVE: Final = "podcam.dev/serve"
"""Annotation of such pods: the port of their loopback address at which clips are handed out."""
PORT: Final = 9472

_HEADERS: Final = {"Podcam-Reader": "1"}
"""As `podcam.wrap.http` wants it."""
_MOST_INDEX_BYTES: Final = 64 << 20
_MOST_REFUSAL_BYTES: Final = 1 << 16
_MOST_ASKED: Final = 8
_ASKED_SECONDS: Final = 4.0
_MOST_NAMED: Final = 20
_CLIP: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PodRecorder:
    """A pod that says of itself that it is recorded from within."""

    pod: Pod
    how: str
    """`sidecar` or `wrap`"""
    port: int

    @classmethod
    def of(cls, body: Object) -> Self:
        """From a Pod. One that is not labelled is taken for one, if somebody names it."""
        pod = Pod.parse(body)
        annotations: Mapping[str, str] = body["metadata"].get("annotations") or {}
        port = annotations.get(SERVE, "")
        return cls(pod, pod.labels.get(LABEL, "?"), int(port) if port.isdecimal() else PORT)

    @property
    def runs(self) -> bool:
        """Whether it can be asked: a port can be forwarded to it."""
        return self.pod.phase == "Running"


@dataclass(frozen=True, slots=True)
class PodClip:
    """A clip of a recorder in a pod, as it lists it."""

    name: str
    state: str
    created_ns: int

    @property
    def complete(self) -> bool:
        """Whether it can be fetched."""
        return self.state == COMPLETE


def pod_recorders(api: Api, namespace: str | None) -> list[PodRecorder]:
    """The pods that are labelled so, of a namespace or of all."""
    found = list_objects(api, PODS, namespace=namespace, label_selector=LABEL).objects
    return [PodRecorder.of(body) for body in found]


def pod_recorder(api: Api, namespace: str, name: str) -> PodRecorder:
    """The pod of this name. Raises NotFoundError where the namespace has none."""
    try:
        return PodRecorder.of(api.get(path_of(PODS, namespace, name)))
    except NotFoundError as error:
        sentence = f"{error} in namespace {namespace}: -n NAMESPACE names another"
        raise NotFoundError(sentence, status=error.status, reason=error.reason) from None


class PodRoad:
    """The road to a pod's recorder, as long as the context is open; made anew where it breaks.

    Args:
        options: flags of kubectl that say which cluster, and as whom.
        recorder: whose.
        pause: between two tries.
        kubectl: the program.
        patience_seconds: how long forwarding, and an answer, may take; None for as long as a login may.
    """

    def __init__(
        self,
        options: Sequence[str],
        recorder: PodRecorder,
        *,
        pause: Pause = time.sleep,
        kubectl: str = "kubectl",
        patience_seconds: float | None = None,
    ) -> None:
        self.pause = pause
        self._recorder = recorder
        self._make: Callable[[], KubectlForward] = lambda: KubectlForward(
            options,
            recorder.pod.namespace,
            recorder.pod.name,
            recorder.port,
            kubectl=kubectl,
            patience_seconds=patience_seconds,
        )
        self._forward: KubectlForward | None = None
        self._api: Api | None = None
        self._clip = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hang_up()

    def status(self) -> Mapping[str, Any]:
        """What its status.json says."""
        return self._json("/status")

    def clips(self) -> list[PodClip]:
        """Its clips, in the order of time.

        Raises:
            PartError: what it answers is no list of clips.
            KubernetesError: there is no way to it.
        """
        body = self._json("/v1/clips")
        try:
            return [
                PodClip(_plain(each["clip"]), str(each["state"]), int(each["created_ns"]))
                for each in body["clips"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise PartError(f"what the recorder sent is no list of clips: {error!r}") from error

    def index(self, clip: str) -> Index:
        """What there is of a clip; `content` and `prove` are about it from now on.

        Raises:
            PartError: there is nothing, or what came is no index.
            KubernetesError: there is no way to the recorder.
        """
        self._clip = clip
        body = self._json(f"/v1/clips/{clip}/index")
        try:
            return index_of(dict(body))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PartError(f"what the recorder sent is no index of a clip: {error!r}") from error

    def content(self, file: File, start: int) -> Iterator[bytes]:
        """The file's bytes from `start` on.

        Raises:
            PartError: the file is gone, or another one.
            UnreachableError: the way was cut: go on from where it was.
        """
        tag = f'"{file.version}"'
        headers = {"Range": f"bytes={start}-", "If-Range": tag} if start else {}
        with self._ask(f"/v1/clips/{self._clip}/files/{file.number}", headers) as answer:
            if answer.headers.get("ETag") != tag:
                raise PartError(f"{file.folder}/{file.name} changed while it was read: pull again")
            if start and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise PartError("the recorder does not hand out parts of a file")
            yield from answer

    def prove(self, file: File, copy: Path) -> None:
        """Compare the sums of a file and of its copy.

        Raises:
            PartError: they differ.
            UnreachableError: the way was cut.
        """
        body = self._json(f"/v1/clips/{self._clip}/files/{file.number}/sha256")
        with copy.open("rb") as read:
            digest = hashlib.file_digest(read, "sha256").hexdigest()
        if (body.get("version"), body.get("sha256")) != (file.version, digest):
            raise PartError(f"{file.folder}/{file.name} did not come as it was sent: pull again")

    def _json(self, path: str) -> Mapping[str, Any]:
        with self._ask(path) as answer:
            body = answer.read(_MOST_INDEX_BYTES)
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise PartError(f"what answers at port {self._recorder.port} of the pod is no recorder of Podcam")
        return found

    def _ask(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """The recorder's answer, if it is one of success."""
        try:
            answer = self._reached().get_bytes(path, {**_HEADERS, **(headers or {})})
        except UnreachableError as error:
            why = self._forward.trouble() if self._forward is not None else None
            self._hang_up()
            raise UnreachableError(self._sentence(why or str(error))) from error
        if answer.status not in {200, 206}:
            with answer:
                raise PartError(_refusal(answer))
        return answer

    def _reached(self) -> Api:
        if self._forward is not None and not self._forward.running:
            self._hang_up()
        if self._api is None:
            forward = self._make()
            self._api = forward.__enter__()
            self._forward = forward
        return self._api

    def _hang_up(self) -> None:
        if self._forward is not None:
            self._forward.__exit__(None, None, None)
        self._forward = self._api = None

    def _sentence(self, why: str) -> str:
        pod, port = self._recorder.pod, self._recorder.port
        if "refused" in why:
            return (
                f"nothing hands out clips at port {port} of pod {pod.name}: it needs --serve {port}, "
                f"or the pod an annotation {SERVE} with the port that it has; or its container is not "
                "running just now"
            )
        return f"the recorder of pod {pod.name} cannot be reached: {why}"


def pull_from_pod(
    api: Api, road: PodRoad, recorder: PodRecorder, clip: str, cache: Path, *, tell: Tell
) -> Pulled:
    """Fetches a clip of a pod's recorder into a folder of its own below `cache`.

    Raises:
        PartError: the recorder has no such clip, or not all of it.
        KubernetesError: there is no way to it.
        ClipError: another pull of this clip is running, or the files cannot be written.
    """
    try:
        with own(pod_folder(cache, recorder, clip)) as folder:
            note = _note(folder)
            manifest = kept(note)
            fetching = Fetching(tell)
            if manifest is None:
                index = road.index(clip)
                fetching.expect(index)
                for file in index.files:
                    fetching.fetch(road, file, folder / file.folder)
                manifest = told(index)
                names = {**manifest.names, **_names(api, recorder.pod, _addresses(manifest))}
                manifest = replace(manifest, names=names)
                write_manifest(folder, manifest)
                keep(note, manifest)
            return Pulled(folder, manifest, (), fetching.fetched_bytes)
    except OSError as error:
        raise ClipError(f"cannot keep clip {clip} in {cache}: {error.strerror}") from error


def pod_folder(cache: Path, recorder: PodRecorder, clip: str) -> Path:
    """Where a clip of a pod's recorder is kept once it was fetched."""
    pod = recorder.pod
    return cache / short(f"{pod.namespace}_{pod.name}_{pod.uid[:8]}_{clip}")


def _plain(clip: str) -> str:
    """It becomes part of paths, and a pod may answer whatever it likes."""
    if not _CLIP.fullmatch(clip):
        raise ValueError(f"{clip!r} is no name of a clip")
    return clip


def _note(folder: Path) -> Path:
    return folder / ".pod.json"


def statuses(
    options: Sequence[str], recorders: Sequence[PodRecorder], *, kubectl: str = "kubectl"
) -> dict[str, Mapping[str, Any] | str]:
    """What the recorders tell, by `NAMESPACE/POD`, or why one of them does not; a few at once, not for long.

    Those over eight are not asked, and not in it.
    """

    def ask(recorder: PodRecorder) -> Mapping[str, Any] | str:
        try:
            with PodRoad(options, recorder, kubectl=kubectl, patience_seconds=_ASKED_SECONDS) as road:
                return road.status()
        except PodcamError as error:
            return str(error)

    asked = [recorder for recorder in recorders if recorder.runs][:_MOST_ASKED]
    if not asked:
        return {}
    with ThreadPoolExecutor(len(asked), "pod") as pool:
        answers = pool.map(ask, asked)
        return {
            f"{recorder.pod.namespace}/{recorder.pod.name}": answer
            for recorder, answer in zip(asked, answers, strict=True)
        }


def _addresses(manifest: Manifest) -> Iterator[str]:
    """Those that the clip speaks of, those that matter most first."""
    for failure in manifest.triggers:
        yield failure.server.ip
        yield failure.client.ip
    for part in manifest.parts:
        for counts in part.servers:
            yield counts.server.ip


def _names(api: Api, pod: Pod, addresses: Iterable[str]) -> dict[str, str]:
    """What people call them, as far as the caller may know, and as far as it is still so."""
    names = {} if pod.host_network else dict.fromkeys(pod.ips, f"pod {pod.namespace}/{pod.name}")
    wanted = [each for each in dict.fromkeys(addresses) if each not in names and _may_have_a_name(each)]
    with suppress(KubernetesError):
        for address in wanted[:_MOST_NAMED]:
            name = _name_of(api, pod.namespace, address)
            if name is not None:
                names[address] = name
    return names


def _may_have_a_name(address: str) -> bool:
    """A pod may tell whatever it likes in the place of an address."""
    try:
        return not ip_address(address).is_loopback
    except ValueError:
        return False


def _name_of(api: Api, namespace: str, address: str) -> str | None:
    """Of all namespaces where the caller may list them, else of the pod's own."""
    for kind, what, field in ((SERVICES, "service", "spec.clusterIP"), (PODS, "pod", "status.podIP")):
        params = {"fieldSelector": f"{field}={address}", "limit": "2"}
        try:
            found = api.get(path_of(kind), params)
        except ForbiddenError:
            found = api.get(path_of(kind, namespace), params)
        metadata = [each["metadata"] for each in found.get("items", ())]
        if len(metadata) == 1:
            return f"{what} {metadata[0]['namespace']}/{metadata[0]['name']}"
    return None


def _refusal(answer: Answer) -> str:
    """The recorder's own sentence."""
    body = answer.read(_MOST_REFUSAL_BYTES)
    try:
        return printable(str(json.loads(body)["error"]))
    except (ValueError, TypeError, KeyError):
        return f"the recorder answers with status {answer.status}"
