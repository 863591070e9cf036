"""`kubectl podcam status`: which pods are recorded, on which node or by themselves, and what was lost."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from podcam.cli.arguments import format_size
from podcam.cli.kubectl import flags, names
from podcam.cli.kubectl.access import Cluster, cluster
from podcam.cli.kubectl.clips import oldest_first, own_recorders, print_clips
from podcam.cli.kubectl.output import age, counted, now, print_objects, print_table, say
from podcam.cluster import (
    agents_or_none,
    choice_of,
    find_recordings,
    points_of,
    problems_of,
    survey,
    target_text,
    totals_of,
    traffic_text,
)
from podcam.cluster.sidecar import PodRecorder, statuses
from podcam.errors import ForbiddenError
from podcam.kube import CLIPS, RECORDINGS, list_objects, parse_quantity
from podcam.model.text import printable

_EXAMPLES = """\
examples:
  kubectl podcam status              # all recordings of the namespace
  kubectl podcam status -A
  kubectl podcam status web          # one of them, pod by pod
  kubectl podcam status deploy/web   # whatever is recorded of it
  kubectl podcam status web -o yaml
"""

_CLIPS_SHOWN = 5
"""Of a recording; the rest is counted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = "Show recordings: pods, nodes, failures, clips, and what is not as it should be."
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "recording",
        nargs="?",
        type=names.recorded,
        metavar="RECORDING|TYPE/NAME",
        help="show it pod by pod",
    )
    flags.add_all_namespaces(parser)
    flags.add_selector(parser, "recordings")
    flags.add_output(parser, "wide", "name", "yaml", "json")
    flags.add_access(parser)


def run(args: argparse.Namespace) -> int:
    """Ask, and print."""
    flags.refuse_name_with_others(args, args.recording)
    with cluster(args) as at:
        if args.recording:
            found = find_recordings(at.api, at.namespace, args.recording)
        else:
            namespace = None if args.all_namespaces else at.namespace
            found = list(
                list_objects(at.api, RECORDINGS, namespace=namespace, label_selector=args.selector).objects
            )
        if args.output in {"name", "yaml", "json"}:
            print_objects(found, args.output, single=bool(args.recording) and len(found) == 1)
            return 0
        pods = (
            [] if args.recording or args.selector else own_recorders(at, all_namespaces=args.all_namespaces)
        )
        if not found and not pods:
            where = "in any namespace" if args.all_namespaces else f"in namespace {at.namespace}"
            say(f"no recordings {where}: start one with `kubectl podcam record`")
            return 0
        if not found:
            _print_pods(at, pods, namespaces=args.all_namespaces)
            return 0
        clips = _clips(at, None if args.all_namespaces else at.namespace)
        if args.recording:
            _print_each(at, found, clips)
        else:
            _print_all(found, clips, namespaces=args.all_namespaces, wide=args.output == "wide")
        if pods:
            print()
            _print_pods(at, pods, namespaces=args.all_namespaces)
        _print_problems(at, found, namespaces=args.all_namespaces)
    return 0


def _print_pods(at: Cluster, recorders: Sequence[PodRecorder], *, namespaces: bool) -> None:
    """Pods with a recorder of their own, and what those tell that can be asked."""
    answers = statuses(at.kubectl.options, recorders)
    rows = []
    for recorder in recorders:
        pod = recorder.pod
        answer = answers.get(f"{pod.namespace}/{pod.name}")
        row = [pod.name, pod.node, recorder.how]
        if isinstance(answer, Mapping):
            row += _told(answer)
        else:
            row += ["?" if recorder.runs else pod.phase.lower(), "?", "?", "?", "-"]
        rows.append([pod.namespace] * namespaces + row)
    print_table(
        ["NAMESPACE"] * namespaces
        + ["POD", "NODE", "RECORDER", "STATE", "FAILURES", "DROPPED", "ON DISK", "LAST CLIP"],
        rows,
    )
    for name, answer in answers.items():
        shown = name if namespaces else name.partition("/")[2]
        if isinstance(answer, str):
            say(f"{shown}: {answer}")
        else:
            for warning in _list_of(answer.get("warnings")):
                say(f"{shown}: {printable(str(warning))}")
    unasked = sum(recorder.runs for recorder in recorders) - len(answers)
    if unasked:
        further = f"{counted(unasked, 'further pod')} {'was' if unasked == 1 else 'were'}"
        say(f"{further} not asked: `kubectl podcam pull --sidecar POD` asks one")


def _told(answer: Mapping[str, Any]) -> list[str]:
    """STATE, FAILURES, DROPPED, ON DISK, LAST CLIP; a pod may answer whatever it likes."""
    totals = answer.get("totals")
    counts = totals if isinstance(totals, Mapping) else {}
    ring = counts.get("ring_bytes")
    return [
        str(answer.get("state", "?")),
        _count(counts.get("failures")),
        _count(counts.get("dropped")),
        format_size(ring) if isinstance(ring, int) else "?",
        str(answer.get("last_clip") or ""),
    ]


def _count(value: object) -> str:
    return str(value) if isinstance(value, int) else "?"


def _list_of(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []


def _clips(at: Cluster, namespace: str | None) -> list[Mapping[str, Any]] | None:
    try:
        return list(list_objects(at.api, CLIPS, namespace=namespace).objects)
    except ForbiddenError:
        return None


def _of(clips: Sequence[Mapping[str, Any]], recording: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    metadata = recording["metadata"]
    return [
        clip
        for clip in clips
        if (clip["metadata"]["namespace"], clip["spec"]["recording"])
        == (metadata["namespace"], metadata["name"])
    ]


def _print_all(
    recordings: Sequence[Mapping[str, Any]],
    clips: Sequence[Mapping[str, Any]] | None,
    *,
    namespaces: bool,
    wide: bool,
) -> None:
    header = ["NAME", "TARGET", "POINTS", "FAILURES", "CLIPS", "DROPPED", "ON DISK", "AGE"]
    rows = []
    at = now()
    for recording in recordings:
        totals = totals_of(recording)
        row = [
            recording["metadata"]["name"],
            target_text(recording),
            f"{totals.recorded}/{totals.concerned}",
            str(totals.failures),
            "?" if clips is None else str(len(_of(clips, recording))),
            "?" if totals.dropped is None else str(totals.dropped),
            format_size(totals.ring_bytes),
            age(recording["metadata"].get("creationTimestamp"), at),
        ]
        wider = [traffic_text(recording), ",".join(sorted(recording.get("status", {}).get("nodes", {})))]
        rows.append([recording["metadata"]["namespace"]] * namespaces + row + (wider if wide else []))
    print_table(["NAMESPACE"] * namespaces + header + (["TRAFFIC", "NODES"] if wide else []), rows)


def _print_each(
    at: Cluster, recordings: Sequence[Mapping[str, Any]], clips: Sequence[Mapping[str, Any]] | None
) -> None:
    for number, recording in enumerate(recordings):
        if number:
            print()
        _print_one(at, recording, clips)


def _print_one(at: Cluster, recording: Mapping[str, Any], clips: Sequence[Mapping[str, Any]] | None) -> None:
    spec, totals, moment = recording["spec"], totals_of(recording), now()
    ring = spec.get("ring", {})
    ring_bytes = parse_quantity(ring.get("segmentSize", "0")) * ring.get("segments", 0)
    dropped = "an unknown number of packets" if totals.dropped is None else counted(totals.dropped, "packet")
    made = age(recording["metadata"].get("creationTimestamp"), moment)
    print(f"{recording['metadata']['name']}: {target_text(recording)}, {traffic_text(recording)}, for {made}")
    print(
        f"{totals.recorded} of {totals.concerned} pods recorded, {totals.ended} ended; "
        f"{format_size(totals.ring_bytes)} on disk, a ring of {format_size(ring_bytes)} per pod at most"
    )
    print(f"{counted(totals.failures, 'failure')} seen, {dropped} dropped since the agents started")
    points = points_of(recording)
    if points:
        print()
        print_table(
            ["POD", "NODE", "STATE", "REASON", "SINCE"],
            [
                [point.pod, point.node, point.state, point.reason, age(point.since, moment)]
                for point in points
            ],
        )
    kept = oldest_first(_of(clips, recording)) if clips is not None else []
    if kept:
        print()
        _print_last(at, recording["metadata"]["name"], kept)


def _print_last(at: Cluster, name: str, kept: Sequence[Mapping[str, Any]]) -> None:
    """How many clips there are, and the last of them."""
    states = Counter(clip.get("status", {}).get("state", "Freezing").lower() for clip in kept)
    by_state = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    told = f"{counted(len(kept), 'clip')} ({by_state})"
    if len(kept) > _CLIPS_SHOWN:
        told += f", the last {_CLIPS_SHOWN}; `kubectl podcam clips --recording {name}{at.again}` lists all"
    print(f"{told}:")
    print_clips(kept[-_CLIPS_SHOWN:])


def _print_problems(at: Cluster, recordings: Sequence[Mapping[str, Any]], *, namespaces: bool) -> None:
    agents = agents_or_none(at.api)
    for recording in recordings:
        metadata = recording["metadata"]
        seen = survey(
            at.api,
            metadata["namespace"],
            choice_of(recording),
            ring_bytes=0,
            host_network=recording["spec"].get("hostNetwork", False),
        )
        name = f"{metadata['namespace']}/{metadata['name']}" if namespaces else metadata["name"]
        for problem in problems_of(recording, seen, agents):
            say(f"{name}: {problem}")
