"""One file per verb: arguments in, calls out; no logic.

The only room that prints, and the only one that catches `PodcamError`. A verb is the module of its name in
this room, and only the module of the verb that is asked for gets imported: `podcam --help` must answer at
once, and recording must not need what diagnosing needs.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import NoReturn, Protocol, cast

from podcam import __version__
from podcam.errors import PodcamError, UsageError

VERBS = {
    "demo": "record, fail, clip, diagnose: the whole way in under a minute",
    "record": "record packets into a bounded ring, and keep a clip when a connection fails",
    "clip": "keep what just happened",
    "clips": "list, pin and unpin the clips that were kept",
    "diagnose": "say which connections failed, whose fault it is, and which packets prove it",
    "export": "write a clip as pcapng, for Wireshark and the like",
}
"""What each verb does, in the order in which a newcomer meets them."""

EXIT_INTERRUPTED = 130
"""As a shell reports a command that SIGINT ended."""
EXIT_BROKEN_PIPE = 141
"""As a shell reports a command that SIGPIPE ended."""


class Verb(Protocol):
    """What the module of a verb provides."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare flags and positional arguments, a description, and an epilog with an example."""

    def run(self, args: argparse.Namespace) -> int:
        """Do the work and return the exit code. Raises PodcamError for what the user reads in one line."""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are UsageErrors of one line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog=prog, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (try: {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb that `argv` (by default the command line) names, and return the exit code.

    0 success, 1 the work failed, 2 wrong usage; `record -- COMMAND` returns the command's own.
    """
    argv = sys.argv[1:] if argv is None else argv
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an arrow that cannot be shown is no reason to fail
    try:
        try:
            code = _run_verb(argv[0], argv[1:]) if argv and argv[0] in VERBS else _run_top(argv)
        except SystemExit as done:  # argparse, after --help or --version
            code = int(done.code or 0)
        sys.stdout.flush()
    except PodcamError as error:
        print(f"podcam: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`| head`). What is still buffered would fail once more when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    return code


def _run_verb(name: str, argv: Sequence[str]) -> int:
    parser = _Parser(f"podcam {name}")
    try:
        verb = cast("Verb", importlib.import_module(f"{__name__}.{name}"))
        verb.add_arguments(parser)
        return verb.run(parser.parse_args(argv))
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "podcam":
            raise
        raise PodcamError(
            f"`podcam {name}` needs the package {missing}, which is not installed: run `pip install podcam`"
        ) from error


def _run_top(argv: Sequence[str]) -> NoReturn:
    parser = _Parser("podcam")
    parser.usage = "podcam VERB [ARGUMENT…]"
    width = max(map(len, VERBS))
    parser.description = "\n".join(
        [
            "A dashcam for the network of your pods.",
            "",
            "verbs:",
            *(f"  {name:<{width}}  {does}" for name, does in VERBS.items()),
        ]
    )
    parser.epilog = "\n".join(
        [
            "example:",
            "  podcam record --port 5432 --host db.example   # until Ctrl-C; failures are kept as clips",
            "  podcam diagnose proxy.pcap",
            "",
            "`podcam VERB --help` tells the rest.",
        ]
    )
    parser.add_argument("--version", action="version", version=f"podcam {__version__}")
    parser.add_argument("verb", nargs="?", help=argparse.SUPPRESS)
    args = parser.parse_args(argv[:1])
    given = "no verb was given" if args.verb is None else f"there is no verb {args.verb!r}"
    parser.error(f"{given}: choose one of {', '.join(VERBS)}")
