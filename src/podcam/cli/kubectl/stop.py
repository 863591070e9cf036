"""`kubectl podcam stop`: stop a recording; its clips stay."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from podcam.cli.kubectl import flags
from podcam.cli.kubectl.access import Cluster, cluster
from podcam.cli.kubectl.output import object_name, say
from podcam.cluster import find_recording, parse_targets
from podcam.errors import ForbiddenError, NotFoundError, UsageError
from podcam.kube import CLIPS, RECORDING_LABEL, RECORDINGS, list_objects, path_of

_EXAMPLES = """\
examples:
  kubectl podcam stop web
  kubectl podcam stop deploy/web      # whatever is recorded of it
  kubectl podcam stop --all -n shop
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = "Stop recordings. Their rings go; the clips that were kept stay."
    parser.epilog = _EXAMPLES
    parser.add_argument("recording", nargs="*", metavar="RECORDING|TYPE/NAME", help="which to stop")
    parser.add_argument("--all", action="store_true", help="all of the namespace")
    flags.add_access(parser)


def run(args: argparse.Namespace) -> int:
    """Delete the recordings, and say what stays."""
    if bool(args.recording) == args.all:
        raise UsageError("name the recordings to stop, or say --all")
    with cluster(args) as at:
        found = (
            list(list_objects(at.api, RECORDINGS, namespace=at.namespace).objects)
            if args.all
            else [recording for word in args.recording for recording in _named(at, word)]
        )
        if not found:
            say(f"no recordings in namespace {at.namespace}")
        for recording in found:
            at.api.delete(path_of(RECORDINGS, at.namespace, recording["metadata"]["name"]))
            print(f"{object_name(recording)} deleted", flush=True)
            _tell_clips(at, recording["metadata"]["name"])
    return 0


def _named(at: Cluster, word: str) -> Sequence[Mapping[str, Any]]:
    if "/" not in word:
        return [find_recording(at.api, at.namespace, word)]
    (target,) = parse_targets([word])
    wanted = {"kind": target.kind, "name": target.name}
    found = [
        recording
        for recording in list_objects(at.api, RECORDINGS, namespace=at.namespace).objects
        if recording["spec"].get("target") == wanted
    ]
    if not found:
        raise NotFoundError(f"nothing is recorded of {target} in namespace {at.namespace}")
    return found


def _tell_clips(at: Cluster, name: str) -> None:
    try:
        clips = list_objects(
            at.api, CLIPS, namespace=at.namespace, label_selector=f"{RECORDING_LABEL}={name}"
        ).objects
    except ForbiddenError:
        return
    if clips:
        say(
            f"its {len(clips)} clip{'s stay' if len(clips) > 1 else ' stays'}; to delete: "
            f"kubectl delete clips.podcam.dev -n {at.namespace} -l {RECORDING_LABEL}={name}"
        )
