"""What people write for the name of an object: the `type=` of arguments, as in `podcam.cli.arguments`.

No name is refused, not taken for all or for the default: a variable is unset, or the command that was to
print the name has failed. `TYPE/NAME`, as `-o name` prints it, is taken wherever a name is.
"""

from argparse import ArgumentTypeError

from podcam.kube import CLIPS, PODS, RECORDINGS, Kind


def recording(text: str) -> str:
    """`web`, `recording.podcam.dev/web`: the name of a recording."""
    return _name(RECORDINGS, text, "kubectl podcam status")


def clip(text: str) -> str:
    """`web-20260131-081500`, `clip.podcam.dev/web-20260131-081500`: the name of a clip."""
    return _name(CLIPS, text, "kubectl podcam clips")


def pod(text: str) -> str:
    """`web-1`, `pod/web-1`: the name of a pod."""
    return _name(PODS, text, "kubectl get pods")


def recorded(text: str) -> str:
    """The name of a recording, or `deploy/web`, which is recorded and stays as it is."""
    kind = text.rpartition("/")[0]
    return recording(text) if not kind or RECORDINGS.is_called(kind) else text


def target(text: str) -> str:
    """A word of `TYPE/NAME` or `TYPE NAME`, as it is."""
    _refuse_no_name(text.rpartition("/")[2] or text, "TYPE/NAME, as in deploy/web")
    return text


def new(text: str) -> str:
    """What something that is made is to be called."""
    _refuse_no_name(text, "what it is to be called")
    return text


def _name(kind: Kind, text: str, lists_them: str) -> str:
    what = kind.kind.lower()
    of, slash, name = text.rpartition("/")
    wanted = f"that of a {what}; `{lists_them}` lists them"
    if slash and not kind.is_called(of):
        raise ArgumentTypeError(f"{text!r} is not the name of a {what}: write {wanted}")
    _refuse_no_name(name, wanted)
    return name


def _refuse_no_name(name: str, wanted: str) -> None:
    if not name.strip():
        raise ArgumentTypeError(f"the name is empty: write {wanted}")
    if name in {".", ".."}:
        raise ArgumentTypeError(f"{name!r} is not the name of an object: write {wanted}")
