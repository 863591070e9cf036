"""`kubectl podcam install`: bring Podcam's agents into the cluster."""

import argparse
import json
from typing import Any

from podcam.cli import arguments
from podcam.cli.kubectl import flags
from podcam.cli.kubectl.access import Cluster, cluster
from podcam.cli.kubectl.output import object_name, say
from podcam.cluster import (
    Arrival,
    Kubectl,
    agents_of,
    apply,
    arrivals,
    nodes_of,
    overlays,
    render,
    to_text,
)
from podcam.errors import UsageError

_EXAMPLES = """\
examples:
  kubectl podcam install --image registry.example/podcam-agent:1.0
  kubectl podcam install --dry-run=client -o yaml      # what would be applied, for GitOps
  kubectl podcam install --overlay openshift
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = (
        "Apply the custom resources, the rights and one agent per node, and wait until they are ready.\n"
        "Again: brings what is there up to date; recordings go on."
    )
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "--image", metavar="IMAGE", help="the agent's image, made of deploy/Dockerfile; none is published yet"
    )
    parser.add_argument("--overlay", choices=overlays(), help="for clusters that want more than the base")
    parser.add_argument(
        "--dry-run",
        choices=("none", "client", "server"),
        default="none",
        help="client: print the objects; server: let the API server check them; neither changes anything",
    )
    flags.add_output(parser, "name", "yaml", "json")
    parser.add_argument(
        "--force-conflicts", action="store_true", help="take over fields that somebody else manages"
    )
    parser.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="until the agents are ready (default: yes)",
    )
    parser.add_argument(
        "--timeout",
        type=arguments.duration,
        default="2m",
        metavar="TIME",
        help="for --wait (default: %(default)s)",
    )
    flags.add_access(parser)


def run(args: argparse.Namespace) -> int:
    """Render, apply, and wait for the agents."""
    if args.output and args.dry_run != "client":
        raise UsageError("-o prints what would be applied: say --dry-run=client with it")
    if args.image is None and args.dry_run == "none":
        raise UsageError(
            "which image? None is published yet: make it of deploy/Dockerfile, push it where the nodes pull "
            "from, and name it with --image (docs/install.md)"
        )
    objects = render(Kubectl(flags.kubectl_options(args)), overlay=args.overlay, image=args.image)
    if args.dry_run == "client":
        _print(objects, args.output)
        return 0
    with cluster(args) as at:
        dry_run = args.dry_run == "server"
        print(apply(at.kubectl, objects, dry_run=dry_run, force=args.force_conflicts), end="", flush=True)
        if dry_run or not args.wait:
            return 0
        return _wait(at, args.timeout / 1e9)


def _print(objects: list[dict[str, Any]], output: str | None) -> None:
    if output == "yaml":
        print(to_text(objects), end="")
    elif output == "json":
        print(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}, indent=4))
    else:
        for each in objects:
            print(object_name(each) + ("" if output == "name" else " applied (dry run)"))


def _wait(at: Cluster, timeout_seconds: float) -> int:
    told = ""
    last: Arrival | None = None
    for last in arrivals(at.api, timeout_seconds=timeout_seconds):
        progress = f"{last.ready} of {last.wanted} agents ready"
        if last.settled and progress != told:
            say(progress)
            told = progress
        if last.complete:
            break
    complete = last is not None and last.complete
    _tell_nodes(at)
    if not complete:
        say(
            f"not all agents are ready after {timeout_seconds:.0f} s; they go on trying, "
            "and `kubectl podcam doctor` says more"
        )
        return 1
    say("record with `kubectl podcam record deploy/NAME --port PORT`")
    return 0


def _tell_nodes(at: Cluster) -> None:
    """Which node has no agent that is ready, and why."""
    agents = {each.node: each for each in agents_of(at.api)}
    for node in nodes_of(at.api):
        agent = agents.get(node.name)
        if agent is not None and not agent.ready:
            say(f"  {node.name}: the agent is not ready: {agent.why_not}")
        elif agent is None:
            why = node.why_no_agent or ("the DaemonSet leaves it out" if node.ready else "it is not ready")
            say(f"  {node.name} has no agent: {why}")
