"""`podcam wrap`: record beside an app, as the entrypoint of its container."""

import argparse
import os
import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from podcam.cli import arguments, recording
from podcam.errors import PodcamError, UsageError
from podcam.wrap.companion import BesideRecorder, cannot_record, tell
from podcam.wrap.first_process import FirstProcess, Nobody, User, end_as, original_environment

_EXAMPLES = """\
examples:
  podcam wrap --port 5432 -- ./entrypoint.sh serve            # instead of: ./entrypoint.sh serve
  podcam wrap --dir /scratch/podcam --ring 8x25MB --on exit-failure -- python3 worker.py
  podcam wrap --user 1000 -- ./serve                          # the container runs as root, the app does not

The app starts at once, and starts even when nothing can be recorded: one line on standard error says why
(`podcam doctor` says more). It gets every signal, its standard streams are its own, and the container ends as
it ends. Ring and clips together stay within --ring and --clips: give the volume a sizeLimit above their sum.
"""
_NOT_WITHOUT = ("--required", "--u", "-u")
"""An app does not start without what these ask for. A `--user` that is misspelt must not leave it to root."""
_DEFAULTS = {"ring": "8x25MB", "clips": "200MB", "memory": "8MiB"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = "Run an app as this container's process 1, and record its network beside it."
    parser.usage = "podcam wrap [OPTION…] -- COMMAND…"
    parser.epilog = _EXAMPLES
    app = parser.add_argument_group("the app")
    app.add_argument("--user", metavar="USER[:GROUP]", help="run the app as this user (takes root)")
    app.add_argument(
        "--required", action="store_true", help="do not start the app unless its network is recorded"
    )
    app.add_argument(
        "--sudo", action="store_true", help="start the recorder by `sudo -n`, with exactly these options"
    )
    add_pod(parser.add_argument_group("the pod"))
    add_recording(
        parser,
        "besides what `podcam record` knows, --on takes exit (of the app) and exit-failure (not with 0)",
    )
    parser.add_argument("--beside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def add_pod(group: argparse._ArgumentGroup) -> None:
    """Declare what the recorder has to know of its pod."""
    group.add_argument(
        "--grace",
        type=arguments.duration,
        default="30s",
        metavar="TIME",
        help="the pod's terminationGracePeriodSeconds, which the recorder obeys (default: %(default)s)",
    )
    group.add_argument(
        "--name", default=_own_name(), help="what the pod is called in clips (default: %(default)s)"
    )
    group.add_argument(
        "--serve",
        type=arguments.port,
        metavar="PORT",
        help="hand out clips to `kubectl podcam pull --sidecar`, at this port of the pod's loopback address: "
        "whoever may forward a port of the pod or run something in it can read its packets (default: do not)",
    )


def add_recording(parser: argparse.ArgumentParser, about_triggers: str | None = None) -> None:
    """Declare what is recorded, with defaults for a pod."""
    recording.add_which(parser.add_argument_group("which packets"))
    recording.add_how_much(parser.add_argument_group("how much is kept"))
    recording.add_trigger(parser.add_argument_group("what triggers a clip", about_triggers))
    parser.set_defaults(**_DEFAULTS)


def _own_name() -> str:
    """As the node agent calls pods, where the container knows: NAMESPACE/POD."""
    pod = os.environ.get("POD_NAME") or socket.gethostname()
    namespace = os.environ.get("POD_NAMESPACE")
    return f"{namespace}/{pod}" if namespace else pod


def run(args: argparse.Namespace) -> int:
    """Run the app to its end, or, as `--beside`, record until told that it has ended."""
    if args.beside:
        return record(args)
    command = recording.command_after(args.command)
    if not command:
        raise UsageError("which app? Its command comes after --")
    process = FirstProcess(command, original_environment(), User.named(args.user) if args.user else None)
    recorder = BesideRecorder(
        _record_as_root if args.sudo else (lambda: record(args)),
        grace_seconds=args.grace / 1e9,
        required=args.required,
    )
    return end_as(process.run(recorder), process.ended_by)


def run_misused(argv: Sequence[str], error: UsageError) -> int:
    """Run the app also where the options before it are wrong: it does not stay away for its recorder's sake.

    Raises:
        UsageError: there is none, it is not to run unrecorded, or not as this user.
    """
    options, command = _parted(argv)
    if not command or any(option.startswith(_NOT_WITHOUT) for option in options):
        raise error
    tell(f"not recording: {error}; the app goes on")
    process = FirstProcess(command, original_environment())
    return end_as(process.run(Nobody()), process.ended_by)


def _parted(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The options, and the app's command."""
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def record(args: argparse.Namespace) -> int:
    """The recorder's whole life; what it needs is imported beside the app, which does not wait for it."""
    from podcam.wrap.beside import BesideSettings, OnExit, record_beside  # noqa: PLC0415

    wanted = {OnExit(on) for on in args.on if on in {OnExit.ALWAYS, OnExit.FAILURE}}
    args.on = [on for on in args.on if on not in wanted]
    on_exit = OnExit.ALWAYS if OnExit.ALWAYS in wanted else OnExit.FAILURE if wanted else OnExit.NEVER
    try:
        recorder, what = recording.recorder_settings(args), recording.recording_settings(args)
    except PodcamError as error:
        return cannot_record(error)
    what = replace(what, traffic=replace(what.traffic, own_only=True, own_port=args.serve))
    node = os.environ.get("NODE_NAME") or None
    return record_beside(BesideSettings(recorder, what, on_exit, args.name, args.serve, node))


def _record_as_root() -> int:
    from podcam.wrap.sudo import become_by_sudo  # noqa: PLC0415

    try:
        become_by_sudo(_beside_command())
    except PodcamError as error:
        return cannot_record(error)


def _beside_command() -> Sequence[str]:
    """What sudo has to allow: the recorder with these options, and with no others."""
    options, _command = _parted(sys.argv[2:])
    program = shutil.which(sys.argv[0])
    own = [str(Path(program).absolute())] if program else [sys.executable, "-I", "-m", "podcam"]
    given = [option for option in options if option not in {"--sudo", "--required"}]
    return [*own, "wrap", "--beside", *given]
