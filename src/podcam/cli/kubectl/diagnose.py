"""`kubectl podcam diagnose`: fetch a clip, and say which connections failed, and whose fault it is."""

import argparse
import shlex

from podcam.cli import diagnose
from podcam.cli.kubectl import flags, pull

_EXAMPLES = """\
examples:
  kubectl podcam diagnose web-20260131-081500
  kubectl podcam diagnose web-20260131-081500 --annotate told.pcapng    # with the verdicts, for Wireshark
  kubectl podcam diagnose --sidecar web-7d9f-x2x4k                      # the latest of a pod's own recorder
  kubectl podcam diagnose web-20260131-081500 --json | jq '.connections[] | select(.failed) | .summary'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = (
        "Fetch a clip as `kubectl podcam pull` does, and say which of its connections failed, whose fault\n"
        "it is, and which packets prove it, with the names of pods and services in place of addresses."
    )
    parser.epilog = _EXAMPLES
    pull.add_clip(parser)
    diagnose.add_options(parser)
    flags.add_access(parser)


def run(args: argparse.Namespace) -> int:
    """Fetch, and diagnose what came."""
    _, pulled = pull.fetch(args)
    clip, folder = pulled.manifest, str(pulled.folder)
    namespace = (clip.recording or "").rpartition("/")[0]  # a pod's own recorder knows none
    name = f"{namespace}/{clip.id}" if namespace else clip.id
    return diagnose.report(args, [folder], {folder: name}, _pull_command(args, clip.id))


def _pull_command(args: argparse.Namespace, clip: str) -> str:
    """What writes the file with the frames that the diagnosis speaks of."""
    sidecar = [] if args.sidecar is None else ["--sidecar", args.sidecar]
    namespace = ["-n", args.namespace] if args.namespace else []
    return shlex.join(["kubectl", "podcam", "pull", *sidecar, clip, *namespace])
