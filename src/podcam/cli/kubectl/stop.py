"""`kubectl podcam stop`: stop a recording; its clips stay."""

import argparse

from podcam.cli.kubectl import flags, names
from podcam.cli.kubectl.access import Cluster, cluster
from podcam.cli.kubectl.output import object_name, say
from podcam.cluster import find_recordings
from podcam.errors import ForbiddenError, UsageError
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
    parser.add_argument(
        "recording", nargs="*", type=names.recorded, metavar="RECORDING|TYPE/NAME", help="which to stop"
    )
    parser.add_argument("--all", action="store_true", help="all of the namespace")
    flags.add_access(parser)


def run(args: argparse.Namespace) -> int:
    """Delete the recordings, and say what stays."""
    if args.recording and args.all:
        raise UsageError("name the recordings to stop, or say --all, not both")
    if not args.recording and not args.all:
        raise UsageError("name the recordings to stop, or say --all")
    with cluster(args) as at:
        found = (
            list(list_objects(at.api, RECORDINGS, namespace=at.namespace).objects)
            if args.all
            else [
                recording
                for word in args.recording
                for recording in find_recordings(at.api, at.namespace, word)
            ]
        )
        if not found:
            say(f"no recordings in namespace {at.namespace}")
        for recording in {each["metadata"]["name"]: each for each in found}.values():
            at.api.delete(path_of(RECORDINGS, at.namespace, recording["metadata"]["name"]))
            print(f"{object_name(recording)} deleted", flush=True)
            _tell_clips(at, recording["metadata"]["name"])
    return 0


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
