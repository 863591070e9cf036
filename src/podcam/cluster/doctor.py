"""What is missing in a cluster, and how to get it: everything is looked at, nothing is changed."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podcam.cluster.agents import DAEMON_SET, DAEMON_SETS, NAMESPACE, PORT, Agent, agents_of
from podcam.cluster.nodes import Node, nodes_of
from podcam.cluster.preview import is_sandboxed
from podcam.cluster.rights import OPERATOR, PACKET_READER, VIEWER, rights_in, user_name
from podcam.errors import ForbiddenError, KubernetesError, NotFoundError
from podcam.kube import (
    CLIPS,
    EVENTS,
    GRANTS,
    GROUP,
    NAMESPACES,
    PODS,
    RECORDINGS,
    RUNTIME_CLASSES,
    VERSION,
    Api,
    list_objects,
    path_of,
)

_ENFORCE = "pod-security.kubernetes.io/enforce"
_MOST_ANSWER_BYTES = 1 << 20
_ACCOUNT = "system:serviceaccount:"
INSTALL = "run `kubectl podcam install`"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    found: str
    remedy: str | None = None
    """What to do; None where all is well."""
    needed: bool = True
    """Whether recording lacks something without it."""


def examine(api: Api, namespace: str) -> Iterator[Finding]:
    """Look at everything that recording in `namespace` needs, the foundations first."""
    yield _version(api)
    resources = _resources(api)
    yield resources
    if resources.remedy is None:
        yield from _rights(api, namespace)
    nodes = _nodes(api)
    yield from _agents(api, nodes)
    yield from _unrecordable(api, nodes)


def _version(api: Api) -> Finding:
    version = api.get("/version")
    return Finding("API server", f"answers, Kubernetes {version.get('gitVersion', 'of unknown version')}")


def _resources(api: Api) -> Finding:
    """By discovery, which everybody who is known to the cluster may ask for."""
    try:
        served = {each["name"] for each in api.get(f"/apis/{GROUP}/{VERSION}").get("resources", [])}
    except NotFoundError:
        return Finding("custom resources", _other_versions(api), INSTALL)
    missing = [kind.plural for kind in (RECORDINGS, CLIPS, GRANTS) if kind.plural not in served]
    if missing:
        return Finding("custom resources", f"{', '.join(missing)} are missing", INSTALL)
    return Finding("custom resources", f"recordings, clips and packet grants, {GROUP}/{VERSION}")


def _other_versions(api: Api) -> str:
    try:
        versions = [each["version"] for each in api.get(f"/apis/{GROUP}").get("versions", [])]
    except NotFoundError:
        return "not installed"
    return f"{GROUP} is there in {', '.join(versions)}, and this program speaks {VERSION}"


def _rights(api: Api, namespace: str) -> Iterator[Finding]:
    rights = rights_in(api, namespace)
    complete = rights.look and rights.record and rights.clip and rights.read_packets
    whom = "" if complete else _subject(api)
    for allowed, what, role in (
        (rights.look, "list recordings and clips", VIEWER),
        (rights.record, "record", OPERATOR),
        (rights.clip, "make clips", OPERATOR),
        (rights.read_packets, "read packets", PACKET_READER),
    ):
        subject = f"rights in {namespace}"
        if allowed:
            yield Finding(subject, f"you may {what}")
        else:
            yield Finding(
                subject,
                f"you may not {what}",
                f"to grant it: kubectl create rolebinding NAME -n {namespace} --clusterrole={role} {whom}",
                needed=False,
            )


def _subject(api: Api) -> str:
    """The caller, as `kubectl create rolebinding` takes it."""
    name = user_name(api)
    if name is None:
        return "--user=U"
    if name.startswith(_ACCOUNT):
        return f"--serviceaccount={name.removeprefix(_ACCOUNT)}"
    return f"--user={shlex.quote(name)}"


def _nodes(api: Api) -> list[Node] | None:
    try:
        return nodes_of(api)
    except ForbiddenError:
        return None


def _agents(api: Api, nodes: Sequence[Node] | None) -> Iterator[Finding]:
    try:
        agents = agents_of(api)
    except ForbiddenError as error:
        yield Finding("agents", "you may not see them", f"{error}; the Role podcam-road grants it: {INSTALL}")
        return
    daemon_set = _allowed(api, path_of(DAEMON_SETS, NAMESPACE, DAEMON_SET))
    if not agents and not daemon_set:
        yield Finding("agents", "there are none", INSTALL)
        return
    yield from _admission(api, daemon_set)
    by_node = {each.node: each for each in agents}
    ready = {each.name: each.ready for each in nodes or ()}
    for each in nodes or ():
        if each.name not in by_node:
            yield _no_agent(each)
    for each_agent in sorted(agents, key=lambda each: each.node):
        if ready.get(each_agent.node, not each_agent.node_lost):
            yield from _agent(api, each_agent)
        else:
            yield _lost(each_agent.node)


def _allowed(api: Api, path: str) -> Mapping[str, Any] | None:
    """The object; None where there is none, or where the caller may not see it."""
    try:
        return api.get(path)
    except (NotFoundError, ForbiddenError):
        return None


def _admission(api: Api, daemon_set: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Pods that are refused are no pods: only the namespace's label and events tell."""
    namespace = _allowed(api, path_of(NAMESPACES, name=NAMESPACE))
    if namespace is not None:
        level = namespace["metadata"].get("labels", {}).get(_ENFORCE)
        if level != "privileged":
            yield Finding(
                "pod security",
                f"namespace {NAMESPACE} enforces {level or 'the default of the cluster'}",
                f"kubectl label namespace {NAMESPACE} --overwrite {_ENFORCE}=privileged",
                needed=level is not None,
            )
    status = (daemon_set or {}).get("status", {})
    if status.get("currentNumberScheduled", 0) < status.get("desiredNumberScheduled", 0):
        yield Finding(
            "admission",
            f"{status.get('currentNumberScheduled', 0)} agents of {status['desiredNumberScheduled']} exist",
            _refused_because(api) or f"kubectl describe daemonset -n {NAMESPACE} {DAEMON_SET}",
        )


def _refused_because(api: Api) -> str | None:
    try:
        events = list_objects(
            api,
            EVENTS,
            namespace=NAMESPACE,
            field_selector=f"involvedObject.name={DAEMON_SET},reason=FailedCreate",
        ).objects
    except ForbiddenError:
        return None
    return str(events[-1]["message"]) if events else None


def _no_agent(each: Node) -> Finding:
    subject = f"agent of {each.name}"
    if each.why_no_agent:
        return Finding(subject, "none", each.why_no_agent, needed=False)
    if not each.ready:
        return _lost(each.name, "none: ")
    return Finding(
        subject,
        "none",
        f"the DaemonSet leaves this node out: compare its nodeSelector and tolerations with "
        f"`kubectl describe node {each.name}`",
    )


def _lost(node: str, agent: str = "") -> Finding:
    """Of a node that is not ready: until it is, nothing about its agent tells why."""
    return Finding(f"agent of {node}", f"{agent}the node is not ready", f"kubectl describe node {node}")


def _agent(api: Api, agent: Agent) -> Iterator[Finding]:
    subject = f"agent of {agent.node or '(no node)'}"
    if not agent.ready:
        logs = f"; kubectl logs -n {NAMESPACE} {agent.pod}" if agent.has_run else ""
        yield Finding(
            subject,
            f"not ready: {agent.why_not}",
            f"kubectl describe pod -n {NAMESPACE} {agent.pod}{logs}",
        )
        return
    restarted = f", restarted {agent.restarts} times" if agent.restarts > 1 else ""
    proxy = f"{path_of(PODS, NAMESPACE, agent.pod)}:{PORT}/proxy"
    try:
        metrics = _fetch(api, f"{proxy}/metrics")
    except KubernetesError as error:
        yield Finding(
            subject,
            f"ready{restarted}, but its HTTP cannot be reached through the API server: {error}",
            f"let the API server reach port {PORT} of pods in {NAMESPACE} (network policies, firewalls), and "
            "bind the Role podcam-road; packets travel this way",
        )
        return
    yield _disk(subject, f"ready{restarted}", metrics)


def _fetch(api: Api, path: str) -> str:
    with api.get_bytes(path) as answer:
        body = answer.read(_MOST_ANSWER_BYTES)
        if answer.status != 200:
            raise KubernetesError(f"it answers {answer.status}")
        return body.decode(errors="replace")


def _disk(subject: str, state: str, metrics: str) -> Finding:
    """Room for rings and clips, as the agent measures it."""
    figures = figures_of(metrics)
    free, floor, budget = (figures.get(f"podcam_disk_{name}_bytes") for name in ("free", "floor", "budget"))
    if free is None or floor is None or budget is None:
        return Finding(subject, state)
    used = figures.get("podcam_disk_rings_bytes", 0) + figures.get("podcam_disk_clips_bytes", 0)
    found = (
        f"{state}; rings and clips take {_size(used)} of {_size(budget)} that they may, "
        f"{_size(free)} of the disk are free"
    )
    share = figures.get("podcam_disk_ring_share", 1.0)
    if free < floor:
        return Finding(
            subject,
            found,
            f"free space is below {_size(floor)}, which are left to others, so rings shrink: free some, "
            "stop recordings, or delete clips",
        )
    if share < 1:
        return Finding(
            subject,
            found,
            f"rings get {share:.0%} of what was asked for together, as the largest are cut: take smaller "
            "ones, stop recordings, delete clips",
        )
    return Finding(subject, found)


def _size(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:.1f} MB"


def figures_of(metrics: str) -> dict[str, float]:
    """The figures without labels of a text in Prometheus' format."""
    figures = {}
    for line in metrics.splitlines():
        name, _, value = line.partition(" ")
        if name and not name.startswith("#") and "{" not in name:
            try:
                figures[name] = float(value.split(" ")[0])
            except ValueError:
                continue
    return figures


def _unrecordable(api: Api, nodes: Sequence[Node] | None) -> Iterator[Finding]:
    for each in nodes or ():
        if each.disk_pressure:
            yield Finding(
                f"disk of {each.name}",
                "the kubelet is short of it, and evicts pods",
                f"kubectl describe node {each.name}",
            )
    try:
        classes = list_objects(api, RUNTIME_CLASSES).objects
    except ForbiddenError:
        return
    for each_class in classes:
        if is_sandboxed(each_class.get("handler", "")):
            name = each_class["metadata"]["name"]
            yield Finding(
                "runtimes",
                f"pods with runtime class {name} have a kernel of their own",
                "they cannot be recorded from the node: record the other side of their connections",
                needed=False,
            )
