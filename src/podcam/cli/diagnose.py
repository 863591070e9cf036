"""`podcam diagnose`: say which connections failed, whose fault it is, and which packets prove it."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from podcam.cli import arguments, chosen
from podcam.cli.progress import Progress
from podcam.clip import MANIFEST, read_manifest
from podcam.diagnose import diagnose
from podcam.errors import UsageError
from podcam.model.failure import ServerCounts
from podcam.report import TerminalReport, annotate, console, write_json

_EXAMPLES = """\
examples:
  podcam diagnose CLIP                                   # a clip that `podcam record` kept
  podcam diagnose proxy.pcap0 proxy.pcap1.gz             # pcap and pcapng of other tools
  podcam diagnose proxy.pcap --stream 17                 # one connection, by Wireshark's number for it
  podcam diagnose proxy.pcap --annotate told.pcapng      # Wireshark: frame.comment matches "Podcam"
  podcam diagnose proxy.pcap --json | jq '.connections[] | select(.failed) | .summary'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = (
        "Say which connections failed, whose fault it is, and which packets prove it, beside the nearest\n"
        "connection to the same server that went well. Reads clips, rings and segments of Podcam, and pcap\n"
        "and pcapng files, gzip and zstd too."
    )
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a clip, by its id or its folder; a ring, a segment, or a capture file",
    )
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the flags that say what becomes of a diagnosis, whatever is diagnosed."""
    parser.add_argument("--json", action="store_true", help="the whole diagnosis, for machines")
    parser.add_argument(
        "--stream",
        action="append",
        default=[],
        type=arguments.count,
        metavar="N",
        help="show this connection only, failed or not (Wireshark's tcp.stream); repeatable",
    )
    parser.add_argument(
        "--annotate",
        type=Path,
        metavar="FILE.pcapng",
        help="also copy the capture to this file, with the verdicts as packet comments",
    )
    parser.add_argument("--fail", action="store_true", help="exit with 1 if a connection failed")


def run(args: argparse.Namespace) -> int:
    """Find what is named, and diagnose it."""
    if args.annotate and len(args.paths) > 1:
        raise UsageError("--annotate copies one capture: give one path at a time")
    return report(args, [str(chosen.capture(name)) for name in args.paths])


def report(
    args: argparse.Namespace,
    paths: Sequence[str],
    names: Mapping[str, str] | None = None,
    exported_by: str = "podcam export",
) -> int:
    """Diagnose, annotate, and print, as the flags of `add_options` say.

    Args:
        args: the flags.
        paths: what is diagnosed.
        names: what a person calls it, by path, where that is not its path.
        exported_by: the command that makes a file of it.
    """
    with Progress("reading") as progress:
        case = diagnose(paths, progress=progress)
    if args.annotate:
        with Progress("annotating") as progress:
            annotate(case.diagnosis, args.annotate, progress)
    if args.json:
        write_json(case.diagnosis, sys.stdout)
    else:
        counts = list(_recorded_counts(paths))
        text = TerminalReport(case.diagnosis, case.conversation, counts, names=names, exported_by=exported_by)
        text.print(console(), streams=args.stream)
    return int(args.fail and any(row.verdict.failed for row in case.diagnosis.connections))


def _recorded_counts(paths: Sequence[str]) -> Iterator[tuple[str, ServerCounts]]:
    """What the recorder of a clip counted at each point, which reaches further back than the clip."""
    for path in map(Path, paths):
        if (path / MANIFEST).exists():
            for part in read_manifest(path).parts:
                yield from ((part.point.name, counts) for counts in part.servers)
