"""`kubectl podcam clips`: list the clips that were kept."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from podcam.cli.arguments import format_size
from podcam.cli.kubectl import flags, names
from podcam.cli.kubectl.access import Cluster, cluster
from podcam.cli.kubectl.output import age, now, print_objects, print_table, say
from podcam.cluster import find_clip, parts_of, window_of
from podcam.cluster.sidecar import PodRecorder, pod_recorders
from podcam.errors import ForbiddenError, NotFoundError, UsageError
from podcam.kube import CLIPS, list_objects

_EXAMPLES = """\
examples:
  kubectl podcam clips                       # of the namespace, the oldest first
  kubectl podcam clips --recording web -o wide
  kubectl podcam clips -A -o json | jq -r '.items[].spec.reason'
  kubectl delete clips.podcam.dev NAME       # one that is no longer wanted; the nodes' files go with it
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = "List the clips that were kept, the oldest first."
    parser.epilog = _EXAMPLES
    parser.add_argument("clip", nargs="?", type=names.clip, metavar="CLIP", help="this one alone")
    parser.add_argument("--recording", type=names.recording, metavar="NAME", help="those of this recording")
    flags.add_all_namespaces(parser)
    flags.add_selector(parser, "clips")
    flags.add_output(parser, "wide", "name", "yaml", "json")
    flags.add_access(parser)


def run(args: argparse.Namespace) -> int:
    """Ask, and print."""
    flags.refuse_name_with_others(args, args.clip)
    if args.clip and args.recording:
        raise UsageError("a clip's name and --recording cannot stand together")
    with cluster(args) as at:
        if args.clip:
            found: list[Mapping[str, Any]] = [find_clip(at.api, at.namespace, args.clip)]
        else:
            found = list(
                list_objects(
                    at.api,
                    CLIPS,
                    namespace=None if args.all_namespaces else at.namespace,
                    label_selector=args.selector,
                ).objects
            )
        if args.recording:
            found = [clip for clip in found if clip["spec"]["recording"] == args.recording]
        if not found and args.output in {None, "wide"}:
            _tell_none(at, args)
            return 0
    found = oldest_first(found)
    if args.output in {"name", "yaml", "json"}:
        print_objects(found, args.output, single=bool(args.clip))
    else:
        print_clips(found, namespaces=args.all_namespaces, wide=args.output == "wide")
    return 0


def _tell_none(at: Cluster, args: argparse.Namespace) -> None:
    """That there are no clips here, and where those of pods are that record themselves."""
    where = "in any namespace" if args.all_namespaces else f"in namespace {at.namespace}"
    say(f"no clips {where}{f' of recording {args.recording}' * bool(args.recording)}")
    if args.recording or args.selector:
        return
    pods = own_recorders(at, all_namespaces=args.all_namespaces)
    if pods:
        again = " -A" if args.all_namespaces else at.again
        say(
            f"pods with a recorder of their own ({len(pods)} here) keep their clips: `kubectl podcam status"
            f"{again}` lists such pods, `kubectl podcam pull --sidecar POD{at.again}` fetches a clip of one"
        )


def own_recorders(at: Cluster, *, all_namespaces: bool) -> list[PodRecorder]:
    """The pods with a recorder of their own; none where the caller may not list pods."""
    try:
        return pod_recorders(at.api, None if all_namespaces else at.namespace)
    except (ForbiddenError, NotFoundError):
        return []


def oldest_first(clips: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The clips by when they were made; those of one second stay as they are."""
    return sorted(clips, key=lambda clip: str(clip["metadata"].get("creationTimestamp", "")))


def print_clips(clips: Sequence[Mapping[str, Any]], *, namespaces: bool = False, wide: bool = False) -> None:
    """A table of clips."""
    header = ["NAME", "RECORDING", "STATE", "PARTS", "MISSING", "AGE", *(_WIDER if wide else ()), "REASON"]
    at = now()
    rows = []
    for clip in clips:
        metadata, spec, status = clip["metadata"], clip["spec"], clip.get("status", {})
        row = [
            metadata["name"],
            spec["recording"],
            status.get("state", "Freezing"),
            status.get("partsComplete", ""),
            ",".join(status.get("missing", [])),
            age(metadata.get("creationTimestamp"), at),
            *(_wider(clip) if wide else ()),
            spec.get("reason", ""),
        ]
        rows.append([metadata["namespace"]] * namespaces + row)
    print_table(["NAMESPACE"] * namespaces + header, rows)


_WIDER = ("FROM (UTC)", "TO (UTC)", "PACKETS", "SIZE", "PODS")


def _wider(clip: Mapping[str, Any]) -> list[str]:
    parts = parts_of(clip)
    start, end = (moment[:19].replace("T", " ") for moment in window_of(clip))
    counts = [part.packets for part in parts]
    return [
        start,
        end,
        "?" if None in counts else str(sum(count or 0 for count in counts)),
        format_size(sum(part.bytes for part in parts)),
        ",".join(sorted({pod for part in parts for pod in part.pods})),
    ]
