"""`podcam record`: record packets into a bounded ring, and keep a clip when a connection fails."""

import argparse
import sys

from podcam.cli import arguments, recording
from podcam.cli.live import JsonLines, LiveLine, PlainLines, Reporter
from podcam.recorder import Foreground
from podcam.wrap.capabilities import NET_RAW, own_proc, take

_EXAMPLES = """\
examples:
  podcam record --port 5432 --host db.example       # until Ctrl-C; failures are kept as clips
  podcam record --netns 4711 --ring 4x25MB          # a container, by the id of one of its processes
  podcam record --port 443 --payload 64 --for 8h    # 64 bytes of payload per packet, for a working day
  podcam record -- ./integration-tests              # while a command runs; ends with the command's code

What fails is told as it happens. `podcam clip` keeps what just happened from another terminal, `podcam clips`
lists what was kept, `podcam diagnose CLIP` says what it shows.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = "Record packets into a bounded ring, and keep a clip when a connection fails."
    parser.usage = "podcam record [OPTION…] [-- COMMAND…]"
    parser.epilog = _EXAMPLES
    _add_where(parser.add_argument_group("where"))
    recording.add_which(parser.add_argument_group("which packets"))
    recording.add_how_much(parser.add_argument_group("how much is kept"))
    recording.add_trigger(parser.add_argument_group("what triggers a clip"))
    parser.add_argument(
        "--for",
        dest="duration_ns",
        type=arguments.duration,
        metavar="TIME",
        help="stop after this time, as in 8h (default: on Ctrl-C)",
    )
    parser.add_argument("--json", action="store_true", help="one event per line on standard output")
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def _add_where(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--netns",
        action="append",
        default=[],
        metavar="NAME|PATH|PID",
        help="a network namespace to record; repeatable (default: the one of this command)",
    )


def run(args: argparse.Namespace) -> int:
    """Record until told to stop, until the time is over, or until the command ends."""
    command = recording.command_after(args.command)
    own_proc()
    take(NET_RAW)
    reporter: Reporter = JsonLines() if args.json else LiveLine() if sys.stderr.isatty() else PlainLines()
    settings, wanted = recording.recorder_settings(args), recording.recording_settings(args)
    try:
        return Foreground(settings, wanted, args.netns, reporter.show).run(
            duration_ns=args.duration_ns, command=command
        )
    finally:
        reporter.close()
