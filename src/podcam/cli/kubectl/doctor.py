"""`kubectl podcam doctor`: what is missing in this cluster, and how to get it."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict

from podcam.cli.findings import print_findings
from podcam.cli.kubectl import flags
from podcam.cli.kubectl.access import cluster
from podcam.cluster import Finding, examine
from podcam.errors import UnauthorizedError, UnreachableError

_EXAMPLES = """\
examples:
  kubectl podcam doctor                 # can the pods of this namespace be recorded?
  kubectl podcam doctor -n shop --as alice
  kubectl podcam doctor -o json

Exit code 1 when something is missing. `podcam doctor` looks at a machine.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = "Say what is missing in this cluster, and how to get it. Changes nothing."
    parser.epilog = _EXAMPLES
    flags.add_output(parser, "json")
    flags.add_access(parser)


def run(args: argparse.Namespace) -> int:
    """Look at everything and print it."""
    findings = list(_findings(args))
    if args.output:
        print(
            json.dumps(
                {"schema": "podcam.doctor/1", "findings": [asdict(each) for each in findings]}, indent=1
            )
        )
    else:
        print_findings(findings)
    return int(any(each.needed and each.remedy is not None for each in findings))


def _findings(args: argparse.Namespace) -> Iterator[Finding]:
    try:
        with cluster(args) as at:
            yield from examine(at.api, at.namespace)
    except (UnreachableError, UnauthorizedError) as error:
        yield Finding("API server", str(error), "see that kubectl itself reaches it: all else needs it")
