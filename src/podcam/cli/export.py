"""`podcam export`: write a clip as pcapng, for Wireshark and the like."""

import argparse
import sys
from pathlib import Path

from podcam.cli import chosen
from podcam.cli.progress import Progress
from podcam.clip import export, open_packets, write_pcapng
from podcam.errors import UsageError
from podcam.model.text import printable

_EXAMPLES = """\
examples:
  podcam export CLIP -o proxy.pcapng
  podcam export CLIP -o - | tshark -r - -Y 'tcp.flags.reset == 1'
  podcam export --ethernet CLIP -o proxy.pcapng     # one link type, for tools made with libpcap
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = (
        "Write a clip as pcapng: its window, all its points in the order of time, with interfaces,\n"
        "directions and nanoseconds. A ring or a single segment can be written as well."
    )
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "clip", metavar="CLIP", help="a clip, by its id or its folder; or a ring's folder, or a segment"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE.pcapng",
        help="the file to write; - for standard output",
    )
    parser.add_argument(
        "--ethernet",
        action="store_true",
        help="give packets of interfaces without a link layer an Ethernet header, so that all have one",
    )


def run(args: argparse.Namespace) -> int:
    """Write the file, and say how many packets it holds."""
    write(chosen.capture(args.clip), args.output, all_ethernet=args.ethernet)
    return 0


def write(clip: Path, output: str, *, all_ethernet: bool) -> None:
    """Write the clip to the file, or to standard output where that is `-`; say what is in it.

    Raises UsageError where standard output is a terminal.
    """
    packets = open_packets(clip)
    if output == "-":
        if sys.stdout.isatty():
            raise UsageError("a terminal cannot show pcapng: write it to a file, or pipe it into a command")
        exported = write_pcapng(packets, sys.stdout.buffer, comments={}, all_ethernet=all_ethernet)
    else:
        total = sum(part.totals.packets for part in packets.manifest.parts) if packets.manifest else 0
        with Progress("writing") as progress:
            exported = export(
                packets,
                Path(output),
                all_ethernet=all_ethernet,
                progress=lambda written: progress(written / max(total, written, 1)),
            )
    for warning in exported.warnings:
        print(f"podcam: {printable(warning)}", file=sys.stderr)
    print(f"{exported.packets:,} packets written, {exported.dropped:,} lost while recording", file=sys.stderr)
