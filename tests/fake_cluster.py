"""An API server with objects in it, for tests of `kubectl podcam`: it lists, creates, patches, deletes.

    with FakeCluster() as cluster:
        cluster.add(PODS, {"metadata": {"name": "web-1", "namespace": "shop"}, …})
        cluster.tells(RECORDINGS, recording_with_status)       # what the next watch tells
        main(["record", "deploy/web"])
        assert cluster.objects[path_of(RECORDINGS, "shop", "web")]

It knows nothing of schemas: what a real one does with defaults and CEL is tested on a real cluster.
"""

import copy
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import unquote

import kmock
from kmock import Response  # type: ignore[attr-defined]  # public, but not in its __all__

from kube_server import KubeServer, page, refused
from podcam.kube import Kind, LabelSelector, path_of

Object = dict[str, Any]
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class FakeCluster(KubeServer):
    """Runs in a thread of its own; use as a context manager."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, Object] = {}
        """All objects, by path."""
        self.kinds: set[str] = set()
        """Plurals of what the API server knows, where it is asked for a list of none."""
        self.raw: dict[str, Object | bytes] = {"/version": {"gitVersion": "v1.36.0"}}
        """Answers that are no objects, by path."""
        self.forbidden: set[str] = set()
        """Paths, without their query, that nobody may ask for."""
        self.denied: set[tuple[str, str]] = set()
        """Verbs and plurals that the caller may not."""
        self.defaults: Callable[[Object], Object] = lambda body: body
        """What the API server makes of an object that is created."""
        self.pods_run: Callable[[Object], Object] = lambda pod: pod
        """What becomes of a pod that is created."""
        self._told: dict[str, list[Object]] = defaultdict(list)

    def add(self, kind: Kind, *bodies: Object) -> None:
        self.kinds.add(kind.plural)
        for body in bodies:
            metadata = body["metadata"]
            each = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
            self.objects[path_of(kind, metadata.get("namespace"), metadata["name"])] = each

    def tells(self, kind: Kind, *bodies: Object | None) -> None:
        """A watch of this kind tells these, one after the other, and is silent then. None: it is gone."""
        last: Object = {}
        for body in bodies:
            last = last if body is None else _versioned(body)
            self._told[kind.plural].append(
                {"type": "DELETED" if body is None else "MODIFIED", "object": last}
            )

    def _answer(self, request: kmock.Request) -> Any:
        with self._changed:
            self.asked.append(request)
            self._changed.notify_all()
        answer = self._answer_of(request)
        # Without a status of its own, an answer gets that of the last one that had one.
        return answer if isinstance(answer, Response) else Response(status=200, payload=answer)

    def _answer_of(self, request: kmock.Request) -> Any:
        path = unquote(request.url.path)
        if path in self.forbidden:
            return refused(403, f'x is forbidden: User "u" cannot ask for {path}', "Forbidden")
        if path in self.raw:
            return self.raw[path]
        match request.method.value.upper():
            case "GET" if "watch" in request.params:
                return self._events(path)
            case "GET":
                return self._get(path, request.params)
            case "POST":
                return self._create(path, json.loads(request.body), dry_run="dryRun" in request.params)
            case "PATCH":
                return self._patch(path, json.loads(request.body))
            case "DELETE":
                return self.objects.pop(path, None) or self._not_found(path)
        return refused(405, "no such method")

    def _get(self, path: str, params: Mapping[str, str]) -> Any:
        if path in self.objects:
            return _versioned(self.objects[path])
        plural = path.rpartition("/")[2]
        found = [each for where, each in self.objects.items() if self._is_below(where, path)]
        if not found and plural not in self.kinds:
            return self._not_found(path)
        labels = LabelSelector.from_text(params.get("labelSelector", ""))
        fields = [term.split("=") for term in params.get("fieldSelector", "").split(",") if term]
        return page(
            [
                _versioned(each)
                for each in found
                if labels.matches(each["metadata"].get("labels", {}))
                and all(_field(each, place) == value for place, value in fields)
            ],
            version="10",
        )

    @staticmethod
    def _is_below(where: str, path: str) -> bool:
        """Whether an object lies where a list of `path` looks, in one namespace or in all."""
        parts = where.split("/")
        if "namespaces" in parts[:-2]:
            at = parts.index("namespaces")
            everywhere = "/".join(parts[:at] + parts[at + 2 : -1])
        else:
            everywhere = ""
        return path in {where.rpartition("/")[0], everywhere}

    def _not_found(self, path: str) -> Any:
        plural, _, name = path.rpartition("/")
        kind = plural.rpartition("/")[2]
        if kind in self.kinds:
            return refused(404, f'{kind} "{name}" not found', "NotFound", name=name)
        return refused(404, "the server could not find the requested resource", "NotFound")

    def _create(self, path: str, body: Object, *, dry_run: bool) -> Any:
        if path == _REVIEWS:
            asked = body["spec"]["resourceAttributes"]
            allowed = (asked["verb"], asked["resource"]) not in self.denied
            return {**body, "metadata": {"name": ""}, "status": {"allowed": allowed}}
        if path.rpartition("/")[2] not in self.kinds:
            return self._not_found(path)
        metadata = body["metadata"]
        where = f"{path}/{metadata.get('name') or metadata['generateName'] + 'x'}"
        if where in self.objects:
            return refused(409, f"{where} already exists", "AlreadyExists", name=metadata["name"])
        made = _versioned(self.defaults(copy.deepcopy(body)))
        made["metadata"] |= {"generation": 1, "creationTimestamp": "2026-11-23T06:00:00Z"}
        if made["kind"] == "Pod":
            made = self.pods_run(made)
        if not dry_run:
            self.objects[where] = made
        return made

    def _patch(self, path: str, patch: Object) -> Any:
        if path not in self.objects:
            return self._not_found(path)
        changed = _merged(self.objects[path], patch)
        changed["metadata"]["generation"] = changed["metadata"].get("generation", 1) + 1
        self.objects[path] = changed
        return changed

    def _events(self, path: str) -> Any:
        told = self._told.pop(path.rpartition("/")[2], [])

        async def stream() -> AsyncIterator[Any]:
            yield b""
            for event in told:
                yield event
            async for silence in self._silence():
                yield silence

        return stream


def _field(body: Object, place: str) -> Any:
    value: Any = body
    for name in place.split("."):
        value = value.get(name, {})
    return value


def _versioned(body: Object) -> Object:
    return {**body, "metadata": {"resourceVersion": "10", **body["metadata"]}}


def _merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged
