"""`kubectl podcam uninstall`: take all of it out again."""

import argparse
import sys

from podcam.cli import arguments
from podcam.cli.kubectl import flags
from podcam.cli.kubectl.access import Cluster, cluster
from podcam.cli.kubectl.output import counted, say
from podcam.cluster import (
    Inventory,
    clean_nodes,
    is_resource_definition,
    remove_agents,
    render,
    take_inventory,
    to_text,
)
from podcam.errors import PodcamError, UsageError

_EXAMPLES = """\
examples:
  kubectl podcam uninstall               # asks before recordings and clips go
  kubectl podcam uninstall --keep-data   # the next `install` goes on where this stopped
  kubectl podcam uninstall --yes         # asks nothing
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = (
        "Take out the agents, their rights and namespace, the custom resources with all recordings and\n"
        "clips, and the files on the nodes."
    )
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "--keep-data",
        action="store_true",
        help="keep the custom resources, recordings, clips, and the files on the nodes",
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--timeout",
        type=arguments.duration,
        default="90s",
        metavar="TIME",
        help="for the agents to end, and for the nodes to be cleaned (default: %(default)s)",
    )
    flags.add_access(parser)


def run(args: argparse.Namespace) -> int:
    """Count, ask, and take out."""
    with cluster(args) as at:
        inventory = take_inventory(at.api)
        if inventory.installed and not args.keep_data:
            _ask(inventory, yes=args.yes)
        return _take_out(at, inventory, args.timeout / 1e9, keep_data=args.keep_data)


def _ask(inventory: Inventory, *, yes: bool) -> None:
    data = f"{counted(inventory.recordings, 'recording')} and {counted(inventory.clips, 'clip')}"
    what = f"{data} of all namespaces"
    if inventory.daemon_set is not None:
        what += f", and {inventory.folder} on {counted(len(inventory.nodes), 'node')}"
    if yes:
        say(f"deleting {what}")
        return
    if not sys.stdin.isatty():
        raise UsageError(f"this deletes {what}: say --yes, or --keep-data to keep them")
    say(f"This deletes {what}, for good. `--keep-data` keeps them.")
    try:
        answer = input("Delete them? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in {"y", "yes"}:
        raise PodcamError("nothing was deleted")


def _take_out(at: Cluster, inventory: Inventory, timeout_seconds: float, *, keep_data: bool) -> int:
    code = 0
    for node in remove_agents(at.api, inventory, timeout_seconds=timeout_seconds):
        say(f"the agent of {node} has not ended within {timeout_seconds:.0f} s")
        code = 1
    if inventory.daemon_set is not None:
        say("agents removed")
    elif inventory.installed and not keep_data:
        say(
            "there were no agents, so it is not known what the nodes hold: what an earlier --keep-data left "
            f"in {inventory.folder} goes with `kubectl podcam install` and another `uninstall`"
        )
    if not keep_data:
        for node, why in clean_nodes(at.api, inventory, timeout_seconds=timeout_seconds):
            if why:
                say(f"{node} keeps its files: {why}; remove {inventory.folder} there by hand")
                code = 1
            else:
                say(f"{node}: {inventory.folder} removed")
    objects = render(at.kubectl, overlay="openshift" if inventory.openshift else None)
    going = [each for each in objects if not (keep_data and is_resource_definition(each))]
    # The last of the list was made last, and depends on those before it.
    deleted = at.kubectl.run("delete", "--ignore-not-found", "--wait", "-f", "-", given=to_text(going[::-1]))
    print(deleted, end="")
    if not inventory.installed:
        say(f"{'no more of Podcam was' if deleted else 'Podcam is not'} installed in this cluster")
    elif keep_data:
        say(
            f"kept: {counted(inventory.recordings, 'recording')}, {counted(inventory.clips, 'clip')}, and "
            f"{inventory.folder} on the nodes; `kubectl podcam install` goes on with them"
        )
    return code
