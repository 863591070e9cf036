"""`kubectl podcam`: the cluster, with the words and flags of `podcam` and the habits of kubectl.

One file per verb, as in `podcam.cli`; only the module of the verb that is asked for gets imported. Beside
them are `access`, the cluster that the flags name, `flags`, those that verbs share, and `output`, how things
are printed.
"""

from collections.abc import Sequence

from podcam.cli.kubectl.flags import verb_first
from podcam.cli.program import Program

VERBS = {
    "record": "record the pods of a workload, those that start later too",
    "status": "which pods are recorded, on which node, and what was lost",
    "clips": "list the clips that were kept",
    "clip": "keep what just happened",
    "pull": "fetch a clip as pcapng",
    "diagnose": "say which connections of a clip failed, whose fault it is, and which packets prove it",
    "stop": "stop a recording; its clips stay",
    "install": "bring Podcam's agents into the cluster",
    "uninstall": "take all of it out again",
    "doctor": "what is missing in this cluster, and how to get it",
}
"""What each verb does, in the order in which a newcomer meets them."""

_PROGRAM = Program(
    name="kubectl podcam",
    package=__name__,
    verbs=VERBS,
    about="A dashcam for the network of your pods.",
    examples=[
        "kubectl podcam record deploy/web --port 5432   # failures are kept as clips",
        "kubectl podcam clips",
        "kubectl podcam diagnose CLIP",
    ],
    arrange=lambda argv: verb_first(argv, VERBS),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb that `argv` (by default the command line) names, and return the exit code.

    0 success, 1 the work failed, 2 wrong usage.
    """
    return _PROGRAM.main(argv)
