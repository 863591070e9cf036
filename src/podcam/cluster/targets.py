"""What a person names (`deploy/web`, `sts db`, `pod/x`), and the pods that it stands for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podcam.errors import ForbiddenError, KubernetesError, NotFoundError, NotInstalledError, UsageError
from podcam.kube import PODS, Api, Kind, LabelSelector, path_of


def _workload(group: str, version: str, kind: str, *short: str) -> Kind:
    """A kind that selects pods."""
    return Kind(group, version, f"{kind.lower()}s", kind, short=short)


_WORKLOADS = (
    _workload("apps", "v1", "Deployment", "deploy"),
    _workload("apps", "v1", "StatefulSet", "sts"),
    _workload("apps", "v1", "DaemonSet", "ds"),
    _workload("apps", "v1", "ReplicaSet", "rs"),
    _workload("batch", "v1", "Job"),
    _workload("", "v1", "ReplicationController", "rc"),
    _workload("", "v1", "Service", "svc"),
)
_PLAIN_SELECTORS = frozenset({"ReplicationController", "Service"})
"""Kinds whose selector is the labels themselves."""
_KNOWN = "deploy, sts, ds, rs, job, rc, svc and pod"


@dataclass(frozen=True, slots=True)
class Target:
    """`TYPE/NAME` as a kind and a name."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name}"


def parse_targets(words: Sequence[str]) -> tuple[Target, ...]:
    """What `TYPE/NAME…` or `TYPE NAME…` name; a word alone is a pod, as with `kubectl logs`.

    Raises UsageError for a type that has no pods, and for several targets that are not all pods.
    """
    if any("/" in word for word in words):
        pairs = [word.partition("/")[::2] for word in words]
        for word, (kind, name) in zip(words, pairs, strict=True):
            if not kind or not name or "/" in name:
                raise UsageError(f"{word!r} is not TYPE/NAME, as in deploy/web")
    elif len(words) > 1:
        pairs = [(words[0], name) for name in words[1:]]
    elif words and _kind(words[0]) is not None:
        raise UsageError(f"which {words[0]}? Name one, as in {words[0]}/web")
    else:
        pairs = [("pod", name) for name in words]
    targets = tuple(Target(_known_kind(kind), name) for kind, name in pairs)
    if len(targets) > 1 and {target.kind for target in targets} != {"Pod"}:
        raise UsageError("one workload makes one recording: name one, or several pods")
    return targets


def _known_kind(word: str) -> str:
    kind = _kind(word)
    if kind is None:
        raise UsageError(
            f"{word!r} has no pods that could be recorded: name one of {_KNOWN}, as in deploy/web"
        )
    return kind


def _kind(word: str) -> str | None:
    """The kind of `deploy`, `Deployments`, `deployment.apps` or `deployments.v1.apps`."""
    return next((kind.kind for kind in (PODS, *_WORKLOADS) if kind.is_called(word)), None)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which pods a recording is of: those that a selector matches, or those named."""

    selector: Mapping[str, Any] | None = None
    """`matchLabels`, `matchExpressions`."""
    pods: tuple[str, ...] = ()
    target: Target | None = None
    """What the person named."""

    def __str__(self) -> str:
        if self.target is not None:
            return str(self.target)
        if self.pods:
            return ", ".join(f"pod/{name}" for name in self.pods)
        return f"pods with {self.label_selector}"

    @property
    def label_selector(self) -> str:
        """The selector as `-l` and the API's `labelSelector` have it."""
        return str(LabelSelector.parse(self.selector or {}))

    def spec(self) -> dict[str, Any]:
        """Its part of a recording's spec."""
        spec: dict[str, Any] = {"selector": self.selector} if self.selector else {"pods": list(self.pods)}
        if self.target is not None:
            spec["target"] = {"kind": self.target.kind, "name": self.target.name}
        return spec


def find_choice(api: Api, namespace: str, targets: Sequence[Target]) -> Choice:
    """What the targets stand for; a workload's own selector, so that its later pods are recorded too.

    Raises NotFoundError where there is no such object, KubernetesError where it selects no pods.
    """
    if targets[0].kind == "Pod":
        for target in targets:
            _get(api, PODS, namespace, target, f"; a workload is named as in deploy/{target.name}")
        return Choice(
            pods=tuple(target.name for target in targets), target=targets[0] if len(targets) == 1 else None
        )
    target = targets[0]
    kind = next(each for each in _WORKLOADS if each.kind == target.kind)
    found = _get(api, kind, namespace, target)
    selector = found.get("spec", {}).get("selector")
    if not selector:
        raise KubernetesError(
            f"{target} has no selector, so nothing says which pods are its own: name pods or use -l"
        )
    if target.kind in _PLAIN_SELECTORS:
        selector = {"matchLabels": selector}
    return Choice(selector=selector, target=target)


def _get(api: Api, kind: Kind, namespace: str, target: Target, hint: str = "") -> dict[str, Any]:
    try:
        return find_object(api, kind, namespace, target.name)
    except NotInstalledError:
        raise
    except NotFoundError as error:
        raise NotFoundError(f"{error}{hint}", status=error.status, reason=error.reason) from None
    except ForbiddenError as error:
        sentence = f"{error}; to choose pods by -l SELECTOR takes no such right"
        raise ForbiddenError(sentence, status=error.status, reason=error.reason) from None


def find_object(api: Api, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
    """The object of this name. Raises NotFoundError, which says where it is not."""
    try:
        return api.get(path_of(kind, namespace, name))
    except NotInstalledError:
        raise
    except NotFoundError as error:
        sentence = f"there is no {kind.kind.lower()} {name} in namespace {namespace} (-n names another)"
        raise NotFoundError(sentence, status=error.status, reason=error.reason) from None


def selected(text: str) -> Choice:
    """What `-l` selects: `app=web,tier!=test,zone in (a,b),!canary`.

    Raises UsageError where that is no selector, or one of every pod.
    """
    try:
        selector = LabelSelector.from_text(text)
    except ValueError as error:
        raise UsageError(f"-l: {error}") from None
    if not selector.requirements:
        raise UsageError("-l '' would match every pod of the namespace: write KEY=VALUE, as in app=web")
    return Choice(selector=selector.to_json())


def choice_of(recording: Mapping[str, Any]) -> Choice:
    """Which pods an existing recording is of."""
    spec = recording["spec"]
    target = spec.get("target")
    return Choice(
        selector=spec.get("selector"),
        pods=tuple(spec.get("pods", ())),
        target=Target(target["kind"], target["name"]) if target else None,
    )
