"""`kubectl podcam pull`: fetch a clip from the nodes, or from a pod's own recorder, as one pcapng."""

import argparse
import sys

from podcam.cli import arguments, export
from podcam.cli.kubectl import flags, names, pods
from podcam.cli.kubectl.access import Cluster, cluster
from podcam.cli.kubectl.output import say
from podcam.cli.progress import Progress
from podcam.cluster import DONE, find_clip, states
from podcam.cluster.fetching import Pulled, cache_folder, file_name
from podcam.cluster.pull import pull
from podcam.errors import KubernetesError, UsageError
from podcam.kube import CLIPS, ClipObject

_EXAMPLES = """\
examples:
  kubectl podcam pull web-20260131-081500                      # CLIP-NAMESPACE-TIME.pcapng in this folder
  kubectl podcam pull web-20260131-081500 -o proxy.pcapng
  kubectl podcam pull web-20260131-081500 -o - | tshark -r - -Y 'tcp.flags.reset == 1'
  kubectl podcam pull --sidecar web-7d9f-x2x4k                 # the latest whole clip of a pod's own recorder
  kubectl podcam pull --sidecar web-7d9f-x2x4k --watch         # all of them, as they come

The last line of the output is the file's name. A clip of the agents takes the right to read packets of the
namespace (ClusterRole podcam-packet-reader); what travels is encrypted for this command alone. A pod's own
recorder is reached by `kubectl port-forward`: whoever may do that can read the pod's packets.
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
    parser.add_argument(
        "--watch",
        action="store_true",
        help="with --sidecar: fetch the clips that are there, and those that come, until the pod ends",
    )
    add_clip(parser)
    flags.add_access(parser)


def add_clip(parser: argparse.ArgumentParser) -> None:
    """Declare which clip, and how long to wait for it."""
    parser.add_argument(
        "clip",
        nargs="?",
        type=names.clip,
        metavar="CLIP",
        help="its name; `kubectl podcam clips` lists them. With --sidecar the start of it, or none for the "
        "latest",
    )
    parser.add_argument(
        "--sidecar",
        type=names.pod,
        metavar="POD",
        help="from the recorder in this pod: `podcam sidecar`, or `podcam wrap --serve`",
    )
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
    if args.watch:
        return _watch(args)
    name, pulled = fetch(args)
    output = args.output or name
    export.write(pulled.folder, output, all_ethernet=args.ethernet)
    if output != "-":
        print(output)
    return int(bool(pulled.missing))


def _watch(args: argparse.Namespace) -> int:
    if args.sidecar is None:
        raise UsageError("--watch takes --sidecar: what the agents keep stays on their nodes")
    if args.output or args.clip:
        raise UsageError("--watch fetches all clips, and makes a file of each, in this folder")
    with cluster(args) as at:
        for name, pulled in pods.watch(at, args.sidecar):
            export.write(pulled.folder, name, all_ethernet=args.ethernet)
            print(name, flush=True)
    return 0


def fetch(args: argparse.Namespace) -> tuple[str, Pulled]:
    """The clip that the flags of `add_clip` name, in a folder of its own, and a name for a file of it.

    What is missing is told.
    """
    if args.sidecar is not None:
        with cluster(args) as at:
            return pods.fetch(at, args.sidecar, args.clip, args.timeout / 1e9)
    if args.clip is None:
        raise UsageError("which clip? `kubectl podcam clips` lists them; --sidecar POD names a pod")
    with cluster(args) as at:
        clip = _complete(at, args.clip, args.timeout / 1e9)
        with Progress(f"fetching {args.clip}") as progress:
            pulled = pull(
                at.api,
                clip,
                cache_folder(),
                tell=lambda done, total: progress(done / max(total, 1)),
                say=say,
            )
    for part in pulled.missing:
        say(f"the part of node {part.node} is missing: {part.why}")
    pods.say_fetched(pulled)
    return file_name(clip.name, clip.namespace, clip.created_ns), pulled


def _complete(at: Cluster, name: str, timeout_seconds: float) -> ClipObject:
    """The clip, once all agents have reported or the time is over."""
    clip = ClipObject.parse(find_clip(at.api, at.namespace, name))
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
