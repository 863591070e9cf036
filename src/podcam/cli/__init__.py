"""One file per verb: arguments in, calls out; no logic.

The only room that prints, and the only one that catches `PodcamError`. A verb is the module of its name in
this room, and only the module of the verb that is asked for gets imported: `podcam --help` must answer at
once, and recording must not need what diagnosing needs. The verbs of `kubectl podcam` are in `kubectl`.
"""

from collections.abc import Sequence

from podcam.cli.program import Program

VERBS = {
    "demo": "record, fail, clip, diagnose: the whole way in under a minute",
    "record": "record packets into a bounded ring, and keep a clip when a connection fails",
    "wrap": "run an app as a container's entrypoint, and record beside it",
    "sidecar": "record a pod from a container of its own in it",
    "bundle": "copy a recorder that runs in any image, with Python or without, into a folder",
    "clip": "keep what just happened",
    "clips": "list, pin and unpin the clips that were kept",
    "diagnose": "say which connections failed, whose fault it is, and which packets prove it",
    "export": "write a clip as pcapng, for Wireshark and the like",
    "agent": "the node agent of a cluster",
    "doctor": "say what is missing here, and how to get it",
}
"""What each verb does, in the order in which a newcomer meets them."""

_PROGRAM = Program(
    name="podcam",
    package=__name__,
    verbs=VERBS,
    about="A dashcam for the network of your pods.",
    examples=[
        "podcam record --port 5432 --host db.example   # until Ctrl-C; failures are kept as clips",
        "podcam diagnose proxy.pcap",
    ],
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb that `argv` (by default the command line) names, and return the exit code.

    0 success, 1 the work failed, 2 wrong usage; `record -- COMMAND` returns the command's own.
    """
    return _PROGRAM.main(argv)
