"""`kubectl podcam clip`: keep what just happened."""

import argparse
from typing import Any

from podcam.cli import arguments
from podcam.cli.arguments import format_size
from podcam.cli.kubectl import flags, names
from podcam.cli.kubectl.access import Cluster, cluster
from podcam.cli.kubectl.output import now, print_objects, say
from podcam.cluster import DONE, choose_recording, create_clip, nodes_expected, parts_of, states
from podcam.errors import KubernetesError
from podcam.kube import CLIPS

_EXAMPLES = """\
examples:
  kubectl podcam clip                              # of the namespace's only recording
  kubectl podcam clip web --last 5m --reason "the payment page was slow"
  kubectl podcam clip --pod web-6d5f9-x2x1q        # of this pod alone

The last line of the output is the clip's name: kubectl podcam diagnose "$(kubectl podcam clip web)"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = "Keep the packets of the last seconds, of every pod of a recording."
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "recording",
        nargs="?",
        type=names.recorded,
        metavar="RECORDING|TYPE/NAME",
        help="(default: the only one)",
    )
    parser.add_argument(
        "--last",
        type=arguments.duration,
        default="60s",
        metavar="TIME",
        help="how far back, 24h at most (default: %(default)s)",
    )
    parser.add_argument("--reason", default="asked for by hand", metavar="TEXT", help="is kept with the clip")
    parser.add_argument(
        "--pod",
        action="append",
        default=[],
        type=names.pod,
        metavar="NAME",
        help="of this pod only; repeatable, ended ones too",
    )
    parser.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="until every node has its part (default: yes)",
    )
    parser.add_argument(
        "--timeout",
        type=arguments.duration,
        default="90s",
        metavar="TIME",
        help="for --wait (default: %(default)s)",
    )
    flags.add_output(parser, "name", "yaml", "json")
    flags.add_access(parser)


def run(args: argparse.Namespace) -> int:
    """Make the clip, and wait until it is complete."""
    with cluster(args) as at:
        recording = choose_recording(at.api, at.namespace, args.recording, args.pod)
        if not nodes_expected(recording, args.pod):
            say(f"no node has a ring of {recording['metadata']['name']} yet: the clip may stay empty")
        clip = create_clip(
            at.api, at.namespace, recording, last_ns=args.last, reason=args.reason, pods=args.pod, now=now()
        )
        code = 0
        if args.wait:
            try:
                clip, code = _wait(at, clip, args.timeout / 1e9)
            except KeyboardInterrupt:
                say(f"clip {clip['metadata']['name']} is kept without this command; {_how_to_see(at, clip)}")
                raise
    if args.output:
        print_objects([clip], args.output, single=True)
    else:
        print(clip["metadata"]["name"])
    return code


def _how_to_see(at: Cluster, clip: dict[str, Any]) -> str:
    return f"`kubectl podcam clips {clip['metadata']['name']}{at.again}` shows it"


def _wait(at: Cluster, clip: dict[str, Any], timeout_seconds: float) -> tuple[dict[str, Any], int]:
    name = clip["metadata"]["name"]
    told = ""
    for state in states(at.api, CLIPS, at.namespace, name, timeout_seconds=timeout_seconds):
        if state is None:
            raise KubernetesError(f"clip {name} was deleted meanwhile")
        clip = state
        parts = clip.get("status", {}).get("partsComplete", "")
        if parts != told:
            say(f"{parts} parts")
            told = parts
        if clip.get("status", {}).get("state") in DONE:
            return clip, _tell(clip)
    say(f"clip {name} is not complete after {timeout_seconds:.0f} s, and goes on; {_how_to_see(at, clip)}")
    _tell(clip)
    return clip, 1


def _tell(clip: dict[str, Any]) -> int:
    """What each node has, and whether something is missing."""
    code = 0
    parts = parts_of(clip)
    for part in parts:
        held = f", segments of {part.packets:,} packets, {format_size(part.bytes)}" if part.packets else ""
        why = f": {part.message}" if part.message else ""
        say(f"  {part.node}: {part.state.lower()}{held}{why}")
        code |= part.state == "Failed"
    missing = clip.get("status", {}).get("missing", [])
    for node in missing:
        say(f"  {node}: missing; is its agent well? `kubectl podcam doctor` tells")
        code = 1
    if not missing and all(part.state == "Nothing" for part in parts):
        say("the clip is empty: nothing was recorded in that time")
        code = 1
    return code
