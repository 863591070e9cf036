"""The flags that kubectl's users expect of every verb, and those that several verbs have.

Which cluster, and as whom, is passed on to kubectl itself: every way of logging in that it knows works.
"""

import argparse
from collections.abc import Collection, Sequence

from podcam.errors import UsageError

_OF_KUBECTL = {
    "--context": "the kubeconfig context to use",
    "--kubeconfig": "the kubeconfig file to use",
    "--cluster": "the kubeconfig cluster to use",
    "--user": "the kubeconfig user to use",
    "--server": "the API server's address",
    "--token": "a bearer token for the API server",
    "--as": "the user to impersonate",
    "--as-uid": "the UID to impersonate",
    "--as-group": "a group to impersonate; repeatable",
}
_NAMESPACE = ("-n", "--namespace")
_REPEATABLE = "--as-group"


def add_access(parser: argparse.ArgumentParser) -> None:
    """Declare the flags that say which cluster and namespace, and as whom; `access.cluster` takes them."""
    group = parser.add_argument_group("which cluster, as kubectl has it")
    group.add_argument(*_NAMESPACE, metavar="NAMESPACE", help="(default: the context's)")
    for flag, text in _OF_KUBECTL.items():
        short = ("-s",) if flag == "--server" else ()
        group.add_argument(
            *short,
            flag,
            dest=f"kubectl_{flag.strip('-')}",
            action="append",
            default=[],
            metavar=flag.rpartition("-")[2].upper(),
            help=text,
        )


def kubectl_options(args: argparse.Namespace) -> list[str]:
    """What to pass on to kubectl of what `add_access` declared: all but the namespace, the last of each."""
    given = {flag: getattr(args, f"kubectl_{flag.strip('-')}") for flag in _OF_KUBECTL}
    return [
        f"{flag}={value}"
        for flag, values in given.items()
        for value in (values if flag == _REPEATABLE else values[-1:])
    ]


def add_all_namespaces(parser: argparse.ArgumentParser) -> None:
    """Declare `-A`."""
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="of every namespace")


def add_selector(parser: argparse.ArgumentParser, what: str) -> None:
    """Declare `-l`, which selects `what`."""
    parser.add_argument(
        "-l", "--selector", metavar="SELECTOR", help=f"{what} with these labels, as in app=web,tier!=test"
    )


def add_output(parser: argparse._ActionsContainer, *formats: str) -> None:
    """Declare `-o` with these formats."""
    parser.add_argument(
        "-o",
        "--output",
        choices=formats,
        metavar="|".join(formats),
        help="print whole objects" + (", or more columns" if "wide" in formats else ""),
    )


def verb_first(argv: Sequence[str], verbs: Collection[str]) -> Sequence[str]:
    """The arguments with the verb in front: kubectl lets `-n NAMESPACE` and its like come before it."""
    with_value = {*_NAMESPACE, "-s", *_OF_KUBECTL}
    at = 0
    while at < len(argv) and argv[at] not in verbs:
        flag, _, value = argv[at].partition("=")
        if flag not in with_value and argv[at][:2] not in {"-n", "-s"}:
            return argv
        at += 1 if value or argv[at] not in with_value else 2
    return argv if at >= len(argv) else [argv[at], *argv[:at], *argv[at + 1 :]]


def refuse_name_with_others(args: argparse.Namespace, name: str | None) -> None:
    """One object by its name lies in one namespace. Raises UsageError where `-A` or `-l` stand beside it."""
    if name and args.all_namespaces:
        raise UsageError(f"{name} lies in one namespace: say which with -n, not -A")
    if name and args.selector:
        raise UsageError(f"{name} and -l {args.selector} cannot stand together")
