"""`podcam agent`: the node agent of a cluster. The DaemonSet of `deploy/` runs it; people seldom do."""

import argparse
import os
from pathlib import Path

from podcam.agent.agent import Agent
from podcam.agent.http import PORT
from podcam.agent.log import Log
from podcam.agent.requests import CountedApi
from podcam.agent.settings import AgentSettings, Share
from podcam.cli import arguments
from podcam.errors import UsageError
from podcam.kube import NamespaceFinder

_EPILOG = """\
Each flag has its default from the environment: --disk-budget from PODCAM_DISK_BUDGET, and so on; --node from
NODE_NAME, --pod from POD_NAME, --namespace from POD_NAMESPACE, as the DaemonSet sets them.

example:
  podcam agent --node node-1 --disk-budget 20GB     # inside a pod of the cluster
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = "Record the pods of this node that the cluster's Recordings name."
    parser.epilog = _EPILOG
    _add_who(parser.add_argument_group("who it is"))
    _add_how_much(parser.add_argument_group("what it may use"))
    _add_cluster(parser.add_argument_group("which cluster (default: the one that this pod runs in)"))


def _add_who(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--node", default=os.environ.get("NODE_NAME"), metavar="NAME", help="this node")
    group.add_argument("--pod", default=os.environ.get("POD_NAME", ""), metavar="NAME", help="this pod")
    group.add_argument(
        "--namespace",
        default=os.environ.get("POD_NAMESPACE", "podcam-system"),
        metavar="NAME",
        help="this pod's namespace",
    )
    group.add_argument(
        "--folder",
        type=Path,
        default=_default("FOLDER", "/var/lib/podcam"),
        metavar="DIR",
        help="where rings and clips lie (default: %(default)s)",
    )
    group.add_argument(
        "--http-port",
        type=arguments.port,
        default=_default("HTTP_PORT", str(PORT)),
        metavar="N",
        help="for /healthz, /metrics and readers of clips (default: %(default)s)",
    )


def _add_how_much(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--memory",
        type=arguments.size,
        default=_default("MEMORY", "128MiB"),
        metavar="SIZE",
        help="for the kernel's rings of all pods together (default: %(default)s)",
    )
    group.add_argument(
        "--disk-budget",
        type=_share,
        default=_default("DISK_BUDGET", "10%"),
        metavar="SIZE|N%",
        help="what all rings and clips may take (default: %(default)s of the file system)",
    )
    group.add_argument(
        "--free-floor",
        type=_share,
        default=_default("FREE_FLOOR", "20%"),
        metavar="SIZE|N%",
        help="what must stay free, whoever fills the disk (default: %(default)s)",
    )
    group.add_argument(
        "--clips",
        type=arguments.size,
        default=_default("CLIPS", None),
        metavar="SIZE",
        help="for all clips, within the disk budget (default: half of it)",
    )
    group.add_argument(
        "--write-budget",
        type=arguments.rate,
        default=_default("WRITE_BUDGET", "20MB/s"),
        metavar="RATE",
        help="keep headers only while more than this would be written (default: %(default)s)",
    )


def _add_cluster(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--api-url", metavar="URL", help="the API server")
    group.add_argument("--token-file", type=Path, metavar="FILE", help="a bearer token")
    group.add_argument("--ca-file", type=Path, metavar="FILE", help="the certificates to trust")


def run(args: argparse.Namespace) -> int:
    """Record until told to stop."""
    if not args.node:
        raise UsageError("which node is this? Say it with --node, or NODE_NAME in the environment")
    settings = AgentSettings(
        node=args.node,
        folder=args.folder,
        pod=args.pod,
        namespace=args.namespace,
        kernel_memory_bytes=args.memory,
        disk_budget=args.disk_budget,
        free_floor=args.free_floor,
        clips_bytes=args.clips,
        write_bytes_per_second=args.write_budget,
        http_port=args.http_port,
    )
    return Agent(settings, _api(args), _api(args), Log(), NamespaceFinder()).run()


def _api(args: argparse.Namespace) -> CountedApi:
    if args.api_url is None:
        return CountedApi.in_cluster()
    token = None
    if args.token_file is not None:
        token = lambda: args.token_file.read_text(encoding="ascii").strip()  # noqa: E731
    return CountedApi.at(args.api_url, token=token, ca=args.ca_file)


def _default(name: str, otherwise: str | None) -> str | None:
    return os.environ.get(f"PODCAM_{name}", otherwise)


def _share(text: str) -> Share:
    """`20GB`, or `10%` of the file system."""
    if text.endswith("%"):
        percent = text.removesuffix("%")
        if not percent.isascii() or not percent.isdigit() or not 0 <= int(percent) <= 100:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a share: write a whole number and %, as in 10%"
            )
        return Share(fraction=int(percent) / 100)
    return Share(bytes=arguments.size(text))
