"""Kubernetes: a client of the API server, watches, custom resources as values, a pod's network namespace.

Stands on the standard library alone. Decides nothing: what to record, keep or report is for the agent, what a
person wants for `kubectl podcam`.
"""

from podcam.kube.api import Answer, Api, Object
from podcam.kube.clips import ClipObject, ClipTrigger, Grant, PartStatus
from podcam.kube.core import ALLOW_HOST_NETWORK, CONFIG_HASH, MAX_PAYLOAD, NamespaceLimits, Pod
from podcam.kube.forward import KubectlForward
from podcam.kube.kinds import (
    CLIPS,
    EVENTS,
    GRANTS,
    GROUP,
    NAMESPACES,
    NODES,
    PODS,
    RECORDING_LABEL,
    RECORDINGS,
    RUNTIME_CLASSES,
    SERVICES,
    VERSION,
    Kind,
    path_of,
)
from podcam.kube.netns import NamespaceChanges, NamespaceFinder, NamespaceWatch, NotYet
from podcam.kube.proxy import KubectlProxy
from podcam.kube.recordings import Recording
from podcam.kube.runtimes import sandbox_of
from podcam.kube.selectors import LabelSelector, Operator, Requirement
from podcam.kube.spelling import (
    format_duration,
    format_time,
    parse_duration,
    parse_quantity,
    parse_time,
)
from podcam.kube.watching import (
    Change,
    Changed,
    Deleted,
    Listed,
    Lost,
    Page,
    WatchSettings,
    list_objects,
    list_then_watch,
)

__all__ = [
    "ALLOW_HOST_NETWORK",
    "CLIPS",
    "CONFIG_HASH",
    "EVENTS",
    "GRANTS",
    "GROUP",
    "MAX_PAYLOAD",
    "NAMESPACES",
    "NODES",
    "PODS",
    "RECORDINGS",
    "RECORDING_LABEL",
    "RUNTIME_CLASSES",
    "SERVICES",
    "VERSION",
    "Answer",
    "Api",
    "Change",
    "Changed",
    "ClipObject",
    "ClipTrigger",
    "Deleted",
    "Grant",
    "Kind",
    "KubectlForward",
    "KubectlProxy",
    "LabelSelector",
    "Listed",
    "Lost",
    "NamespaceChanges",
    "NamespaceFinder",
    "NamespaceLimits",
    "NamespaceWatch",
    "NotYet",
    "Object",
    "Operator",
    "Page",
    "PartStatus",
    "Pod",
    "Recording",
    "Requirement",
    "WatchSettings",
    "format_duration",
    "format_time",
    "list_objects",
    "list_then_watch",
    "parse_duration",
    "parse_quantity",
    "parse_time",
    "path_of",
    "sandbox_of",
]
