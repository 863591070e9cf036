"""What can go wrong, by who must act. Caught once, in `podcam.cli.main`.

A message says what happened, to what, and what to do. Lost packets are counters, not exceptions.
"""


class PodcamError(Exception):
    """Anything that Podcam tells its user in one line instead of a traceback."""

    exit_code = 1


class UsageError(PodcamError):
    """The command, a flag or a file name is wrong: the user changes the command."""

    exit_code = 2


class RightsError(PodcamError):
    """The system refuses: the user, or an administrator, grants a right."""


class CaptureError(PodcamError):
    """The kernel cannot record as asked: a namespace, interface, filter or ring."""


class SegmentError(PodcamError):
    """A segment of a ring cannot be written or read."""


class StorageFullError(SegmentError):
    """The file system of the ring has no room; nothing that was written is lost."""


class ClipError(PodcamError):
    """A clip cannot be made, found, or exported."""


class CaptureFileError(PodcamError):
    """A file is not a capture that Podcam can read."""
