"""`podcam bundle`: a recorder for images without Python, in one folder."""

import argparse
import json
import shlex

from podcam.cli.arguments import folder, format_size
from podcam.wrap.bundle import Bundle, make_bundle

_EXAMPLES = """\
examples:
  podcam bundle /podcam            # in an init container: /podcam is an emptyDir that the app mounts, too
  podcam bundle --json /podcam

It copies this Python, and what recording needs, so that it runs in any image, musl and empty ones too. As
root with the capability SETFCAP it gives the copy the file capability NET_RAW: so it records for any user.
It prints what goes in front of the app's command. Run again it replaces what it copied.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = "Copy a recorder that runs in any image into a folder."
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "target",
        type=folder,
        metavar="TARGET",
        help="the folder, at the path that it has for the app as well",
    )
    parser.add_argument("--json", action="store_true", help="what was made, for machines")


def run(args: argparse.Namespace) -> int:
    """Make it, and say how it is used."""
    bundle = make_bundle(args.target)
    print(_as_json(bundle) if args.json else _as_text(bundle))
    return 0


def _as_json(bundle: Bundle) -> str:
    return json.dumps(
        {
            "schema": "podcam.bundle/1",
            "folder": str(bundle.folder),
            "bytes": bundle.bytes,
            "files": bundle.files,
            "capable": bundle.capable,
            "command": bundle.command,
        }
    )


def _as_text(bundle: Bundle) -> str:
    prefix = [*bundle.command, "wrap", "--"]
    lines = [f"{bundle.folder}: {format_size(bundle.bytes)} in {bundle.files:,} files"]
    if bundle.capable:
        lines.append("it has the file capability NET_RAW: it records for any user")
    else:
        lines += [
            "it has no file capability, so it records for root only: that takes runAsUser 0 here, and",
            "capabilities {drop: [ALL], add: [SETFCAP]}",
        ]
    lines += ["in front of the app's command:", f"  {shlex.join(prefix)}", f"  {json.dumps(prefix)}"]
    return "\n".join(lines)
