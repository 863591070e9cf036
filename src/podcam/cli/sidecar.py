"""`podcam sidecar`: record a pod from a container of its own in it."""

import argparse
import json
import sys
from collections.abc import Sequence

from podcam.cli import wrap
from podcam.errors import UsageError
from podcam.wrap.capabilities import own_proc
from podcam.wrap.companion import BesideRecorder, tell
from podcam.wrap.first_process import Nobody
from podcam.wrap.sidecar import STARTING_SECONDS, age_seconds, hold_signals, keep

_EXAMPLES = """\
examples:
  podcam sidecar --port 5432 --dir /podcam --serve 9472      # the command of a native sidecar
  podcam sidecar --check --dir /podcam                       # its startup probe
  kubectl podcam pull --sidecar POD                          # from outside: fetch the latest clip

deploy/components/sidecar adds it to workloads. It needs the capability NET_RAW and a volume. Where it cannot
record it says so and stays: the app starts all the same. SIGTERM ends it, with what it has on disk, and 0.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = "Record this pod's network until SIGTERM, as a sidecar beside its other containers."
    parser.epilog = _EXAMPLES
    pod = parser.add_argument_group("the pod")
    pod.add_argument(
        "--check",
        action="store_true",
        help="only look whether the sidecar that has this --dir has started, as a startup probe does: 0 once "
        f"it records, once it has said why it cannot, or after {STARTING_SECONDS:.0f} s",
    )
    wrap.add_pod(pod)
    wrap.add_recording(parser)


def run(args: argparse.Namespace) -> int:
    """Record until the pod ends, or look whether another process does."""
    if args.check:
        return _check(args)
    of_the_app = {"exit", "exit-failure"} & set(args.on)
    if of_the_app:
        return run_misused((), UsageError("--on exit: only `podcam wrap` sees how an app ends"))
    hold_signals()
    own_proc()
    return keep(BesideRecorder(lambda: wrap.record(args), grace_seconds=args.grace / 1e9))


def run_misused(argv: Sequence[str], error: UsageError) -> int:
    """Stay all the same, so that the pod's other containers start.

    Raises:
        UsageError: a person made the mistake, who can mend it.
    """
    if sys.stdin.isatty() or "--check" in argv:
        raise error
    hold_signals()
    tell(f"not recording: {error}; the app goes on")
    return keep(Nobody())


def _check(args: argparse.Namespace) -> int:
    try:
        state = json.loads((args.dir / "status.json").read_bytes())["state"]
    except (OSError, ValueError, KeyError, TypeError):
        state = "starting"
    return int(state == "starting" and age_seconds() < STARTING_SECONDS)
