"""`podcam clip`: keep what just happened."""

import argparse
import sys
from datetime import datetime

from podcam.cli import arguments
from podcam.recorder import RecorderFolder, ask_recorder, clip_at_rest

_EXAMPLE = """\
examples:
  podcam clip --last 60s
  podcam clip --last 5m --reason "the payment page was slow" --dir /scratch/podcam

The last line of the output is the clip's path: podcam diagnose "$(podcam clip --last 60s | tail -n 1)"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = "Keep the packets of the last seconds, of every point that is recorded."
    parser.epilog = _EXAMPLE
    parser.add_argument(
        "--last",
        type=arguments.duration,
        default="60s",
        metavar="TIME",
        help="how far back (default: %(default)s)",
    )
    parser.add_argument("--reason", default="asked for by hand", metavar="TEXT", help="is kept with the clip")
    parser.add_argument(
        "--dir",
        type=arguments.folder,
        default=arguments.default_folder(),
        metavar="DIR",
        help="the recorder's folder (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Ask the running recorder; without one, keep what its rings still hold."""
    request = {"verb": "clip", "last_ns": args.last, "reason": args.reason}
    answer = ask_recorder(args.dir, request)
    if answer is not None:
        print(answer["clip"])
        return 0
    clip = clip_at_rest(RecorderFolder(args.dir), args.last, args.reason)
    end = datetime.fromtimestamp(clip.manifest.window.end_ns / 1e9)
    print(
        f"no recorder is running: counted back from its last packet, {end:%Y-%m-%d %H:%M:%S}", file=sys.stderr
    )
    print(clip.path)
    return 0
