"""`kubectl podcam pull`: fetch a clip from the nodes, as one pcapng."""

import argparse
import sys

from podcam.cli import arguments, export
from podcam.cli.arguments import format_size
from podcam.cli.kubectl import flags
from podcam.cli.kubectl.access import Cluster, cluster
from podcam.cli.kubectl.output import say
from podcam.cli.progress import Progress
from podcam.cluster import DONE, states
from podcam.cluster.pull import Pulled, cache_folder, file_name, pull
from podcam.errors import KubernetesError, UsageError
from podcam.kube import CLIPS, ClipObject, path_of

_EXAMPLES = """\
examples:
  kubectl podcam pull web-20260131-081500                      # CLIP-NAMESPACE-TIME.pcapng in this folder
  kubectl podcam pull web-20260131-081500 -o proxy.pcapng
  kubectl podcam pull web-20260131-081500 -o - | tshark -r - -Y 'tcp.flags.reset == 1'

The last line of the output is the file's name. It takes the right to read packets of the namespace
(ClusterRole podcam-packet-reader); what travels is encrypted for this command alone.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = (
        "Fetch a clip: the parts of all nodes, merged into one pcapng in the order of time. What was\n"
        "fetched stays in ~/.cache/podcam/clips, so that a pull that was cut goes on where it was."
    )
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "-o", "--output", metavar="FILE.pcapng", help="the file to write; - for standard output"
    )
    parser.add_argument(
        "--ethernet",
        action="store_true",
        help="give packets of interfaces without a link layer an Ethernet header, so that all have one",
    )
    add_clip(parser)
    flags.add_access(parser)


def add_clip(parser: argparse.ArgumentParser) -> None:
    """Declare which clip, and how long to wait for it."""
    parser.add_argument("clip", metavar="CLIP", help="its name; `kubectl podcam clips` lists them")
    parser.add_argument(
        "--timeout",
        type=arguments.duration,
        default="90s",
        metavar="TIME",
        help="how long to wait for a clip that is still being kept (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Fetch, write, and say what is missing."""
    if args.output == "-" and sys.stdout.isatty():
        raise UsageError("a terminal cannot show pcapng: write it to a file, or pipe it into a command")
    clip, pulled = fetch(args)
    output = args.output or file_name(clip)
    export.write(pulled.folder, output, all_ethernet=args.ethernet)
    if output != "-":
        print(output)
    return int(bool(pulled.missing))


def fetch(args: argparse.Namespace) -> tuple[ClipObject, Pulled]:
    """The clip that the flags of `add_clip` name, in a folder of its own; what is missing is told."""
    name = args.clip.rpartition("/")[2]  # as `-o name` prints it: clip.podcam.dev/NAME
    with cluster(args) as at:
        clip = _complete(at, name, args.timeout / 1e9)
        with Progress(f"fetching {name}") as progress:
            pulled = pull(
                at.api, clip, cache_folder(), tell=lambda done, total: progress(done / max(total, 1))
            )
    for part in pulled.missing:
        say(f"the part of node {part.node} is missing: {part.why}")
    parts = len(pulled.manifest.parts)
    fetched = f"{format_size(pulled.fetched_bytes)} fetched" if pulled.fetched_bytes else "all of it was here"
    say(f"{parts} {'pod' if parts == 1 else 'pods'}, {fetched}: {pulled.folder}")
    return clip, pulled


def _complete(at: Cluster, name: str, timeout_seconds: float) -> ClipObject:
    """The clip, once all agents have reported or the time is over."""
    clip = ClipObject.parse(at.api.get(path_of(CLIPS, at.namespace, name)))
    if clip.state in DONE or not timeout_seconds:
        return clip
    say(f"clip {name} is still being kept: {clip.parts_complete or 'no'} parts are there")
    for state in states(at.api, CLIPS, at.namespace, name, timeout_seconds=timeout_seconds):
        if state is None:
            raise KubernetesError(f"clip {name} was deleted meanwhile")
        clip = ClipObject.parse(state)
        if clip.state in DONE:
            break
    return clip
