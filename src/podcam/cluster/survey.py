"""Asking a cluster what a recording would mean there; what the caller may not see is left out, not fatal."""

from collections.abc import Iterable, Mapping
from typing import Any

from podcam.cluster.preview import Preview, disks_of, preview
from podcam.cluster.targets import Choice
from podcam.errors import ForbiddenError, NotFoundError
from podcam.kube import (
    NAMESPACES,
    NODES,
    PODS,
    RUNTIME_CLASSES,
    Api,
    NamespaceLimits,
    Pod,
    list_objects,
    path_of,
)


def survey(
    api: Api, namespace: str, choice: Choice, *, ring_bytes: int, host_network: bool
) -> Preview | None:
    """The pods that `choice` stands for now, and what recording them costs.

    Args:
        api: the API server.
        namespace: of the pods.
        choice: which of them.
        ring_bytes: what a ring takes at most; 0 where the cost is not asked for, and so no node is.
        host_network: whether pods that share their node's network are wanted.

    None where the caller may not list pods: recording them needs no such right.
    """
    try:
        pods = [Pod.parse(each) for each in _chosen(api, namespace, choice)]
    except ForbiddenError:
        return None
    return preview(
        pods,
        ring_bytes=ring_bytes,
        host_network=host_network,
        limits=_limits(api, namespace),
        handlers=_handlers(api, {pod.runtime_class for pod in pods if pod.runtime_class}),
        disks=_disks(api) if ring_bytes else {},
    )


def _chosen(api: Api, namespace: str, choice: Choice) -> Iterable[Mapping[str, Any]]:
    if choice.selector is not None:
        return list_objects(api, PODS, namespace=namespace, label_selector=choice.label_selector).objects
    found = []
    for name in choice.pods:
        try:
            found.append(api.get(path_of(PODS, namespace, name)))
        except NotFoundError:
            continue  # named for when it comes
    return found


def _limits(api: Api, namespace: str) -> NamespaceLimits | None:
    try:
        return NamespaceLimits.parse(api.get(path_of(NAMESPACES, name=namespace)))
    except (ForbiddenError, NotFoundError):
        return None


def _handlers(api: Api, names: Iterable[str]) -> dict[str, str]:
    handlers = {}
    for name in names:
        try:
            handlers[name] = str(api.get(path_of(RUNTIME_CLASSES, name=name))["handler"])
        except (ForbiddenError, NotFoundError):
            continue
    return handlers


def _disks(api: Api) -> dict[str, int]:
    try:
        return disks_of(list_objects(api, NODES).objects)
    except ForbiddenError:
        return {}
