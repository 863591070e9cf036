"""`podcam doctor`: what is missing here, and how to get it."""

import argparse
import json
from dataclasses import asdict

from podcam.cli.arguments import default_folder, folder
from podcam.cli.findings import print_findings
from podcam.wrap.examination import examine

_EXAMPLES = """\
examples:
  podcam doctor                    # can this machine, or this container, record?
  podcam doctor --dir /podcam-ring # where this container records into another folder than the default one
  podcam doctor --json

In a container it says which of the ways to a packet socket works (root, a file capability, sudo), and why the
others do not. Exit code 1 when nothing can be recorded here. `kubectl podcam doctor` looks at a cluster.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = "Say what is missing here, and how to get it."
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "--dir",
        type=folder,
        default=default_folder(),
        metavar="DIR",
        help="where rings and clips would lie (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="all findings, for machines")


def run(args: argparse.Namespace) -> int:
    """Look at everything and print it."""
    findings = examine(args.dir)
    if args.json:
        print(
            json.dumps(
                {"schema": "podcam.doctor/1", "findings": [asdict(each) for each in findings]}, indent=1
            )
        )
    else:
        print_findings(findings)
    return int(any(each.needed and each.remedy for each in findings))
