"""`kubectl podcam record`: record the pods of a workload, those that start later too."""

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

from podcam.cli import arguments, recording
from podcam.cli.arguments import format_size
from podcam.cli.kubectl import flags, names
from podcam.cli.kubectl.access import Cluster, cluster, namespace_of
from podcam.cli.kubectl.output import object_name, print_objects, say
from podcam.cluster import (
    BUDGET_FRACTION,
    MANAGER,
    OPERATOR,
    PACKET_READER,
    Choice,
    Missed,
    Point,
    Preview,
    Wish,
    agents_or_none,
    choice_of,
    differences,
    find_choice,
    find_recording,
    name_for,
    parse_targets,
    points_of,
    reason_of,
    recording_object,
    replacement,
    rights_in,
    selected,
    states,
    survey,
    told_together,
    why_no_report,
)
from podcam.errors import ConflictError, ForbiddenError, KubernetesError, NotFoundError, UsageError
from podcam.kube import RECORDINGS, list_objects, path_of

_EXAMPLES = """\
examples:
  kubectl podcam record deploy/web --port 5432 --host db.example
  kubectl podcam record -l app=web -n shop --port 5432 --payload 0     # headers only
  kubectl podcam record sts/db --ring 20x50MB --scope pod --name db-disk
  kubectl podcam record deploy/web --port 5432 --dry-run=client -o yaml > web.yaml

Pods that start later are recorded too, without a restart of any. `kubectl podcam status` shows them,
`kubectl podcam clips` what was kept, `kubectl podcam stop NAME` ends it.
"""

_UNCHANGED = "unchanged"
_COVERED = frozenset({"Recording", "Waiting"})
"""States of points that have a ring, or are about to."""
_POINTS_SHOWN = 8
"""Pods named one by one; the rest is counted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = "Record the pods of a workload, and keep a clip when a connection of theirs fails."
    parser.usage = "kubectl podcam record (TYPE/NAME | TYPE NAME | -l SELECTOR) [OPTION…]"
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "target",
        nargs="*",
        type=names.target,
        metavar="TYPE/NAME",
        help="deploy, sts, ds, rs, job, rc, svc or pod",
    )
    flags.add_selector(parser, "the pods")
    parser.add_argument("--name", type=names.new, help="of the recording (default: the workload's)")
    _add_which(parser.add_argument_group("which packets, as with `podcam record`"))
    _add_how_much(parser.add_argument_group("how much is kept"))
    _add_trigger(parser.add_argument_group("what triggers a clip"))
    _add_how(parser.add_argument_group("how it is done"))
    flags.add_access(parser)


def _add_which(group: argparse._ArgumentGroup) -> None:
    recording.add_traffic(group)
    group.add_argument(
        "--host-network",
        action="store_true",
        help="pods in their node's network, too: records all of that node",
    )


def _add_how_much(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--ring",
        type=arguments.ring_size,
        default="10x25MB",
        metavar="NxSIZE",
        help="segments times their size, per pod on its node's disk (default: %(default)s)",
    )
    group.add_argument(
        "--retention",
        type=arguments.duration,
        metavar="TIME",
        help="how long the ring of a pod that has ended is kept (default: 1h)",
    )


def _add_trigger(group: argparse._ArgumentGroup) -> None:
    recording.add_failures(group)
    group.add_argument(
        "--scope",
        choices=("pod", "recording"),
        help="whether a failure's clip is of the pod concerned, or of all (default: recording)",
    )
    group.add_argument(
        "--clips-per-hour",
        type=arguments.count,
        metavar="N",
        help="the most that failures make on one node (default: 12)",
    )


def _add_how(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--dry-run",
        choices=("none", "client", "server"),
        default="none",
        help="client: print the object; server: let the API server check it; neither records",
    )
    flags.add_output(group, "name", "yaml", "json")
    group.add_argument(
        "--replace",
        action="store_true",
        help="change a recording of this name that is there; its rings go on",
    )
    group.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="until the pods are recorded (default: yes)",
    )
    group.add_argument(
        "--timeout",
        type=arguments.duration,
        default="30s",
        metavar="TIME",
        help="for --wait (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Tell what it means, create the recording, and wait until the pods are recorded."""
    targets = parse_targets(args.target)
    if bool(targets) == (args.selector is not None):
        raise UsageError("say which pods: TYPE/NAME, as in deploy/web, or -l SELECTOR, and not both")
    if args.narrow and not args.host:
        raise UsageError("--narrow makes the kernel's filter follow hosts: name one with --host")
    wish = _wish(args)
    chosen = None if targets else selected(args.selector)
    if chosen is not None and args.dry_run == "client":
        namespace = namespace_of(args)
        _show(
            recording_object(namespace, args.name or name_for(chosen), chosen, wish),
            args,
            "created (dry run)",
        )
        return 0
    with cluster(args) as at:
        choice = chosen or find_choice(at.api, at.namespace, targets)
        wanted = recording_object(at.namespace, args.name or name_for(choice), choice, wish)
        seen = survey(
            at.api, at.namespace, choice, ring_bytes=wish.ring_bytes, host_network=wish.host_network
        )
        _tell(at, choice, seen, wish)
        if seen is not None:
            _tell_others(at, wanted["metadata"]["name"], seen.pods)
        if args.dry_run == "client":
            _show(wanted, args, "created (dry run)")
            return 0
        dry_run = args.dry_run == "server"
        made, how = _put(at, wanted, replace=args.replace, dry_run=dry_run)
        _show(made, args, how + " (server dry run)" * dry_run)
        if dry_run or not args.wait:
            return 0
        try:
            return _wait(at, made, seen, args.timeout / 1e9, new=how != _UNCHANGED)
        except KeyboardInterrupt:
            say(f"it goes on without this command; {_how_it_ends(at, made)}")
            raise


def _wish(args: argparse.Namespace) -> Wish:
    classes = recording.classes_of(args.on)
    return Wish(
        ring_segments=args.ring.segments,
        ring_segment_bytes=args.ring.segment_bytes,
        ports=tuple(args.port),
        hosts=tuple(args.host),
        narrow=args.narrow,
        interfaces=() if "any" in args.interface else tuple(args.interface),
        payload_bytes=args.payload,
        snaplen=args.snaplen,
        on=None if classes is None else tuple(sorted(map(str, classes))),
        before_ns=args.before,
        after_ns=args.after,
        clips_per_hour=args.clips_per_hour,
        scope=args.scope,
        retention_ns=args.retention,
        host_network=args.host_network,
    )


def _show(made: dict[str, Any], args: argparse.Namespace, how: str) -> None:
    if args.output:
        print_objects([made], args.output, single=True)
    else:
        print(f"{object_name(made)} {how}")


def _tell(at: Cluster, choice: Choice, seen: Preview | None, wish: Wish) -> None:
    """What it means, before it starts."""
    if seen is None:
        say(f"{choice}: you may not list the pods of namespace {at.namespace}, so they are not counted here")
    else:
        _tell_pods(choice, seen, wish)
    rights = rights_in(at.api, at.namespace)
    say(
        f"to be read by whoever has the role {PACKET_READER} in namespace {at.namespace}; "
        f"you {'may' if rights.read_packets else 'may not'}"
    )
    if not rights.record:
        say(f"you may not record here: that takes the role {OPERATOR} in namespace {at.namespace}")


def _tell_pods(choice: Choice, seen: Preview, wish: Wish) -> None:
    count = len(seen.pods)
    if count:
        say(f"{choice}: {count} pod{'s' * (count > 1)} now, a ring of {format_size(wish.ring_bytes)} each:")
    elif seen.unscheduled or seen.refusals:
        say(f"{choice}: no pod now that can be recorded:")
    else:
        say(f"{choice}: no pod now; those that come are recorded")
    for share in seen.shares:
        names = ", ".join(share.pods[:_POINTS_SHOWN])
        others = len(share.pods) - _POINTS_SHOWN
        say(
            f"  {share.node}: up to {format_size(share.ring_bytes)}"
            + (f" of its disk's {format_size(share.disk_bytes)}" if share.disk_bytes else "")
            + f" ({names}{f' and {others} more' if others > 0 else ''})"
        )
        if share.budget_bytes is not None and share.ring_bytes > share.budget_bytes:
            say(
                f"    that is more than an agent takes for all rings and clips unless told otherwise "
                f"({BUDGET_FRACTION:.0%}: {format_size(share.budget_bytes)}): the rings will be smaller"
            )
    for pod in seen.unscheduled:
        say(f"  {pod} has no node yet, and is recorded once it has")
    for refusal in seen.refusals:
        say(f"  {refusal.pod} on {refusal.node or 'no node yet'} cannot be recorded: {refusal.why}")
    if seen.most_payload_bytes is not None:
        say(f"the namespace lets {seen.most_payload_bytes:,} bytes of payload be kept of a packet")


def _tell_others(at: Cluster, name: str, pods: frozenset[str]) -> None:
    """The recordings but `name` that have these pods already: each has rings and clips of its own."""
    try:
        recordings = list_objects(at.api, RECORDINGS, namespace=at.namespace).objects
    except (ForbiddenError, NotFoundError):
        return
    shared = {
        each["metadata"]["name"]: pods & {point.pod for point in points_of(each) if point.state in _COVERED}
        for each in recordings
        if each["metadata"]["name"] != name
    }
    count = len(frozenset().union(*shared.values()))
    if count:
        say(
            f"{count} of these pods {'are' if count > 1 else 'is'} recorded already, by "
            f"{', '.join(other for other, of_other in shared.items() if of_other)}: "
            "this makes another ring of each, and another clip of each failure"
        )


def _how_it_ends(at: Cluster, made: dict[str, Any]) -> str:
    return f"`kubectl podcam stop {made['metadata']['name']}{at.again}` ends it"


def _put(at: Cluster, wanted: dict[str, Any], *, replace: bool, dry_run: bool) -> tuple[dict[str, Any], str]:
    """Create it; where one of that name is there, it has to be the same, or replaced."""
    kind = path_of(RECORDINGS, at.namespace)
    try:
        return at.api.create(kind, wanted, manager=MANAGER, dry_run=dry_run), "created"
    except ConflictError:
        pass
    name = wanted["metadata"]["name"]
    there = find_recording(at.api, at.namespace, name)
    with_defaults = at.api.create(
        kind, {**wanted, "metadata": {"generateName": "compared-", "namespace": at.namespace}}, dry_run=True
    )
    changes = list(differences(there["spec"], with_defaults["spec"]))
    if not changes:
        return there, _UNCHANGED
    if not replace:
        raise KubernetesError(
            f"there is a recording {name} in namespace {at.namespace} that is not the same:\n"
            + "".join(f"  {change}\n" for change in changes)
            + "change it with --replace (its rings go on), end it with "
            f"`kubectl podcam stop {name}{at.again}`, or give this one another --name"
        )
    patch = {"spec": replacement(there["spec"], with_defaults["spec"])}
    place = path_of(RECORDINGS, at.namespace, name)
    return at.api.merge_patch(place, patch, manager=MANAGER, dry_run=dry_run), "replaced"


def _wait(
    at: Cluster, made: dict[str, Any], seen: Preview | None, timeout_seconds: float, *, new: bool
) -> int:
    """Until every pod that was there is recorded, or known not to be."""
    expected = frozenset() if seen is None else seen.pods.union(seen.unscheduled)
    refused = 0 if seen is None else len(seen.refusals)
    began = time.monotonic()
    points = _watched(at, made, expected, timeout_seconds) if expected else {}
    missed = [pod for pod in sorted(expected) if pod not in points or points[pod].state != "Recording"]
    if missed:
        _tell_missed(at, made, missed, points, seen)
        if any(pod not in points or points[pod].state == "Waiting" for pod in missed):
            say(f"waited {timeout_seconds:.0f} s; what is not recorded yet will be when it can")
    elif refused:
        recorded = len(expected)
        say(
            f"{recorded} of {recorded + refused} recorded, {refused} cannot be, as said above; "
            f"{_how_it_ends(at, made)}"
        )
    elif expected:
        since = f", {time.monotonic() - began:.1f} s after it was asked for" if new else " already"
        say(f"recording{since}; {_how_it_ends(at, made)}")
    ended = all(pod in points and points[pod].state == "Ended" for pod in missed)
    return 0 if ended and not refused else 1


def _watched(
    at: Cluster, made: dict[str, Any], expected: frozenset[str], timeout_seconds: float
) -> dict[str, Point]:
    """What the agents report of these pods, once it is settled for all, or the time is over."""
    name = made["metadata"]["name"]
    generation = made["metadata"].get("generation", 0)
    points: dict[str, Point] = {}
    told = -1
    for state in states(at.api, RECORDINGS, at.namespace, name, timeout_seconds=timeout_seconds):
        if state is None:
            raise KubernetesError(f"recording {name} was deleted meanwhile")
        if state["metadata"].get("generation", 0) < generation:
            continue
        points = {point.pod: point for point in points_of(state) if point.pod in expected}
        recorded = sum(point.state == "Recording" for point in points.values())
        if recorded != told:
            say(f"{recorded} of {len(expected)} recorded")
            told = recorded
        if len(points) == len(expected) and all(point.state != "Waiting" for point in points.values()):
            break
    return points


def _tell_missed(
    at: Cluster,
    made: dict[str, Any],
    missed: Sequence[str],
    points: Mapping[str, Point],
    seen: Preview | None,
) -> None:
    """Why these pods are not recorded."""
    agents = agents_or_none(at.api)
    nodes = _nodes(seen)
    if any(pod not in points and pod not in nodes for pod in missed):
        choice, host_network = choice_of(made), made["spec"].get("hostNetwork", False)
        nodes |= _nodes(survey(at.api, at.namespace, choice, ring_bytes=0, host_network=host_network))
    for sentence in told_together(
        Missed(pod, points[pod].node, reason_of(points[pod], agents))
        if pod in points
        else Missed(pod, nodes[pod], why_no_report(nodes[pod], agents))
        if pod in nodes
        else Missed(pod, "", "`kubectl describe pod` says why")
        for pod in missed
    ):
        say(f"  {sentence}")


def _nodes(seen: Preview | None) -> dict[str, str]:
    """The node of each pod that has one."""
    return {pod: share.node for share in (seen.shares if seen else ()) for pod in share.pods}
