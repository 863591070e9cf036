"""The kinds of objects that Podcam asks the API server for, and their paths."""

from dataclasses import dataclass
from urllib.parse import quote, unquote

GROUP = "podcam.dev"
VERSION = "v1alpha1"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object; `group` is "" for the core group, `short` what kubectl calls it as well."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """As it stands in an object: `v1`, `podcam.dev/v1alpha1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full_name(self) -> str:
        """As kubectl takes it, unmistakable: `recordings.podcam.dev`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def is_called(self, word: str) -> bool:
        """Whether kubectl takes the word for it: `clip`, `clips.podcam.dev`, `Clips.v1alpha1.podcam.dev`."""
        name, _, group = word.lower().partition(".")
        known = name in {self.kind.lower(), self.plural, *self.short}
        return known and group in {"", self.group, f"{self.version}.{self.group}"}


RECORDINGS = Kind(GROUP, VERSION, "recordings", "Recording", short=("rec", "recs"))
CLIPS = Kind(GROUP, VERSION, "clips", "Clip", short=("pclip",))
GRANTS = Kind(GROUP, VERSION, "packetgrants", "PacketGrant")
PODS = Kind("", "v1", "pods", "Pod", short=("po",))
NAMESPACES = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
NODES = Kind("", "v1", "nodes", "Node", namespaced=False)
SERVICES = Kind("", "v1", "services", "Service")
EVENTS = Kind("", "v1", "events", "Event")
RUNTIME_CLASSES = Kind("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", namespaced=False)

RECORDING_LABEL = f"{GROUP}/recording"
"""On a clip: the name of its recording."""


def path_of(kind: Kind, namespace: str | None = None, name: str | None = None) -> str:
    """The path of an object, or of all objects of a kind (in a namespace, if given).

    Raises:
        ValueError: an object of a namespaced kind without its namespace.
    """
    path = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    if namespace is not None and kind.namespaced:
        path += f"/namespaces/{_segment(namespace)}"
    elif name is not None and kind.namespaced:
        raise ValueError(f"a {kind.kind} lies in a namespace")
    path += f"/{kind.plural}"
    return path if name is None else f"{path}/{_segment(name)}"


_VERBS = {"GET": "get", "POST": "create", "PATCH": "change", "DELETE": "delete"}


def asked(method: str, path: str) -> str:
    """What a request asks for, in words: `list recordings.podcam.dev in namespace shop`."""
    path = unquote(path.partition("?")[0])
    match path.strip("/").split("/"):
        case ["api", _, *segments]:
            group = ""
        case ["apis", group, _, *segments]:
            pass
        case _:
            return f"{_VERBS.get(method, method)} {path}"
    where = ""
    match segments:
        case ["namespaces", namespace, plural, *rest]:
            where = f" in namespace {namespace}"
        case [plural, *rest]:
            pass
        case _:
            return f"{_VERBS.get(method, method)} {path}"
    verb = "list" if method == "GET" and not rest else _VERBS.get(method, method)
    return f"{verb} {'/'.join((plural + (f'.{group}' if group else ''), *rest))}{where}"


def _segment(name: str) -> str:
    """A name as one segment of a path, whatever it holds: it may come from a user or another object."""
    if name in {"", ".", ".."}:
        raise ValueError(f"{name!r} is not the name of an object")
    return quote(name, safe="")
