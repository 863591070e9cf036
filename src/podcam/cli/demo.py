"""`podcam demo`: the story that Podcam began with, played for real."""

import argparse
import shutil
import sys
import time
from pathlib import Path

from podcam.cli import arguments
from podcam.demo.lab import settle
from podcam.demo.proxy import Misbehaviour
from podcam.demo.story import POSTGRESQL_PORT, Script, play

_DESCRIPTION = """\
A real PostgreSQL behind a proxy that now and then takes the start of a connection and resets it; an app
that connects over and over; Podcam beside it. It records, keeps the clip when a connection fails, and says
which side misbehaved. Takes less than a minute, needs no cluster and, where the system allows namespaces,
no root.
"""

_EXAMPLES = """\
examples:
  podcam demo
  podcam demo --ipv6 --tls --port 6432 --keep /tmp/story
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = _DESCRIPTION
    parser.epilog = _EXAMPLES
    parser.add_argument("--ipv6", action="store_true", help="connect over IPv6")
    parser.add_argument("--tls", action="store_true", help="connect with TLS, which the proxy ends")
    parser.add_argument(
        "--port", type=arguments.port, metavar="N", help=f"the proxy's port (default: {POSTGRESQL_PORT})"
    )
    parser.add_argument(
        "--proxy",
        choices=[each.value for each in Misbehaviour],
        default=Misbehaviour.RESET.value,
        metavar="|".join(Misbehaviour),
        help="what the proxy does to the connections that it fails (default: %(default)s)",
    )
    parser.add_argument(
        "--keep",
        type=arguments.folder,
        metavar="DIR",
        help="a new folder for the clip, the pcapng and the JSON (default: podcam-demo-TIME here)",
    )


def run(args: argparse.Namespace) -> int:
    """Play the story; 0 only if the diagnosis agrees with what the proxy did."""
    settle([sys.executable, *sys.argv])
    folder = args.keep or Path(time.strftime("podcam-demo-%Y%m%d-%H%M%S"))
    script = Script(
        folder, ipv6=args.ipv6, tls=args.tls, port=args.port, misbehaviour=Misbehaviour(args.proxy)
    )
    play(script, lambda line: print(line, flush=True), podcam=_spelling())
    return 0


def _spelling() -> str:
    """How the user called `podcam`: by its name alone where that finds the same program."""
    called = sys.argv[0]
    if called.endswith("__main__.py"):
        return f"{Path(sys.executable).name} -m podcam"
    return "podcam" if shutil.which("podcam") == called else called
