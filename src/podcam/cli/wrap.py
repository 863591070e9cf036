"""`podcam wrap`: record beside an app, as the entrypoint of its container."""

import argparse
import getpass
import os
import shlex
import shutil
import socket
import sys
from dataclasses import replace

from podcam.cli import arguments, recording
from podcam.errors import PodcamError, UsageError
from podcam.wrap.companion import BesideRecorder, tell
from podcam.wrap.first_process import FirstProcess, User, end_as

_EXAMPLES = """\
examples:
  podcam wrap --port 5432 -- ./entrypoint.sh serve            # instead of: ./entrypoint.sh serve
  podcam wrap --dir /scratch/podcam --ring 8x25MB --on exit-failure -- python3 worker.py
  podcam wrap --user 1000 -- ./serve                          # the container runs as root, the app does not

The app starts at once, and starts even when nothing can be recorded: one line on standard error says why
(`podcam doctor` says more). It gets every signal, its standard streams are its own, and the container ends as
it ends. Ring and clips together stay within --ring and --clips: give the volume a sizeLimit above their sum.
"""
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
    app.add_argument(
        "--grace",
        type=arguments.duration,
        default="30s",
        metavar="TIME",
        help="the pod's terminationGracePeriodSeconds, which the recorder obeys (default: %(default)s)",
    )
    app.add_argument(
        "--name",
        default=os.environ.get("POD_NAME") or socket.gethostname(),
        help="what the pod is called in clips (default: %(default)s)",
    )
    recording.add_which(parser.add_argument_group("which packets"))
    recording.add_how_much(parser.add_argument_group("how much is kept"))
    recording.add_trigger(
        parser.add_argument_group(
            "what triggers a clip",
            "besides what `podcam record` knows, --on takes exit (of the app) and exit-failure (not with 0)",
        )
    )
    parser.set_defaults(**_DEFAULTS)
    parser.add_argument("--beside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Run the app to its end, or, as `--beside`, record until told that it has ended."""
    if args.beside:
        return _record(args)
    command = recording.command_after(args.command)
    if not command:
        raise UsageError("which app? Its command comes after --")
    process = FirstProcess(command, os.environ, User.named(args.user) if args.user else None)
    recorder = BesideRecorder(
        lambda: _record(args),
        command=_by_sudo() if args.sudo else None,
        grace_seconds=args.grace / 1e9,
        required=args.required,
    )
    return end_as(process.run(recorder), process.ended_by)


def _record(args: argparse.Namespace) -> int:
    """The recorder's whole life; what it needs is imported beside the app, which does not wait for it."""
    from podcam.wrap.beside import BesideSettings, OnExit, cannot_record, record_beside  # noqa: PLC0415

    wanted = {OnExit(on) for on in args.on if on in {OnExit.ALWAYS, OnExit.FAILURE}}
    args.on = [on for on in args.on if on not in wanted]
    on_exit = OnExit.ALWAYS if OnExit.ALWAYS in wanted else OnExit.FAILURE if wanted else OnExit.NEVER
    try:
        recorder, what = recording.recorder_settings(args), recording.recording_settings(args)
    except PodcamError as error:
        return cannot_record(error)
    what = replace(what, traffic=replace(what.traffic, own_only=True))
    return record_beside(BesideSettings(recorder, what, on_exit, args.name))


def _by_sudo() -> list[str]:
    """The command that sudo has to allow: these options and no others.

    Raises:
        UsageError: it does not allow it, and which line would.
    """
    from podcam.wrap.sudo import sudo_allows  # noqa: PLC0415 - takes time that an app without sudo need not wait

    options = sys.argv[2 : sys.argv.index("--")]
    program = shutil.which(sys.argv[0])
    own = [program] if program else [sys.executable, "-I", "-m", "podcam"]
    command = [*own, "wrap", "--beside", *(each for each in options if each not in {"--sudo", "--required"})]
    if not sudo_allows(command):
        line = f"{getpass.getuser()} ALL=(root) NOPASSWD: {shlex.join(command)}"
        tell(f"not recording: sudo does not allow it; add this line to /etc/sudoers.d/podcam: {line}")
    return ["sudo", "-n", *command]
