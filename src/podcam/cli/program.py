"""A command of verbs: which one is asked for, how it ends, and what is said when it fails.

`podcam` and `kubectl podcam` are two of them. Only the module of the verb that is asked for gets imported.
"""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from typing import NoReturn, Protocol, TextIO, cast

from podcam import __version__
from podcam.errors import PodcamError, UsageError
from podcam.model.text import printable_lines

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


class TolerantVerb(Verb, Protocol):
    """A verb that has something to do even where its arguments are wrong."""

    def run_misused(self, argv: Sequence[str], error: UsageError) -> int:
        """Do that; raises the error where it is nothing."""


class _Nowhere(io.RawIOBase):
    """Where the output goes of a command that was started without a standard output (`>&-`).

    Not /dev/null: that would take descriptor 1, which an app below `podcam wrap` may not have had.
    """

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override] # Buffer is of 3.12
        return memoryview(data).nbytes


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are UsageErrors of one line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog=prog, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (try: {self.prog} --help)")


@dataclass(frozen=True, slots=True)
class Program:
    """One command of a shell, with its verbs."""

    name: str
    """As people type it."""
    package: str
    """Where the modules of its verbs are."""
    verbs: Mapping[str, str]
    """What each verb does, in the order in which a newcomer meets them."""
    about: str
    examples: Sequence[str]
    arrange: Callable[[Sequence[str]], Sequence[str]] = lambda argv: argv
    """Brings the verb to the front of the arguments, where flags may come before it."""

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run the verb that `argv` (by default the command line) names, and return the exit code.

        0 success, 1 the work failed, 2 wrong usage, or what the verb returns.
        """
        argv = self.arrange(sys.argv[1:] if argv is None else argv)
        if cast("TextIO | None", sys.stdout) is None:
            sys.stdout = TextIOWrapper(io.BufferedWriter(_Nowhere()), "utf-8")
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # an arrow that cannot be shown is no reason to fail
        try:
            try:
                known = argv and argv[0] in self.verbs
                code = self._run_verb(argv[0], argv[1:]) if known else self._run_top(argv)
            except SystemExit as done:  # argparse, after --help or --version
                code = int(done.code or 0)
            sys.stdout.flush()
        except PodcamError as error:
            print(f"{self.name}: {printable_lines(str(error))}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        except BrokenPipeError:
            _give_up_output()  # the reader went away: `| head`
            return EXIT_BROKEN_PIPE
        except OSError as error:  # no room, no right, a bad disk: what a room did not foresee, or the output
            place = error.filename or ("standard output" if _give_up_output() else "")
            told = ": ".join(str(part) for part in (self.name, place, error.strerror or error) if part)
            print(printable_lines(told), file=sys.stderr)
            return PodcamError.exit_code
        return code

    def _run_verb(self, name: str, argv: Sequence[str]) -> int:
        parser = _Parser(f"{self.name} {name}")
        try:
            verb = cast("Verb", importlib.import_module(f"{self.package}.{name}"))
            verb.add_arguments(parser)
            try:
                args = parser.parse_args(argv)
            except UsageError as error:
                if not hasattr(verb, "run_misused"):
                    raise
                return cast("TolerantVerb", verb).run_misused(argv, error)
            return verb.run(args)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing == "podcam":
                raise
            raise PodcamError(
                f"`{self.name} {name}` needs the package {missing}, which is not installed: "
                "run `pip install .` in Podcam's repository"
            ) from error

    def _run_top(self, argv: Sequence[str]) -> NoReturn:
        parser = _Parser(self.name)
        parser.usage = f"{self.name} VERB [ARGUMENT…]"
        width = max(map(len, self.verbs))
        parser.description = "\n".join(
            [self.about, "", "verbs:", *(f"  {name:<{width}}  {does}" for name, does in self.verbs.items())]
        )
        parser.epilog = "\n".join(
            [
                "example:",
                *(f"  {example}" for example in self.examples),
                "",
                f"`{self.name} VERB --help` tells the rest.",
            ]
        )
        parser.add_argument("--version", action="version", version=f"podcam {__version__}")
        parser.add_argument("verb", nargs="?", help=argparse.SUPPRESS)
        args = parser.parse_args(argv[:1])
        given = "no verb was given" if args.verb is None else f"there is no verb {args.verb!r}"
        parser.error(f"{given}: choose one of {', '.join(self.verbs)}")


def _give_up_output() -> bool:
    """Whether standard output fails; what is buffered is dropped then, as it would fail again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):  # of an output that is no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
